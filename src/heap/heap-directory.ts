/**
 * The heaps of a volume, by name.
 *
 * Which chunks belong to which heap is read from the names in the chunk table, all heaps at once, when
 * the first heap is opened. The chunks themselves are mapped and read when somebody needs them.
 */
import { mappingOf } from '../allocator/chunk.js'
import type { ChunkStore } from '../allocator/chunk-store.js'
import { checkInteger, checkOptions, encodeText } from '../base/arguments.js'
import { argumentTypeError, PlinthError, rangeError } from '../base/errors.js'
import { alignUp } from '../base/units.js'
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
  HEAP_TYPE,
  slabLayout,
  UNIT_NUMBER_MAX,
  unitBytesFor,
} from '../layout/heap.js'
import { HEAP_PREFIX, heapNameOf, memberOf, rootChunkName } from '../layout/heap-names.js'
import type { TransactionContext } from '../log/transaction-context.js'
import { Heap, spaceOf } from './heap.js'
import { LargeMappings } from './large-mappings.js'
import { PointerMap } from './pointer-map.js'
import { SizeClasses } from './size-classes.js'
import { type HeapGround, SlabHeap } from './slab-heap.js'
import { UndoLog } from './undo-log.js'

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

export class HeapDirectory {
  readonly #ground: HeapGround
  readonly #open = new Map<number, Heap>()
  #members: Map<number, Member[]> | undefined

  /** `seed` is that of the volume's checksums. */
  constructor(store: ChunkStore, context: TransactionContext, geometry: Geometry, seed: number) {
    const pointers = new PointerMap(geometry, context.lifecycle)
    const undo = new UndoLog(pointers.chunks, context)
    const largeMappings = new LargeMappings(store)
    store.log.media.onFailure.push(() => {
      pointers.refuseReads()
      store.refuseReads()
    })
    this.#ground = { store, context, geometry, seed, pointers, undo, largeMappings }
  }

  /** Names of all heaps, in no order. */
  names(): string[] {
    const { table } = this.#ground.store
    const names: string[] = []
    for (const slot of table.slotsInOrder()) {
      const name = heapNameOf(table.nameOf(slot)?.string, table.typeOf(slot)?.string)
      if (name !== undefined) names.push(name)
    }
    return names
  }

  /** Those of the open heaps. */
  *spaces(): Generator<SlabHeap, void, undefined> {
    for (const heap of this.#open.values()) yield spaceOf(heap)
  }

  /** The space of a heap of this volume. */
  check(heap: Heap): SlabHeap {
    if (!(heap instanceof Heap)) throw argumentTypeError('a heap of this volume is wanted')
    const space = spaceOf(heap)
    if (space.ground !== this.#ground) {
      throw argumentTypeError('this heap belongs to another volume')
    }
    return space
  }

  /** Opens the heap of this name, or makes it. */
  open(name: string, options: HeapOptions | undefined, readOnly: boolean): Heap {
    encodeText(name, "the heap's name", NAME_BYTES_MAX - HEAP_PREFIX.length)
    const { store, geometry } = this.#ground
    const classes = parseClasses(options, geometry)
    const { table } = store
    const slot = table.slotOfName(rootChunkName(name))
    if (slot === -1) {
      if (readOnly) {
        throw new PlinthError('ERR_HEAP_NOT_FOUND', `there is no heap named '${name}'`)
      }
      this.#ground.context.checkIdle()
      // Where one heap cannot be opened none can: one that were made now would be lost with the next opening.
      this.#members ??= this.#list()
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
    const { store, context, geometry, seed } = this.#ground
    const { batch } = context
    const unitBytes = unitBytesFor(geometry.granuleBytes)
    const largest = blockBytesMax(unitBytes, geometry.granuleBytes)
    const sizes = [...new Set([...defaultClasses(largest), ...classes])].sort((a, b) => a - b)
    if (sizes.length > CLASSES_MAX) {
      throw rangeError(`a heap has at most ${CLASSES_MAX} classes`)
    }
    const { headBytes } = slabLayout(1, unitBytes, true)
    const handle = store.reserve(
      {
        size: alignUp(headBytes, geometry.granuleBytes),
        type: HEAP_TYPE.HEAP,
      },
      true,
    )
    store.nameReserved(handle, rootChunkName(name))
    const { id } = handle
    const space = new SlabHeap({
      ground: this.#ground,
      id,
      name,
      unitBytes,
      classes: new SizeClasses(sizes),
    })
    const chunk = space.addSlabChunk(handle, 0, false, true)
    space.rootChunk = chunk
    try {
      context.run('heap.open', () => {
        batch.write(chunk.mapping, 0, encodeHeapHeader({ id, unitBytes, sizes }, seed))
        space.stageChunk(chunk)
      })
    } catch (error) {
      space.drop(chunk)
      throw error
    }
    const heap = new Heap(space)
    this.#open.set(id, heap)
    return heap
  }

  #load(name: string, slot: number): Heap {
    const { store, geometry, seed } = this.#ground
    const handle = store.handle(slot)
    const { id } = handle
    if (store.table.typeOf(slot)?.string !== HEAP_TYPE.HEAP) {
      throw new PlinthError(
        'ERR_CHUNK_EXISTS',
        `a chunk that is no heap is named '${rootChunkName(name)}'`,
      )
    }
    const { bytes } = mappingOf(handle, store)
    const header = decodeHeapHeader(bytes.subarray(0, HEAP_HEADER.bytes), seed)
    if (header === 'newer') {
      throw new PlinthError('ERR_FORMAT_TOO_NEW', `heap '${name}' has a format of a later version`)
    }
    if (header === 'damaged' || header.id !== id) {
      throw this.#corrupt(name, 'its header is damaged')
    }
    const { unitBytes } = header
    if (unitBytes > geometry.granuleBytes) throw this.#corrupt(name, 'its units are too large')
    const classes = new SizeClasses(header.sizes)
    const space = new SlabHeap({ ground: this.#ground, id, name, unitBytes, classes })
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
    const { table } = this.#ground.store
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

  /** Nothing is found any more: the volume closes. */
  close(): void {
    this.#ground.pointers.clear()
    this.#ground.largeMappings.clear()
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
