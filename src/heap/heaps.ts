/**
 * The heaps of a volume: opened by name, found by pointer.
 *
 *   pointer ──▶ granule ──▶ `#chunkAt` ──▶ chunk of a heap         one load, whatever the volume's size
 *
 * Which chunks belong to which heap is read from the names in the chunk table, all heaps at once, when
 * the first heap is opened. The chunks themselves are mapped and read when somebody needs them.
 */
import type { Chunk } from '../allocator/chunk.js'
import { insideOf, mappingOf } from '../allocator/chunk.js'
import type { ChunkStore } from '../allocator/chunk-store.js'
import { checkInteger, checkOptions, encodeText } from '../base/arguments.js'
import { argumentTypeError, PlinthError, rangeError } from '../base/errors.js'
import { alignUp, LINE_BYTES } from '../base/units.js'
import { NAME_BYTES_MAX } from '../layout/chunk-slot.js'
import type { Geometry } from '../layout/geometry.js'
import {
  BLOCK_ALIGN,
  BLOCK_BYTES_MIN,
  blockBytesMax,
  CLASSES_MAX,
  chunkUnitsMax,
  decodeHeapHeader,
  defaultClasses,
  encodeHeapHeader,
  HEAP_HEADER,
  HEAP_NAME_PREFIX,
  HEAP_TYPE,
  slabLayout,
  UNIT_NUMBER_MAX,
  unitBytesFor,
} from '../layout/heap.js'
import { Heap, spaceOf } from './heap.js'
import type { HeapChunk } from './heap-chunk.js'
import { HeapSpace } from './heap-space.js'
import { Journal } from './journal.js'
import { SizeClasses } from './size-classes.js'

/** Options of `volume.heap`. */
export interface HeapOptions {
  /**
   * Sizes of objects for which there shall be blocks that fit, beside the default ones: 16 bytes to
   * half a granule, rounded up to multiples of 8. They are kept with the heap. @default none
   */
  readonly classes?: readonly number[] | undefined
}

/** A chunk of a heap that is not open, as its name tells. */
interface Member {
  readonly slot: number
  readonly isLarge: boolean
  /** First unit of a slab chunk; type tag of a large object. */
  readonly number: number
}

const MEMBER_NAME = /^(slab|large):([0-9a-z]{1,11}):([0-9a-z]{1,6})(?::[0-9a-z]{1,11})?$/

/** What the name of a chunk of a heap tells: id of the root chunk, and its number; undefined when it is no such name. */
export function memberOf(
  name: string,
  isLarge: boolean,
): { heap: number; number: number } | undefined {
  const match = MEMBER_NAME.exec(name)
  if (match === null || (match[1] === 'large') !== isLarge) return undefined
  return { heap: Number.parseInt(match[2]!, 36), number: Number.parseInt(match[3]!, 36) }
}
const encoder = new TextEncoder()
/** Large objects of a volume that are mapped at once: each is a mapping, of which a process has some 65 000. */
const LARGE_MAPPED_MAX = 4096
/** Looked at when there are as many: a share of them, so that it is done once for many. */
const LARGE_LOOKED_AT = 256

export class Heaps {
  readonly store: ChunkStore
  readonly geometry: Geometry
  /** Of the volume's checksums. */
  readonly seed: number
  readonly journal: Journal
  /** Of all open heaps; the index is what `#chunkAt` has. 0 is none. */
  readonly #chunks: (HeapChunk | undefined)[] = [undefined]
  readonly #freeIndexes: number[] = []
  /** By granule: index of the chunk that has it. */
  #chunkAt = new Uint32Array(0)
  readonly #granuleShare: number
  readonly #open = new Map<number, Heap>()
  /** Large objects that are mapped, the oldest first. */
  readonly #mapped = new Set<HeapChunk>()
  #members: Map<number, Member[]> | undefined
  // What `locate` and `reach` have found beside the chunk.
  unit = 0
  block = 0
  offset = 0

  areReadsRefused = false
  readonly checkOpen: () => void

