/**
 * A heap as its user holds it: objects smaller than a chunk (and larger ones, which are chunks), each
 * named by its pointer.
 *
 *   reserve ──publish──▶ live ──free──▶ gone
 *      └──cancel──▶ gone
 *
 * Each durable call here is one record and one fence. The plain cases (a block of a slab that exists,
 * the free of an object that is not its slab's last) stage their words and commit; everything else goes
 * through the journal, as transactions do.
 */
import { checkBytes, checkInteger, checkOptions, plainBytes } from '../base/arguments.js'
import { PlinthError } from '../base/errors.js'
import { WORD } from '../base/units.js'
import { TYPE_MAX } from '../layout/heap.js'
import { joinWords } from '../layout/struct.js'
import { isObserved, observe } from '../log/diagnostics.js'
import type { HeapChunk } from './heap-chunk.js'
import type { HeapSpace } from './heap-space.js'
import { type HeapStats, statsOf } from './heap-stats.js'
import type { Heaps } from './heaps.js'
import { ObjectReader } from './object-reader.js'
import { locateReserved, stageAllocate, stageFree, stagePublish, stageRoot } from './staging.js'

/** What the rooms to the right may ask of a heap, and its user may not. */
export let spaceOf: (heap: Heap) => HeapSpace

/**
 * Objects in storage memory. A pointer is the object's offset on the device, a number: it stays valid
 * for the object's whole life, across openings, and may be stored anywhere as a 64-bit word.
 *
 * A pointer that is not the start of a live object of this heap is refused with `ERR_BAD_POINTER`.
 * An object's first contents are unspecified.
 */
export class Heap {
  readonly #space: HeapSpace
  readonly #heaps: Heaps

  static {
    spaceOf = (heap) => heap.#space
  }

