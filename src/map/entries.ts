/**
 * The entries of a map: one object a key, with its value. What the transaction under way has staged is not on the
 * device yet: whose key it is is kept here, and its bytes are read from the transaction.
 */
import { type Heap, type ObjectReader, PlinthError, type Transaction } from '../index.js'
import { compareBytes, headOf, headOfBytes } from './bytes.js'
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
/** Memory for the keys of a batch: at first, and at most once it has ended. */
const KEYS_FIRST = 4096
const KEYS_KEPT = 2 ** 20
const NO_BYTES: Uint8Array = new Uint8Array(0)

export class Entries {
  readonly #heap: Heap
  /** Entries of at most so many bytes travel in the record; larger ones are made durable before it. */
  readonly #inlineBytes: number
  /** What a change is made of, copied before anything else is done: the entry, or the key alone. */
  readonly #scratch: Uint8Array
  readonly #words: Uint32Array
  /** Views of the scratch's first bytes, by length in words of eight, made when they are first used. */
  readonly #views: (Uint8Array | undefined)[]
  /** By length: where `verifiedKey` puts keys. */
  readonly #keyViews: (Uint8Array | undefined)[] = new Array(KEY_VIEWS).fill(undefined)
  /** By length: the key of a short entry in the scratch. */
  readonly #takenKeys: (Uint8Array | undefined)[] = new Array(KEY_VIEWS).fill(undefined)
  // What `take` has copied: the whole entry, or of a large one the lengths, and the value that is still the caller's.
  #record = NO_BYTES
  #recordBytes = 0
  #keyTaken = NO_BYTES
  #valueTaken = NO_BYTES
  #valueTakenBytes = 0
  readonly #reader: ObjectReader
  /** Nobody's: what was touched must go somewhere. */
  touched = 0
  // What `read` has gone to and found: the entry, offset of the key in the entry, lengths.
  pointer = 0
  keyAt = 0
  keyBytes = 0
  valueBytes = 0
  /** The transaction in which more than one change may come: what it has staged must be found. */
  tx: Transaction | undefined
  /** The entry that was gone to last, when it is staged. */
  #source: Uint8Array | undefined
  readonly #stagedPointers: number[] = []
  /** Where in `#keys` those of the staged ones end, one behind the other. */
  readonly #keyEnds: number[] = []
  #keys = new Uint8Array(KEYS_FIRST)
  // Where they are: mostly new blocks, close to each other.
  #stagedFirst = Number.POSITIVE_INFINITY
  #stagedLast = 0
  /** Of the first of them, by pointer: made up when it is first asked. */
  readonly #stagedAt = new Map<number, number>()
  #indexed = 0

  constructor(heap: Heap, inlineBytes: number) {
    this.#heap = heap
    this.#reader = heap.reader()
    this.#inlineBytes = inlineBytes
    this.#words = new Uint32Array(inlineBytes / 4)
    this.#scratch = new Uint8Array(this.#words.buffer)
    this.#views = new Array(inlineBytes / 8 + 1).fill(undefined)
  }

  /** Goes to an entry. */
  read(pointer: number): void {
    if (this.tx !== undefined && this.#staged(pointer) !== -1) {
      this.#readStaged(this.tx, pointer)
      return
    }
    this.#source = undefined
    this.#reader.at(pointer)
    this.#readHead(pointer)
  }

  #readStaged(tx: Transaction, pointer: number): void {
    const source = tx.readObject(this.#heap, pointer, this.#heap.size(pointer))
    const view = new DataView(source.buffer, source.byteOffset, source.byteLength)
    this.#source = source
    this.pointer = pointer
    const head = view.getUint32(0, true)
    const isLong = head === LONG
    this.keyAt = isLong ? LONG_HEAD_BYTES : SHORT_HEAD_BYTES
    this.keyBytes = isLong ? view.getUint32(4, true) : shortKeyBytes(head)
    this.valueBytes = isLong ? view.getUint32(8, true) : shortValueBytes(head)
  }

