/**
 * A set of small numbers that always knows its least: the slabs of one kind that have a free block,
 * so that blocks are taken from the front of the heap and its end can empty.
 *
 *   groups    1024 numbers each, one bit a number; made when their first number comes
 *   heads     of each group: one bit for each word that has any
 *   summary   one bit for each group that has any
 *
 * Its memory is 132 bytes for each group that was ever used and a bit for each below the greatest: numbers come from
 * devices, and a heap may have thousands of kinds.
 *
 * Invariant: `first` is the least number in the set, `NONE` when it is empty.
 */
import { lowestBit } from '../base/bits.js'
import { powerOfTwoCeil } from '../base/units.js'

export const NONE = 2 ** 30
/** Words of a group. The last one more is its head. */
const HEAD = 32

export class NumberSet {
  first: number = NONE
  readonly #groups: (Uint32Array | undefined)[] = []
  #summary = new Uint32Array(1)
  #groupCount = 0

  /** Bytes of memory that it takes. */
  get memoryBytes(): number {
    return this.#groupCount * (HEAD + 1) * 4 + this.#summary.byteLength
  }

  add(number: number): void {
    const index = number >>> 10
    const group = this.#groups[index] ?? this.#newGroup(index)
    const word = (number >>> 5) & 31
    group[word] = group[word]! | (1 << (number & 31))
    group[HEAD] = group[HEAD]! | (1 << word)
    this.#summary[index >>> 5] = this.#summary[index >>> 5]! | (1 << (index & 31))
    if (number < this.first) this.first = number
  }

  delete(number: number): void {
    const index = number >>> 10
    const group = this.#groups[index]
    if (group === undefined) return
    const word = (number >>> 5) & 31
    const left = group[word]! & ~(1 << (number & 31))
    group[word] = left
    if (left === 0) {
      group[HEAD] = group[HEAD]! & ~(1 << word)
      if (group[HEAD] === 0) {
        this.#summary[index >>> 5] = this.#summary[index >>> 5]! & ~(1 << (index & 31))
      }
    }
    if (number === this.first) this.first = this.#from(index)
  }

  /** The least number in a group or behind it. */
  #from(index: number): number {
    const summary = this.#summary
    let at = index >>> 5
    // What lies before the group is empty: nothing there is less than the old first.
    while (at < summary.length && summary[at] === 0) at++
    if (at === summary.length) return NONE
    const found = at * 32 + lowestBit(summary[at]!)
    const group = this.#groups[found]!
    const word = lowestBit(group[HEAD]!)
    return found * 1024 + word * 32 + lowestBit(group[word]!)
  }

  #newGroup(index: number): Uint32Array {
    const group = new Uint32Array(HEAD + 1)
    this.#groups[index] = group
    this.#groupCount++
    if (index >>> 5 >= this.#summary.length) {
      const summary = new Uint32Array(powerOfTwoCeil((index >>> 5) + 1))
      summary.set(this.#summary)
      this.#summary = summary
    }
    return group
  }
}
