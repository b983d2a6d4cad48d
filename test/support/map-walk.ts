/** Random steps on an ordered map, its snapshots and cursors, with a plain model of each beside it. */
import assert from 'node:assert/strict'
import { PlinthError, type Volume } from 'plinth'
import {
  type Cursor,
  type MapOperation,
  type MapSnapshot,
  OrderedMap,
  type Range,
} from 'plinth/map'
import {
  assertBytes,
  assertRange,
  assertSame,
  auditMap,
  bytesOf,
  MapModel,
  textOf,
} from './map-model.js'
import type { Random } from './random.js'

/** Where keys come from. */
export type KeyKind = 'prefixed' | 'random' | 'ascending' | 'descending' | 'long'

export interface WalkOptions {
  readonly random: Random
  /** Opens the volume; called again after each `close`. */
  readonly open: () => Volume
  readonly keys: readonly KeyKind[]
  readonly cacheBytes?: number | undefined
  /** The longest value. */
  readonly valueBytesMax: number
}

const STEMS = ['', 'a', 'a/b/', 'common/prefix/of/many/keys/', '\0\0\0\0', '\xff\xff\xff\xff\xff']

interface OpenCursor {
  readonly cursor: Cursor
  readonly wanted: readonly string[]
  readonly model: MapModel
  place: number
}

export class MapWalk {
  readonly #options: WalkOptions
  readonly #random: Random
  volume: Volume
  map: OrderedMap
  readonly model = new MapModel()
  readonly #snapshots: { snapshot: MapSnapshot; model: MapModel }[] = []
  readonly #cursors: OpenCursor[] = []
  readonly #waiting: Promise<void>[] = []
  readonly done: Record<string, number> = {}
  #counter = 0

  constructor(options: WalkOptions) {
    this.#options = options
    this.#random = options.random
    this.volume = options.open()
    this.map = this.#openMap()
  }

