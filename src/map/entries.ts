/**
 * The entries of a map: one object a key, with its value. What the transaction under way has staged is
 * not on the device yet; it is kept here so that the rest of its batch finds it.
 */
import { type Heap, type ObjectReader, PlinthError, type Transaction } from '../index.js'
import { BytePool, compareBytes, headOf, headOfBytes } from './bytes.js'
import {
  isShort,
  KEY_BYTES_MAX,
  LONG,
  LONG_HEAD_BYTES,
  SHORT_HEAD_BYTES,
  shortHead,
  shortKeyBytes,
  shortValueBytes,
  TYPE,
  VALUE_BYTES_MAX,
} from './layout.js'

/** An entry of at most so many bytes is rewritten where it is if it fills at least so much of its block. */
const REWRITE_SHARE = 3 / 4
/** Of larger entries the beginning alone is fetched ahead. */
const PREFETCH_BYTES_MAX = 512
/** Keys shorter than this are looked at in a view that is kept. */
const KEY_VIEWS = 256

export class Entries {
  readonly #heap: Heap
  /** Entries of at most so many bytes travel in the record; larger ones are made durable before it. */
  readonly #inlineBytes: number
  readonly #scratch: Uint8Array
  readonly #words: Uint32Array
  /** Views of the scratch's first bytes, by length in words of eight, made when they are first used. */
  readonly #views: (Uint8Array | undefined)[]
  /** By length: where `verifiedKey` puts keys. */
  readonly #keyViews: (Uint8Array | undefined)[] = new Array(KEY_VIEWS).fill(undefined)
  readonly #reader: ObjectReader
  readonly #pool = new BytePool()
  /** Nobody's: what was touched must go somewhere. */
  touched = 0
  // What `read` has gone to and found: the entry, offset of the key in the entry, lengths.
  pointer = 0
  keyAt = 0
  keyBytes = 0
  valueBytes = 0
  /** Whether the leaf's search has found the very key. */
  isEqual = false
  /** More than one change may come in this transaction: what is staged must be found. */
  isBatch = false
  readonly #stagedPointers: number[] = []
  readonly #stagedKeys: Uint8Array[] = []
  // Where they are: mostly new blocks, close to each other.
  #stagedFirst = Number.POSITIVE_INFINITY
  #stagedLast = 0
  /** Of the first of them, by pointer: made up when it is first asked. */
  readonly #stagedAt = new Map<number, number>()
  #indexed = 0
  /** Objects whose contents are there and whose record is not: cancelled when the transaction fails. */
  readonly #reserved: number[] = []

  constructor(heap: Heap, inlineBytes: number) {
    this.#heap = heap
    this.#reader = heap.reader()
    this.#inlineBytes = inlineBytes
    this.#words = new Uint32Array(inlineBytes / 4)
    this.#scratch = new Uint8Array(this.#words.buffer)
    this.#views = new Array(inlineBytes / 8 + 1).fill(undefined)
  }

  /** Goes to an entry on the device. */
  read(pointer: number): void {
    this.#reader.at(pointer)
    this.#readHead(pointer)
  }

