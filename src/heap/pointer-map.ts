/**
 * From a pointer to its object: of all heaps of a volume, the chunks that somebody has opened.
 *
 *   pointer ──▶ granule ──▶ `#pages` ──▶ chunk ──▶ unit ──▶ slab ──▶ block      loads from typed arrays
 *
 * What is found is the chunk; where in it goes into the caller's `Location`.
 */
import { argumentTypeError, PlinthError } from '../base/errors.js'
import { LINE_BYTES } from '../base/units.js'
import type { Geometry } from '../layout/geometry.js'
import type { Lifecycle } from '../media/lifecycle.js'
import type { SlabChunk, SlabOwner } from './slab-chunk.js'

/** A place in a chunk. Whoever looks places up keeps one. */
export class Location {
  /** First unit of the slab. */
  unit = 0
  block = 0
  /** Bytes from the start of the chunk, of what was asked for. */
  offset = 0
}

/** The map has a page of so many granules where a heap has one of them: its memory follows the heaps, not the volume. */
const PAGE_SHIFT = 12
const PAGE_MASK = 2 ** PAGE_SHIFT - 1
const NO_PAGE = new Uint32Array(2 ** PAGE_SHIFT)

export class PointerMap {
  readonly #geometry: Geometry
  readonly #granuleShare: number
  readonly #lifecycle: Lifecycle
  /** By index; 0 is none. */
  readonly chunks: (SlabChunk | undefined)[] = [undefined]
  readonly #freeIndexes: number[] = []
  /** By granule, in pages: index of the chunk that has it. */
  #pages: Uint32Array[] = [NO_PAGE]
  /** The device has failed: nothing is found any more, and who is at an object asks again. */
  areReadsRefused = false

  constructor(geometry: Geometry, lifecycle: Lifecycle) {
    this.#geometry = geometry
    this.#granuleShare = 1 / geometry.granuleBytes
    this.#lifecycle = lifecycle
  }

  register(chunk: SlabChunk): void {
    chunk.index = this.#freeIndexes.pop() ?? this.chunks.length
    this.chunks[chunk.index] = chunk
    this.#fill(chunk, chunk.index)
  }

  unregister(chunk: SlabChunk): void {
    this.#fill(chunk, 0)
    this.chunks[chunk.index] = undefined
    this.#freeIndexes.push(chunk.index)
    chunk.detach()
  }

  refuseReads(): void {
    this.areReadsRefused = true
    this.#pages = [NO_PAGE]
  }

  /** Nothing is found any more. */
  clear(): void {
    this.#pages = [NO_PAGE]
    for (const chunk of this.chunks) chunk?.detach()
    this.chunks.length = 1
  }

