/**
 * One transaction over everything: two maps, chunks, objects and a structure in memory. All of it is there, or
 * nothing, and memory is what the device is, however it ends.
 */
import assert from 'node:assert/strict'
import type { Chunk, Transaction, Volume } from 'plinth'
import { type EngineModel, nameKey, numberBytes, openEngine, userBytes, userKey } from './engine.js'
import { contents, EMPTY_HEAP, HEAP_NAME } from './heap-operations.js'
import {
  added,
  CELL_BYTES,
  cellBytes,
  chunkOf,
  type Model,
  type Operation,
  withCell,
} from './world.js'

/** One more, and the leaf of the users splits. */
const USERS_AT_FIRST = 63
/** An operation takes less than this, also when it is staged twice. */
const ROOM_BYTES = 128 * 1024
const OBJECT_BYTES = 100

interface WithEngine extends Model {
  readonly engine: EngineModel
}

class Abort extends Error {}

/** Makes the engine of a volume that has none. */
export function makeEngine(volume: Volume, model: Model): Model {
  const users = Array.from({ length: USERS_AT_FIRST }, (_, i) => [i, i + 1] as const)
  const engine = openEngine(volume, { users: [] })
  volume.heap(HEAP_NAME)
  volume.transact((tx) => {
    engine.balance.begin(tx)
    for (const [number, value] of users) putUser(volume, { users: [] }, number, value)
  })
  return { ...model, heap: model.heap ?? EMPTY_HEAP, engine: { users } }
}

function putUser(volume: Volume, model: EngineModel, number: number, value: number): void {
  const { users, names, balance } = openEngine(volume, model)
  users.put(userKey(number), userBytes(value))
  names.put(nameKey(value), numberBytes(number))
  balance.value += value
}

function deleteUser(
  volume: Volume,
  model: EngineModel,
  [number, value]: readonly [number, number],
) {
  const { users, names, balance } = openEngine(volume, model)
  assert.ok(users.delete(userKey(number)))
  names.batch([{ type: 'delete', key: nameKey(value) }])
  balance.value -= value
}

/** Something of everything; returns the model after it. */
function change(volume: Volume, tx: Transaction, model: WithEngine): WithEngine {
  const heap = volume.heap(HEAP_NAME)
  const { balance } = openEngine(volume, model.engine)
  const value = 1000 + model.next
  let { users } = model.engine
  // A new user, another value of the one before, and the oldest goes.
  const newest = users.at(-1)!
  const over = [newest[0], value + 1000] as const
  deleteUser(volume, model.engine, newest)
  putUser(volume, model.engine, ...over)
  putUser(volume, model.engine, newest[0] + 1, value)
  users = [...users.with(-1, over), [newest[0] + 1, value]]
  if (model.next % 2 === 0) {
    deleteUser(volume, model.engine, users[0]!)
    users = users.slice(1)
  }
  // A new object, which has the balance, in the place of the oldest.
  const made = heap.allocate(OBJECT_BYTES)
  const { objects, next } = model.heap ?? EMPTY_HEAP
  if (objects.length > 0) heap.free(objects[0]!.pointer)
  heap.setRoot(made)
  balance.storeBy(() => tx.writeObject(heap, made, contents(balance.value)))
  const object = { pointer: made, value: balance.value }
  // A new chunk, a cell of the last one, and the first goes.
  const name = `e${model.next}`
  const chunk: Chunk = volume.allocate({ size: 4096, name, type: 'lab' })
  tx.write(chunk, 2 * CELL_BYTES, cellBytes(model.next))
  let after: Model = model
  const [first] = model.chunks
  if (first !== undefined) {
    tx.write(chunkOf(volume, model.chunks.at(-1)!), 5 * CELL_BYTES, cellBytes(model.next))
    after = { ...withCell(model, model.chunks.length - 1, 5, model.next), next: model.next }
    volume.rename(chunk, `${name} too`)
    if (model.chunks.length > 1) {
      volume.free(chunkOf(volume, first))
      after = { ...after, chunks: after.chunks.slice(1) }
    }
  }
  return {
    ...added(after, chunk, chunk.name!, [undefined, undefined, model.next]),
    heap: { objects: [...objects.slice(1), object], root: made, next: next + 1 },
    engine: { users },
  }
}

function hasEngine(model: Model): model is WithEngine {
  return model.engine !== undefined
}

/** An operation of the engine: undefined where there is none, or no room for sure. */
function engineOperation(
  name: string,
  work: (volume: Volume, model: WithEngine) => Model,
): Operation {
  return {
    name,
    run(volume, model) {
      if (!hasEngine(model) || volume.stats().largestFreeBytes < ROOM_BYTES) return undefined
      // None is opened in a transaction.
      openEngine(volume, model.engine)
      volume.heap(HEAP_NAME)
      return work(volume, model)
    },
  }
}

/** The same with the balance taking part. */
function inTransaction<T>(
  volume: Volume,
  model: WithEngine,
  work: (tx: Transaction) => T,
): (tx: Transaction) => T {
  return (tx) => {
    openEngine(volume, model.engine).balance.begin(tx)
    return work(tx)
  }
}

/** Another error, of the device for one, is thrown on. */
function expectAbort(work: () => unknown): void {
  try {
    work()
  } catch (error) {
    if (error instanceof Abort) return
    throw error
  }
  assert.fail('it did not throw')
}

/** What is between the two transactions of an operation, by the model before it. */
const middles = new WeakMap<Model, Model>()

export const ENGINE_OPERATIONS: readonly Operation[] = [
  engineOperation('whole', (volume, model) =>
    volume.transact(inTransaction(volume, model, (tx) => change(volume, tx, model))),
  ),
  engineOperation('whole-throw', (volume, model) => {
    const abort = inTransaction(volume, model, (tx) => {
      change(volume, tx, model)
      throw new Abort()
    })
    expectAbort(() => volume.transact(abort))
    return { ...model, next: model.next + 1 }
  }),
  engineOperation('whole-savepoint', (volume, model) =>
    volume.transact(
      inTransaction(volume, model, (tx) => {
        const drop = (from: WithEngine) => {
          const work = () => {
            change(volume, tx, from)
            throw new Abort()
          }
          expectAbort(() => tx.savepoint(work))
        }
        drop(model)
        const after = change(volume, tx, model)
        drop(after)
        return after
      }),
    ),
  ),
  {
    // Two, for one barrier: the first may be there without the second.
    ...engineOperation('whole-async', (volume, model) => {
      const apply = (from: WithEngine) => {
        let after: WithEngine | undefined
        const work = inTransaction(volume, from, (tx) => {
          after = change(volume, tx, from)
        })
        // Its promise is awaited by nobody: the fence below is what makes both durable.
        volume.transactAsync(work).catch(() => {})
        return after!
      }
      const between = apply(model)
      middles.set(model, between)
      const after = apply(between)
      volume.fence()
      return after
    }),
    middle: (model) => middles.get(model) ?? model,
  },
]
