/**
 * Which home places hold logged changes that no checkpoint has made durable yet.
 *
 *   commit ──mark──▶ pending ──persist (checkpoint)──▶ home places durable, log space free
 *                       └────forget (mapping is gone, its chunk freed)
 *
 * A pending unit is one bit in its mapping and one pair in a list. `forget` drops the bits and leaves
 * the pairs; only when it was called does `persist` look at each pair whether it is stale.
 */
import type { Mapping, Media } from '../media/media.js'
import { type Staging, TARGET_WORDS } from '../media/staging.js'

const PAIRS_FIRST = 256

export class Home {
  readonly #media: Media
  readonly #shift: number
  /** Pairs of (slot, unit). */
  #list = new Uint32Array(PAIRS_FIRST * 2)
  #words = 0
  /** Mappings with pending bits. */
  #marked: Mapping[] = []
  #mayBeStale = false

  constructor(media: Media) {
    this.#media = media
    this.#shift = media.unitShift
  }

  /** Units marked since the last checkpoint, stale ones included. */
  get units(): number {
    return this.#words / 2
  }

  /** Marks the home places of a record. */
  markTargets(staging: Staging): void {
    const { targets, targetCount } = staging
    for (let at = 0; at < targetCount * TARGET_WORDS; at += TARGET_WORDS) {
      this.mark(this.#media.mappings[targets[at]!]!, targets[at + 1]!, targets[at + 3]!)
    }
  }

  mark(mapping: Mapping, offset: number, length: number): void {
    const shift = this.#shift
    const pending = mapping.pending ?? this.#begin(mapping)
    // Offsets reach 2^32: `>>>` makes them unsigned, and length >= 1.
    const last = (offset + length - 1) >>> shift
    for (let unit = offset >>> shift; unit <= last; unit++) {
      const word = unit >>> 5
      const bits = pending[word]!
      const bit = 1 << (unit & 31)
      if ((bits & bit) !== 0) continue
      pending[word] = bits | bit
      const at = this.#words
      if (at === this.#list.length) this.#grow()
      this.#list[at] = mapping.slot
      this.#list[at + 1] = unit
      this.#words = at + 2
    }
  }

  #begin(mapping: Mapping): Uint32Array {
    const pending = new Uint32Array(Math.ceil(mapping.length / 2 ** this.#shift / 32))
    mapping.pending = pending
    this.#marked.push(mapping)
    return pending
  }

  #grow(): void {
    const grown = new Uint32Array(this.#list.length * 2)
    grown.set(this.#list)
    this.#list = grown
  }

  /** Whether a range touches a pending unit. */
  isPending(mapping: Mapping, offset: number, length: number): boolean {
    const { pending } = mapping
    if (pending === undefined || length === 0) return false
    const last = (offset + length - 1) >>> this.#shift
    for (let unit = offset >>> this.#shift; unit <= last; unit++) {
      if ((pending[unit >>> 5]! & (1 << (unit & 31))) !== 0) return true
    }
    return false
  }

  /** Whether anything of a mapping is pending. */
  hasPending(mapping: Mapping): boolean {
    return mapping.pending?.some((bits) => bits !== 0) ?? false
  }

  /** What was pending in a mapping need not reach the device: its chunk is freed. */
  forget(mapping: Mapping): void {
    if (mapping.pending === undefined) return
    mapping.pending = undefined
    this.#marked = this.#marked.filter((each) => each !== mapping)
    this.#mayBeStale = true
  }

  /** Writes every pending unit home and fences. */
  persist(): void {
    if (this.#mayBeStale) this.#dropStale()
    const pairs = this.#words / 2
    this.#words = 0
    this.#mayBeStale = false
    // New bitmaps come as they are needed: clearing these would take as long as making them.
    for (const mapping of this.#marked) mapping.pending = undefined
    this.#marked = []
    if (pairs > 0) this.#media.persistUnits(this.#list, pairs)
  }

  /** Keeps the pairs whose bit is set, each once. */
  #dropStale(): void {
    const list = this.#list
    const { mappings } = this.#media
    let kept = 0
    for (let at = 0; at < this.#words; at += 2) {
      const slot = list[at]!
      const unit = list[at + 1]!
      const pending = mappings[slot]?.pending
      const word = unit >>> 5
      const bit = 1 << (unit & 31)
      if (pending === undefined || word >= pending.length || (pending[word]! & bit) === 0) continue
      // A slot that was used again may be listed twice for a unit: the second finds no bit.
      pending[word] = pending[word]! & ~bit
      list[kept++] = slot
      list[kept++] = unit
    }
    this.#words = kept
  }
}
