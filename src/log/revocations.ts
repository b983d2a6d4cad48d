/** What later records of a log have made void. */
import type { Lsn, Offset } from '../base/units.js'

/**
 * Which ranges later records have made void, and up to which LSN.
 *
 * Revocations overlap as they like (a chunk is freed, its granules given out in other cuts and
 * freed again), so their ends cut the device into segments, and each segment keeps the last
 * LSN that covers it.
 */
export class Revocations {
  /** Offset, end and LSN of each, until they are cut. */
  #ranges: Float64Array = new Float64Array(0)
  #count = 0
  #cuts: Float64Array = new Float64Array(0)
  #lsns: Float64Array = new Float64Array(0)

  get isEmpty(): boolean {
    return this.#cuts.length === 0
  }

  /** Bytes of memory that they take. */
  get memoryBytes(): number {
    return this.#ranges.byteLength + this.#cuts.byteLength + this.#lsns.byteLength
  }

  add(offset: Offset, length: number, lsn: Lsn): void {
    const at = this.#count * 3
    if (at === this.#ranges.length) {
      const grown = new Float64Array(Math.max(3 * 64, at * 2))
      grown.set(this.#ranges)
      this.#ranges = grown
    }
    this.#ranges[at] = offset
    this.#ranges[at + 1] = offset + length
    this.#ranges[at + 2] = lsn
    this.#count++
  }

  /** To be called once, after all were added in order of LSN. */
  cut(): void {
    const ranges = this.#ranges
    const cuts = new Float64Array(this.#count * 2)
    for (let i = 0; i < this.#count; i++) {
      cuts[2 * i] = ranges[3 * i]!
      cuts[2 * i + 1] = ranges[3 * i + 1]!
    }
    this.#cuts = cuts.sort()
    this.#lsns = new Float64Array(cuts.length).fill(-1)
    // The latest paints first; `next` leads over what is painted, so each segment is painted once.
    const next = new Int32Array(cuts.length + 1)
    for (let i = 0; i < next.length; i++) next[i] = i
    const unpainted = (from: number): number => {
      let segment = from
      while (next[segment] !== segment) {
        next[segment] = next[next[segment]!]!
        segment = next[segment]!
      }
      return segment
    }
    for (let i = this.#count - 1; i >= 0; i--) {
      const end = ranges[3 * i + 1]!
      let segment = unpainted(this.#firstCutFrom(ranges[3 * i]!))
      while (segment < cuts.length && this.#cuts[segment]! < end) {
        this.#lsns[segment] = ranges[3 * i + 2]!
        next[segment] = segment + 1
        segment = unpainted(segment)
      }
    }
    this.#ranges = new Float64Array(0)
  }

  /**
   * Cuts a range at the ends of segments and calls `keep` with each piece that a record at
   * `lsn` may still write: `skip` bytes into the range, `length` long.
   */
  pieces(
    offset: Offset,
    length: number,
    lsn: Lsn,
    keep: (skip: number, length: number) => void,
  ): void {
    const cuts = this.#cuts
    const end = offset + length
    let at = offset
    // Segment i is [cuts[i], cuts[i + 1]); before the first cut nothing is void.
    let segment = this.#firstCutFrom(offset)
    if (segment === cuts.length || cuts[segment]! > offset) segment--
    while (at < end) {
      const until = Math.min(end, segment + 1 < cuts.length ? cuts[segment + 1]! : end)
      const voidBefore = segment < 0 ? -1 : this.#lsns[segment]!
      if (until > at && voidBefore < lsn) keep(at - offset, until - at)
      at = Math.max(at, until)
      segment++
    }
  }

  /** Index of the first cut at or behind `offset`. */
  #firstCutFrom(offset: Offset): number {
    let low = 0
    let high = this.#cuts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#cuts[middle]! < offset) low = middle + 1
      else high = middle
    }
    return low
  }
}
