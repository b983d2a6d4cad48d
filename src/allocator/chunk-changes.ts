/**
 * What the transaction under way changes of chunks: made, freed, renamed. The table's indexes change at once,
 * so that the transaction sees its own chunks and names.
 *
 *   op        does at once                       once committed        rolled back
 *   RESERVE   a slot and granules are taken      –                     they are free
 *   PUBLISH   the slot is staged                 the chunk is live     it is a reservation again
 *   FREE      the slot's free is staged          its space is free     it is as before
 *   RENAME    the name is another                –                     it is the one before
 *
 * Space that a transaction frees is given out again only after its commit: until then it may still be wanted.
 */
import { PlinthError } from '../base/errors.js'
import { CHUNK_STATE } from '../layout/chunk-slot.js'
import { ENTRY_BYTES } from '../layout/record.js'
import type { Structure, TransactionContext } from '../log/transaction-context.js'
import { type Chunk, type ChunkState, insideOf } from './chunk.js'
import type { AllocateOptions, ChunkStore, PlacedChunk } from './chunk-store.js'
import type { Text } from './chunk-table.js'

const OP = { RESERVE: 0, PUBLISH: 1, FREE: 2, RENAME: 3 } as const

export class ChunkChanges implements Structure {
  readonly #store: ChunkStore
  readonly #context: TransactionContext
  readonly #ops: number[] = []
  readonly #chunks: Chunk[] = []
  /** Of a free the state before, of a rename the name before. */
  readonly #before: (ChunkState | Text | undefined)[] = []

  constructor(store: ChunkStore, context: TransactionContext) {
    this.#store = store
    this.#context = context
    context.chunks = this
  }

  get length(): number {
    return this.#ops.length
  }

  #push(op: number, chunk: Chunk, before: ChunkState | Text | undefined): void {
    this.#context.isStructural = true
    this.#ops.push(op)
    this.#chunks.push(chunk)
    this.#before.push(before)
  }

  /** A chunk that exists once the transaction commits; its handle may be used at once. */
  allocate(options: AllocateOptions): Chunk {
    this.#context.batch.require(ENTRY_BYTES.SLOT)
    const chunk = this.#store.reserve(options)
    this.#push(OP.RESERVE, chunk, undefined)
    this.#stagePublish(chunk)
    return chunk
  }

  /** The same, at the place and with the id that the chunk had on another volume. */
  place(placed: PlacedChunk): void {
    this.#context.batch.require(ENTRY_BYTES.SLOT)
    const chunk = this.#store.place(placed)
    this.#push(OP.RESERVE, chunk, undefined)
    this.#stagePublish(chunk)
  }

  /** Makes a reserved chunk exist. */
  publish(chunk: Chunk): void {
    this.#store.check(chunk)
    if (insideOf(chunk).state !== 'reserved') {
      throw new PlinthError('ERR_CHUNK_EXISTS', `chunk ${chunk.id} is not a reservation`)
    }
    this.#context.batch.require(ENTRY_BYTES.SLOT)
    this.#stagePublish(chunk)
  }

  #stagePublish(chunk: Chunk): void {
    this.#push(OP.PUBLISH, chunk, undefined)
    insideOf(chunk).state = 'publishing'
    this.#store.stagePublish(chunk, this.#context.batch)
  }

  /** Its views are emptied when the transaction has committed; its name can be had at once. */
  free(chunk: Chunk): void {
    this.#store.check(chunk)
    refuseReservation(chunk)
    this.#context.batch.require(ENTRY_BYTES.SLOT + ENTRY_BYTES.REVOKE)
    const inside = insideOf(chunk)
    if (this.#store.table.nameOf(inside.slot) !== undefined) this.#rename(chunk, undefined)
    this.#push(OP.FREE, chunk, inside.state)
    this.#store.stageFree(chunk, this.#context.batch)
    inside.state = 'freeing'
    inside.usable = undefined
  }

  /** Another name, or with undefined none. */
  rename(chunk: Chunk, name: string | undefined): void {
    this.#store.check(chunk)
    refuseReservation(chunk)
    const text = name === undefined ? undefined : this.#store.parseName(name)
    this.#context.batch.require(ENTRY_BYTES.SLOT)
    this.#rename(chunk, text)
    this.#store.table.stage(insideOf(chunk).slot, this.#context.batch, CHUNK_STATE.CHUNK)
  }

  #rename(chunk: Chunk, name: Text | undefined): void {
    const { table } = this.#store
    const { slot } = insideOf(chunk)
    this.#push(OP.RENAME, chunk, table.nameOf(slot))
    table.rename(slot, name)
  }

  prepare(): void {}

  committed(): void {
    for (let i = 0; i < this.#ops.length; i++) {
      const op = this.#ops[i]
      const chunk = this.#chunks[i]!
      const inside = insideOf(chunk)
      if (op === OP.FREE) this.#store.finishFree(chunk)
      else if (op === OP.PUBLISH && inside.state === 'publishing') inside.state = 'live'
    }
    this.forget()
  }

  rollbackTo(length: number): void {
    const { table } = this.#store
    while (this.#ops.length > length) {
      const op = this.#ops.pop()
      const chunk = this.#chunks.pop()!
      const before = this.#before.pop()
      const inside = insideOf(chunk)
      if (op === OP.RESERVE) this.#store.cancel(chunk)
      else if (op === OP.PUBLISH) inside.state = 'reserved'
      else if (op === OP.FREE) inside.state = before as ChunkState
      else table.rename(inside.slot, before as Text | undefined)
    }
  }

  /** Lists are emptied by pop: setting their length to 0 frees their memory, and costs 100 ns. */
  forget(): void {
    while (this.#ops.length > 0) {
      this.#ops.pop()
      this.#chunks.pop()
      this.#before.pop()
    }
  }
}

/** A reservation is nothing on the device: its slot must not reach it before it is published. */
function refuseReservation(chunk: Chunk): void {
  if (insideOf(chunk).state !== 'reserved') return
  throw new PlinthError(
    'ERR_CHUNK_NOT_FOUND',
    `chunk ${chunk.id} is a reservation; publish or cancel it`,
  )
}
