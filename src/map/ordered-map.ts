/**
 * An ordered map on a volume: keys and values are bytes, every change is one record of the volume's log.
 *
 *   inner nodes   in memory   ─┐ made anew at opening from the leaves' low keys
 *   leaves        device       ├ up to 64 pointers each, in no order; in memory their order and four
 *                              │ bytes of each key
 *   entries       device      ─┘ an object a key, with its value
 *
 * Changes are made to memory while they are staged, and rolled back when the transaction is refused.
 */
import { type Heap, PlinthError, Volume } from '../index.js'
import { compareBytes, hashOf } from './bytes.js'
import { corrupt, Entries } from './entries.js'
import { HashIndex } from './hash-index.js'
import type { Node } from './inner.js'
import {
  HEADER_BYTES,
  HEADER_MAGIC,
  HEADER_VERSION,
  KEY_BYTES_MAX,
  LEAF_BYTES,
  LEAF_MAGIC,
  LOW_AT,
  LOW_BYTES_MAX,
  RETIRED_BYTES,
  TYPE,
} from './layout.js'
import { Leaf } from './leaf.js'
import { type Change, deletionOf, type MapOperation, takeOperations } from './operation.js'
import { Bounds, checkKey, checkValue, type Range, typeError } from './range.js'
import { MapReader } from './reader.js'
import { Retired } from './retired.js'
import { MapSnapshot, type SnapshotParts } from './snapshot.js'
import { type Hold, SnapshotTracker } from './snapshot-tracker.js'
import { Tree } from './tree.js'
import { Writer } from './writer.js'

/** Options of `OrderedMap.open`. */
export interface MapOptions {
  /**
   * Memory for decoded leaves, in bytes, and at most as much again for finding single keys. An entry takes
   * some 35 of both. @default 256 MiB, enough for some 16 million entries
   */
  readonly cacheBytes?: number | undefined
}

const CACHE_BYTES = 256 * 2 ** 20
/** Entries up to this travel in the record: less than a fence of their own on memory, than a barrier on disks. */
const INLINE_BYTES = { memory: 512, page: 32 * 1024 }
/** So many entries `clear` deletes in one transaction. */
const CLEAR_AT_ONCE = 64

/** Maps by their heap: a second one would not know what the first changes. */
const maps = new WeakMap<Heap, OrderedMap>()

interface Inside {
  readonly volume: Volume
  readonly heap: Heap
  readonly tree: Tree
  readonly entries: Entries
  readonly index: HashIndex
}

/**
 * Entries in the order of their keys' bytes. Keys have 0 to 65 536 bytes, values up to 1 GiB.
 *
 * Every change is atomic: after a crash it is there or not. Where nothing else is said it is durable when
 * the call returns, with one fence (memory) or one barrier (disks); an entry beyond 512 bytes (disks:
 * 32 KiB) costs one more.
 */
export class OrderedMap extends MapReader {
  readonly #inside: Inside
  readonly #writer: Writer
  readonly #retired: Retired
  readonly #tracker = new SnapshotTracker()
  readonly #snapshotParts: SnapshotParts

  /**
   * The map of this name on a volume; made when there is none, as a heap of that name. Two calls give the same.
   * @throws PlinthError ERR_NOT_A_MAP when the heap holds something else, ERR_NO_SPACE, ERR_HEAP_NOT_FOUND
   *   (readers make none), ERR_VOLUME_CORRUPT, ERR_FORMAT_TOO_NEW
   */
  static open(volume: Volume, name: string, options?: MapOptions): OrderedMap {
    if (!(volume instanceof Volume)) {
      throw typeError('ERR_INVALID_ARG_TYPE', 'an ordered map needs an open volume')
    }
    const cacheBytes = cacheBytesOf(options)
    const heap = volume.heap(name)
    const known = maps.get(heap)
    if (known !== undefined) return known
    const { readOnly, granularity } = volume.info
    if (heap.root === 0) create(volume, heap, name, readOnly)
    checkHeader(heap, name)
    const leaves = readLeaves(heap)
    const retired = new Retired(heap)
    if (!readOnly) retired.sweep(volume, leaves)
    const inlineBytes = granularity === 'page' ? INLINE_BYTES.page : INLINE_BYTES.memory
    const entries = new Entries(heap, inlineBytes)
    const index = new HashIndex(cacheBytes)
    const tree = new Tree({ entries, index, leaves, cacheBytes })
    const map = new OrderedMap({ volume, heap, tree, entries, index }, retired)
    maps.set(heap, map)
    return map
  }

