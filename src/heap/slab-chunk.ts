/**
 * One chunk of a heap as memory knows it: slabs, or one large object, which is kept as a slab of one
 * block so that every pointer is looked up in the same way.
 *
 *   unit      0     1     2     3     4     5
 *   slabOf    -1    1     1     1     -6    -1       first unit of the slab; below 0 none, or one whose
 *                   └ slab of 3 ─┘    └ not built   bits were not read yet (-2 - first unit)
 *
 * Three bits for each block, in typed arrays; bits of blocks that do not exist are taken.
 *
 *              live  reserved  taken
 *   free        .       .        .
 *   reserved    .       x        x      space in memory only
 *   live        x       .        x      what the bitmap on the device says, with what is staged
 *   freed       .       .        x      by a transaction that has not committed: nobody's yet
 *
 * A slab's bits are read from the device when somebody first asks for one of its blocks (`build`),
 * so that loading a chunk reads one entry a unit.
 *
 * Invariant: used + reserved + freed by the transaction + free = blocks, for each slab that is built.
 */
import type { Chunk } from '../allocator/chunk.js'
import { insideOf } from '../allocator/chunk.js'
import { countBits, lowestBit } from '../base/bits.js'
import { PlinthError } from '../base/errors.js'
import { type SlabLayout, slabBase, slabLayout, slabPlace, slabUnits } from '../layout/heap.js'
import type { Mapping } from '../media/media.js'

const NO_BYTES = new Uint8Array(0)
const NO_WORDS = new Uint32Array(0)
const NO_BITS = new Int32Array(0)
const NO_HINTS = new Uint16Array(0)
/** In `slabOf`, minus the first unit: a slab whose bits were not read yet. */
export const UNBUILT = -2

/** The heap of a chunk, as the chunk and what finds it see it. */
export interface SlabOwner {
  readonly name: string
  /** Pointer of the object from which the others are found, 0 for none. */
  root: number
  /** Gives a mapping its views again. */
  regain(mapping: Mapping): void
  /** Reads the chunk's head. */
  load(chunk: SlabChunk): void
  /** Stages the release of a slab without objects. */
  releaseIfEmpty(chunk: SlabChunk, unit: number): void
  /** What an op of the undo log means once it is committed. */
  carryThrough(op: number, chunk: SlabChunk, unit: number, block: number): void
  /** Takes an op of the undo log back. */
  undo(op: number, chunk: SlabChunk, unit: number, block: number): void
}

export interface SlabChunkParts {
  readonly owner: SlabOwner
  readonly chunk: Chunk
  readonly firstUnit: number
  readonly units: number
  readonly unitBytes: number
  readonly isRoot: boolean
  readonly isLarge: boolean
  /** Whether the chunk is in the table on the device, or reserved in memory. */
  readonly durable: boolean
}

export class SlabChunk {
  readonly owner: SlabOwner
  readonly chunk: Chunk
  readonly offset: number
  readonly sizeBytes: number
  readonly firstUnit: number
  readonly units: number
  readonly unitBytes: number
  readonly unitShift: number
  readonly isRoot: boolean
  readonly isLarge: boolean
  readonly layout: SlabLayout
  durable: boolean
  /** Whether the head was read and the arrays below say what is in it. */
  loaded = false
  /** Whether somebody outside was given views on it: it stays mapped. */
  viewed = false
  /** Where raw stores were made that nobody has made durable. */
  #storedFrom = Number.POSITIVE_INFINITY
  #storedTo = 0
  mapping!: Mapping
  bytes: Uint8Array = NO_BYTES
  words: Uint32Array = NO_WORDS
  /** Index of this in the list of all chunks of heaps. */
  index = 0
  /** Units that no slab has and one might. */
  freeUnits = 0
  slabs = 0
  /** Slabs that the batch under way releases. */
  leaving = 0
  /** Whether the batch under way gives this chunk back. */
  given = false
  /** 32-bit words of bits for each unit. */
  readonly unitWords: number
  slabOf: Int32Array = NO_BITS
  // By first unit of the slab:
  kindOf: Int32Array = NO_BITS
  blockBytes: Uint32Array = NO_WORDS
  /** Offset of block 0 in the chunk. */
  blocksAt: Uint32Array = NO_WORDS
  blocks: Uint32Array = NO_WORDS
  free: Uint32Array = NO_WORDS
  used: Uint32Array = NO_WORDS
  reservations: Uint32Array = NO_WORDS
  /** No free block is in a word before this one. */
  hint: Uint16Array = NO_HINTS
  /** Whether the slab's entry is on the device (or staged). */
  entered: Uint8Array = NO_BYTES
  live: Int32Array = NO_BITS
  reserved: Int32Array = NO_BITS
  taken: Int32Array = NO_BITS

