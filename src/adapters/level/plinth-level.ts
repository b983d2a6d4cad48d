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
  toBytes,
  toRange,
} from './encoding.js'
import { LevelIterator, type LevelIteratorOptions } from './iterator.js'
import { LevelSnapshot } from './snapshot.js'
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
   * durable soon after and in order: a power cut takes the last such writes, never one before a write
   * that it leaves. Where a device needs no waiting (persistent memory) they are durable all the same.
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
/** `clear` deletes so many entries in one transaction. */
const CLEAR_AT_ONCE = 64

/**
 * An `abstract-level` database on a plinth volume.
 *
 * Failures of the volume are rejections with its own codes: ERR_NO_SPACE when it is full (deletes make room
 * again, but for what open iterators and snapshots still see); ERR_TX_TOO_LARGE for a batch that the log cannot take; ERR_VOLUME_FAILED after the device
 * has failed, until the database is closed and opened again. An error of `open` has them in its `cause`,
 * where a volume that somebody else has open is LEVEL_LOCKED.
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: what the interface declares is the base class's
export class PlinthLevel<K = string, V = string> extends AbstractLevel<
  string | Buffer | Uint8Array,
  K,
  V
> {
  readonly #location: string | Volume
  #volume: Volume | undefined
  #map: OrderedMap | undefined

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
      this.#map = openMap(volume, options)
    } catch (error) {
      if (isOwn) volume.close()
      throw error
    }
    if (isOwn) this.#volume = volume
  }

  /** @internal */
  async _close(): Promise<void> {
    this.#map = undefined
    this.#volume?.close()
    this.#volume = undefined
  }

  /** @internal */
  async _get(key: Data, options: ReadOptions): Promise<Data | undefined> {
    return this._getSync(key, options)
  }

  /** @internal */
  _getSync(key: Data, options: ReadOptions): Data | undefined {
    const value = this.#reader(options).get(toBytes(key))
    return value === undefined ? undefined : fromBytes(value, options.valueEncoding)
  }

  /** @internal */
  async _getMany(keys: Data[], options: ReadOptions): Promise<(Data | undefined)[]> {
    return keys.map((key) => this._getSync(key, options))
  }

  /** @internal */
  async _has(key: Data, options: ReadOptions): Promise<boolean> {
    return this.#reader(options).has(toBytes(key))
  }

  /** @internal */
  async _hasMany(keys: Data[], options: ReadOptions): Promise<boolean[]> {
    const reader = this.#reader(options)
    return keys.map((key) => reader.has(toBytes(key)))
  }

  /** @internal */
  _put(key: Data, value: Data, options: WriteOptions): Promise<void> {
    return settled(this.#map!.putAsync(toBytes(key), toBytes(value)), options)
  }

  /** @internal */
  _del(key: Data, options: WriteOptions): Promise<void> {
    return settled(this.#map!.deleteAsync(toBytes(key)), options)
  }

  /** @internal */
  _batch(operations: Operation[], options: WriteOptions): Promise<void> {
    return settled(this.#map!.batchAsync(operations.map(toMapOperation)), options)
  }

  /**
   * Deletes some entries at a time: a crash within leaves the rest. Without a snapshot an entry that is put
   * ahead of it while it runs is deleted as well.
   * @internal
   */
  async _clear(
    options: EncodedRange & ReadOptions & WriteOptions & { limit: number },
  ): Promise<void> {
    const reader = this.#reader(options)
    const range = toRange(options)
    let left = options.limit === -1 ? Number.POSITIVE_INFINITY : options.limit
    let behind = {}
    while (left > 0) {
      const limit = Math.min(left, CLEAR_AT_ONCE)
      const keys = [...reader.keys({ ...range, ...behind, limit })]
      const deletes = keys.map((key): MapOperation => ({ type: 'delete', key }))
      await this.#map!.batchAsync(deletes)
      if (keys.length < limit) return
      left -= keys.length
      const last = keys.at(-1)
      behind = range.reverse ? { lt: last, lte: undefined } : { gt: last, gte: undefined }
    }
  }

  /** @internal */
  _iterator(options: EncodedRange & ReadOptions & LevelIteratorOptions): LevelIterator<K, V> {
    const isReadable = options.snapshot?.isClosed !== true
    const cursor = isReadable ? this.#reader(options).cursor(toRange(options)) : undefined
    return new LevelIterator(this, options, cursor)
  }

  /** @internal */
  _snapshot(options: object): LevelSnapshot {
    return new LevelSnapshot(this.#map!.snapshot(), options)
  }

  #reader({ snapshot }: { snapshot?: LevelSnapshot }): OrderedMap | MapSnapshot {
    return snapshot?.map ?? this.#map!
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
  const exists = volume.chunks().some((chunk) => chunk.name === `heap:${name}`)
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

/** A change that was refused is a rejection already, and comes first. */
function settled(durable: Promise<void>, { sync }: WriteOptions): Promise<void> {
  return sync === false ? Promise.race([durable, undefined]) : durable
}
