/** Seeded random numbers (mulberry32): the same seed, the same run. */
export class Random {
  #state: number

  /** With a key, one of many sequences of the same seed. */
  constructor(seed: number, key = 0) {
    this.#state = (seed ^ Math.imul(key % 2 ** 32, 0x9e3779b1) ^ (key / 2 ** 32)) >>> 0
  }

  /** 0 to 2^32 - 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let z = this.#state
    z = Math.imul(z ^ (z >>> 15), z | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return (z ^ (z >>> 14)) >>> 0
  }

  /** A whole number from 0 to `below` - 1. */
  below(below: number): number {
    return this.next() % below
  }

  /** One of them. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!
  }
}