  #readHead(pointer: number): void {
    const reader = this.#reader
    this.pointer = pointer
    const head = reader.getUint32(0)
    if (head !== LONG) {
      this.keyAt = SHORT_HEAD_BYTES
      this.keyBytes = shortKeyBytes(head)
      this.valueBytes = shortValueBytes(head)
    } else {
      this.keyAt = LONG_HEAD_BYTES
      this.keyBytes = reader.getUint32(4)
      this.valueBytes = reader.getUint32(8)
    }
  }

  /** Below 0, 0 or above, as the entry's key is before, equal to or after `key`. */
  compare(pointer: number, key: Uint8Array): number {
    if (this.isBatch) {
      const staged = this.#staged(pointer)
      if (staged !== -1) return compareBytes(this.#stagedKeys[staged]!, key)
    }
    this.read(pointer)
    return this.#reader.compare(this.keyAt, this.keyBytes, key)
  }

  /** A copy of the key. */
  key(pointer: number): Uint8Array {
    if (this.isBatch) {
      const staged = this.#staged(pointer)
      if (staged !== -1) return new Uint8Array(this.#stagedKeys[staged]!)
    }
    this.read(pointer)
    const key = new Uint8Array(this.keyBytes)
    this.#reader.copyOut(this.keyAt, this.keyBytes, key)
    return key
  }

  /** A copy of the value of the entry that was gone to last. */
  value(): Uint8Array {
    const { valueBytes } = this
    const pool = this.#pool
    const at = pool.place(valueBytes)
    this.#reader.copyOut(this.keyAt + this.keyBytes, valueBytes, pool.bytes, at)
    return new Uint8Array(pool.buffer, at, valueBytes)
  }

  /** Copies as much of that value as fits. Returns the length of all of it. */
  valueInto(target: Uint8Array): number {
    const { valueBytes } = this
    const length = valueBytes < target.length ? valueBytes : target.length
    this.#reader.copyOut(this.keyAt + this.keyBytes, length, target)
    return valueBytes
  }

  /**
   * Copies the key of the entry that was gone to last, and right behind it its value. Returns where in
   * `copies` they are.
   */
  copyBoth(): number {
    const length = this.keyBytes + this.valueBytes
    const at = this.#pool.place(length)
    this.#reader.copyOut(this.keyAt, length, this.#pool.bytes, at)
    return at
  }

  /** The buffer that was copied to last. */
  get copies(): ArrayBufferLike {
    return this.#pool.buffer
  }

  /** Brings an entry nearer to the processor, as much of it as the last one had, while others are on their way as well. */
  prefetch(pointer: number): void {
    const bytes = this.keyAt + this.keyBytes + this.valueBytes
    this.#reader.prefetch(pointer, bytes < PREFETCH_BYTES_MAX ? bytes : PREFETCH_BYTES_MAX)
  }

  /** `headOf` the key. */
  head(pointer: number, prefix: number): number {
    if (this.isBatch) {
      const staged = this.#staged(pointer)
      if (staged !== -1) return headOf(this.#stagedKeys[staged]!, prefix)
    }
    this.read(pointer)
    if (prefix + 4 > this.keyBytes) return headOf(this.key(pointer), prefix)
    const word = this.#reader.getUint32(this.keyAt + prefix)
    return headOfBytes(word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24)
  }

  /**
   * Brings what may be an entry nearer to the processor.
   * @throws PlinthError ERR_BAD_POINTER unless it is an object of entries
   */
  prefetchUnverified(pointer: number): void {
    this.#reader.at(pointer, TYPE.ENTRY)
    this.prefetch(pointer)
  }

  /**
   * The key of what may be an entry; valid until the next call.
   * @throws PlinthError ERR_BAD_POINTER unless it is one, ERR_VOLUME_CORRUPT unless it lies within its object
   */
  verifiedKey(pointer: number): Uint8Array {
    const reader = this.#reader
    reader.at(pointer, TYPE.ENTRY)
    this.#readHead(pointer)
    const { keyBytes } = this
    const isWhole =
      keyBytes <= KEY_BYTES_MAX &&
      this.valueBytes <= VALUE_BYTES_MAX &&
      this.keyAt + keyBytes + this.valueBytes <= reader.size
    if (!isWhole) throw corrupt(`entry ${pointer} is longer than its object`)
    const key = keyBytes < KEY_VIEWS ? this.#keyView(keyBytes) : new Uint8Array(keyBytes)
    reader.copyOut(this.keyAt, keyBytes, key)
    return key
  }

  /** Keys of a map mostly have few lengths: a view for each. */
  #keyView(bytes: number): Uint8Array {
    let view = this.#keyViews[bytes]
    if (view === undefined) {
      view = new Uint8Array(bytes)
      this.#keyViews[bytes] = view
    }
    return view
  }

  /** Stages a new entry and returns its pointer. */
  create(tx: Transaction, key: Uint8Array, value: Uint8Array): number {
    const bytes = entryBytes(key.length, value.length)
    if (bytes > this.#inlineBytes) return this.#createLarge(tx, key, value, bytes)
    const pointer = tx.allocateObject(this.#heap, bytes, TYPE.ENTRY)
    tx.writeObject(this.#heap, pointer, this.#encode(key, value))
    if (this.isBatch) this.#stage(pointer, key)
    return pointer
  }

  /**
   * Stages another value in the same object, when that has room for it and not much too much.
   * Returns whether it has.
   */
  rewrite(tx: Transaction, pointer: number, key: Uint8Array, value: Uint8Array): boolean {
    const bytes = entryBytes(key.length, value.length)
    if (bytes > this.#inlineBytes) return false
    // The search has just gone to it, unless it was found among what is staged.
    const room = this.isBatch ? this.#heap.size(pointer) : this.#reader.size
    if (bytes > room || bytes < room * REWRITE_SHARE) return false
    tx.writeObject(this.#heap, pointer, this.#encode(key, value))
    if (this.isBatch) this.#stage(pointer, key)
    return true
  }

  /** The entry in the scratch, padded with zeros to words of eight bytes, which is what a record takes as it is. */
  #encode(key: Uint8Array, value: Uint8Array): Uint8Array {
    const scratch = this.#scratch
    const words = this.#words
    const keyBytes = key.length
    const valueBytes = value.length
    const length = (entryBytes(keyBytes, valueBytes) + 7) >>> 3
    words[2 * length - 2] = 0
    words[2 * length - 1] = 0
    let at: number
    if (isShort(keyBytes, valueBytes)) {
      at = SHORT_HEAD_BYTES
      words[0] = shortHead(keyBytes, valueBytes)
    } else {
      at = LONG_HEAD_BYTES
      words[0] = LONG
      words[1] = keyBytes
      words[2] = valueBytes
    }
    if (keyBytes <= 32) for (let i = 0; i < keyBytes; i++) scratch[at + i] = key[i]!
    else scratch.set(key, at)
    scratch.set(value, at + keyBytes)
    const view = this.#views[length]
    if (view !== undefined) return view
    const made = new Uint8Array(scratch.buffer, 0, length * 8)
    this.#views[length] = made
    return made
  }

  /** Stages a new object with these bytes. */
  createBytes(tx: Transaction, bytes: Uint8Array, type: number): number {
    const heap = this.#heap
    if (bytes.length <= this.#inlineBytes) {
      const pointer = tx.allocateObject(heap, bytes.length, type)
      tx.writeObject(heap, pointer, bytes)
      return pointer
    }
    const pointer = heap.reserve(bytes.length, type)
    this.#reserved.push(pointer)
    heap.copyIn(pointer, bytes)
    tx.publishObject(heap, pointer)
    return pointer
  }

  #createLarge(tx: Transaction, key: Uint8Array, value: Uint8Array, bytes: number): number {
    const heap = this.#heap
    const pointer = heap.reserve(bytes, TYPE.ENTRY)
    this.#reserved.push(pointer)
    let at = pointer
    if (isShort(key.length, value.length)) {
      heap.setUint32(at, shortHead(key.length, value.length))
      at += SHORT_HEAD_BYTES
    } else {
      heap.setUint32(at, LONG)
      heap.setUint32(at + 4, key.length)
      heap.setUint32(at + 8, value.length)
      at += LONG_HEAD_BYTES
    }
    heap.copyIn(at, key)
    // The place of an empty one may be behind the object.
    if (value.length > 0) heap.copyIn(at + key.length, value)
    // Durable, and then the record: see heap.publish.
    tx.publishObject(heap, pointer)
    return pointer
  }

  #stage(pointer: number, key: Uint8Array): void {
    this.#stagedPointers.push(pointer)
    this.#stagedKeys.push(key)
    if (pointer < this.#stagedFirst) this.#stagedFirst = pointer
    if (pointer > this.#stagedLast) this.#stagedLast = pointer
  }

  /** Index among what is staged, -1 for what is on the device. */
  #staged(pointer: number): number {
    if (pointer < this.#stagedFirst || pointer > this.#stagedLast) return -1
    while (this.#indexed < this.#stagedPointers.length) {
      this.#stagedAt.set(this.#stagedPointers[this.#indexed]!, this.#indexed++)
    }
    return this.#stagedAt.get(pointer) ?? -1
  }

  /** The transaction has ended, this way or that. */
  settle(isCommitted: boolean): void {
    while (this.#stagedPointers.length > 0) {
      this.#stagedPointers.pop()
      this.#stagedKeys.pop()
    }
    this.#stagedFirst = Number.POSITIVE_INFINITY
    this.#stagedLast = 0
    if (this.#indexed > 0) {
      this.#stagedAt.clear()
      this.#indexed = 0
    }
    this.isBatch = false
    while (this.#reserved.length > 0) {
      const pointer = this.#reserved.pop()!
      if (!isCommitted) this.#cancel(pointer)
    }
  }

  #cancel(pointer: number): void {
    try {
      this.#heap.cancel(pointer)
    } catch (error) {
      // Of a volume that has failed no memory is used any more; what failed is what the caller is told.
      if ((error as PlinthError).code !== 'ERR_VOLUME_FAILED') throw error
    }
  }
}

function entryBytes(keyBytes: number, valueBytes: number): number {
  const bytes = keyBytes + valueBytes
  return bytes + (isShort(keyBytes, valueBytes) ? SHORT_HEAD_BYTES : LONG_HEAD_BYTES)
}

export function corrupt(what: string): PlinthError {
  return new PlinthError('ERR_VOLUME_CORRUPT', `the ordered map contradicts itself: ${what}`)
}
