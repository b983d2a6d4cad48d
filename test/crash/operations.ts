/** What the lab does to a volume, and to the model beside it. */
import assert from 'node:assert/strict'
import { type Chunk, PlinthError, type Volume } from 'plinth'
import { ENGINE_OPERATIONS } from './engine-operations.js'
import { EMPTY_HEAP, HEAP_OPERATIONS, openHeap } from './heap-operations.js'
import {
  added,
  CELL_BYTES,
  CELLS,
  cellBytes,
  chunkOf,
  type Model,
  type Operation,
  pad,
  withCell,
} from './world.js'

const GROWN_BYTES = 16_384

/** Whether a chunk of so many bytes can be had, by growing too. */
function hasRoom(volume: Volume, bytes: number): boolean {
  return volume.stats().largestFreeBytes >= bytes || volume.info.maxSize !== undefined
}

const sizeOf = (model: Model) => (model.next % 3 === 0 ? 8192 : 4096)

function store(chunk: Chunk, cell: number, value: number): void {
  chunk.bytes.set(cellBytes(value), cell * CELL_BYTES)
}

/** A raw store to the first cell of the first chunk, where transactions write too; not atomic. */
function rawStore(
  name: string,
  storeDurably: (chunk: Chunk, bytes: Uint8Array, volume: Volume) => void,
): Operation {
  return {
    name,
    run(volume, model) {
      const first = model.chunks[0]
      if (first === undefined) return undefined
      storeDurably(chunkOf(volume, first), cellBytes(model.next), volume)
      return withCell(model, 0, 0, model.next)
    },
    loose: ({ chunks, next }) => chunks.slice(0, 1).map(({ id }) => ({ id, cell: 0, value: next })),
  }
}

