/** From the bytes that somebody wants to the class whose blocks hold them. */
import { BLOCK_ALIGN } from '../layout/heap.js'

/** Sizes up to this are found by one load; larger ones by halving. */
const DIRECT_BYTES_MAX = 4096

export class SizeClasses {
  /** Bytes of a block, ascending. */
  readonly sizes: Uint32Array
  readonly largest: number
  readonly #direct: Uint8Array

  constructor(sizes: readonly number[]) {
    this.sizes = Uint32Array.from(sizes)
    this.largest = sizes.at(-1)!
    this.#direct = new Uint8Array(DIRECT_BYTES_MAX / BLOCK_ALIGN + 1)
    for (let i = 0; i < this.#direct.length; i++) this.#direct[i] = this.#search(i * BLOCK_ALIGN)
  }

  /** Index of the smallest class that holds `size` bytes, which is at most `largest`. */
  of(size: number): number {
    if (size <= DIRECT_BYTES_MAX) return this.#direct[(size + BLOCK_ALIGN - 1) >>> 3]!
    return this.#search(size)
  }

  /** The class with just this size, -1 for none. */
  indexOf(size: number): number {
    const index = this.#search(size)
    return this.sizes[index] === size ? index : -1
  }

  #search(size: number): number {
    let low = 0
    let high = this.sizes.length - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.sizes[middle]! < size) low = middle + 1
      else high = middle
    }
    return low
  }
}
