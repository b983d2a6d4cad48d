/**
 * A transaction: work in progress, seen by nobody else, then all of it or nothing.
 *
 *   begin ──▶ allocate, free, rename, write, set…  ──▶ commit    one record, one fence
 *                                                  └─▶ rollback  memory as before, nothing was written
 *
 * Bytes wait in the batch. The chunk table's indexes change at once, so that the transaction sees
 * its own allocations and names; `#undo` turns them back. Space that it frees is given out again
 * only after the commit: until then it may still be wanted.
 */

import type { Chunk } from '../allocator/chunk.js'
import { checkRange, insideOf, mappingOf } from '../allocator/chunk.js'
import type { AllocateOptions, ChunkStore, PlacedChunk } from '../allocator/chunk-store.js'
import type { Text } from '../allocator/chunk-table.js'
import { checkBytes, checkInteger } from '../base/arguments.js'
import { argumentValueError, PlinthError } from '../base/errors.js'
import type { Heap } from '../heap/heap.js'
import type { HeapSpace } from '../heap/heap-space.js'
import type { Heaps } from '../heap/heaps.js'
import { stageAllocate, stageFree, stagePublish, stageRoot } from '../heap/staging.js'
import { CHUNK_STATE } from '../layout/chunk-slot.js'
import { OWN_TYPE_PREFIX } from '../layout/heap.js'
import { joinWords } from '../layout/struct.js'
import type { Batch } from '../log/batch.js'
import type { Mapping } from '../media/media.js'

interface Renamed {
  readonly slot: number
  readonly before: Text | undefined
}

/** What a transaction function is given. Valid until that function returns. */
export class Transaction {
  readonly #store: ChunkStore
  readonly #batch: Batch
  readonly #heaps: Heaps
  /** Whether more than bytes of chunks has changed: else there is nothing to settle or turn back. */
  #structural = false
  /** Made by this transaction: dropped when it is rolled back. */
  readonly #allocated: Chunk[] = []
  readonly #published: Chunk[] = []
  readonly #freed: Chunk[] = []
  readonly #renamed: Renamed[] = []

  /** @internal The volume makes the one it has. */
  constructor(store: ChunkStore, heaps: Heaps) {
    this.#store = store
    this.#heaps = heaps
    this.#batch = store.log.batch
  }

  /**
   * Allocates a chunk. It exists once the transaction commits; its handle may be used at once.
   * @throws PlinthError ERR_NO_SPACE, ERR_CHUNK_EXISTS, ERR_CHUNK_TOO_LARGE, ERR_TX_TOO_LARGE
   */
  allocate(options: AllocateOptions): Chunk {
    this.#check()
    refuseOwnType(options)
    const chunk = this.#store.reserve(options)
    this.#structural = true
    this.#allocated.push(chunk)
    this.#stagePublish(chunk)
    return chunk
  }

  /** @internal The same, at the place and with the id that the chunk had on another volume. */
  place(placed: PlacedChunk): void {
    this.#check()
    const chunk = this.#store.place(placed)
    this.#structural = true
    this.#allocated.push(chunk)
    this.#stagePublish(chunk)
  }

  /** Makes a reserved chunk exist once the transaction commits. */
  publish(chunk: Chunk): void {
    this.#checkChunk(chunk)
    if (insideOf(chunk).state !== 'reserved' || this.#published.includes(chunk)) {
      throw new PlinthError('ERR_CHUNK_EXISTS', `chunk ${chunk.id} is not a reservation`)
    }
    this.#stagePublish(chunk)
  }

