/**
 * An iterator over the map as it was when the iterator was made. Reads take place in the call itself; what
 * is asynchronous is the answer.
 */
import { setImmediate } from 'node:timers/promises'
import { AbstractIterator } from 'abstract-level'
import type { Cursor } from '../../map/index.js'
import { type Data, type Format, fromBytes, toBytes } from './encoding.js'
import type { PlinthLevel } from './plinth-level.js'

export interface LevelIteratorOptions {
  readonly keys: boolean
  readonly values: boolean
  readonly keyEncoding: Format
  readonly valueEncoding: Format
  readonly signal?: AbortSignal
}

type Entry = [key: Data | undefined, value: Data | undefined]

/** `all` reads so many entries, then lets others have their turn. */
const PORTION = 1000

export class LevelIterator<K, V> extends AbstractIterator<PlinthLevel<K, V>, K, V> {
  readonly #cursor: Cursor | undefined
  readonly #keyFormat: Format | undefined
  readonly #valueFormat: Format | undefined
  readonly #signal: AbortSignal | undefined

  /** Closes the cursor when it is closed. Undefined is for a closed snapshot, of which nothing is read. */
  constructor(db: PlinthLevel<K, V>, options: LevelIteratorOptions, cursor: Cursor | undefined) {
    super(db, options as object)
    this.#cursor = cursor
    this.#keyFormat = options.keys ? options.keyEncoding : undefined
    this.#valueFormat = options.values ? options.valueEncoding : undefined
    this.#signal = options.signal
  }

  async _next(): Promise<Entry | undefined> {
    const [entry] = this.#entries(1)
    return this.#answer(entry)
  }

  async _nextv(size: number): Promise<Entry[]> {
    return this.#answer(this.#entries(size))
  }

  async _all(): Promise<Entry[]> {
    const all: Entry[] = []
    for (;;) {
      const left = this.limit - this.count - all.length
      const portion = this.#entries(Math.min(left, PORTION))
      all.push(...portion)
      if (portion.length < PORTION) return this.#answer(all)
      await setImmediate()
      this.#checkSignal()
    }
  }

  _seek(target: Data): void {
    this.#cursor?.seek(toBytes(target))
  }

  async _close(): Promise<void> {
    this.#cursor?.close()
  }

  #entries(size: number): Entry[] {
    const entries: Entry[] = []
    const cursor = this.#cursor
    while (entries.length < size && cursor?.next()) entries.push(this.#entry(cursor))
    return entries
  }

  /** What is not asked for is not read. */
  #entry(cursor: Cursor): Entry {
    const key = this.#keyFormat && fromBytes(cursor.key, this.#keyFormat)
    const value = this.#valueFormat && fromBytes(cursor.value, this.#valueFormat)
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
