/**
 * A set of small numbers that always knows its least: the slabs of one kind that have a free block,
 * so that blocks are taken from the front of the heap and its end can empty.
 *
 *   words     one bit for each number
 *   summary   one bit for each word that has any, so that the search for the next skips 1024 at a time
 *
 * Invariant: `first` is the least number in the set, `NONE` when it is empty.
 */
export const NONE = 2 ** 30

export class NumberSet {
  first: number = NONE
  #words = new Uint32Array(32)
  #summary = new Uint32Array(1)

  add(number: number): void {
    const word = number >>> 5
    if (word >= this.#words.length) this.#grow(word)
    this.#words[word] = this.#words[word]! | (1 << (number & 31))
    this.#summary[word >>> 5] = this.#summary[word >>> 5]! | (1 << (word & 31))
    if (number < this.first) this.first = number
  }

  delete(number: number): void {
    const word = number >>> 5
    if (word >= this.#words.length) return
    const left = this.#words[word]! & ~(1 << (number & 31))
    this.#words[word] = left
    if (left === 0) this.#summary[word >>> 5] = this.#summary[word >>> 5]! & ~(1 << (word & 31))
    if (number === this.first) this.first = this.#from(word)
  }

  /** The least number in `word` or behind it. */
  #from(word: number): number {
    const summary = this.#summary
    let group = word >>> 5
    // What lies before `word` in its group is empty: nothing there is less than the old first.
    while (group < summary.length && summary[group] === 0) group++
    if (group === summary.length) return NONE
    const found = group * 32 + lowestBit(summary[group]!)
    return found * 32 + lowestBit(this.#words[found]!)
  }

  #grow(word: number): void {
    let length = this.#words.length
    while (length <= word) length *= 2
    const words = new Uint32Array(length)
    words.set(this.#words)
    this.#words = words
    const summary = new Uint32Array(length / 32)
    summary.set(this.#summary)
    this.#summary = summary
  }
}

/** Index of the lowest bit that is set; `bits` has one. */
export function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits)
}

export function countBits(bits: number): number {
  let n = bits - ((bits >>> 1) & 0x55555555)
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333)
  return Math.imul((n + (n >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}
