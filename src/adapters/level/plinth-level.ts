/**
 * A database of the Level family on an ordered map.
 *
 *   abstract-level   encodings, sublevels, hooks, events, deferred open
 *   PlinthLevel      formats, ranges, durability                         this file
 *   OrderedMap       entries in order, snapshots, atomic changes
 *   Volume           a file or a device
 *
 * Reads take place in the call itself. Writes are visible at once and durable when their promise resolves;
 * those that wait at the same time share one barrier.
 */
import {
  type AbstractBatchOperation,
  type AbstractBatchOptions,
  type AbstractChainedBatch,
  type AbstractDatabaseOptions,
  type AbstractDelOptions,
  AbstractLevel,
  type AbstractPutOptions,
} from 'abstract-level'
import { PlinthError, Volume } from '../../index.js'
import {
  type MapOperation,
  type MapOptions,
  type MapSnapshot,
  OrderedMap,
} from '../../map/index.js'
import {
  type Data,
  type EncodedRange,
  type Format,
  fromBytes,
  readText,
  toBytes,
  toRange,
} from './encoding.js'
import { LevelIterator, type LevelIteratorOptions, type Source } from './iterator.js'
import { LevelSnapshot } from './snapshot.js'
import { Turns } from './turns.js'
import { openVolume, type VolumeOptions } from './volume.js'

/** Options of the constructor. */
export interface PlinthLevelOptions<K = string, V = string>
  extends AbstractDatabaseOptions<K, V>,
    VolumeOptions,
    MapOptions {
  /** Name of the map on the volume, which may have several. @default 'level' */
  readonly map?: string | undefined
}

/** How long a write waits. */
export interface WriteOptions {
  /**
   * With false the promise resolves when the change is visible, without waiting for the device. It becomes
   * durable soon after and in order: a power cut, and on disks the end of the process (`process.exit`, an error that
   * nobody handles, a signal), takes the last such writes, never one before a write that it leaves. `close` waits for
   * them, and rejects if one was lost. Where a device needs no waiting (persistent memory) they are durable all the same.
   * @default true
   */
  sync?: boolean | undefined
}
/** Options of `put`. */
export interface PlinthPutOptions<K, V> extends AbstractPutOptions<K, V>, WriteOptions {}
/** Options of `del`. */
export interface PlinthDelOptions<K> extends AbstractDelOptions<K>, WriteOptions {}
/** Options of `batch`. */
export interface PlinthBatchOptions<K, V> extends AbstractBatchOptions<K, V>, WriteOptions {}

/** What `abstract-level` makes of a read's options. */
interface ReadOptions {
  readonly keyEncoding: Format
  readonly valueEncoding: Format
  readonly snapshot?: LevelSnapshot
}
type Operation =
  | { readonly type: 'put'; readonly key: Data; readonly value: Data }
  | { readonly type: 'del'; readonly key: Data }
type OpenOptions = VolumeOptions &
  MapOptions & { map?: string; createIfMissing: boolean; errorIfExists: boolean }

const MANIFEST = {
  encodings: { buffer: true, utf8: true, view: true },
  has: true,
  seek: true,
  getSync: true,
  permanence: true,
  implicitSnapshots: true,
  explicitSnapshots: true,
  createIfMissing: true,
  errorIfExists: true,
  signals: { iterators: true },
}
const MAP_NAME = 'level'
/** `clear` deletes so many entries in one transaction: as many as a log surely takes, at least and at most. */
const CLEAR_AT_ONCE = { least: 64, most: 1024 }
/** Of the log, for the delete of one entry: more than the largest takes, of the last entry of a leaf and of its slab. */
const DELETE_LOG_BYTES = 1024
/** Transactions of one `clear` that may wait for the device at a time. */
const CLEARS_UNDER_WAY = 4