  /** `checkOpen` throws when the volume is closed or failed. */
  constructor(store: ChunkStore, geometry: Geometry, seed: number, checkOpen: () => void) {
    this.checkOpen = checkOpen
    this.store = store
    this.geometry = geometry
    this.seed = seed
    this.#granuleShare = 1 / geometry.granuleBytes
    this.journal = new Journal(this.#chunks)
    store.log.media.onFailure = () => {
      this.refuseReads()
      store.refuseReads()
    }
  }

  /** Gives a chunk that is in memory alone its name. */
  name(chunk: Chunk, name: string): void {
    if (this.store.table.slotOfName(name) !== -1) {
      this.store.cancel(chunk)
      throw new PlinthError(
        'ERR_CHUNK_EXISTS',
        `another chunk is named '${name}', which is a heap's to give; rename it`,
      )
    }
    this.store.table.rename(insideOf(chunk).slot, { string: name, bytes: encoder.encode(name) })
  }

  register(chunk: HeapChunk): void {
    chunk.index = this.#freeIndexes.pop() ?? this.#chunks.length
    this.#chunks[chunk.index] = chunk
    this.#fill(chunk, chunk.index)
  }

  /** Maps a large object. So many may be mapped that the oldest that nobody uses are given back for it. */
  mapLarge(chunk: HeapChunk): void {
    if (this.#mapped.size >= LARGE_MAPPED_MAX) this.#unmapOldest()
    chunk.attach(mappingOf(chunk.chunk, this.store))
    this.#mapped.add(chunk)
  }

  #unmapOldest(): void {
    const { store } = this
    const staged = store.log.batch.stagedSlots()
    let looked = 0
    for (const chunk of this.#mapped) {
      if (looked++ === LARGE_LOOKED_AT) break
      this.#mapped.delete(chunk)
      const isIdle = chunk.live[0] === 1 && !chunk.viewed && !staged.has(chunk.mapping.slot)
      if (isIdle && store.unmapIdle(chunk.chunk)) chunk.unload()
      else this.#mapped.add(chunk)
    }
  }

  unregister(chunk: HeapChunk): void {
    this.#mapped.delete(chunk)
    this.#fill(chunk, 0)
    this.#chunks[chunk.index] = undefined
    this.#freeIndexes.push(chunk.index)
    chunk.detach()
  }

  #fill(chunk: HeapChunk, index: number): void {
    const { dataAt, granuleBytes } = this.geometry
    const first = (chunk.offset - dataAt) / granuleBytes
    this.#chunkAt.fill(index, first, first + chunk.sizeBytes / granuleBytes)
  }

  /** Loads the lines of `length` bytes at `address`, within a chunk that is loaded. What it returns says nothing. */
  prefetch(address: number, length: number): number {
    const granule = (address - this.geometry.dataAt) * this.#granuleShare
    const chunk = this.#chunks[this.#chunkAt[granule >>> 0]!]
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
   * The chunk of a live object, whose pointer this is; `unit` and `block` say where in it.
   * @throws PlinthError ERR_BAD_POINTER
   */
  locate(space: HeapSpace, pointer: number): HeapChunk {
    if (typeof pointer !== 'number') throw this.badPointer(space, pointer)
    const granule = (pointer - this.geometry.dataAt) * this.#granuleShare
    const chunk = this.#chunks[this.#chunkAt[granule >>> 0]!]
    if (chunk !== undefined && chunk.owner === space) {
      const offset = pointer - chunk.offset
      if (offset >>> 0 === offset && offset < chunk.sizeBytes) {
        let unit = chunk.slabOf[offset >>> chunk.unitShift]!
        if (!(unit >= 0)) unit = this.#resolve(chunk, offset)
        if (unit >= 0) {
          const from = offset - chunk.blocksAt[unit]!
          const bytes = chunk.blockBytes[unit]!
          const block = (from / bytes) | 0
          if (block * bytes === from && block < chunk.blocks[unit]!) {
            const at = unit * chunk.unitWords + (block >>> 5)
            if ((chunk.live[at]! & (1 << (block & 31))) !== 0) {
              this.unit = unit
              this.block = block
              return chunk
            }
          }
        }
      }
    }
    throw this.badPointer(space, pointer)
  }

  /**
   * The chunk of an object, live or reserved, in which `length` bytes at `address` are; `offset` says
   * where in the chunk, `unit` and `block` which object.
   * @throws PlinthError ERR_BAD_POINTER
   */
  reach(space: HeapSpace, address: number, length: number): HeapChunk {
    if (typeof address !== 'number') throw this.badPointer(space, address)
    const granule = (address - this.geometry.dataAt) * this.#granuleShare
    const chunk = this.#chunks[this.#chunkAt[granule >>> 0]!]
    if (chunk !== undefined && chunk.owner === space) {
      const offset = address - chunk.offset
      if (offset >>> 0 === offset && offset < chunk.sizeBytes) {
        let unit = chunk.slabOf[offset >>> chunk.unitShift]!
        if (!(unit >= 0)) unit = this.#resolve(chunk, offset)
        if (unit >= 0) {
          const from = offset - chunk.blocksAt[unit]!
          const bytes = chunk.blockBytes[unit]!
          const block = (from / bytes) | 0
          if (from >= 0 && block < chunk.blocks[unit]! && from - block * bytes + length <= bytes) {
            const at = unit * chunk.unitWords + (block >>> 5)
            if (((chunk.live[at]! | chunk.reserved[at]!) & (1 << (block & 31))) !== 0) {
              this.unit = unit
              this.block = block
              this.offset = offset
              return chunk
            }
          }
        }
      }
    }
    throw this.badPointer(space, address)
  }

  /** The slab at an offset when memory does not know it: none, or one of a chunk or slab to be read now. */
  #resolve(chunk: HeapChunk, offset: number): number {
    if (!chunk.loaded) chunk.owner.load(chunk)
    return chunk.slabAt(offset >>> chunk.unitShift)
  }