  /** Copies bytes of an object of the map, as the transaction under way has them if the map takes part in one. */
  copyOut(address: number, target: Uint8Array): void {
    if (this.tx === undefined) this.#heap.copyOut(address, target)
    else target.set(this.tx.readObject(this.#heap, address, target.length))
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
    if (this.tx !== undefined) {
      const staged = this.#staged(pointer)
      if (staged !== -1) return compareBytes(this.#stagedKey(staged), key)
    }
    this.read(pointer)
    return this.#reader.compare(this.keyAt, this.keyBytes, key)
  }

  /** A copy of the key. */
  key(pointer: number): Uint8Array {
    if (this.tx !== undefined) {
      const staged = this.#staged(pointer)
      if (staged !== -1) return this.#stagedKey(staged).slice()
    }
    this.read(pointer)
    return this.#reader.copy(this.keyAt, this.keyBytes)
  }

  /** A copy of the value of an entry that was found just now. */
  value(pointer: number): Uint8Array {
    // Who searches goes to the entry, unless it is staged: then its key is known.
    if (this.tx !== undefined) this.read(pointer)
    const from = this.keyAt + this.keyBytes
    if (this.#source !== undefined) return this.#source.slice(from, from + this.valueBytes)
    return this.#reader.copy(from, this.valueBytes)
  }

  /** Copies of both. */
  entry(pointer: number): [key: Uint8Array, value: Uint8Array] {
    this.read(pointer)
    const { keyAt, keyBytes, valueBytes } = this
    const source = this.#source
    if (source === undefined) {
      const reader = this.#reader
      return [reader.copy(keyAt, keyBytes), reader.copy(keyAt + keyBytes, valueBytes)]
    }
    const valueAt = keyAt + keyBytes
    return [source.slice(keyAt, valueAt), source.slice(valueAt, valueAt + valueBytes)]
  }

  /** The same, as much as fits into `bytes` of the target. Returns the length of all of it. */
  valueInto(pointer: number, target: Uint8Array, bytes: number): number {
    if (this.tx !== undefined) this.read(pointer)
    this.#copyInto(this.keyAt + this.keyBytes, this.valueBytes, target, bytes)
    return this.valueBytes
  }

  /** The same of the key. */
  keyInto(pointer: number, target: Uint8Array, bytes: number): number {
    if (this.tx !== undefined) this.read(pointer)
    this.#copyInto(this.keyAt, this.keyBytes, target, bytes)
    return this.keyBytes
  }

  #copyInto(from: number, all: number, target: Uint8Array, bytes: number): void {
    const length = all < bytes ? all : bytes
    if (this.#source === undefined) this.#reader.copyOut(from, length, target)
    else target.set(this.#source.subarray(from, from + length))
  }

  /** Brings an entry nearer to the processor, as much of it as the last one had, while others are on their way as well. */
  prefetch(pointer: number): void {
    const bytes = this.keyAt + this.keyBytes + this.valueBytes
    this.#reader.prefetch(pointer, bytes < PREFETCH_BYTES_MAX ? bytes : PREFETCH_BYTES_MAX)
  }

  /** `headOf` the key. */
  head(pointer: number, prefix: number): number {
    if (this.tx !== undefined) {
      const staged = this.#staged(pointer)
      if (staged !== -1) return headOf(this.#stagedKey(staged), prefix)
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
    if (this.tx !== undefined) {
      const staged = this.#staged(pointer)
      if (staged !== -1) return this.#stagedKey(staged)
      this.#source = undefined
    }
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

  /**
   * Copies the key of a change: its memory may be another thread's as well, and what is looked up must be what is
   * stored. Returns the copy, which is valid until the next change.
   */
  takeKey(key: Uint8Array, keyBytes: number): Uint8Array {
    if (SHORT_HEAD_BYTES + keyBytes > this.#inlineBytes) return copyOf(key, keyBytes)
    this.#put(key, keyBytes, SHORT_HEAD_BYTES)
    return this.#takenKey(SHORT_HEAD_BYTES, keyBytes)
  }

  /**
   * The same of a whole entry, for `create` and `rewrite`. The value is read here, but that of a large entry, which is
   * read once, into an object that nobody has.
   */
  take(key: Uint8Array, keyBytes: number, value: Uint8Array, valueBytes: number): Uint8Array {
    const bytes = entryBytes(keyBytes, valueBytes)
    this.#recordBytes = bytes
    if (bytes > this.#inlineBytes) return this.#takeLarge(key, keyBytes, value, valueBytes)
    const words = this.#words
    const length = (bytes + 7) >>> 3
    // Padded with zeros to words of eight bytes, which is what a record takes as it is.
    words[2 * length - 2] = 0
    words[2 * length - 1] = 0
    let at = SHORT_HEAD_BYTES
    if (isShort(keyBytes, valueBytes)) {
      words[0] = shortHead(keyBytes, valueBytes)
    } else {
      at = LONG_HEAD_BYTES
      words[0] = LONG
      words[1] = keyBytes
      words[2] = valueBytes
    }
    this.#put(key, keyBytes, at)
    this.#scratch.set(value, at + keyBytes)
    this.#record = this.#views[length] ?? this.#makeView(length)
    return this.#takenKey(at, keyBytes)
  }

  #makeView(length: number): Uint8Array {
    const view = this.#viewOf(0, length * 8)
    this.#views[length] = view
    return view
  }

  #put(key: Uint8Array, keyBytes: number, at: number): void {
    const scratch = this.#scratch
    if (keyBytes <= 32) for (let i = 0; i < keyBytes; i++) scratch[at + i] = key[i]!
    else scratch.set(key, at)
  }

  // Asking the scratch for its buffer takes longer than the copy.
  #takenKey(at: number, keyBytes: number): Uint8Array {
    if (at !== SHORT_HEAD_BYTES || keyBytes >= KEY_VIEWS) return this.#viewOf(at, keyBytes)
    const view = this.#takenKeys[keyBytes]
    if (view !== undefined) return view
    const made = this.#viewOf(at, keyBytes)
    this.#takenKeys[keyBytes] = made
    return made
  }

  #viewOf(at: number, bytes: number): Uint8Array {
    return new Uint8Array(this.#scratch.buffer, at, bytes)
  }

  #takeLarge(key: Uint8Array, keyBytes: number, value: Uint8Array, valueBytes: number): Uint8Array {
    this.#keyTaken = copyOf(key, keyBytes)
    this.#valueTaken = value
    this.#valueTakenBytes = valueBytes
    return this.#keyTaken
  }

  /** Stages the entry that was taken as a new one and returns its pointer. `key` is its key. */
  create(tx: Transaction, key: Uint8Array): number {
    if (this.#recordBytes > this.#inlineBytes) return this.#createLarge()
    const pointer = this.#heap.allocate(this.#recordBytes, TYPE.ENTRY)
    // What the reader knew of an object that was here counts no more.
    this.pointer = 0
    tx.writeObject(this.#heap, pointer, this.#record)
    if (this.tx !== undefined) this.#stage(pointer, key)
    return pointer
  }

  /**
   * Stages the entry that was taken in the object of another with its key, when that has room for it and not much too
   * much. Returns whether it has.
   */
  rewrite(tx: Transaction, pointer: number, key: Uint8Array): boolean {
    const bytes = this.#recordBytes
    if (bytes > this.#inlineBytes) return false
    // The search has just gone to it, unless it was found among what is staged.
    const isThere = this.pointer === pointer && this.#source === undefined
    const room = isThere ? this.#reader.size : this.#heap.size(pointer)
    if (bytes > room || bytes < room * REWRITE_SHARE) return false
    tx.writeObject(this.#heap, pointer, this.#record)
    if (this.tx !== undefined) this.#stage(pointer, key)
    return true
  }

  /** Stages a new object with these bytes. */
  createBytes(tx: Transaction, bytes: Uint8Array, type: number): number {
    const heap = this.#heap
    if (bytes.length <= this.#inlineBytes) {
      const pointer = heap.allocate(bytes.length, type)
      tx.writeObject(heap, pointer, bytes)
      return pointer
    }
    const pointer = heap.allocate(bytes.length, type)
    heap.copyIn(pointer, bytes)
    heap.persist(pointer, bytes.length)
    return pointer
  }

  #createLarge(): number {
    const heap = this.#heap
    const key = this.#keyTaken
    const valueBytes = this.#valueTakenBytes
    const pointer = heap.allocate(this.#recordBytes, TYPE.ENTRY)
    let at = pointer
    if (isShort(key.length, valueBytes)) {
      heap.setUint32(at, shortHead(key.length, valueBytes))
      at += SHORT_HEAD_BYTES
    } else {
      heap.setUint32(at, LONG)
      heap.setUint32(at + 4, key.length)
      heap.setUint32(at + 8, valueBytes)
      at += LONG_HEAD_BYTES
    }
    heap.copyIn(at, key)
    // The place of an empty one may be behind the object.
    if (valueBytes > 0) heap.copyIn(at + key.length, this.#valueTaken)
    // The contents, to space that on the device is nobody's: a crash here leaves it nobody's. Then the record.
    heap.persist(pointer, this.#recordBytes)
    return pointer
  }

  #stage(pointer: number, key: Uint8Array): void {
    const staged = this.#keyEnds.length
    const from = staged === 0 ? 0 : this.#keyEnds[staged - 1]!
    const end = from + key.length
    if (end > this.#keys.length) this.#growKeys(end)
    const keys = this.#keys
    if (key.length <= 32) for (let i = 0; i < key.length; i++) keys[from + i] = key[i]!
    else keys.set(key, from)
    this.#stagedPointers.push(pointer)
    this.#keyEnds.push(end)
    if (pointer < this.#stagedFirst) this.#stagedFirst = pointer
    if (pointer > this.#stagedLast) this.#stagedLast = pointer
  }

  #growKeys(bytes: number): void {
    const grown = new Uint8Array(Math.max(bytes, this.#keys.length * 2))
    grown.set(this.#keys)
    this.#keys = grown
  }

  #stagedKey(staged: number): Uint8Array {
    const from = staged === 0 ? 0 : this.#keyEnds[staged - 1]!
    return this.#keys.subarray(from, this.#keyEnds[staged]!)
  }

  /** Index among what is staged, -1 for what is on the device. */
  #staged(pointer: number): number {
    if (pointer < this.#stagedFirst || pointer > this.#stagedLast) return -1
    while (this.#indexed < this.#stagedPointers.length) {
      this.#stagedAt.set(this.#stagedPointers[this.#indexed]!, this.#indexed++)
    }
    return this.#stagedAt.get(pointer) ?? -1
  }

  /** How many entries are staged. */
  get stagedCount(): number {
    return this.#stagedPointers.length
  }

  /** Forgets what was staged since there were so many. */
  rollbackTo(stagedCount: number): void {
    if (this.#stagedPointers.length === stagedCount) return
    while (this.#stagedPointers.length > stagedCount) {
      this.#stagedPointers.pop()
      this.#keyEnds.pop()
    }
    if (this.#indexed === 0) return
    // A pointer may have been staged twice: what is left is indexed anew.
    this.#stagedAt.clear()
    this.#indexed = 0
  }

  /** What was taken belongs to the caller again. */
  letGo(): void {
    this.#keyTaken = this.#valueTaken = NO_BYTES
  }

  /** The transaction has ended. */
  end(): void {
    this.rollbackTo(0)
    if (this.#keys.length > KEYS_KEPT) this.#keys = new Uint8Array(KEYS_FIRST)
    this.#stagedFirst = Number.POSITIVE_INFINITY
    this.#stagedLast = 0
    this.tx = undefined
    this.#source = undefined
  }
}

function copyOf(key: Uint8Array, keyBytes: number): Uint8Array {
  const copy = new Uint8Array(keyBytes)
  copy.set(key)
  return copy
}

function entryBytes(keyBytes: number, valueBytes: number): number {
  const bytes = keyBytes + valueBytes
  return bytes + (isShort(keyBytes, valueBytes) ? SHORT_HEAD_BYTES : LONG_HEAD_BYTES)
}

export function corrupt(what: string): PlinthError {
  return new PlinthError('ERR_VOLUME_CORRUPT', `the ordered map contradicts itself: ${what}`)
}