  constructor(parts: SlabChunkParts) {
    const { units } = parts
    this.owner = parts.owner
    this.chunk = parts.chunk
    this.offset = parts.chunk.offset
    this.sizeBytes = parts.chunk.size
    this.firstUnit = parts.firstUnit
    this.units = units
    this.unitBytes = parts.unitBytes
    this.unitShift = 31 - Math.clz32(parts.unitBytes)
    this.isRoot = parts.isRoot
    this.isLarge = parts.isLarge
    this.durable = parts.durable
    this.layout = slabLayout(units, parts.unitBytes, parts.isRoot)
    this.unitWords = this.isLarge ? 2 : this.layout.bitmapBytes / 4
    // What is only known by name takes no memory before it is loaded.
    if (this.isLarge) this.#makeArrays()
  }

  #makeArrays(): void {
    const { units } = this
    const words = units * this.unitWords
    const memory = new ArrayBuffer((9 * units + 3 * words) * 4)
    const unsigned = (at: number) => new Uint32Array(memory, at * units * 4, units)
    this.slabOf = new Int32Array(memory, 0, units).fill(-1)
    this.kindOf = new Int32Array(memory, units * 4, units)
    this.blockBytes = unsigned(2)
    this.blocksAt = unsigned(3)
    this.blocks = unsigned(4)
    this.free = unsigned(5)
    this.used = unsigned(6)
    this.reservations = unsigned(7)
    this.hint = new Uint16Array(memory, 8 * units * 4, units)
    this.entered = new Uint8Array(memory, 8 * units * 4 + 2 * units, units)
    const bits = (at: number) => new Int32Array(memory, (9 * units + at * words) * 4, words)
    this.live = bits(0)
    this.reserved = bits(1)
    this.taken = bits(2)
  }

  /** Takes the mapping; the views stay until the chunk is given back or the volume closes. */
  attach(mapping: Mapping): void {
    const { bytes } = mapping
    if (!this.isLarge) this.#makeArrays()
    this.mapping = mapping
    this.bytes = bytes
    this.words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
    this.freeUnits = this.units - Math.floor(this.layout.headBytes / this.unitBytes)
    this.loaded = true
  }

  /** Somebody has moved the memory of views away: they are taken anew. */
  regain(): void {
    this.owner.regain(this.mapping)
    const { bytes } = this.mapping
    this.bytes = bytes
    this.words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
  }

  /** Drops the views: nothing of this chunk is found any more. */
  detach(): void {
    this.bytes = NO_BYTES
    this.words = NO_WORDS
    this.slabOf.fill(-1)
  }

  /** Raw stores may be anywhere in it from now on: closing the volume makes them durable. */
  expose(): void {
    this.viewed = true
    insideOf(this.chunk).exposed = true
  }

  /** Raw stores were made here: closing the volume makes them durable, unless that is done before. */
  noteStores(offset: number, length: number): void {
    insideOf(this.chunk).exposed = true
    if (offset < this.#storedFrom) this.#storedFrom = offset
    if (offset + length > this.#storedTo) this.#storedTo = offset + length
  }

  /** These bytes are durable. Who has views may store again at any time. */
  notePersisted(offset: number, length: number): void {
    if (offset > this.#storedFrom || offset + length < this.#storedTo) return
    this.#storedFrom = Number.POSITIVE_INFINITY
    this.#storedTo = 0
    insideOf(this.chunk).exposed = this.viewed
  }

  /** A large object whose mapping is given back; the next who looks for it maps it again. */
  unload(): void {
    this.bytes = NO_BYTES
    this.words = NO_WORDS
    this.slabOf.fill(UNBUILT)
    this.loaded = false
  }

  /** Begins a slab in memory. Its blocks are all free when `isNew`, else unknown until `build`. */
  openSlab(unit: number, kind: number, blockBytes: number, isNew: boolean): void {
    const { units, base, blocks } = slabPlace(this, unit, blockBytes)!
    this.slabOf.fill(isNew ? unit : UNBUILT - unit, unit, unit + units)
    this.kindOf[unit] = kind
    this.blockBytes[unit] = blockBytes
    this.blocksAt[unit] = unit * this.unitBytes + base
    this.blocks[unit] = blocks
    this.used[unit] = 0
    this.reservations[unit] = 0
    this.hint[unit] = 0
    this.freeUnits -= units
    this.slabs++
    this.entered[unit] = isNew ? 0 : 1
    this.free[unit] = blocks
    if (isNew) this.#clear(unit, blocks)
  }

  /** The large object that this chunk is, as its only block. */
  openLarge(type: number, live: boolean): void {
    this.slabOf.fill(live ? UNBUILT : 0)
    this.kindOf[0] = type
    this.blockBytes[0] = this.sizeBytes
    this.blocks[0] = 1
    this.slabs = 1
    this.entered[0] = live ? 1 : 0
    this.taken[0] = -1
    if (live) {
      this.live[0] = 1
      this.used[0] = 1
    } else {
      this.reserved[0] = 1
      this.reservations[0] = 1
    }
  }

  closeSlab(unit: number): void {
    const units = this.unitsOf(unit)
    this.slabOf.fill(-1, unit, unit + units)
    this.entered[unit] = 0
    this.blocks[unit] = 0
    this.freeUnits += units
    this.slabs--
  }

  /** Whether a slab begins at this unit. */
  beginsSlab(unit: number): boolean {
    const first = this.slabOf[unit]!
    return first === unit || first === UNBUILT - unit
  }

  /** The same; its bits are read when this returns. */
  isSlab(unit: number): boolean {
    // Of a large object all is known without its mapping.
    if (this.isLarge) return this.beginsSlab(unit)
    if (this.slabOf[unit] === UNBUILT - unit) this.build(unit)
    return this.slabOf[unit] === unit
  }

  /** First unit of the slab that has this unit, built now if it was not; -1 for none. */
  slabAt(unit: number): number {
    const first = this.slabOf[unit]!
    if (first > UNBUILT) return first
    this.build(UNBUILT - first)
    return UNBUILT - first
  }

  unitsOf(unit: number): number {
    return slabUnits(this.blockBytes[unit]!, this.unitBytes)
  }

  #clear(unit: number, blocks: number): void {
    const first = unit * this.unitWords
    const words = (blocks + 31) >>> 5
    this.live.fill(0, first, first + words)
    this.reserved.fill(0, first, first + words)
    this.taken.fill(0, first, first + words)
    if ((blocks & 31) !== 0) this.taken[first + words - 1] = -1 << (blocks & 31)
  }

  /**
   * Reads a slab's bitmap.
   * @throws PlinthError ERR_VOLUME_CORRUPT when it has blocks that do not exist
   */
  build(unit: number): void {
    if (!this.loaded) this.owner.load(this)
    if (this.bytes.length === 0) this.regain()
    if (this.isLarge) {
      this.slabOf.fill(0)
      return
    }
    const blocks = this.blocks[unit]!
    this.#clear(unit, blocks)
    const first = unit * this.unitWords
    const words = (blocks + 31) >>> 5
    const from = (this.layout.bitmapsAt + unit * this.layout.bitmapBytes) >>> 2
    let used = 0
    let beyond = 0
    for (let i = 0; i < words; i++) {
      const bits = this.words[from + i]! | 0
      beyond |= bits & this.taken[first + i]!
      this.live[first + i] = bits
      this.taken[first + i] = this.taken[first + i]! | bits
      used += countBits(bits)
    }
    for (let i = words; i < this.unitWords; i++) beyond |= this.words[from + i]!
    if (beyond !== 0) {
      throw new PlinthError(
        'ERR_VOLUME_CORRUPT',
        `chunk ${this.chunk.id}: the bitmap of unit ${unit} has objects that cannot be there`,
      )
    }
    this.used[unit] = used
    this.free[unit] = blocks - used
    this.slabOf.fill(unit, unit, unit + this.unitsOf(unit))
  }

  /** The lowest free block of a slab that has one; it is taken when this returns. */
  takeFree(unit: number): number {
    const first = unit * this.unitWords
    const { taken } = this
    let word = this.hint[unit]!
    let bits = taken[first + word]!
    while (bits === -1) bits = taken[first + ++word]!
    this.hint[unit] = word
    const bit = ~bits & (bits + 1)
    taken[first + word] = bits | bit
    this.free[unit] = this.free[unit]! - 1
    return (word << 5) + lowestBit(bit)
  }

  /** Nobody has the block any more. */
  release(unit: number, block: number): void {
    const word = block >>> 5
    const at = unit * this.unitWords + word
    this.taken[at] = this.taken[at]! & ~(1 << (block & 31))
    if (word < this.hint[unit]!) this.hint[unit] = word
    this.free[unit] = this.free[unit]! + 1
  }

  setLive(unit: number, block: number): void {
    const at = unit * this.unitWords + (block >>> 5)
    this.live[at] = this.live[at]! | (1 << (block & 31))
    this.used[unit] = this.used[unit]! + 1
  }

  clearLive(unit: number, block: number): void {
    const at = unit * this.unitWords + (block >>> 5)
    this.live[at] = this.live[at]! & ~(1 << (block & 31))
    this.used[unit] = this.used[unit]! - 1
  }

  setReserved(unit: number, block: number): void {
    const at = unit * this.unitWords + (block >>> 5)
    this.reserved[at] = this.reserved[at]! | (1 << (block & 31))
    this.reservations[unit] = this.reservations[unit]! + 1
  }

  clearReserved(unit: number, block: number): void {
    const at = unit * this.unitWords + (block >>> 5)
    this.reserved[at] = this.reserved[at]! & ~(1 << (block & 31))
    this.reservations[unit] = this.reservations[unit]! - 1
  }

  isLive(unit: number, block: number): boolean {
    return (this.live[unit * this.unitWords + (block >>> 5)]! & (1 << (block & 31))) !== 0
  }

  /** The lowest unit at which a slab of such blocks can begin; -1 for none. */
  findRun(blockBytes: number): number {
    const units = slabUnits(blockBytes, this.unitBytes)
    if (units > this.freeUnits) return -1
    const { headBytes } = this.layout
    let unit = Math.floor(headBytes / this.unitBytes)
    if (slabBase(unit, this.unitBytes, headBytes, blockBytes) === undefined) unit++
    let run = 0
    for (; unit < this.units; unit++) {
      run = this.slabOf[unit] === -1 ? run + 1 : 0
      if (run === units) return unit - units + 1
    }
    return -1
  }
}