  /** Those of the open heaps. */
  *spaces(): Generator<HeapSpace, void, undefined> {
    for (const heap of this.#open.values()) yield spaceOf(heap)
  }

  /** The space of a heap of this volume. */
  check(heap: Heap): HeapSpace {
    if (!(heap instanceof Heap)) throw argumentTypeError('a heap of this volume is wanted')
    const space = spaceOf(heap)
    if (space.heaps !== this) throw argumentTypeError('this heap belongs to another volume')
    return space
  }

  badPointer(space: HeapSpace, pointer: unknown): Error {
    // A closed volume has no pointers; what is wrong then is something else.
    this.checkOpen()
    if (typeof pointer !== 'number') return argumentTypeError('a pointer is a number')
    return new PlinthError(
      'ERR_BAD_POINTER',
      `${pointer} is not the pointer of a live object of heap '${space.name}', or reaches past its end`,
    )
  }

  /** Opens the heap of this name, or makes it. */
  open(name: string, options: HeapOptions | undefined, readOnly: boolean): Heap {
    encodeText(name, "the heap's name", NAME_BYTES_MAX - HEAP_NAME_PREFIX.length)
    const classes = parseClasses(options, this.geometry)
    if (this.#chunkAt.length === 0) this.#chunkAt = new Uint32Array(this.geometry.granules)
    const { table } = this.store
    const slot = table.slotOfName(HEAP_NAME_PREFIX + name)
    if (slot === -1) {
      if (readOnly) {
        throw new PlinthError('ERR_HEAP_NOT_FOUND', `there is no heap named '${name}'`)
      }
      return this.#create(name, classes)
    }
    const id = table.idOf(slot)
    const heap = this.#open.get(id) ?? this.#load(name, slot)
    const { classes: known } = spaceOf(heap)
    const missing = classes.filter((size) => known.indexOf(size) === -1)
    if (missing.length > 0) {
      throw new PlinthError(
        'ERR_HEAP_CLASSES',
        `heap '${name}' exists without classes for ${missing.join(', ')} bytes; classes are given when a heap is made`,
      )
    }
    return heap
  }

  #create(name: string, classes: readonly number[]): Heap {
    const { store, geometry, seed } = this
    const { batch } = store.log
    const unitBytes = unitBytesFor(geometry.granuleBytes)
    const largest = blockBytesMax(unitBytes, geometry.granuleBytes)
    const sizes = [...new Set([...defaultClasses(largest), ...classes])].sort((a, b) => a - b)
    if (sizes.length > CLASSES_MAX) {
      throw rangeError(`a heap has at most ${CLASSES_MAX} classes`)
    }
    const { headBytes } = slabLayout(1, unitBytes, true)
    const handle = store.reserve({
      size: alignUp(headBytes, geometry.granuleBytes),
      type: HEAP_TYPE.HEAP,
    })
    this.name(handle, HEAP_NAME_PREFIX + name)
    const { id } = handle
    const space = new HeapSpace({
      heaps: this,
      id,
      name,
      unitBytes,
      classes: new SizeClasses(sizes),
    })
    const chunk = space.addSlabChunk(handle, 0, false, true)
    space.rootChunk = chunk
    try {
      store.stagePublish(handle, batch)
      batch.write(chunk.mapping, 0, encodeHeapHeader({ id, unitBytes, sizes }, seed))
      space.stageHeader(chunk)
      store.log.commit()
    } catch (error) {
      batch.begin()
      this.unregister(chunk)
      store.cancel(handle)
      throw error
    }
    chunk.durable = true
    insideOf(handle).state = 'live'
    const heap = new Heap(space)
    this.#open.set(id, heap)
    return heap
  }

  #load(name: string, slot: number): Heap {
    const { store, geometry } = this
    const handle = store.handle(slot)
    const { id } = handle
    if (store.table.typeOf(slot)?.string !== HEAP_TYPE.HEAP) {
      throw new PlinthError(
        'ERR_CHUNK_EXISTS',
        `a chunk that is no heap is named '${HEAP_NAME_PREFIX}${name}'`,
      )
    }
    const { bytes } = mappingOf(handle, store)
    const header = decodeHeapHeader(bytes.subarray(0, HEAP_HEADER.bytes), this.seed)
    if (header === 'newer') {
      throw new PlinthError('ERR_FORMAT_TOO_NEW', `heap '${name}' has a format of a later version`)
    }
    if (header === 'damaged' || header.id !== id) {
      throw this.#corrupt(name, 'its header is damaged')
    }
    const { unitBytes } = header
    if (unitBytes > geometry.granuleBytes) throw this.#corrupt(name, 'its units are too large')
    const classes = new SizeClasses(header.sizes)
    const space = new HeapSpace({ heaps: this, id, name, unitBytes, classes })
    space.root = header.root
    this.#members ??= this.#list()
    const members = this.#members.get(id) ?? []
    // All of it is looked at before any of it is taken in.
    const slabs = members.filter(({ isLarge }) => !isLarge)
    slabs.sort((a, b) => a.number - b.number)
    const unitsMax = chunkUnitsMax(unitBytes, geometry.granuleBytes)
    let next = handle.size / unitBytes
    if (next > unitsMax) throw this.#corrupt(name, 'its root chunk is too large')
    for (const { slot, number } of slabs) {
      const units = (store.table.granulesOf(slot) * geometry.granuleBytes) / unitBytes
      if (units > unitsMax) throw this.#corrupt(name, 'one of its chunks is too large')
      if (number < next || number + units > UNIT_NUMBER_MAX) {
        throw this.#corrupt(name, 'two of its chunks have the same units')
      }
      next = number + units
    }
    space.rootChunk = space.addSlabChunk(handle, 0, true, true)
    for (const { slot, number } of slabs) space.addSlabChunk(store.handle(slot), number, true)
    for (const { slot, isLarge, number } of members) {
      if (isLarge) space.addLarge(store.handle(slot), number, true)
    }
    const heap = new Heap(space)
    this.#open.set(id, heap)
    return heap
  }