  /** @internal Maps come from `open`. */
  private constructor(inside: Inside, retired: Retired) {
    const { volume, tree, entries } = inside
    super(volume, tree, entries)
    this.#inside = inside
    this.#retired = retired
    this.#writer = new Writer({ ...inside, retired, tracker: this.#tracker })
    this.#snapshotParts = { volume, tree, entries, hold: (version) => this.#hold(version) }
  }

  /**
   * Puts an entry, over the one with the same key.
   * @throws TypeError, RangeError for what is no key or value; PlinthError ERR_NO_SPACE, ERR_READ_ONLY, ERR_TX_ACTIVE
   */
  put(key: Uint8Array, value: Uint8Array): void {
    this.#writer.put(key, checkKey(key), value, checkValue(value))
  }

  /** The same; visible at once, durable when the promise resolves. Those that wait at the same time share one barrier. */
  putAsync(key: Uint8Array, value: Uint8Array): Promise<void> {
    return this.#writer.putAsync(key, checkKey(key), value, checkValue(value))
  }

  /** Deletes an entry. Whether there was one. */
  delete(key: Uint8Array): boolean {
    return this.#writer.delete(key, checkKey(key))
  }

  /** The same; visible at once, durable when the promise resolves. */
  deleteAsync(key: Uint8Array): Promise<void> {
    return this.#writer.deleteAsync(key, checkKey(key))
  }

  /**
   * Makes several changes, in their order, all or none.
   * @throws as `put`; PlinthError ERR_TX_TOO_LARGE when they do not fit one record of the log
   */
  batch(operations: readonly MapOperation[]): void {
    this.#writer.batch(takeOperations(operations))
  }

  /** The same; visible at once, durable when the promise resolves. */
  batchAsync(operations: readonly MapOperation[]): Promise<void> {
    return this.#writer.batchAsync(takeOperations(operations))
  }

  /** Deletes the entries of a range, some at a time: a crash within leaves the rest. Returns how many. */
  clear(range?: Range): number {
    const bounds = new Bounds(range)
    let cleared = 0
    for (;;) {
      const changes: Change[] = []
      const cursor = this.cursorOf(bounds.limited(Math.min(bounds.limit - cleared, CLEAR_AT_ONCE)))
      try {
        while (cursor.next()) changes.push(deletionOf(cursor.key))
      } finally {
        cursor.close()
      }
      if (changes.length === 0) return cleared
      this.#writer.batch(changes)
      cleared += changes.length
    }
  }