const CHUNK_OPERATIONS: readonly Operation[] = [
  {
    name: 'allocate',
    run(volume, model) {
      const name = `n${model.next}`
      if (!hasRoom(volume, sizeOf(model))) return undefined
      const chunk = volume.allocate({ size: sizeOf(model), name, type: 'lab' })
      return added(model, chunk, name, [])
    },
  },
  {
    name: 'allocate-zero',
    run(volume, model) {
      const name = `z${model.next}`
      if (volume.stats().largestFreeBytes < 4096) return undefined
      const chunk = volume.allocate({ size: 4096, name, type: 'lab', zero: true })
      assert.ok(chunk.bytes.every((byte) => byte === 0))
      return added(
        model,
        chunk,
        name,
        Array.from({ length: CELLS }, () => 0),
      )
    },
  },
  {
    name: 'free',
    run(volume, model) {
      const [first, ...rest] = model.chunks
      if (first === undefined) return undefined
      volume.free(chunkOf(volume, first))
      return { ...model, chunks: rest, next: model.next + 1 }
    },
  },
  {
    name: 'rename',
    run(volume, model) {
      const [first, ...rest] = model.chunks
      if (first === undefined) return undefined
      const name = `r${model.next}`
      volume.transact(() => volume.rename(chunkOf(volume, first), name))
      return { ...model, chunks: [{ ...first, name }, ...rest], next: model.next + 1 }
    },
  },
  {
    name: 'tx-write',
    run(volume, model) {
      const first = model.chunks[0]
      if (first === undefined) return undefined
      volume.transact((tx) => tx.write(chunkOf(volume, first), 0, cellBytes(model.next)))
      return withCell(model, 0, 0, model.next)
    },
  },
  {
    name: 'tx-several',
    run(volume, model) {
      const first = model.chunks[0]
      if (first === undefined || volume.stats().largestFreeBytes < 4096) return undefined
      const last = model.chunks.at(-1)!
      const name = `t${model.next}`
      let made: Chunk | undefined
      volume.transact((tx) => {
        made = volume.allocate({ size: 4096, name, type: 'lab' })
        tx.write(made, CELL_BYTES, cellBytes(model.next))
        tx.write(chunkOf(volume, last), 3 * CELL_BYTES + 0, cellBytes(model.next))
        if (last !== first) volume.free(chunkOf(volume, first))
      })
      let after = withCell(model, model.chunks.length - 1, 3, model.next)
      if (last !== first) after = { ...after, chunks: after.chunks.slice(1) }
      return { ...added(after, made!, name, [undefined, model.next]), next: model.next + 1 }
    },
  },
  {
    name: 'tx-abort',
    run(volume, model) {
      if (model.chunks.length === 0) return undefined
      const stop = new Error('abort')
      assert.throws(
        () =>
          volume.transact((tx) => {
            tx.write(chunkOf(volume, model.chunks[0]!), 0, cellBytes(999))
            volume.free(chunkOf(volume, model.chunks[0]!))
            throw stop
          }),
        stop,
      )
      return { ...model, next: model.next + 1 }
    },
  },
  {
    name: 'async-several',
    run(volume, model) {
      const first = model.chunks[0]
      if (first === undefined) return undefined
      for (let i = 0; i < 2; i++) {
        const cell = 4 + i
        // Its promise is awaited by nobody: the fence below is what makes both durable.
        volume
          .transactAsync((tx) =>
            tx.write(chunkOf(volume, first), cell * CELL_BYTES, cellBytes(model.next)),
          )
          .catch(() => {})
      }
      volume.fence()
      return withCell({ ...withCell(model, 0, 4, model.next), next: model.next }, 0, 5, model.next)
    },
    // Two transactions: the first may be there without the second. Cells of one value are whole.
    loose: (model) =>
      model.chunks.length === 0
        ? []
        : [4, 5].map((cell) => ({ id: model.chunks[0]!.id, cell, value: model.next })),
  },
  {
    name: 'async-one',
    run(volume, model) {
      const first = model.chunks[0]
      if (first === undefined) return undefined
      const write = volume.transactAsync((tx) =>
        tx.write(chunkOf(volume, first), 6 * CELL_BYTES, cellBytes(model.next)),
      )
      write.catch(() => {})
      // On byte-addressable media it is durable already.
      if (volume.info.granularity === 'page') volume.fence()
      return withCell(model, 0, 6, model.next)
    },
  },
  {
    name: 'async-checkpoint',
    run(volume, model) {
      const first = model.chunks[0]
      if (first === undefined) return undefined
      const last = model.chunks.at(-1)!
      const write = volume.transactAsync((tx) => {
        tx.write(chunkOf(volume, first), 0, cellBytes(model.next))
        tx.write(chunkOf(volume, last), 0, cellBytes(model.next))
      })
      write.catch(() => {})
      volume.checkpoint()
      const one = { ...withCell(model, 0, 0, model.next), next: model.next }
      return withCell(one, model.chunks.length - 1, 0, model.next)
    },
  },
  {
    // The space of a chunk whose free is not durable yet is given out and stored to.
    name: 'async-free-publish',
    run(volume, model) {
      const [first, ...rest] = model.chunks
      if (first === undefined || first.name === undefined) return undefined
      volume.transactAsync(() => volume.free(chunkOf(volume, first))).catch(() => {})
      const name = `q${model.next}`
      const chunk = volume.reserve({ size: 4096, name, type: 'lab' })
      store(chunk, 0, model.next)
      chunk.persist(0, CELL_BYTES)
      volume.publish(chunk)
      return added({ ...model, chunks: rest }, chunk, name, [model.next])
    },
    middle: (model) => ({ ...model, chunks: model.chunks.slice(1) }),
  },
  rawStore('raw-persist', (chunk, bytes) => {
    chunk.bytes.set(bytes)
    chunk.persist(0, bytes.length)
  }),
  rawStore('write', (chunk, bytes) => chunk.write(0, bytes)),
  rawStore('flush-fence', (chunk, bytes, volume) => {
    chunk.bytes.set(bytes)
    chunk.flush(0, bytes.length)
    volume.fence()
  }),
  rawStore('close-chunk', (chunk, bytes) => {
    chunk.bytes.set(bytes)
    chunk.close()
  }),
  {
    name: 'publish',
    run(volume, model) {
      if (volume.stats().largestFreeBytes < 4096) return undefined
      const name = `p${model.next}`
      const chunk = volume.reserve({ size: 4096, name, type: 'lab' })
      store(chunk, 0, model.next)
      store(chunk, 7, model.next)
      chunk.persist(0, CELLS * CELL_BYTES)
      volume.publish(chunk)
      return added(model, chunk, name, pad([model.next]).with(7, model.next))
    },
  },
  {
    name: 'cancel',
    run(volume, model) {
      if (volume.stats().largestFreeBytes < 4096) return undefined
      const chunk = volume.reserve({ size: 4096 })
      store(chunk, 0, 0xdead)
      chunk.persist(0, CELL_BYTES)
      volume.cancel(chunk)
      return { ...model, next: model.next + 1 }
    },
  },
  {
    name: 'checkpoint',
    run(volume, model) {
      volume.checkpoint()
      return { ...model, next: model.next + 1 }
    },
  },
  {
    name: 'grow',
    run(volume, model) {
      const { size, maxSize = 0 } = volume.info
      if (size + GROWN_BYTES > maxSize) return undefined
      volume.grow(size + GROWN_BYTES)
      return { ...model, next: model.next + 1 }
    },
  },
  {
    name: 'close',
    run(volume, model) {
      volume.close()
      return { ...model, next: model.next + 1 }
    },
  },
]

/** Operations on objects. The first of them makes the heap: a state between. */
const OBJECT_OPERATIONS = HEAP_OPERATIONS.filter(({ name }) => name.startsWith('object-')).map(
  ({ name, run }): Operation => ({
    name,
    run(volume, model) {
      openHeap(volume)
      const heap = run(volume, model.heap ?? EMPTY_HEAP)
      return heap && { ...model, heap, next: model.next + 1 }
    },
    middle: (model) => ({ ...model, heap: model.heap ?? EMPTY_HEAP }),
  }),
)

export const OPERATIONS: readonly Operation[] = [
  ...CHUNK_OPERATIONS,
  ...OBJECT_OPERATIONS,
  ...ENGINE_OPERATIONS,
]

/** Does it where it is possible: undefined where the model does not allow it or the volume has no room. */
export function tryOperation(
  operation: Operation,
  volume: Volume,
  model: Model,
): Model | undefined {
  try {
    return operation.run(volume, model)
  } catch (error) {
    if (error instanceof PlinthError && error.code === 'ERR_NO_SPACE') return undefined
    throw error
  }
}