  #openMap(): OrderedMap {
    return OrderedMap.open(this.volume, 'map', { cacheBytes: this.#options.cacheBytes })
  }

  /** So many new entries with small values. */
  load(entries: number): void {
    for (let left = entries; left > 0; ) {
      const operations: MapOperation[] = []
      for (let i = 0; i < 100 && left > 0; i++, left--) {
        operations.push({ type: 'put', key: bytesOf(this.#newKey()), value: this.#random.bytes(9) })
      }
      this.map.batch(operations)
      this.model.apply(operations)
    }
  }

  async step(): Promise<void> {
    const random = this.#random
    const what = random.below(1000)
    if (what < 200) this.#do('put', () => this.#put(this.#newKey()))
    else if (what < 320) this.#do('put over', () => this.#put(this.#someKey()))
    else if (what < 480) this.#do('delete', () => this.#delete())
    else if (what < 560) this.#do('batch', () => this.#batch())
    else if (what < 700) this.#do('get', () => this.#get())
    else if (what < 780) this.#do('range', () => this.#range())
    else if (what < 830) this.#do('snapshot', () => this.#snapshot())
    else if (what < 870) this.#do('close snapshot', () => this.#closeSnapshot())
    else if (what < 910) this.#do('cursor', () => this.#openCursor())
    else if (what < 970) this.#do('move cursor', () => this.#moveCursor())
    else if (what < 980) this.#do('clear', () => this.#clear())
    else if (what < 985) this.#do('mass deletion', () => this.#massDeletion())
    else if (what < 988) this.#do('checkpoint', () => this.volume.checkpoint())
    else if (what < 994) await this.makeDurable()
    else await this.reopen()
  }

  #do(what: string, body: () => void): void {
    this.done[what] = (this.done[what] ?? 0) + 1
    body()
  }

  #newKey(): string {
    const random = this.#random
    const kind = random.pick(this.#options.keys)
    if (random.chance(500)) return ''
    if (kind === 'random') return textOf(random.bytes(random.between(1, 16)))
    if (kind === 'ascending') return `n${String(this.#counter++).padStart(9, '0')}`
    if (kind === 'descending') return `m${String(999_999_999 - this.#counter++)}`
    if (kind === 'long') {
      const stem = 'x'.repeat(random.pick([52, 57, 300, 4000, 4091, 4095, 20_000, 65_000]))
      return stem + textOf(random.bytes(random.between(1, 3)))
    }
    let key = random.pick(STEMS)
    for (let i = random.below(9); i > 0; i--) key += random.pick(['a', 'a', 'b', 'c', '\0', '\xff'])
    return key
  }

  /** One that is there, more often than not; sometimes one beside it. */
  #someKey(): string {
    const random = this.#random
    const keys = this.model.keys()
    if (keys.length === 0 || random.chance(6)) return this.#newKey()
    const key = random.pick(keys)
    if (random.chance(8)) return `${key}\0`.slice(0, 65_536)
    return random.chance(8) ? key.slice(0, -1) : key
  }

  #value(key: string): Buffer {
    const random = this.#random
    const max = this.#options.valueBytesMax
    const kind = random.below(40)
    // Entries that fill their blocks just so, and one byte more or less.
    const just = random.pick([512, 1024, 2048, 4096]) + random.between(-1, 1) - key.length - 4
    let bytes = random.below(120)
    if (kind === 0) bytes = 0
    else if (kind <= 4) bytes = Math.max(0, just)
    else if (kind === 5) bytes = random.below(40_000)
    else if (kind === 6 && random.chance(12)) bytes = random.below(max)
    return Buffer.alloc(Math.min(bytes, max), random.bytes(7))
  }

  #put(key: string): void {
    const value = this.#value(key)
    // What is full stays as it was; the model of the failures tests it.
    try {
      if (this.#random.chance(4)) this.#waiting.push(this.map.putAsync(bytesOf(key), value))
      else this.map.put(bytesOf(key), value)
    } catch (error) {
      if ((error as PlinthError).code !== 'ERR_NO_SPACE') throw error
      this.done.full = (this.done.full ?? 0) + 1
      return
    }
    this.model.put(key, value)
    assert.equal(this.map.has(bytesOf(key)), true)
  }

  #delete(): void {
    const key = this.#someKey()
    const had = this.model.delete(key)
    if (this.#random.chance(4)) this.#waiting.push(this.map.deleteAsync(bytesOf(key)))
    else assert.equal(this.map.delete(bytesOf(key)), had)
    assert.equal(this.map.get(bytesOf(key)), undefined)
  }

  /** Some keys more than once: put and deleted, deleted and put, put twice. */
  #batch(): void {
    const random = this.#random
    const operations: MapOperation[] = []
    const used: string[] = []
    for (let i = random.between(0, random.chance(5) ? 120 : 12); i > 0; i--) {
      const again = used.length > 0 && random.chance(3)
      const key = again ? random.pick(used) : random.chance(2) ? this.#newKey() : this.#someKey()
      if (key.length > 100) continue
      used.push(key)
      if (random.chance(3)) operations.push({ type: 'delete', key: bytesOf(key) })
      else {
        const value = Buffer.alloc(random.pick([0, 5, 5, 30, 30, 31, 300]), random.bytes(3))
        operations.push({ type: 'put', key: bytesOf(key), value })
      }
    }
    if (random.chance(4)) this.#waiting.push(this.map.batchAsync(operations))
    else this.map.batch(operations)
    this.model.apply(operations)
    for (const key of used) {
      assertBytes(this.map.get(bytesOf(key)), this.model.get(key))
    }
  }

