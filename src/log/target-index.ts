/**
 * What a batch has staged, found by place: a transaction that reads many of its own writes looks at those of
 * the lines that it reads, not at all.
 *
 *   (slot, line) ──hash──▶ bucket ──▶ newest target of the line ──next──▶ older … ──▶ -1
 *
 * Made of the batch's targets as they come, one entry a line of each; a batch that is rewound takes the newest
 * entries off again.
 */
import { LINE_BYTES } from '../base/units.js'
import { type Staging, TARGET_WORDS } from '../media/staging.js'

const LINE_SHIFT = Math.log2(LINE_BYTES)
/** Slot, line, target, next. */
const ENTRY_WORDS = 4
const ENTRIES_FIRST = 256

export class TargetIndex {
  #entries = new Int32Array(ENTRIES_FIRST * ENTRY_WORDS)
  #buckets = new Int32Array(ENTRIES_FIRST).fill(-1)
  #count = 0
  #targets = 0

  /** Takes in what was staged since. */
  extend({ targets, targetCount }: Staging): void {
    for (; this.#targets < targetCount; this.#targets++) {
      const at = this.#targets * TARGET_WORDS
      const offset = targets[at + 1]!
      const last = (offset + targets[at + 3]! - 1) >>> LINE_SHIFT
      for (let line = offset >>> LINE_SHIFT; line <= last; line++) {
        this.#add(targets[at]!, line, this.#targets)
      }
    }
  }

  /** Forgets the targets from `targetCount` on. */
  truncate(targetCount: number): void {
    if (this.#targets <= targetCount) return
    const entries = this.#entries
    while (this.#count > 0) {
      const at = (this.#count - 1) * ENTRY_WORDS
      if (entries[at + 2]! < targetCount) break
      this.#buckets[this.#bucketOf(entries[at]!, entries[at + 1]!)] = entries[at + 3]!
      this.#count--
    }
    this.#targets = targetCount
  }

  /** Puts what is staged for a range of a mapping over `bytes`. */
  overlay(staging: Staging, slot: number, offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length
    for (let from = offset; from < end; ) {
      const line = from >>> LINE_SHIFT
      const to = Math.min(end, (line + 1) * LINE_BYTES)
      this.#overlayLine(staging, slot, line, from, to, offset, bytes)
      from = to
    }
  }

  /** The newest target of each byte counts: it is put, and what is older no more. */
  #overlayLine(
    { targets, u8 }: Staging,
    slot: number,
    line: number,
    from: number,
    to: number,
    offset: number,
    bytes: Uint8Array,
  ): void {
    const entries = this.#entries
    const lineAt = line * LINE_BYTES
    let left = to - from
    // A bit for each byte of the line that is put.
    let low = 0
    let high = 0
    let entry = this.#buckets[this.#bucketOf(slot, line)]!
    for (; entry !== -1 && left > 0; entry = entries[entry * ENTRY_WORDS + 3]!) {
      const at = entry * ENTRY_WORDS
      if (entries[at] !== slot || entries[at + 1] !== line) continue
      const target = entries[at + 2]! * TARGET_WORDS
      const targetAt = targets[target + 1]!
      const first = Math.max(targetAt, from)
      const last = Math.min(targetAt + targets[target + 3]!, to)
      const source = targets[target + 2]! - targetAt
      for (let i = first; i < last; i++) {
        const place = i - lineAt
        const bit = 1 << (place & 31)
        if (((place < 32 ? low : high) & bit) !== 0) continue
        if (place < 32) low |= bit
        else high |= bit
        bytes[i - offset] = u8[source + i]!
        left--
      }
    }
  }

  #add(slot: number, line: number, target: number): void {
    if (this.#count * ENTRY_WORDS === this.#entries.length) this.#grow()
    const at = this.#count * ENTRY_WORDS
    const bucket = this.#bucketOf(slot, line)
    this.#entries[at] = slot
    this.#entries[at + 1] = line
    this.#entries[at + 2] = target
    this.#entries[at + 3] = this.#buckets[bucket]!
    this.#buckets[bucket] = this.#count++
  }

  #grow(): void {
    const entries = new Int32Array(this.#entries.length * 2)
    entries.set(this.#entries)
    this.#entries = entries
    this.#buckets = new Int32Array(this.#buckets.length * 2).fill(-1)
    // In their order, so that the newest is first again.
    for (let i = 0; i < this.#count; i++) {
      const at = i * ENTRY_WORDS
      const bucket = this.#bucketOf(entries[at]!, entries[at + 1]!)
      entries[at + 3] = this.#buckets[bucket]!
      this.#buckets[bucket] = i
    }
  }

  #bucketOf(slot: number, line: number): number {
    let hash = Math.imul(line ^ Math.imul(slot, 0x85ebca6b), 0x9e3779b1)
    hash ^= hash >>> 15
    return hash & (this.#buckets.length - 1)
  }
}