  /** @internal Heaps come from the volume. */
  constructor(space: HeapSpace) {
    this.#space = space
    this.#heaps = space.heaps
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
   * Allocates an object of at least `size` bytes. Durable when it returns, with one fence; one more, before
   * it, when the heap needs another chunk, whose head is zeroed first (also within a transaction).
   * `type` is a tag of its owner's, 0 to 65535, by which `objects` finds it; objects of different
   * types share no slab.
   * @throws PlinthError ERR_NO_SPACE, ERR_CHUNK_TOO_LARGE, ERR_TX_ACTIVE
   */
  allocate(size: number, type = 0): number {
    const { log } = this.#space
    if (isObserved(log)) return observe('heap.allocate', log, this, this.allocate, size, type)
    this.#begin()
    const space = this.#space
    const kind = space.kindFor(size, type)
    if (kind === undefined || !space.find(kind) || kind.chunk!.entered[kind.unit] === 0) {
      return this.#allocateAnew(size, type, 0)
    }
    const chunk = kind.chunk!
    const { unit } = kind
    const block = space.take(kind)
    chunk.setLive(unit, block)
    try {
      space.stageBits(chunk, unit, block)
      space.log.commit()
    } catch (error) {
      this.#untake(chunk, unit, block)
      throw error
    }
    return chunk.offset + chunk.blocksAt[unit]! + block * kind.blockBytes
  }

  /**
   * Allocates an object and stores its pointer at `link`, eight bytes within an object of this heap,
   * both or neither: no crash leaves an object that nothing points to. Durable when it returns, with
   * one fence (two as `allocate`).
   * @throws PlinthError as `allocate`, ERR_BAD_POINTER for a link outside of any object
   */
  allocateInto(link: number, size: number, type = 0): number {
    const { log } = this.#space
    if (isObserved(log))
      return observe('heap.allocateInto', log, this, this.allocateInto, link, size, type)
    this.#begin()
    const space = this.#space
    const heaps = this.#heaps
    const linked = heaps.reach(space, link, 8)
    const linkAt = heaps.offset
    const kind = space.kindFor(size, type)
    if (kind === undefined || !space.find(kind) || kind.chunk!.entered[kind.unit] === 0) {
      return this.#allocateAnew(size, type, link)
    }
    const chunk = kind.chunk!
    const { unit } = kind
    const block = space.take(kind)
    const pointer = chunk.offset + chunk.blocksAt[unit]! + block * kind.blockBytes
    chunk.setLive(unit, block)
    try {
      space.stageBits(chunk, unit, block)
      space.batch.setUint64(linked.mapping, linkAt, pointer)
      space.log.commit()
    } catch (error) {
      this.#untake(chunk, unit, block)
      throw error
    }
    return pointer
  }

  /** An allocation that takes more than a bit: a new slab, a new chunk. `link` 0 is none. */
  #allocateAnew(size: number, type: number, link: number): number {
    return this.#alone(() => {
      const pointer = stageAllocate(this.#space, size, type)
      if (link !== 0) this.#stageLink(link, pointer)
      return pointer
    })
  }

  /** The commit of an allocation has failed. */
  #untake(chunk: HeapChunk, unit: number, block: number): void {
    this.#space.batch.begin()
    chunk.clearLive(unit, block)
    this.#space.give(chunk, unit, block)
  }

  /**
   * Frees an object. Durable when it returns, with one fence. Never fails for want of space.
   * @throws PlinthError ERR_BAD_POINTER, ERR_TX_ACTIVE
   */
  free(pointer: number): void {
    const { log } = this.#space
    if (isObserved(log)) return void observe('heap.free', log, this, this.free, pointer)
    this.#begin()
    const space = this.#space
    const heaps = this.#heaps
    const chunk = heaps.locate(space, pointer)
    const { unit, block } = heaps
    if (chunk.used[unit] === 1) {
      // Its slab's last, or a large object: more than a bit changes.
      this.#freeLast(pointer, 0)
      return
    }
    chunk.clearLive(unit, block)
    try {
      space.stageBits(chunk, unit, block)
      space.log.commit()
    } catch (error) {
      space.batch.begin()
      chunk.setLive(unit, block)
      throw error
    }
    space.give(chunk, unit, block)
  }

  /**
   * Frees the object whose pointer is stored at `link` and makes that 0, both or neither. Durable when
   * it returns, with one fence.
   * @throws PlinthError ERR_BAD_POINTER, ERR_TX_ACTIVE
   */
  freeFrom(link: number): void {
    const { log } = this.#space
    if (isObserved(log)) return void observe('heap.freeFrom', log, this, this.freeFrom, link)
    this.#begin()
    const space = this.#space
    const heaps = this.#heaps
    const linked = heaps.reach(space, link, 8)
    const linkAt = heaps.offset
    const pointer = joinWords(getUint32(linked, linkAt), getUint32(linked, linkAt + 4))
    const chunk = heaps.locate(space, pointer)
    const { unit, block } = heaps
    if (chunk.used[unit] === 1) {
      this.#freeLast(pointer, link)
      return
    }
    chunk.clearLive(unit, block)
    try {
      space.stageBits(chunk, unit, block)
      space.batch.setUint64(linked.mapping, linkAt, 0)
      space.log.commit()
    } catch (error) {
      space.batch.begin()
      chunk.setLive(unit, block)
      throw error
    }
    space.give(chunk, unit, block)
  }

  /** The free of a slab's last object, or of a large one: more than a bit changes. `link` 0 is none. */
  #freeLast(pointer: number, link: number): void {
    this.#alone(() => {
      if (link !== 0) this.#stageLink(link, 0)
      stageFree(this.#space, pointer)
    })
  }

  /**
   * Takes space for an object in memory alone: fill it in place, then `publish` it, here or in a
   * transaction. A crash before that, `cancel` or the end of the volume gives the space back.
   * @throws PlinthError ERR_NO_SPACE, ERR_CHUNK_TOO_LARGE
   */
  reserve(size: number, type = 0): number {
    const { log } = this.#space
    if (isObserved(log)) return observe('heap.reserve', log, this, this.reserve, size, type)
    const space = this.#space
    space.store.checkWritable()
    const chunk = space.reserve(size, type)
    const { unit, block } = this.#heaps
    return chunk.offset + chunk.blocksAt[unit]! + block * chunk.blockBytes[unit]!
  }

  /**
   * Makes a reserved object exist with the contents that it has now. Durable when it returns: one
   * fence for a block of at most 256 bytes, whose contents travel in the record; else one more, before
   * it, for the contents.
   * @throws PlinthError ERR_BAD_POINTER when it is no reservation, ERR_TX_ACTIVE
   */
  publish(pointer: number): void {
    const { log } = this.#space
    if (isObserved(log)) return void observe('heap.publish', log, this, this.publish, pointer)
    this.#begin()
    this.#alone(() => stagePublish(this.#space, pointer))
  }

  /** Drops a reservation: nothing was or is written. */
  cancel(pointer: number): void {
    const { log } = this.#space
    if (isObserved(log)) return void observe('heap.cancel', log, this, this.cancel, pointer)
    const space = this.#space
    space.store.checkWritable()
    const chunk = this.#reserved(pointer)
    space.cancel(chunk, this.#heaps.unit, this.#heaps.block)
  }

  #reserved(pointer: number): HeapChunk {
    return locateReserved(this.#space, pointer)
  }

  /** The pointer from which all other objects are found; 0 for none. */
  get root(): number {
    this.#heaps.checkOpen()
    return this.#space.root
  }

  /** Makes `pointer` (0 for none) the root. Durable when it returns, with one fence. */
  setRoot(pointer: number): void {
    const { log } = this.#space
    if (isObserved(log)) return void observe('heap.setRoot', log, this, this.setRoot, pointer)
    this.#begin()
    this.#alone(() => stageRoot(this.#space, pointer))
  }

  /** Usable bytes of an object: at least what was asked for. */
  size(pointer: number): number {
    const chunk = this.#object(pointer)
    return chunk.blockBytes[this.#heaps.unit]!
  }

  /** The type tag that the object was allocated with. */
  type(pointer: number): number {
    return this.#space.typeOf(this.#object(pointer), this.#heaps.unit)
  }

  /** Whether this is the pointer of a live object of this heap. */
  has(pointer: number): boolean {
    try {
      this.#heaps.locate(this.#space, pointer)
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
    const { unit, block } = this.#heaps
    chunk.viewed = true
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
    const chunk = this.#heaps.reach(this.#space, address, 4)
    return getUint32(chunk, this.#heaps.offset)
  }

  /** The 64-bit word at `address`; Infinity beyond 2^53. Allocates nothing. */
  getUint64(address: number): number {
    const chunk = this.#heaps.reach(this.#space, address, 8)
    const { offset } = this.#heaps
    return joinWords(getUint32(chunk, offset), getUint32(chunk, offset + 4))
  }

  /** Stores a 32-bit word. Visible at once, durable after `persist` (or `publish`). */
  setUint32(address: number, value: number): void {
    if (typeof value !== 'number' || value >>> 0 !== value) {
      checkInteger(value, 'value', 0, 0xffffffff)
    }
    setUint32(this.#writable(address, 4), this.#heaps.offset, value)
  }

  /** Stores a 64-bit word, 0 to 2^53 - 1. */
  setUint64(address: number, value: number): void {
    checkInteger(value, 'value', 0)
    const chunk = this.#writable(address, 8)
    const { offset } = this.#heaps
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
    const chunk = this.#heaps.reach(this.#space, address, length)
    const { offset } = this.#heaps
    const { bytes } = chunk
    // Short ones byte by byte: a view costs as much as forty of them.
    if (length <= 40) for (let i = 0; i < length; i++) target[at + i] = bytes[offset + i]!
    else target.set(bytes.subarray(offset, offset + length), at)
  }

  /** Stores `source` at `address`. Visible at once, durable after `persist` (or `publish`). */
  copyIn(address: number, source: Uint8Array): void {
    const length = checkBytes(source, 'source')
    const { bytes } = this.#writable(address, length)
    const { offset } = this.#heaps
    if (length <= 64) for (let i = 0; i < length; i++) bytes[offset + i] = source[i]!
    else bytes.set(plainBytes(source, length), offset)
  }

  /**
   * Makes the stores to `length` bytes at `address`, within one object, durable: they are when it
   * returns. One fence on byte-addressable devices, one barrier on others.
   * @throws PlinthError ERR_BAD_POINTER, ERR_READ_ONLY, ERR_VOLUME_FAILED
   */
  persist(address: number, length: number): void {
    const { log } = this.#space
    if (isObserved(log))
      return void observe('heap.persist', log, this, this.persist, address, length)
    checkInteger(length, 'length', 0)
    const chunk = this.#writable(address, length)
    log.persist(chunk.mapping, this.#heaps.offset, length)
  }

  /** Pointers of the live objects, lowest first; with `type` those of that tag alone. */
  *objects(options?: { readonly type?: number | undefined }): Generator<number, void, undefined> {
    checkOptions(options, ['type'], 'objects')
    const type = options?.type
    if (type !== undefined) checkInteger(type, 'type', 0, TYPE_MAX - 1)
    const space = this.#space
    this.#heaps.checkOpen()
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
    this.#heaps.checkOpen()
    return statsOf(this.#space)
  }

  #begin(): void {
    const { store } = this.#space
    store.checkWritable()
    if (store.inTransaction) {
      throw new PlinthError(
        'ERR_TX_ACTIVE',
        'a transaction is under way; use its own methods inside the function',
      )
    }
  }

  /** Runs what stages changes as a batch of its own. */
  #alone<T>(work: () => T): T {
    const { log, batch } = this.#space
    const { journal } = this.#heaps
    let result: T
    try {
      result = work()
      journal.prepare()
      if (!batch.isEmpty) log.commit()
    } catch (error) {
      batch.begin()
      journal.rollback()
      throw error
    }
    journal.settle()
    return result
  }

  #stageLink(link: number, pointer: number): void {
    const chunk = this.#heaps.reach(this.#space, link, 8)
    this.#space.batch.setUint64(chunk.mapping, this.#heaps.offset, pointer)
  }

  /** The chunk of an object, live or reserved, by its pointer. */
  #object(pointer: number): HeapChunk {
    const heaps = this.#heaps
    const chunk = heaps.reach(this.#space, pointer, 0)
    const { unit, block, offset } = heaps
    if (chunk.blocksAt[unit]! + block * chunk.blockBytes[unit]! === offset) return chunk
    throw heaps.badPointer(this.#space, pointer)
  }

  #writable(address: number, length: number): HeapChunk {
    this.#space.store.checkWritable()
    const chunk = this.#heaps.reach(this.#space, address, length)
    chunk.expose()
    return chunk
  }
}

function getUint32(chunk: HeapChunk, offset: number): number {
  if ((offset & 3) === 0) return chunk.words[offset >>> 2]!
  const b = chunk.bytes
  return (
    (b[offset]! | (b[offset + 1]! << 8) | (b[offset + 2]! << 16) | (b[offset + 3]! << 24)) >>> 0
  )
}

function setUint32(chunk: HeapChunk, offset: number, value: number): void {
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