  #fill(chunk: SlabChunk, index: number): void {
    if (this.areReadsRefused) return
    const { granuleBytes } = this.#geometry
    const first = chunk.offset / granuleBytes
    const end = first + chunk.sizeBytes / granuleBytes
    for (let granule = first; granule < end; ) {
      const page = Math.floor(granule / 2 ** PAGE_SHIFT)
      while (page >= this.#pages.length) this.#pages.push(NO_PAGE)
      if (this.#pages[page] === NO_PAGE) this.#pages[page] = new Uint32Array(2 ** PAGE_SHIFT)
      const pageAt = page * 2 ** PAGE_SHIFT
      const stop = Math.min(end, pageAt + 2 ** PAGE_SHIFT)
      this.#pages[page]!.fill(index, granule - pageAt, stop - pageAt)
      granule = stop
    }
  }

  /** The chunk at an address, which may be anything. */
  #chunkAt(address: number): SlabChunk | undefined {
    const granule = (address * this.#granuleShare) >>> 0
    const page = this.#pages[granule >>> PAGE_SHIFT]
    return page === undefined ? undefined : this.chunks[page[granule & PAGE_MASK]!]
  }

  /** Loads the lines of `length` bytes at `address`, within a chunk that is loaded. What it returns says nothing. */
  prefetch(address: number, length: number): number {
    const chunk = this.#chunkAt(address)
    if (chunk === undefined) return 0
    const { words } = chunk
    const from = (address - chunk.offset) >>> 2
    const last = from + ((length - 1) >>> 2)
    if (last >= words.length) return 0
    let loaded = words[last]!
    for (let word = from; word < last; word += LINE_BYTES / 4) loaded ^= words[word]!
    return loaded
  }

  /**
   * The chunk of a live object, whose pointer this is; where in it goes to `at`.
   * @throws PlinthError ERR_BAD_POINTER
   */
  locate(owner: SlabOwner, pointer: number, at: Location): SlabChunk {
    if (typeof pointer !== 'number') throw this.badPointer(owner, pointer)
    const chunk = this.#chunkAt(pointer)
    if (chunk !== undefined && chunk.owner === owner) {
      const offset = pointer - chunk.offset
      if (offset >>> 0 === offset && offset < chunk.sizeBytes) {
        let unit = chunk.slabOf[offset >>> chunk.unitShift]!
        if (!(unit >= 0)) unit = resolve(chunk, offset)
        if (unit >= 0) {
          const from = offset - chunk.blocksAt[unit]!
          const bytes = chunk.blockBytes[unit]!
          const block = (from / bytes) | 0
          if (block * bytes === from && block < chunk.blocks[unit]!) {
            const word = unit * chunk.unitWords + (block >>> 5)
            if ((chunk.live[word]! & (1 << (block & 31))) !== 0) {
              at.unit = unit
              at.block = block
              at.offset = offset
              if (chunk.bytes.length === 0) chunk.regain()
              return chunk
            }
          }
        }
      }
    }
    throw this.badPointer(owner, pointer)
  }

  /**
   * The chunk of an object, live or reserved, in which `length` bytes at `address` are; where in the chunk, and
   * which object, goes to `at`.
   * @throws PlinthError ERR_BAD_POINTER
   */
  reach(owner: SlabOwner, address: number, length: number, at: Location): SlabChunk {
    if (typeof address !== 'number') throw this.badPointer(owner, address)
    const chunk = this.#chunkAt(address)
    if (chunk !== undefined && chunk.owner === owner) {
      const offset = address - chunk.offset
      if (offset >>> 0 === offset && offset < chunk.sizeBytes) {
        let unit = chunk.slabOf[offset >>> chunk.unitShift]!
        if (!(unit >= 0)) unit = resolve(chunk, offset)
        if (unit >= 0) {
          const from = offset - chunk.blocksAt[unit]!
          const bytes = chunk.blockBytes[unit]!
          const block = (from / bytes) | 0
          if (from >= 0 && block < chunk.blocks[unit]! && from - block * bytes + length <= bytes) {
            const word = unit * chunk.unitWords + (block >>> 5)
            if (((chunk.live[word]! | chunk.reserved[word]!) & (1 << (block & 31))) !== 0) {
              at.unit = unit
              at.block = block
              at.offset = offset
              if (chunk.bytes.length === 0) chunk.regain()
              return chunk
            }
          }
        }
      }
    }
    throw this.badPointer(owner, address)
  }

  badPointer(owner: SlabOwner, pointer: unknown): Error {
    // A closed volume has no pointers; what is wrong then is something else.
    this.#lifecycle.checkOpen()
    if (typeof pointer !== 'number') return argumentTypeError('a pointer is a number')
    return new PlinthError(
      'ERR_BAD_POINTER',
      `${pointer} is not the pointer of a live object of heap '${owner.name}', or reaches past its end`,
    )
  }
}

/** The slab at an offset when memory does not know it: none, or one of a chunk or slab to be read now. */
function resolve(chunk: SlabChunk, offset: number): number {
  if (!chunk.loaded) chunk.owner.load(chunk)
  return chunk.slabAt(offset >>> chunk.unitShift)
}
