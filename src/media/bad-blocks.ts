/** Stretches of a device that nothing may load from or store to: the first touch ends the process. */
import { alignDown, alignUp, type Offset, PAGE_BYTES } from '../base/units.js'

/** Bytes of a device. */
export interface Stretch {
  readonly offset: Offset
  readonly length: number
}

export class BadBlocks {
  /** Whole pages, which is what the kernel takes away at a fault; lowest first, none touches the next. */
  readonly stretches: readonly Stretch[]

  constructor(found: Iterable<Stretch>) {
    const merged: { offset: Offset; length: number }[] = []
    for (const { offset, length } of [...found].sort((a, b) => a.offset - b.offset)) {
      if (length <= 0) continue
      const start = alignDown(offset, PAGE_BYTES)
      const end = alignUp(offset + length, PAGE_BYTES)
      const last = merged.at(-1)
      if (last !== undefined && start <= last.offset + last.length) {
        last.length = Math.max(last.length, end - last.offset)
      } else {
        merged.push({ offset: start, length: end - start })
      }
    }
    this.stretches = merged
  }

  get isEmpty(): boolean {
    return this.stretches.length === 0
  }

  get bytes(): number {
    return this.stretches.reduce((sum, { length }) => sum + length, 0)
  }

  /** What of a range is bad, lowest first. */
  within(offset: Offset, length: number): Stretch[] {
    const end = offset + length
    const found: Stretch[] = []
    if (length === 0) return found
    for (let i = this.#firstEndingBehind(offset); i < this.stretches.length; i++) {
      const stretch = this.stretches[i]!
      if (stretch.offset >= end) break
      const from = Math.max(stretch.offset, offset)
      const to = Math.min(stretch.offset + stretch.length, end)
      found.push({ offset: from, length: to - from })
    }
    return found
  }

  /** The same, from the start of the range. */
  inside(offset: Offset, length: number): Stretch[] {
    const found = this.within(offset, length)
    return found.map((bad) => ({ offset: bad.offset - offset, length: bad.length }))
  }

  /** What of a range may be touched, lowest first. */
  around(offset: Offset, length: number): Stretch[] {
    const end = offset + length
    const found: Stretch[] = []
    let from = offset
    for (const bad of this.within(offset, length)) {
      if (bad.offset > from) found.push({ offset: from, length: bad.offset - from })
      from = bad.offset + bad.length
    }
    if (from < end) found.push({ offset: from, length: end - from })
    return found
  }

  touches(offset: Offset, length: number): boolean {
    const stretch = this.stretches[this.#firstEndingBehind(offset)]
    return length > 0 && stretch !== undefined && stretch.offset < offset + length
  }

  #firstEndingBehind(offset: Offset): number {
    let low = 0
    let high = this.stretches.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const { offset: from, length } = this.stretches[middle]!
      if (from + length > offset) high = middle
      else low = middle + 1
    }
    return low
  }
}

export const NO_BAD_BLOCKS = new BadBlocks([])
