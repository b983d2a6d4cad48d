/**
 * Which in-place locations hold logged changes that no checkpoint has made durable yet.
 *
 *   commit ──mark──▶ dirty ──persist (checkpoint)──▶ in-place locations durable, log space free
 *                       └────forget (mapping is gone, its chunk freed)
 *
 * A dirty unit is one bit in its mapping and one pair in a list. `forget` drops the bits and leaves
 * the pairs; only when it was called does `persist` look at each pair whether it is stale. Bitmaps
 * are kept, so that a checkpoint makes no garbage; those without a bit since the one before go.
 *
 * Invariants:
 *   - every bit that is set has its pair;
 *   - media have one of these at a time: recovery's ends where that of the log begins.
 */
import { assert } from '../base/assert.js'
import type { DirtyBits, Mapping, Media } from '../media/media.js'
import { type Staging, TARGET_WORDS } from '../media/staging.js'

const PAIRS_FIRST = 256
const NO_BITS: Uint32Array = new Uint32Array(0)
/** Clearing a bit by its pair takes as long as clearing so many words at once. */
const WORDS_A_PAIR = 32

export class DirtyUnits {
  readonly #media: Media
  readonly #shift: number
  /** Pairs of (slot, unit). */
  #list = new Uint32Array(PAIRS_FIRST * 2)
  #words = 0
  /** Mappings with bitmaps. */
  readonly #marked: Mapping[] = []
  #mayBeStale = false

  constructor(media: Media) {
    this.#media = media
    this.#shift = media.dirtyUnitShift
    // What another one has left would hide marks: it knows of them, and this one would not list them.
    for (const mapping of media.mappings) if (mapping !== undefined) mapping.dirty = undefined
  }

  /** Units marked since the last checkpoint, stale ones included. */
  get count(): number {
    return this.#words / 2
  }

  /** Marks the in-place locations of a record. */
  markTargets(staging: Staging): void {
    const { targets, targetCount } = staging
    for (let at = 0; at < targetCount * TARGET_WORDS; at += TARGET_WORDS) {
      this.mark(this.#media.mappings[targets[at]!]!, targets[at + 1]!, targets[at + 3]!)
    }
  }

  /** Stores bytes in their in-place location and marks it. */
  store(mapping: Mapping, offset: number, bytes: Uint8Array): void {
    this.#media.store(mapping, offset, bytes)
    this.mark(mapping, offset, bytes.length)
  }

  mark(mapping: Mapping, offset: number, length: number): void {
    const shift = this.#shift
    const dirty = mapping.dirty ?? this.#begin(mapping)
    const { bits } = dirty
    // Offsets reach 2^32: `>>>` makes them unsigned, and length >= 1.
    const last = (offset + length - 1) >>> shift
    for (let unit = offset >>> shift; unit <= last; unit++) {
      const word = unit >>> 5
      const before = bits[word]!
      const bit = 1 << (unit & 31)
      if ((before & bit) !== 0) continue
      bits[word] = before | bit
      dirty.units++
      const at = this.#words
      if (at === this.#list.length) this.#grow()
      this.#list[at] = mapping.slot
      this.#list[at + 1] = unit
      this.#words = at + 2
    }
  }

  #begin(mapping: Mapping): DirtyBits {
    const bits = new Uint32Array(Math.ceil(mapping.length / 2 ** this.#shift / 32))
    const dirty = { bits, units: 0 }
    mapping.dirty = dirty
    this.#marked.push(mapping)
    return dirty
  }

  #grow(): void {
    const grown = new Uint32Array(this.#list.length * 2)
    grown.set(this.#list)
    this.#list = grown
  }

  /** Whether a range touches a dirty unit. */
  isDirty(mapping: Mapping, offset: number, length: number): boolean {
    const { dirty } = mapping
    if (dirty === undefined || length === 0) return false
    const { bits } = dirty
    const last = (offset + length - 1) >>> this.#shift
    for (let unit = offset >>> this.#shift; unit <= last; unit++) {
      if ((bits[unit >>> 5]! & (1 << (unit & 31))) !== 0) return true
    }
    return false
  }

  /** Whether anything of a mapping is dirty. */
  hasDirty(mapping: Mapping): boolean {
    return mapping.dirty !== undefined && mapping.dirty.units > 0
  }

  /** What was dirty in a mapping need not reach the device: its chunk is freed. */
  forget(mapping: Mapping): void {
    if (mapping.dirty === undefined) return
    mapping.dirty = undefined
    const at = this.#marked.indexOf(mapping)
    assert(at !== -1)
    this.#marked.splice(at, 1)
    this.#mayBeStale = true
  }

  /** Writes every dirty unit in place and fences. */
  persist(): void {
    this.#dropIdle()
    if (this.#mayBeStale || this.#isSparse()) this.#takeBits()
    else for (let i = 0; i < this.#marked.length; i++) this.#marked[i]!.dirty!.bits.fill(0)
    const pairs = this.#words / 2
    this.#words = 0
    this.#mayBeStale = false
    if (pairs > 0) this.#media.persistDirtyUnits(this.#list, pairs)
  }

  /** Bitmaps without a bit since the last checkpoint go; the others begin to count anew. */
  #dropIdle(): void {
    const marked = this.#marked
    let kept = 0
    for (let i = 0; i < marked.length; i++) {
      const mapping = marked[i]!
      const dirty = mapping.dirty!
      if (dirty.units === 0) {
        mapping.dirty = undefined
      } else {
        dirty.units = 0
        marked[kept++] = mapping
      }
    }
    marked.length = kept
  }

  /** Whether the bits are few for the bitmaps that they are in. */
  #isSparse(): boolean {
    let words = 0
    for (let i = 0; i < this.#marked.length; i++) words += this.#marked[i]!.dirty!.bits.length
    return words > (this.#words / 2) * WORDS_A_PAIR
  }

  /** Clears all bits, one by one. Keeps the pairs that had one. */
  #takeBits(): void {
    const list = this.#list
    const words = this.#words
    const { mappings } = this.#media
    let slot = -1
    let bits = NO_BITS
    let kept = 0
    for (let at = 0; at < words; at += 2) {
      if (list[at] !== slot) {
        slot = list[at]!
        bits = mappings[slot]?.dirty?.bits ?? NO_BITS
      }
      const unit = list[at + 1]!
      const word = unit >>> 5
      const bit = 1 << (unit & 31)
      // A slot that was used again may be listed twice for a unit: the second finds no bit.
      if (word >= bits.length || (bits[word]! & bit) === 0) continue
      bits[word] = bits[word]! & ~bit
      list[kept++] = slot
      list[kept++] = unit
    }
    this.#words = kept
  }
}