  #get(): void {
    const key = this.#someKey()
    const wanted = this.model.get(key)
    assertBytes(this.map.get(bytesOf(key)), wanted)
    assert.equal(this.map.has(bytesOf(key)), wanted !== undefined)
    const held = this.#someSnapshot()
    if (held === undefined) return
    assertBytes(held.snapshot.get(bytesOf(key)), held.model.get(key))
  }

  #someSnapshot() {
    return this.#snapshots.length === 0 ? undefined : this.#random.pick(this.#snapshots)
  }

  #someRange(): Range {
    const random = this.#random
    const range: Record<string, unknown> = {}
    if (!random.chance(4)) range[random.pick(['gt', 'gte'])] = bytesOf(this.#someKey())
    if (!random.chance(4)) range[random.pick(['lt', 'lte'])] = bytesOf(this.#someKey())
    if (random.chance(2)) range.reverse = true
    if (random.chance(2)) range.limit = random.below(200)
    return range
  }

  #range(): void {
    assertRange(this.map, this.model, this.#someRange())
    const held = this.#someSnapshot()
    if (held !== undefined) assertRange(held.snapshot, held.model, this.#someRange())
  }

  #snapshot(): void {
    if (this.#snapshots.length >= 4) return
    this.#snapshots.push({ snapshot: this.map.snapshot(), model: this.model.copy() })
  }

  #closeSnapshot(): void {
    if (this.#snapshots.length === 0) return
    const at = this.#random.below(this.#snapshots.length)
    const [{ snapshot, model }] = this.#snapshots.splice(at, 1) as [
      { snapshot: MapSnapshot; model: MapModel },
    ]
    if (this.#random.chance(2)) assertSame(snapshot, model, 'a snapshot')
    snapshot.close()
    snapshot.close()
    assert.throws(() => snapshot.get(bytesOf('')), { code: 'ERR_SNAPSHOT_CLOSED' })
  }

  #openCursor(): void {
    if (this.#cursors.length >= 4) return
    const range = this.#someRange()
    const { snapshot, model } = this.#someSnapshot() ?? { snapshot: this.map, model: this.model }
    const wanted = model.range(range)
    const cursor = snapshot.cursor(range)
    this.#cursors.push({ cursor, wanted, model: model.copy(), place: 0 })
  }

  #moveCursor(): void {
    if (this.#cursors.length === 0) return
    const random = this.#random
    const at = random.below(this.#cursors.length)
    const open = this.#cursors[at]!
    const { cursor, wanted, model } = open
    for (let i = random.below(150); i > 0; i--) {
      const key = wanted[open.place++]
      assert.equal(cursor.next(), key !== undefined)
      if (key !== undefined && random.chance(4)) {
        assert.equal(textOf(cursor.key), key)
        assertBytes(cursor.value, model.get(key))
      }
    }
    if (open.place <= wanted.length && !random.chance(4)) return
    cursor.close()
    this.#cursors.splice(at, 1)
  }

  #clear(): void {
    const range = { ...this.#someRange(), limit: this.#random.below(300) }
    const gone = this.model.range(range)
    assert.equal(this.map.clear(range), gone.length)
    for (const key of gone) this.model.delete(key)
  }

  /** Nine of ten go, in order, backwards or anyhow. */
  #massDeletion(): void {
    const random = this.#random
    const way = random.below(3)
    const keys = [...this.model.keys()]
    if (way === 1) keys.reverse()
    if (way === 2) keys.sort(() => random.below(3) - 1)
    for (const key of keys) {
      if (random.chance(10)) continue
      assert.equal(this.map.delete(bytesOf(key)), true)
      this.model.delete(key)
    }
  }

  /** Everything under way is durable. */
  async makeDurable(): Promise<void> {
    await Promise.all(this.#waiting.splice(0))
  }

  #closeReaders(): void {
    for (const { cursor } of this.#cursors.splice(0)) cursor.close()
    for (const { snapshot } of this.#snapshots.splice(0)) snapshot.close()
  }

  /** With what was held let go of before, or not: then the next opening frees what it held. */
  async reopen(): Promise<void> {
    this.#do('reopen', () => {})
    await this.makeDurable()
    const stale = [...this.#snapshots]
    if (this.#random.chance(2)) this.#closeReaders()
    this.volume.close()
    assert.throws(() => this.map.get(bytesOf('')), { code: 'ERR_VOLUME_CLOSED' })
    for (const { snapshot } of stale) assert.throws(() => snapshot.get(bytesOf('')), PlinthError)
    this.#closeReaders()
    this.volume = this.#options.open()
    this.map = this.#openMap()
    this.verify()
  }

  /** All that is held is as its model, and the device has nothing else. */
  verify(): void {
    assertSame(this.map, this.model)
    for (const { snapshot, model } of this.#snapshots) assertSame(snapshot, model, 'a snapshot')
    const { entries, retired } = auditMap(this.volume)
    assert.equal(entries, this.model.size)
    const isHeld = this.#snapshots.length + this.#cursors.length > 0
    if (!isHeld) assert.equal(retired, 0, 'nobody holds what is retired')
  }

  async end(): Promise<void> {
    await this.makeDurable()
    this.verify()
    this.#closeReaders()
    this.verify()
    assert.deepEqual(this.volume.check(), [])
    assert.equal(this.map.clear(), this.model.size)
    const { entries, leaves, keys, retired } = auditMap(this.volume)
    assert.deepEqual(
      { entries, leaves, keys, retired },
      { entries: 0, leaves: 1, keys: 0, retired: 0 },
    )
    this.volume.close()
  }
}