  /** The chunks of all heaps, by heap. Those of open ones are kept up to date there. */
  #list(): Map<number, Member[]> {
    const { table } = this.store
    const members = new Map<number, Member[]>()
    for (const slot of table.slotsInOrder()) {
      const type = table.typeOf(slot)?.string
      if (type !== HEAP_TYPE.SLAB && type !== HEAP_TYPE.LARGE) continue
      const isLarge = type === HEAP_TYPE.LARGE
      const member = memberOf(table.nameOf(slot)?.string ?? '', isLarge)
      if (member === undefined) {
        throw new PlinthError(
          'ERR_VOLUME_CORRUPT',
          `chunk ${table.idOf(slot)} has the type of a heap's chunk and not such a name`,
        )
      }
      const { heap, number } = member
      const list = members.get(heap) ?? []
      list.push({ slot, isLarge, number })
      members.set(heap, list)
    }
    return members
  }

  #corrupt(name: string, what: string): PlinthError {
    return new PlinthError('ERR_VOLUME_CORRUPT', `heap '${name}': ${what}`)
  }

  /** Nothing is found any more, and readers that are at an object are told why: the device has failed. */
  refuseReads(): void {
    this.areReadsRefused = true
    this.#chunkAt = new Uint32Array(0)
  }

  /** Nothing is found any more: the volume closes. */
  close(): void {
    this.#chunkAt = new Uint32Array(0)
    for (const chunk of this.#chunks) chunk?.detach()
    this.#chunks.length = 1
    this.#mapped.clear()
    this.#open.clear()
  }
}

function parseClasses(options: HeapOptions | undefined, geometry: Geometry): number[] {
  checkOptions(options, ['classes'], 'heap')
  const { classes = [] } = options ?? {}
  if (!Array.isArray(classes)) throw argumentTypeError('classes must be an array of sizes')
  const largest = blockBytesMax(unitBytesFor(geometry.granuleBytes), geometry.granuleBytes)
  return classes.map((size) => {
    checkInteger(size, 'a class', BLOCK_BYTES_MIN, largest)
    return alignUp(size, BLOCK_ALIGN)
  })
}
