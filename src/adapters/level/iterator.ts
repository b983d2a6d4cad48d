/**
 * An iterator over the map as it was when the iterator was made. Reads take place in the call itself; what
 * is asynchronous is the answer.
 */
import { AbstractIterator } from 'abstract-level'
import type { Cursor } from '../../map/index.js'
import { type Data, type Format, fromBytes, readText, toBytes } from './encoding.js'
import type { Turns } from './turns.js'

export interface LevelIteratorOptions {
  readonly keys: boolean
  readonly values: boolean
  readonly keyEncoding: Format
  readonly valueEncoding: Format
  readonly signal?: AbortSignal
}

/** What is read: a cursor, which the iterator closes; nothing, of a closed snapshot; or an error, which each read throws. */
export type Source = { readonly cursor?: Cursor; readonly error?: unknown }

type Entry = [key: Data | undefined, value: Data | undefined]

export class LevelIterator<Database, K, V> extends AbstractIterator<Database, K, V> {
  readonly #source: Source
  readonly #turns: Turns
  readonly #keyFormat: Format | undefined
  readonly #valueFormat: Format | undefined
  readonly #signal: AbortSignal | undefined

  constructor(db: Database, options: LevelIteratorOptions, source: Source, turns: Turns) {
    super(db, options as object)
    this.#source = source
    this.#turns = turns
    this.#keyFormat = options.keys ? options.keyEncoding : undefined
    this.#valueFormat = options.values ? options.valueEncoding : undefined
    this.#signal = options.signal
  }

  async _next(): Promise<Entry | undefined> {
    const entry = this.#next(1)
    if (this.#turns.isDue()) await this.#turns.take()
    return this.#answer(entry)
  }

  async _nextv(size: number): Promise<Entry[]> {
    const entries: Entry[] = []
    while (entries.length < size) {
      const entry = this.#next(entries.length + 1)
      if (entry === undefined) break
      entries.push(entry)
      if (!this.#turns.isDue()) continue
      await this.#turns.take()
      this.#checkSignal()
    }
    return this.#answer(entries)
  }

  async _all(): Promise<Entry[]> {
    return this._nextv(this.limit - this.count)
  }

  _seek(target: Data): void {
    this.#source.cursor?.seek(toBytes(target))
  }

  async _close(): Promise<void> {
    this.#source.cursor?.close()
  }

  /** The entry that is the `nth` since the last answer; undefined for none. */
  #next(nth: number): Entry | undefined {
    const { cursor, error } = this.#source
    if (error !== undefined) throw error
    if (!cursor?.next()) return undefined
    const entry = this.#entry(cursor)
    // Nobody has to come again to hear that there is no more.
    if (this.count + nth >= this.limit) cursor.close()
    return entry
  }

  /** What is not asked for is not read. */
  #entry(cursor: Cursor): Entry {
    const [keyFormat, valueFormat] = [this.#keyFormat, this.#valueFormat]
    let key: Data | undefined
    if (keyFormat === 'utf8') key = readText((target) => cursor.keyInto(target))
    else if (keyFormat !== undefined) key = fromBytes(cursor.key, keyFormat)
    let value: Data | undefined
    if (valueFormat === 'utf8') value = readText((target) => cursor.valueInto(target))
    else if (valueFormat !== undefined) value = fromBytes(cursor.value, valueFormat)
    return [key, value]
  }

  /** Who has aborted in the same turn as the read is not answered either. */
  async #answer<T>(read: T): Promise<T> {
    if (this.#signal !== undefined) {
      await Promise.resolve()
      this.#checkSignal()
    }
    return read
  }

  #checkSignal(): void {
    if (this.#signal?.aborted !== true) return
    const error = new Error('the read was aborted', { cause: this.#signal.reason })
    throw Object.assign(error, { name: 'AbortError', code: 'LEVEL_ABORTED' })
  }
}
