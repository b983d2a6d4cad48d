/**
 * What the lab does to a heap, and what it expects to find: in the shape of world.ts, with a model of
 * objects. Each object's first bytes are filled from one number, so that a torn or foreign byte shows.
 */
import type { Volume } from 'plinth'

export const HEAP_NAME = 'lab'
const CONTENT_BYTES = 32

export interface ModelObject {
  readonly pointer: number
  /** Undefined: unspecified. */
  readonly value: number | undefined
}

/** Immutable: each operation makes a new one. */
export interface HeapModel {
  /** In order of creation. */
  readonly objects: readonly ModelObject[]
  readonly root: number
  readonly next: number
}

export const EMPTY_HEAP: HeapModel = { objects: [], root: 0, next: 1 }

export interface HeapOperation {
  readonly name: string
  /** Does it and returns the model after it; undefined when the model does not allow it. */
  readonly run: (volume: Volume, model: HeapModel) => HeapModel | undefined
}

export function contents(value: number): Uint8Array {
  return Uint8Array.from({ length: CONTENT_BYTES }, (_, i) => (value * 37 + i * 11 + 1) & 255)
}

function withObject(model: HeapModel, pointer: number, value: number | undefined): HeapModel {
  return { ...model, objects: [...model.objects, { pointer, value }], next: model.next + 1 }
}

function without(model: HeapModel, pointer: number): HeapModel {
  return {
    objects: model.objects.filter((object) => object.pointer !== pointer),
    root: model.root === pointer ? 0 : model.root,
    next: model.next + 1,
  }
}

/** Several classes, a slab of several units and a chunk of its own among them. */
const SIZES = [64, 116, 48, 5000, 300, 40_000]
const sizeOf = (model: HeapModel) => SIZES[model.next % SIZES.length]!

export const HEAP_OPERATIONS: readonly HeapOperation[] = [
  {
    name: 'object-allocate',
    run(volume, model) {
      const heap = volume.heap(HEAP_NAME)
      return withObject(model, heap.allocate(sizeOf(model), model.next % 2), undefined)
    },
  },
  {
    name: 'object-free',
    run(volume, model) {
      const [first] = model.objects
      if (first === undefined) return undefined
      volume.transact(() => {
        const heap = heapOf(volume)
        heap.free(first.pointer)
        if (model.root === first.pointer) heap.setRoot(0)
      })
      return without(model, first.pointer)
    },
  },
  {
    name: 'object-publish',
    run(volume, model) {
      const heap = volume.heap(HEAP_NAME)
      const pointer = heap.reserve(sizeOf(model))
      heap.copyIn(pointer, contents(model.next))
      heap.publish(pointer)
      return withObject(model, pointer, model.next)
    },
  },
  {
    name: 'object-cancel',
    run(volume, model) {
      const heap = volume.heap(HEAP_NAME)
      const pointer = heap.reserve(sizeOf(model))
      heap.copyIn(pointer, contents(999))
      heap.persist(pointer, CONTENT_BYTES)
      heap.cancel(pointer)
      return { ...model, next: model.next + 1 }
    },
  },
  {
    name: 'object-put',
    run(volume, model) {
      const heap = volume.heap(HEAP_NAME)
      const [first] = model.objects
      const pointer = volume.transact((tx) => {
        const made = heap.allocate(sizeOf(model))
        tx.writeObject(heap, made, contents(model.next))
        if (first !== undefined) heap.free(first.pointer)
        heap.setRoot(made)
        return made
      })
      const after = first === undefined ? model : without(model, first.pointer)
      return { ...withObject(after, pointer, model.next), root: pointer, next: model.next + 1 }
    },
  },
  {
    name: 'object-write',
    run(volume, model) {
      const last = model.objects.at(-1)
      if (last === undefined) return undefined
      const heap = volume.heap(HEAP_NAME)
      volume.transact((tx) => tx.writeObject(heap, last.pointer, contents(model.next)))
      const objects = model.objects.with(-1, { ...last, value: model.next })
      return { ...model, objects, next: model.next + 1 }
    },
  },
  {
    name: 'object-abort',
    run(volume, model) {
      const heap = volume.heap(HEAP_NAME)
      try {
        volume.transact((tx) => {
          for (const { pointer } of model.objects) heap.free(pointer)
          for (const size of SIZES) tx.writeObject(heap, heap.allocate(size), contents(9))
          throw new RangeError('abort')
        })
      } catch (error) {
        if (!(error instanceof RangeError)) throw error
      }
      return { ...model, next: model.next + 1 }
    },
  },
  {
    name: 'object-free-all',
    run(volume, model) {
      if (model.objects.length === 0) return undefined
      const heap = volume.heap(HEAP_NAME)
      volume.transact(() => {
        for (const { pointer } of model.objects) heap.free(pointer)
        heap.setRoot(0)
      })
      return { objects: [], root: 0, next: model.next + 1 }
    },
  },
  {
    name: 'object-fill',
    run(volume, model) {
      // New slabs and chunks: more blocks of a page than a unit has.
      const heap = volume.heap(HEAP_NAME)
      const made = volume.transact(() => Array.from({ length: 6 }, () => heap.allocate(2000)))
      return made.reduce((state, pointer) => withObject(state, pointer, undefined), model)
    },
  },
  {
    name: 'checkpoint',
    run(volume, model) {
      volume.checkpoint()
      return { ...model, next: model.next + 1 }
    },
  },
]

const heapOf = (volume: Volume) => heaps.get(volume) ?? volume.heap(HEAP_NAME)
const heaps = new WeakMap<Volume, ReturnType<Volume['heap']>>()

/** Opens the heap ahead of a transaction, where none can be opened. */
export function openHeap(volume: Volume): void {
  heaps.set(volume, volume.heap(HEAP_NAME))
}

/** Whether the heap is in the state of the model. Returns what is different, undefined for nothing. */
export function compareHeap(volume: Volume, model: HeapModel): string | undefined {
  const heap = volume.heap(HEAP_NAME)
  const found = [...heap.objects()]
  const wanted = model.objects.map(({ pointer }) => pointer).sort((a, b) => a - b)
  if (found.join() !== wanted.join()) return `objects are ${found.join()}, wanted ${wanted.join()}`
  if (heap.root !== model.root) return `the root is ${heap.root}, wanted ${model.root}`
  const stored = new Uint8Array(CONTENT_BYTES)
  for (const { pointer, value } of model.objects) {
    if (value === undefined) continue
    heap.copyOut(pointer, stored)
    if (Buffer.compare(stored, contents(value)) !== 0) {
      return `object ${pointer} is not ${value}: ${Buffer.from(stored).toString('hex')}`
    }
  }
  return undefined
}
