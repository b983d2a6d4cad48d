/**
 * A heap as its user holds it: objects smaller than a chunk (and larger ones, which are chunks), each
 * named by its pointer.
 *
 *   reserve ──publish──▶ live ──free──▶ gone
 *      └──cancel──▶ gone
 *
 * What changes structure (allocate, free, publish, setRoot) is part of the transaction under way, or one of its
 * own: one record and one fence. Raw stores are raw everywhere, and durable by `persist` or `publish`.
 */
import { checkBytes, checkInteger, checkOptions, plainBytes } from '../base/arguments.js'
import type { PlinthError } from '../base/errors.js'
import { WORD } from '../base/units.js'
import { TYPE_MAX } from '../layout/heap.js'
import { joinWords } from '../layout/struct.js'
import type { TransactionContext } from '../log/transaction-context.js'
import {
  allocateObject,
  freeBlock,
  freeObject,
  locateReserved,
  publishObject,
  setRootObject,
} from './heap-changes.js'
import { type HeapStats, statsOf } from './heap-stats.js'
import { ObjectReader } from './object-reader.js'
import { Location, type PointerMap } from './pointer-map.js'
import type { SlabChunk } from './slab-chunk.js'
import type { SlabHeap } from './slab-heap.js'

/** What the rooms to the right may ask of a heap, and its user may not. */
export let spaceOf: (heap: Heap) => SlabHeap

/**
 * Objects in storage memory. A pointer is the object's offset on the device, a number: it stays valid
 * for the object's whole life, across openings, and may be stored anywhere as a 64-bit word.
 *
 * A pointer that is not the start of a live object of this heap is refused with `ERR_BAD_POINTER`.
 * An object's first contents are unspecified.
 */
export class Heap {
  readonly #space: SlabHeap
  readonly #pointers: PointerMap
  readonly #context: TransactionContext
  /** Of what was looked up last; good until the next look. */
  readonly #at = new Location()

  static {
    spaceOf = (heap) => heap.#space
  }

  /** @internal HeapDirectory come from the volume. */
  constructor(space: SlabHeap) {
    this.#space = space
    this.#pointers = space.pointers
    this.#context = space.context
  }

  /** The name by which `volume.heap` finds it. */
  get name(): string {
    return this.#space.name
  }

