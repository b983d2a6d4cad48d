/**
 * A transaction as its function sees it: bytes of chunks and objects, and who takes part.
 *
 *   volume.transact ──▶ function ──▶ record, fence ──▶ memory follows
 *
 * Bytes wait in the batch; reads here see them. What changes structure (chunks, objects, entries of maps) is
 * called on its own object and joins by itself.
 */
import type { Chunk } from '../allocator/chunk.js'
import { checkRange, mappingOf } from '../allocator/chunk.js'
import type { ChunkStore } from '../allocator/chunk-store.js'
import { checkBytes, checkInteger, describe } from '../base/arguments.js'
import { argumentTypeError } from '../base/errors.js'
import type { Heap } from '../heap/heap.js'
import type { HeapDirectory } from '../heap/heap-directory.js'
import { Location } from '../heap/pointer-map.js'
import type { SlabHeap } from '../heap/slab-heap.js'
import { joinWords } from '../layout/struct.js'
import type { Batch } from '../log/batch.js'
import {
  type Participant,
  type TransactionContext,
  transactionEnded,
} from '../log/transaction-context.js'
import type { Mapping } from '../media/media.js'

/** What a transaction function is given. Valid until that function returns. */
export class Transaction {
  readonly #store: ChunkStore
  readonly #batch: Batch
  readonly #heaps: HeapDirectory
  readonly #context: TransactionContext
  readonly #at = new Location()
  readonly #word = new Uint8Array(8)

  /** @internal The volume makes the one it has. */
  constructor(store: ChunkStore, heaps: HeapDirectory, context: TransactionContext) {
    this.#store = store
    this.#heaps = heaps
    this.#context = context
    this.#batch = context.batch
  }

  /**
   * Takes a structure in memory along: it is told whether the transaction has committed or was rolled back.
   * @throws TypeError ERR_INVALID_ARG_TYPE for what is no participant, ERR_INVALID_ARG_VALUE for one that has joined
   *   already; PlinthError ERR_TX_ENDED
   */
  join(participant: Participant): void {
    this.#context.join(participant)
  }

  /**
   * Calls `work`. When it throws, everything that was changed within is rolled back, the error is thrown on, and
   * the transaction can go on without it. Each call that changes something is such a unit by itself.
   * @returns what it returns
   * @throws PlinthError ERR_TX_ENDED, and whatever `work` throws
   */
  savepoint<T>(work: () => T): T {
    this.#check()
    if (typeof work !== 'function') {
      throw argumentTypeError(`a function is wanted, not ${describe(work)}`)
    }
    return this.#context.savepoint(work, undefined)
  }

  /** Bytes of changes that the record still has room for; an entry takes 8 to 24 beside its own. */
  get room(): number {
    this.#check()
    return this.#batch.room
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
    this.#store.log.media.regain(mapping)
    const bytes = mapping.bytes.slice(offset, offset + length)
    this.#batch.overlay(mapping, offset, bytes)
    return bytes
  }

  /** A 32-bit word as this transaction sees it. */
  getUint32(chunk: Chunk, offset: number): number {
    const mapping = this.#mapping(chunk)
    checkRange(chunk, offset, 4)
    this.#load(mapping, offset)
    return wordOf(this.#word, 0)
  }

  /** A 64-bit word as this transaction sees it; Infinity beyond 2^53. */
  getUint64(chunk: Chunk, offset: number): number {
    const mapping = this.#mapping(chunk)
    checkRange(chunk, offset, 8)
    this.#load(mapping, offset)
    return joinWords(wordOf(this.#word, 0), wordOf(this.#word, 4))
  }

  /**
   * Writes bytes at `address`, anywhere in an object, when the transaction commits.
   * @throws PlinthError ERR_BAD_POINTER, ERR_TX_TOO_LARGE before anything is written
   */
  writeObject(heap: Heap, address: number, bytes: Uint8Array): void {
    const space = this.#space(heap)
    const length = checkBytes(bytes, 'bytes')
    const chunk = space.pointers.reach(space, address, length, this.#at)
    this.#batch.write(chunk.mapping, this.#at.offset, bytes, length)
  }

  /** Writes a 32-bit word of an object. */
  setObjectUint32(heap: Heap, address: number, value: number): void {
    const space = this.#space(heap)
    if (typeof value !== 'number' || value >>> 0 !== value)
      checkInteger(value, 'value', 0, 0xffffffff)
    const chunk = space.pointers.reach(space, address, 4, this.#at)
    this.#batch.setUint32(chunk.mapping, this.#at.offset, value)
  }

  /** Writes a 64-bit word of an object, a pointer for one; 0 to 2^53 - 1. */
  setObjectUint64(heap: Heap, address: number, value: number): void {
    const space = this.#space(heap)
    checkInteger(value, 'value', 0)
    const chunk = space.pointers.reach(space, address, 8, this.#at)
    this.#batch.setUint64(chunk.mapping, this.#at.offset, value)
  }

  /** A copy of `length` bytes at `address` as this transaction sees them: with its own writes. */
  readObject(heap: Heap, address: number, length: number): Uint8Array {
    const space = this.#space(heap)
    checkInteger(length, 'length', 0)
    const chunk = space.pointers.reach(space, address, length, this.#at)
    const { offset } = this.#at
    const bytes = chunk.bytes.slice(offset, offset + length)
    this.#batch.overlay(chunk.mapping, offset, bytes)
    return bytes
  }

  /** A 64-bit word of an object as this transaction sees it; Infinity beyond 2^53. */
  getObjectUint64(heap: Heap, address: number): number {
    const space = this.#space(heap)
    const chunk = space.pointers.reach(space, address, 8, this.#at)
    this.#load(chunk.mapping, this.#at.offset)
    return joinWords(wordOf(this.#word, 0), wordOf(this.#word, 4))
  }

  /** Eight bytes, or as many as there are, as the transaction sees them. */
  #load(mapping: Mapping, offset: number): void {
    this.#store.log.media.regain(mapping)
    const { bytes } = mapping
    const word = this.#word
    for (let i = 0; i < 8; i++) word[i] = bytes[offset + i] ?? 0
    this.#batch.overlay(mapping, offset, word)
  }

  #space(heap: Heap): SlabHeap {
    this.#check()
    return this.#heaps.check(heap)
  }

  #mapping(chunk: Chunk): Mapping {
    this.#check()
    return mappingOf(chunk, this.#store)
  }

  #check(): void {
    if (!this.#context.isActive) throw transactionEnded()
  }
}

function wordOf(b: Uint8Array, at: number): number {
  return (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0
}
