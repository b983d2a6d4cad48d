/** Reads one object after another: each is looked up once, however much of it is read. */
import { checkBytes, checkInteger } from '../base/arguments.js'
import { PlinthError, rangeError } from '../base/errors.js'
import { Location } from './pointer-map.js'
import type { SlabHeap } from './slab-heap.js'

/** Longer copies are made by the engine's own call: a view costs as much as copying so many bytes by words. */
const LOOP_BYTES_MAX = 256
/** The same, byte by byte. */
const SHORT_BYTES = 64
const NO_BYTES = new Uint8Array(0)
const NO_WORDS = new Uint32Array(0)

/**
 * Looks at objects of a heap, one at a time, without allocating. What is read is right while the object
 * lives; `at` must be called again after anything was freed. Where the whole chunk is gone reading is
 * refused with ERR_BAD_POINTER, and of a closed volume with ERR_VOLUME_CLOSED.
 */
export class ObjectReader {
  readonly #space: SlabHeap
  #bytes: Uint8Array = NO_BYTES
  #words: Uint32Array = NO_WORDS
  /** Nobody's: what was loaded must go somewhere. */
  #fetched = 0
  #pointer = 0
  #from = 0
  #size = 0
  readonly #at = new Location()
  /** What was copied to last, and its buffer as words once it was copied to twice. */
  #target: Uint8Array = NO_BYTES
  #targetWords: Uint32Array = NO_WORDS

  /** @internal Readers come from the heap. */
  constructor(space: SlabHeap) {
    this.#space = space
  }

  /**
   * Goes to an object by its pointer; with a type tag, only to one of that.
   * @throws PlinthError ERR_BAD_POINTER
   */
  at(pointer: number, type?: number): void {
    const space = this.#space
    const at = this.#at
    const chunk = space.pointers.locate(space, pointer, at)
    if (type !== undefined && space.typeOf(chunk, at.unit) !== type) {
      throw space.pointers.badPointer(space, pointer)
    }
    this.#bytes = chunk.bytes
    this.#words = chunk.words
    this.#pointer = pointer
    this.#from = at.offset
    this.#size = chunk.blockBytes[at.unit]!
  }

  /**
   * Brings `length` bytes of an object nearer to the processor, for who is going to look at several objects:
   * the reads of one wait for each other, fetches of many do not. The pointer is not checked: with one that is no
   * object's nothing or something else is fetched.
   */
  prefetch(pointer: number, length: number): void {
    this.#fetched ^= this.#space.pointers.prefetch(pointer, length)
  }

  /** Usable bytes of the object. */
  get size(): number {
    return this.#size
  }

  /** The 32-bit word at `offset` of the object. */
  getUint32(offset: number): number {
    const at = this.#place(offset, 4)
    if ((at & 3) === 0) return this.#words[at >>> 2]!
    const b = this.#bytes
    return (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0
  }

  /**
   * Compares `length` bytes at `offset` with all of `bytes`, as unsigned bytes: below 0, 0 or above as they come
   * before, are equal or come after.
   */
  compare(offset: number, length: number, bytes: Uint8Array): number {
    const at = this.#place(offset, length)
    const own = this.#bytes
    const common = length < bytes.length ? length : bytes.length
    for (let i = 0; i < common; i++) {
      const difference = own[at + i]! - bytes[i]!
      if (difference !== 0) return difference
    }
    return length - bytes.length
  }

  /** A copy of `length` bytes at `offset` of the object, which nobody else has. */
  copy(offset: number, length: number): Uint8Array {
    const from = this.#place(offset, length)
    return this.#bytes.slice(from, from + length)
  }

  /** Copies `length` bytes at `offset` of the object to `at` of the target. */
  copyOut(offset: number, length: number, target: Uint8Array, at = 0): void {
    const targetBytes = checkBytes(target, 'target')
    const from = this.#place(offset, length)
    if (typeof at !== 'number' || at >>> 0 !== at || at + length > targetBytes) {
      throw rangeError(`${length} bytes at ${at} are not within the target's ${targetBytes}`)
    }
    const to = target.byteOffset + at
    // Only who copies to one place again and again has use of words. The view is compared: asking it for its
    // buffer takes longer than the copy.
    const isKnown = target === this.#target
    if (!isKnown || length > LOOP_BYTES_MAX || ((from | to) & 3) !== 0) {
      if (!isKnown) this.#meet(target)
      this.#copyBytes(from, length, target, at)
      return
    }
    const end = (from + length) >>> 2
    // One that can grow has been bound with the length it had.
    if ((to + length) >>> 2 > this.#targetWords.length) this.#bindTarget()
    const words = this.#words
    const targetWords = this.#targetWords
    for (let i = from >>> 2, j = to >>> 2; i < end; i++, j++) targetWords[j] = words[i]!
    const bytes = this.#bytes
    for (let i = length & ~3; i < length; i++) target[at + i] = bytes[from + i]!
  }

  #meet(target: Uint8Array): void {
    this.#target = target
    this.#targetWords = NO_WORDS
  }

  #bindTarget(): void {
    const { buffer } = this.#target
    this.#targetWords = new Uint32Array(buffer, 0, buffer.byteLength >>> 2)
  }

  #copyBytes(from: number, length: number, target: Uint8Array, at: number): void {
    const bytes = this.#bytes
    if (length <= SHORT_BYTES) for (let i = 0; i < length; i++) target[at + i] = bytes[from + i]!
    else target.set(bytes.subarray(from, from + length), at)
  }

  /**
   * Where a range of the object is in the chunk. The bytes behind an object are others', so this is
   * checked always.
   */
  #place(offset: number, length: number): number {
    const isWithin =
      typeof offset === 'number' &&
      typeof length === 'number' &&
      offset >>> 0 === offset &&
      length >>> 0 === length &&
      offset + length <= this.#size
    if (!isWithin) {
      checkInteger(offset, 'offset', 0, this.#size)
      checkInteger(length, 'length', 0, this.#size - offset)
    }
    if (this.#bytes.length === 0 || this.#space.pointers.areReadsRefused) {
      return this.#placeAgain(offset, length)
    }
    return this.#from + offset
  }

  /**
   * The view is empty: the mapping was given back, as those of large objects are, or `at` was never called; or the device
   * has failed, which `at` says.
   */
  #placeAgain(offset: number, length: number): number {
    if (this.#pointer === 0) {
      this.#space.context.lifecycle.checkOpen()
      throw new PlinthError('ERR_BAD_POINTER', 'the reader is at no object')
    }
    this.at(this.#pointer)
    return this.#place(offset, length)
  }
}