/**
 * An `abstract-level` database on a plinth volume.
 *
 * Failures of the volume are rejections with its own codes: ERR_NO_SPACE when it is full (deletes make room
 * again, but for what open iterators and snapshots still see); ERR_TX_TOO_LARGE for a batch that the log cannot take; ERR_VOLUME_FAILED after the device
 * has failed, until the database is closed and opened again. An error of `open` has them in its `cause`,
 * where a volume that somebody else has open is LEVEL_LOCKED.
 *
 * `close` waits for what is under way. If the device has failed it releases everything and rejects, with ERR_VOLUME_FAILED
 * in its `cause`: writes with `sync: false` may be lost. A second `close` resolves.
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: what the interface declares is the base class's
export class PlinthLevel<K = string, V = string> extends AbstractLevel<
  string | Buffer | Uint8Array,
  K,
  V
> {
  readonly #location: string | Volume
  readonly #turns = new Turns()
  #volume: Volume | undefined
  #openMap: OrderedMap | undefined
  #clearAtOnce = CLEAR_AT_ONCE.least
  readonly #clears = new Set<Promise<void>>()
  /** The last write that nobody waits for: those before it are durable when it is. */
  #relaxed: Promise<void> = Promise.resolve()

  /**
   * @param location A file, a block device or a DAX node; or a volume that is open, which stays so when
   *   the database is closed. A file that does not exist is created, with its folders.
   */
  constructor(location: string | Volume, options?: PlinthLevelOptions<K, V>) {
    if (!(location instanceof Volume) && (typeof location !== 'string' || location === '')) {
      throw Object.assign(new TypeError('the location must be a path or an open volume'), {
        code: 'ERR_INVALID_ARG_TYPE',
      })
    }
    super(MANIFEST, options)
    this.#location = location
  }

  get #map(): OrderedMap {
    if (this.#openMap !== undefined) return this.#openMap
    throw new PlinthError('ERR_VOLUME_CLOSED', 'the database is closed')
  }

  /** The path of the file or device. */
  get location(): string {
    return this.#location instanceof Volume ? this.#location.info.path : this.#location
  }

  /** @internal */
  async _open(options: OpenOptions): Promise<void> {
    const location = this.#location
    const isOwn = !(location instanceof Volume)
    const volume = isOwn ? openVolume(location, options, options.createIfMissing) : location
    try {
      this.#openMap = openMap(volume, options)
      const { least, most } = CLEAR_AT_ONCE
      const fitting = Math.floor(volume.stats().logBytes / DELETE_LOG_BYTES)
      this.#clearAtOnce = Math.min(Math.max(least, fitting), most)
    } catch (error) {
      if (isOwn) volume.close()
      throw error
    }
    if (isOwn) this.#volume = volume
  }

  /** @internal */
  async _close(): Promise<void> {
    await Promise.allSettled(this.#clears)
    const volume = this.#volume
    const relaxed = this.#relaxed
    this.#openMap = this.#volume = undefined
    this.#relaxed = Promise.resolve()
    volume?.close()
    await relaxed
  }

  /** @internal */
  async _get(key: Data, options: ReadOptions): Promise<Data | undefined> {
    const value = this._getSync(key, options)
    if (this.#turns.isDue()) await this.#turns.take()
    return value
  }

  /** @internal */
  _getSync(key: Data, options: ReadOptions): Data | undefined {
    const { valueEncoding } = options
    const reader = this.#reader(options)
    const bytes = toBytes(key)
    if (valueEncoding === 'utf8') return readText((target) => reader.getInto(bytes, target))
    const value = reader.get(bytes)
    return value && fromBytes(value, valueEncoding)
  }

  /** @internal */
  async _getMany(keys: Data[], options: ReadOptions): Promise<(Data | undefined)[]> {
    const values: (Data | undefined)[] = []
    for (const key of keys) values.push(await this._get(key, options))
    return values
  }

  /** @internal */
  async _has(key: Data, options: ReadOptions): Promise<boolean> {
    const has = this.#reader(options).has(toBytes(key))
    if (this.#turns.isDue()) await this.#turns.take()
    return has
  }

  /** @internal */
  async _hasMany(keys: Data[], options: ReadOptions): Promise<boolean[]> {
    const found: boolean[] = []
    for (const key of keys) found.push(await this._has(key, options))
    return found
  }

  /** @internal */
  _put(key: Data, value: Data, options: WriteOptions): Promise<void> {
    return this.#written(this.#map.putAsync(toBytes(key), toBytes(value)), options)
  }

  /** @internal */
  _del(key: Data, options: WriteOptions): Promise<void> {
    return this.#written(this.#map.deleteAsync(toBytes(key)), options)
  }

  /** @internal */
  _batch(operations: Operation[], options: WriteOptions): Promise<void> {
    return this.#written(this.#map.batchAsync(operations.map(toMapOperation)), options)
  }

  /** A change that was refused is a rejection already, and comes first. */
  #written(durable: Promise<void>, { sync }: WriteOptions): Promise<void> {
    let done = durable
    if (sync === false) {
      this.#relaxed = durable
      done = Promise.race([durable, undefined])
    }
    return this.#turns.isDue() ? done.then(() => this.#turns.take()) : done
  }

  /**
   * Deletes some entries at a time: a crash within leaves the rest. Without a snapshot an entry that is put
   * ahead of it while it runs is deleted as well.
   * @internal
   */
  async _clear(
    options: EncodedRange & ReadOptions & WriteOptions & { limit: number },
  ): Promise<void> {
    const clearing = this.#clear(options)
    this.#clears.add(clearing)
    await clearing.finally(() => this.#clears.delete(clearing))
  }

  async #clear(options: EncodedRange & ReadOptions & { limit: number }): Promise<void> {
    const map = this.#map
    const reader = this.#reader(options)
    const range = toRange(options)
    let left = options.limit === -1 ? Number.POSITIVE_INFINITY : options.limit
    let behind = {}
    const underWay: Promise<void>[] = []
    while (left > 0) {
      const limit = Math.min(left, this.#clearAtOnce)
      const keys = [...reader.keys({ ...range, ...behind, limit })]
      const deletes = keys.map((key): MapOperation => ({ type: 'delete', key }))
      const batch = map.batchAsync(deletes)
      // All are awaited below, but for those behind one that failed: they have the same reason.
      batch.catch(() => {})
      underWay.push(batch)
      if (keys.length < limit) break
      if (underWay.length === CLEARS_UNDER_WAY) await underWay.shift()
      await this.#turns.take()
      left -= keys.length
      const last = keys.at(-1)
      behind = range.reverse ? { lt: last, lte: undefined } : { gt: last, gte: undefined }
    }
    await Promise.all(underWay)
  }

  /** @internal */
  _iterator(
    options: EncodedRange & ReadOptions & LevelIteratorOptions,
  ): LevelIterator<PlinthLevel<K, V>, K, V> {
    return new LevelIterator(this, options, this.#source(options), this.#turns)
  }

  /** An iterator that could not be made is one that cannot be read: `keys` and `values` of the base class could not be closed. */
  #source(options: EncodedRange & ReadOptions): Source {
    if (options.snapshot?.isClosed === true) return {}
    try {
      return { cursor: this.#reader(options).cursor(toRange(options)) }
    } catch (error) {
      return { error }
    }
  }

  /** @internal */
  _snapshot(options: object): LevelSnapshot {
    return new LevelSnapshot(this.#map.snapshot(), options)
  }

  #reader({ snapshot }: { snapshot?: LevelSnapshot }): OrderedMap | MapSnapshot {
    return snapshot?.map ?? this.#map
  }
}

/** Methods of the base class, with one more option. */
export interface PlinthLevel<K = string, V = string> {
  /** Puts an entry. Visible at once; durable when the promise resolves, unless `sync` is false. */
  put(key: K, value: V): Promise<void>
  /** The same with options. */
  put<KOf = K, VOf = V>(key: KOf, value: VOf, options: PlinthPutOptions<KOf, VOf>): Promise<void>
  /** Deletes an entry, if it is there. Durable as `put`. */
  del(key: K): Promise<void>
  /** The same with options. */
  del<KOf = K>(key: KOf, options: PlinthDelOptions<KOf>): Promise<void>
  /** A chained batch, to be written with its `write`: all or none. */
  batch(): AbstractChainedBatch<this, K, V>
  /** Several changes, all or none. Durable as `put`. */
  batch(operations: AbstractBatchOperation<this, K, V>[]): Promise<void>
  /** The same with options. */
  batch<KOf = K, VOf = V>(
    operations: AbstractBatchOperation<this, KOf, VOf>[],
    options: PlinthBatchOptions<KOf, VOf>,
  ): Promise<void>
}

function openMap(volume: Volume, options: OpenOptions): OrderedMap {
  const { map: name = MAP_NAME, createIfMissing, errorIfExists, cacheBytes } = options
  const exists = volume.heaps().includes(name)
  if (exists && errorIfExists) {
    throw new PlinthError('ERR_CHUNK_EXISTS', `the map '${name}' exists on ${volume.info.path}`)
  }
  if (!exists && !createIfMissing) {
    const where = volume.info.path
    throw new PlinthError('ERR_HEAP_NOT_FOUND', `the map '${name}' does not exist on ${where}`)
  }
  return OrderedMap.open(volume, name, { cacheBytes })
}

function toMapOperation(operation: Operation): MapOperation {
  const key = toBytes(operation.key)
  if (operation.type === 'del') return { type: 'delete', key }
  return { type: 'put', key, value: toBytes(operation.value) }
}