  #stagePublish(chunk: Chunk): void {
    this.#structural = true
    this.#published.push(chunk)
    this.#store.stagePublish(chunk, this.#batch)
  }

  /**
   * Frees a chunk. Its views are emptied and its space can be had again when the transaction has
   * committed; its name at once.
   */
  free(chunk: Chunk): void {
    this.#checkChunk(chunk)
    this.#checkPublished(chunk)
    this.#structural = true
    const inside = insideOf(chunk)
    this.#store.stageFree(chunk, this.#batch)
    const before = this.#store.table.nameOf(inside.slot)
    if (before !== undefined) this.#rename(inside.slot, undefined)
    this.#freed.push(chunk)
    inside.state = 'freeing'
    inside.usable = undefined
  }

  /** Gives a chunk another name, or with undefined none. */
  rename(chunk: Chunk, name: string | undefined): void {
    this.#checkChunk(chunk)
    this.#checkPublished(chunk)
    const { slot } = insideOf(chunk)
    const text = name === undefined ? undefined : this.#store.parseName(name)
    this.#rename(slot, text)
    this.#store.table.stage(slot, this.#batch, CHUNK_STATE.CHUNK)
  }

  #rename(slot: number, name: Text | undefined): void {
    this.#structural = true
    const { table } = this.#store
    this.#renamed.push({ slot, before: table.nameOf(slot) })
    table.rename(slot, name)
  }

  /**
   * Writes bytes into a chunk when the transaction commits.
   * @throws RangeError ERR_OUT_OF_RANGE; PlinthError ERR_TX_TOO_LARGE before anything is written
   */
  write(chunk: Chunk, offset: number, bytes: Uint8Array): void {
    const mapping = this.#mapping(chunk)
    const length = checkBytes(bytes, 'bytes')
    checkRange(chunk, offset, length)
    this.#batch.write(mapping, offset, bytes, length)
  }

  /** Writes a 32-bit word, little-endian; 0 to 2^32 - 1. */
  setUint32(chunk: Chunk, offset: number, value: number): void {
    const mapping = this.#mapping(chunk)
    checkRange(chunk, offset, 4)
    if (typeof value !== 'number' || value >>> 0 !== value)
      checkInteger(value, 'value', 0, 0xffffffff)
    this.#batch.setUint32(mapping, offset, value)
  }

  /** Writes a 64-bit word, little-endian; 0 to 2^53 - 1, so that it is exact as a number. */
  setUint64(chunk: Chunk, offset: number, value: number): void {
    const mapping = this.#mapping(chunk)
    checkRange(chunk, offset, 8)
    checkInteger(value, 'value', 0)
    this.#batch.setUint64(mapping, offset, value)
  }

  /** A copy of `length` bytes as this transaction sees them: with its own writes. */
  read(chunk: Chunk, offset: number, length: number): Uint8Array {
    const mapping = this.#mapping(chunk)
    checkRange(chunk, offset, length)
    const bytes = mapping.bytes.slice(offset, offset + length)
    this.#batch.overlay(mapping, offset, bytes)
    return bytes
  }

  /** A 32-bit word as this transaction sees it. */
  getUint32(chunk: Chunk, offset: number): number {
    const b = this.read(chunk, offset, 4)
    return (b[0]! | (b[1]! << 8) | (b[2]! << 16) | (b[3]! << 24)) >>> 0
  }

  /** A 64-bit word as this transaction sees it; Infinity beyond 2^53. */
  getUint64(chunk: Chunk, offset: number): number {
    return joinWords(this.getUint32(chunk, offset), this.getUint32(chunk, offset + 4))
  }

  /**
   * Allocates an object. It exists once the transaction commits; inside it can be written at once.
   * @throws PlinthError as `heap.allocate`, ERR_TX_TOO_LARGE
   */
  allocateObject(heap: Heap, size: number, type = 0): number {
    return stageAllocate(this.#space(heap), size, type)
  }

  /** Frees an object. Its pointer is refused at once, its space can be had again after the commit. */
  freeObject(heap: Heap, pointer: number): void {
    stageFree(this.#space(heap), pointer)
  }

  /** Makes a reserved object exist, with the contents that it has now, once the transaction commits. */
  publishObject(heap: Heap, pointer: number): void {
    stagePublish(this.#space(heap), pointer)
  }

  /** Makes an object the heap's root, 0 for none. */
  setRoot(heap: Heap, pointer: number): void {
    stageRoot(this.#space(heap), pointer)
  }

  /**
   * Writes bytes at `address`, anywhere in an object, when the transaction commits.
   * @throws PlinthError ERR_BAD_POINTER, ERR_TX_TOO_LARGE before anything is written
   */
  writeObject(heap: Heap, address: number, bytes: Uint8Array): void {
    const space = this.#space(heap)
    const length = checkBytes(bytes, 'bytes')
    const chunk = this.#heaps.reach(space, address, length)
    this.#batch.write(chunk.mapping, this.#heaps.offset, bytes, length)
  }

  /** Writes a 32-bit word of an object. */
  setObjectUint32(heap: Heap, address: number, value: number): void {
    const space = this.#space(heap)
    if (typeof value !== 'number' || value >>> 0 !== value)
      checkInteger(value, 'value', 0, 0xffffffff)
    const chunk = this.#heaps.reach(space, address, 4)
    this.#batch.setUint32(chunk.mapping, this.#heaps.offset, value)
  }

  /** Writes a 64-bit word of an object, a pointer for one; 0 to 2^53 - 1. */
  setObjectUint64(heap: Heap, address: number, value: number): void {
    const space = this.#space(heap)
    checkInteger(value, 'value', 0)
    const chunk = this.#heaps.reach(space, address, 8)
    this.#batch.setUint64(chunk.mapping, this.#heaps.offset, value)
  }

  /** A copy of `length` bytes at `address` as this transaction sees them: with its own writes. */
  readObject(heap: Heap, address: number, length: number): Uint8Array {
    const space = this.#space(heap)
    checkInteger(length, 'length', 0)
    const chunk = this.#heaps.reach(space, address, length)
    const { offset } = this.#heaps
    const bytes = chunk.bytes.slice(offset, offset + length)
    this.#batch.overlay(chunk.mapping, offset, bytes)
    return bytes
  }

  /** A 64-bit word of an object as this transaction sees it; Infinity beyond 2^53. */
  getObjectUint64(heap: Heap, address: number): number {
    const b = this.readObject(heap, address, 8)
    const view = new DataView(b.buffer, b.byteOffset, 8)
    return joinWords(view.getUint32(0, true), view.getUint32(4, true))
  }

  #space(heap: Heap): HeapSpace {
    this.#check()
    this.#structural = true
    return this.#heaps.check(heap)
  }

  /** @internal */
  get isActive(): boolean {
    return this.#store.inTransaction
  }

  /** @internal */
  begin(): void {
    // The batch is empty: whoever ended the last one has begun it.
    this.#store.inTransaction = true
  }

  /** @internal Hands the batch to the log, then settles memory. */
  commit(): void {
    const { log } = this.#store
    if (this.#batch.refused !== undefined) throw this.#batch.refused
    if (this.#structural) this.#heaps.journal.prepare()
    if (!this.#batch.isEmpty) log.commit()
    // What it has read may be under way: it returns nothing that a crash could take back.
    else log.settle()
    this.#finish()
  }

  /** @internal The same; durable when the promise resolves. */
  commitAsync(): Promise<void> {
    const { log } = this.#store
    if (this.#batch.refused !== undefined) throw this.#batch.refused
    if (this.#structural) this.#heaps.journal.prepare()
    const durable = this.#batch.isEmpty ? log.settleAsync() : log.commitAsync()
    this.#finish()
    return durable
  }

  #finish(): void {
    this.#store.inTransaction = false
    if (this.#structural) this.#settle()
  }

  /** Lists are emptied by pop: setting their length to 0 frees their memory, and costs 100 ns. */
  #settle(): void {
    this.#structural = false
    this.#heaps.journal.settle()
    for (let chunk = this.#published.pop(); chunk !== undefined; chunk = this.#published.pop()) {
      const inside = insideOf(chunk)
      if (inside.state === 'reserved') inside.state = 'live'
    }
    for (let chunk = this.#freed.pop(); chunk !== undefined; chunk = this.#freed.pop()) {
      this.#store.finishFree(chunk)
    }
    while (this.#renamed.length > 0) this.#renamed.pop()
    while (this.#allocated.length > 0) this.#allocated.pop()
  }

  /** @internal Memory becomes as it was at `begin`. */
  rollback(): void {
    this.#store.inTransaction = false
    this.#structural = false
    this.#batch.begin()
    this.#heaps.journal.rollback()
    const { table } = this.#store
    for (const { slot, before } of this.#renamed.reverse()) table.rename(slot, before)
    this.#renamed.length = 0
    for (const chunk of this.#freed) {
      insideOf(chunk).state = this.#published.includes(chunk) ? 'reserved' : 'live'
    }
    this.#freed.length = 0
    this.#published.length = 0
    for (const chunk of this.#allocated) this.#store.cancel(chunk)
    this.#allocated.length = 0
  }

  #check(): void {
    if (!this.#store.inTransaction) {
      throw new PlinthError(
        'ERR_TX_ENDED',
        'this transaction has ended; its work is done inside the function',
      )
    }
  }

  /** A reservation is nothing on the device: its slot must not reach it before it is published. */
  #checkPublished(chunk: Chunk): void {
    if (insideOf(chunk).state === 'reserved' && !this.#published.includes(chunk)) {
      throw new PlinthError(
        'ERR_CHUNK_NOT_FOUND',
        `chunk ${chunk.id} is a reservation; publish or cancel it`,
      )
    }
  }

  #mapping(chunk: Chunk): Mapping {
    this.#check()
    return mappingOf(chunk, this.#store)
  }

  #checkChunk(chunk: Chunk): void {
    this.#check()
    this.#store.check(chunk)
  }
}

/** Chunks of the library's own types are for heaps alone to make. */
export function refuseOwnType(options: AllocateOptions): void {
  const type: unknown = options?.type
  if (typeof type === 'string' && type.startsWith(OWN_TYPE_PREFIX)) {
    throw argumentValueError(`types that begin with '${OWN_TYPE_PREFIX}' are the library's own`)
  }
}