  /**
   * The map as it is now, whatever comes; close it, else the space of what is overwritten stays taken.
   * @throws PlinthError ERR_TX_ACTIVE inside a transaction, ERR_VOLUME_CLOSED, ERR_VOLUME_FAILED
   */
  snapshot(): MapSnapshot {
    this.#inside.volume.ensureUsable()
    if (this.#inside.volume.transaction !== undefined) {
      throw new PlinthError(
        'ERR_TX_ACTIVE',
        'a snapshot is of what was committed; take it outside the transaction, or use a cursor',
      )
    }
    return new MapSnapshot(this.#snapshotParts)
  }

  /** @internal */
  protected override state(): Node {
    this.#inside.volume.ensureUsable()
    return this.#inside.tree.root
  }

  /** @internal */
  protected override hold(): Hold {
    return this.#hold(undefined)
  }

  /** @internal The present state's entry is mostly known by its hash. */
  protected override find(key: Uint8Array, keyBytes: number): number {
    const { volume, entries, index } = this.#inside
    volume.ensureUsable()
    // What only says that it is shorter or longer is looked up as it is.
    const asked = key.length === keyBytes ? key : entries.takeKey(key, keyBytes)
    const known = index.find(hashOf(asked), asked, entries)
    if (known !== 0) return known
    // In memory that is shared it may be another one by now: the index must know what was found.
    const own = entries.takeKey(key, keyBytes)
    const pointer = this.search(own)
    if (pointer !== 0) index.add(hashOf(own), pointer)
    return pointer
  }

  /** Holds a state: the present one, or that of a version that is held already. */
  #hold(held: number | undefined): Hold {
    const { tree } = this.#inside
    const version = held ?? tree.version++
    this.#tracker.take(version)
    tree.newest = this.#tracker.newest
    const hold = { version, isLost: false, drop: () => this.#drop(version) }
    if (this.#writer.isWithin) this.#tracker.addWithin(hold)
    return hold
  }

  #drop(version: number): void {
    const { tree, volume } = this.#inside
    this.#tracker.drop(version)
    tree.newest = this.#tracker.newest
    tree.release(this.#tracker.oldest)
    this.#retired.release(volume, this.#tracker.oldest)
  }
}

function cacheBytesOf(options: MapOptions | undefined): number {
  if (options === undefined) return CACHE_BYTES
  if (options === null || typeof options !== 'object') {
    throw typeError('ERR_INVALID_ARG_TYPE', 'OrderedMap.open: options must be an object')
  }
  for (const name in options) {
    if (name !== 'cacheBytes') {
      throw typeError(
        'ERR_UNKNOWN_OPTION',
        `OrderedMap.open: unknown option '${name}'; it takes cacheBytes`,
      )
    }
  }
  const { cacheBytes = CACHE_BYTES } = options
  if (typeof cacheBytes !== 'number' || !(cacheBytes >= 0)) {
    throw typeError('ERR_INVALID_ARG_VALUE', 'cacheBytes must be a number of bytes')
  }
  return cacheBytes
}

/** Makes a heap that has nothing an empty map, in one transaction. */
function create(volume: Volume, heap: Heap, name: string, readOnly: boolean): void {
  for (const _ of heap.objects()) throw notAMap(name)
  if (readOnly) throw notAMap(name)
  const header = new Uint32Array(HEADER_BYTES / 4)
  header.set([...HEADER_MAGIC, HEADER_VERSION])
  const leaf = new Uint32Array(LEAF_BYTES / 4)
  leaf[0] = LEAF_MAGIC
  volume.transact((tx) => {
    const root = heap.allocate(HEADER_BYTES, TYPE.HEADER)
    tx.writeObject(heap, root, new Uint8Array(header.buffer))
    tx.writeObject(heap, heap.allocate(LEAF_BYTES, TYPE.LEAF), new Uint8Array(leaf.buffer))
    // A first page for what is retired: on a full volume there would be no room for it.
    tx.writeObject(heap, heap.allocate(RETIRED_BYTES, TYPE.RETIRED), new Uint8Array(RETIRED_BYTES))
    heap.setRoot(root)
  })
}

function checkHeader(heap: Heap, name: string): void {
  const { root } = heap
  if (!heap.has(root) || heap.type(root) !== TYPE.HEADER) throw notAMap(name)
  if (heap.size(root) < HEADER_BYTES) throw notAMap(name)
  const words = [0, 4, 8].map((at) => heap.getUint32(root + at))
  if (words[0] !== HEADER_MAGIC[0] || words[1] !== HEADER_MAGIC[1]) throw notAMap(name)
  if (words[2] === HEADER_VERSION) return
  throw new PlinthError('ERR_FORMAT_TOO_NEW', `the map '${name}' has a format of a later version`)
}

function notAMap(name: string): PlinthError {
  return new PlinthError(
    'ERR_NOT_A_MAP',
    `the heap '${name}' holds something else than an ordered map`,
  )
}

/** The leaves in the order of their low keys. */
function readLeaves(heap: Heap): Leaf[] {
  const leaves: Leaf[] = []
  const keys = new Set<number>()
  for (const pointer of heap.objects({ type: TYPE.LEAF })) {
    leaves.push(new Leaf(pointer, readLow(heap, pointer, keys), 1))
  }
  leaves.sort((a, b) => compareBytes(a.low, b.low))
  for (let i = 0; i < leaves.length; i++) {
    const isFirst = leaves[i]!.low.length === 0
    if (isFirst !== (i === 0)) throw corrupt('two leaves have the same keys, or none has the first')
    if (i > 0 && compareBytes(leaves[i - 1]!.low, leaves[i]!.low) === 0) {
      throw corrupt(`leaves ${leaves[i - 1]!.pointer} and ${leaves[i]!.pointer} have the same keys`)
    }
  }
  if (leaves.length === 0) throw corrupt('it has no leaf')
  return leaves
}

/** `keys` has the pointers of long low keys that were met: each is one leaf's, which frees it. */
function readLow(heap: Heap, leaf: number, keys: Set<number>): Uint8Array {
  const isSound = heap.size(leaf) >= LEAF_BYTES && heap.getUint32(leaf) === LEAF_MAGIC
  const length = isSound ? heap.getUint32(leaf + 4) : 0
  if (!isSound || length > KEY_BYTES_MAX) throw corrupt(`leaf ${leaf} is damaged`)
  const low = new Uint8Array(length)
  if (length <= LOW_BYTES_MAX) {
    heap.copyOut(leaf + LOW_AT, low)
    return low
  }
  const pointer = heap.getUint64(leaf + LOW_AT)
  if (!heap.has(pointer) || heap.type(pointer) !== TYPE.KEY || heap.size(pointer) < length) {
    throw corrupt(`the low key of leaf ${leaf} is not there`)
  }
  if (keys.has(pointer)) throw corrupt(`two leaves have the low key ${pointer}`)
  keys.add(pointer)
  heap.copyOut(pointer, low)
  return low
}