  /** Sizes of the blocks that objects get, ascending; what is larger than the last is a chunk of its own. */
  get sizes(): number[] {
    return [...this.#space.classes.sizes]
  }

  /**
   * Allocates an object of at least `size` bytes. Inside `volume.transact` it is part of that; else it is durable
   * when this returns, with one fence. One more, before it, when the heap needs another chunk, whose head is zeroed
   * first. `type` is a tag of its owner's, 0 to 65535, by which `objects` finds it; objects of different types share
   * no slab.
   * @throws PlinthError ERR_NO_SPACE, ERR_CHUNK_TOO_LARGE, ERR_TX_TOO_LARGE, ERR_READ_ONLY, ERR_VOLUME_FAILED
   */
  allocate(size: number, type = 0): number {
    const context = this.#context
    const isAlone = context.enter('heap.allocate')
    let pointer: number
    try {
      pointer = allocateObject(this.#space, size, type, this.#at, isAlone)
      if (isAlone) context.commit()
    } catch (error) {
      if (isAlone) context.rollback()
      throw error
    }
    if (isAlone) context.finish()
    return pointer
  }

  /**
   * Frees an object: its pointer is refused from now on. Inside `volume.transact` it is part of that, and its space
   * can be had again after the commit; else it is durable when this returns, with one fence. Never fails for want
   * of space.
   * @throws PlinthError ERR_BAD_POINTER, ERR_TX_TOO_LARGE, ERR_READ_ONLY, ERR_VOLUME_FAILED
   */
  free(pointer: number): void {
    const context = this.#context
    const at = this.#at
    const isAlone = context.enter('heap.free')
    /** Of a block, that something else of its slab is live: its bit is all that changes. */
    let plain: SlabChunk | undefined
    try {
      if (isAlone) plain = freeBlock(this.#space, pointer, at)
      else freeObject(this.#space, pointer, at)
      if (isAlone) context.commit()
    } catch (error) {
      if (isAlone) context.rollback()
      throw error
    }
    if (!isAlone) return
    if (plain !== undefined) this.#space.give(plain, at.unit, at.block)
    context.finish()
  }

  /**
   * Takes space for an object in memory alone: fill it in place, then `publish` it, here or in a
   * transaction. A crash before that, `cancel` or the end of the volume gives the space back.
   * @throws PlinthError ERR_NO_SPACE, ERR_CHUNK_TOO_LARGE
   */
  reserve(size: number, type = 0): number {
    const space = this.#space
    this.#context.log.diagnostics.enter('heap.reserve')
    space.store.checkWritable()
    const chunk = space.reserve(size, type, this.#at)
    const { unit, block } = this.#at
    return chunk.offset + chunk.blocksAt[unit]! + block * chunk.blockBytes[unit]!
  }

  /**
   * Makes a reserved object exist with the contents that it has now. Inside `volume.transact` it is part of that; else
   * it is durable when this returns: one fence for a block of at most 256 bytes, whose contents travel in the record;
   * else one more, before it, for the contents, also in a transaction.
   * @throws PlinthError ERR_BAD_POINTER when it is no reservation, ERR_TX_TOO_LARGE
   */
  publish(pointer: number): void {
    this.#context.run('heap.publish', () => publishObject(this.#space, pointer, this.#at))
  }

  /** Drops a reservation: nothing was or is written. */
  cancel(pointer: number): void {
    const space = this.#space
    this.#context.log.diagnostics.enter('heap.cancel')
    space.store.checkWritable()
    const chunk = locateReserved(space, pointer, this.#at)
    space.cancel(chunk, this.#at.unit, this.#at.block)
  }

  /** The pointer from which all other objects are found; 0 for none. */
  get root(): number {
    this.#context.lifecycle.checkOpen()
    return this.#space.root
  }

  /**
   * Makes `pointer` (0 for none) the root. Inside `volume.transact` it is part of that; else it is durable when this
   * returns, with one fence.
   * @throws PlinthError ERR_BAD_POINTER, ERR_TX_TOO_LARGE, ERR_READ_ONLY, ERR_VOLUME_FAILED
   */
  setRoot(pointer: number): void {
    this.#context.run('heap.setRoot', () => setRootObject(this.#space, pointer, this.#at))
  }

  /** Usable bytes of an object: at least what was asked for. */
  size(pointer: number): number {
    const chunk = this.#object(pointer)
    return chunk.blockBytes[this.#at.unit]!
  }

  /** The type tag that the object was allocated with. */
  type(pointer: number): number {
    return this.#space.typeOf(this.#object(pointer), this.#at.unit)
  }

  /** Whether this is the pointer of a live object of this heap. */
  has(pointer: number): boolean {
    try {
      this.#pointers.locate(this.#space, pointer, this.#at)
      return true
    } catch (error) {
      if ((error as PlinthError).code === 'ERR_BAD_POINTER') return false
      throw error
    }
  }

  /**
   * The object's bytes, straight on the device: a new view each time, so not for hot paths. Empty
   * when the volume is closed. It must not be used after the object was freed.
   */
  bytes(pointer: number): Uint8Array {
    const chunk = this.#object(pointer)
    const { unit, block } = this.#at
    chunk.expose()
    const from = chunk.blocksAt[unit]! + block * chunk.blockBytes[unit]!
    return chunk.bytes.subarray(from, from + chunk.blockBytes[unit]!)
  }

  /** A reader of this heap's objects: for looking at several places of one object. */
  reader(): ObjectReader {
    return new ObjectReader(this.#space)
  }

  /** The 32-bit word at `address`, anywhere in an object. Allocates nothing. */
  getUint32(address: number): number {
    const chunk = this.#pointers.reach(this.#space, address, 4, this.#at)
    return getUint32(chunk, this.#at.offset)
  }

  /** The 64-bit word at `address`; Infinity beyond 2^53. Allocates nothing. */
  getUint64(address: number): number {
    const chunk = this.#pointers.reach(this.#space, address, 8, this.#at)
    const { offset } = this.#at
    return joinWords(getUint32(chunk, offset), getUint32(chunk, offset + 4))
  }

  /** Stores a 32-bit word. Visible at once, durable after `persist` (or `publish`). */
  setUint32(address: number, value: number): void {
    if (typeof value !== 'number' || value >>> 0 !== value) {
      checkInteger(value, 'value', 0, 0xffffffff)
    }
    setUint32(this.#writable(address, 4), this.#at.offset, value)
  }

  /** Stores a 64-bit word, 0 to 2^53 - 1. */
  setUint64(address: number, value: number): void {
    checkInteger(value, 'value', 0)
    const chunk = this.#writable(address, 8)
    const { offset } = this.#at
    const low = value >>> 0
    setUint32(chunk, offset, low)
    setUint32(chunk, offset + 4, (value - low) * (1 / WORD))
  }

  /** Copies `length` bytes (as many as the target has) from `address` to the target's start (or `at`). Allocates nothing. */
  copyOut(
    address: number,
    target: Uint8Array,
    at = 0,
    length: number = checkBytes(target, 'target') - at,
  ): void {
    const targetBytes = checkBytes(target, 'target')
    checkInteger(at, 'at', 0, targetBytes)
    checkInteger(length, 'length', 0, targetBytes - at)
    const chunk = this.#pointers.reach(this.#space, address, length, this.#at)
    const { offset } = this.#at
    const { bytes } = chunk
    // Short ones byte by byte: a view costs as much as forty of them.
    if (length <= 40) for (let i = 0; i < length; i++) target[at + i] = bytes[offset + i]!
    else target.set(bytes.subarray(offset, offset + length), at)
  }

  /** Stores `source` at `address`. Visible at once, durable after `persist` (or `publish`). */
  copyIn(address: number, source: Uint8Array): void {
    const length = checkBytes(source, 'source')
    const { bytes } = this.#writable(address, length)
    const { offset } = this.#at
    if (length <= 24) for (let i = 0; i < length; i++) bytes[offset + i] = source[i]!
    else bytes.set(plainBytes(source, length), offset)
  }

  /**
   * Makes the stores to `length` bytes at `address`, within one object, durable: they are when it
   * returns. One fence on byte-addressable devices, one barrier on others.
   * @throws PlinthError ERR_BAD_POINTER, ERR_READ_ONLY, ERR_VOLUME_FAILED
   */
  persist(address: number, length: number): void {
    const { log } = this.#space
    log.diagnostics.enter('heap.persist')
    checkInteger(length, 'length', 0)
    this.#space.store.checkWritable()
    const chunk = this.#pointers.reach(this.#space, address, length, this.#at)
    const { offset } = this.#at
    log.persist(chunk.mapping, offset, length)
    chunk.notePersisted(offset, length)
  }

  /** Pointers of the live objects, lowest first; with `type` those of that tag alone. */
  *objects(options?: { readonly type?: number | undefined }): Generator<number, void, undefined> {
    checkOptions(options, ['type'], 'objects')
    const type = options?.type
    if (type !== undefined) checkInteger(type, 'type', 0, TYPE_MAX - 1)
    const space = this.#space
    this.#context.lifecycle.checkOpen()
    space.loadAll()
    const chunks = [...space.chunks, ...space.larges].sort((a, b) => a.offset - b.offset)
    for (const chunk of chunks) {
      for (let unit = 0; unit < chunk.units; unit++) {
        // The bits of slabs that are passed over are not read.
        if (!chunk.beginsSlab(unit)) continue
        if (type !== undefined && space.typeOf(chunk, unit) !== type) continue
        if (!chunk.isSlab(unit)) continue
        const first = chunk.offset + chunk.blocksAt[unit]!
        for (let block = 0; block < chunk.blocks[unit]!; block++) {
          // What was freed or given back since is passed over.
          if (chunk.isLive(unit, block)) yield first + block * chunk.blockBytes[unit]!
          if (chunk.slabOf[unit] !== unit) break
        }
      }
    }
  }

  /** What the heap holds, by class. Reads the bitmaps of all slabs. */
  stats(): HeapStats {
    this.#context.lifecycle.checkOpen()
    return statsOf(this.#space)
  }

  /** The chunk of an object, live or reserved, by its pointer. */
  #object(pointer: number): SlabChunk {
    const pointers = this.#pointers
    const chunk = pointers.reach(this.#space, pointer, 0, this.#at)
    const { unit, block, offset } = this.#at
    if (chunk.blocksAt[unit]! + block * chunk.blockBytes[unit]! === offset) return chunk
    throw pointers.badPointer(this.#space, pointer)
  }

  #writable(address: number, length: number): SlabChunk {
    this.#space.store.checkWritable()
    const chunk = this.#pointers.reach(this.#space, address, length, this.#at)
    chunk.noteStores(this.#at.offset, length)
    return chunk
  }
}

function getUint32(chunk: SlabChunk, offset: number): number {
  if ((offset & 3) === 0) return chunk.words[offset >>> 2]!
  const b = chunk.bytes
  return (
    (b[offset]! | (b[offset + 1]! << 8) | (b[offset + 2]! << 16) | (b[offset + 3]! << 24)) >>> 0
  )
}

function setUint32(chunk: SlabChunk, offset: number, value: number): void {
  if ((offset & 3) === 0) {
    chunk.words[offset >>> 2] = value
    return
  }
  const { bytes } = chunk
  bytes[offset] = value
  bytes[offset + 1] = value >>> 8
  bytes[offset + 2] = value >>> 16
  bytes[offset + 3] = value >>> 24
}
