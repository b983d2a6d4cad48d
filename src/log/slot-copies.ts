/** The two copies of the chunk table's slots: where each is, and what they say where they may be touched. */
import { isZero } from '../base/bits.js'
import {
  CHUNK_SLOT,
  chunkSlotSeed,
  decodeChunkSlot,
  type SlotContents,
} from '../layout/chunk-slot.js'
import { type Geometry, slotPlaces } from '../layout/geometry.js'
import type { BadBlocks } from '../media/bad-blocks.js'
import type { Mapping } from '../media/media.js'
import type { Home } from './home.js'

/** At the head, and at the tail. */
export type Copy = 0 | 1

const SLOTS_AT_ONCE = 64

export interface SlotPlaces {
  readonly geometry: Geometry
  /** Start value of the checksums of this volume. */
  readonly seed: number
  readonly head: Mapping
  readonly tail: Mapping
  readonly badBlocks: BadBlocks
}

export class SlotCopies {
  readonly #places: SlotPlaces
  readonly #mappings: readonly [Mapping, Mapping]
  readonly #tablesAt: readonly [number, number]

  constructor(places: SlotPlaces) {
    const { geometry, head, tail } = places
    this.#places = places
    this.#mappings = [head, tail]
    const [first, second] = slotPlaces(geometry, 0)
    this.#tablesAt = [first - head.offset, second - tail.offset]
  }

  mapping(copy: Copy): Mapping {
    return this.#mappings[copy]
  }

  /** Where a slot begins in the mapping of a copy. */
  at(slot: number, copy: Copy): number {
    return this.#tablesAt[copy] + slot * CHUNK_SLOT.bytes
  }

  /** Whether a known bad block is there: the other copy is the only one. */
  isBad(slot: number, copy: Copy): boolean {
    const { badBlocks } = this.#places
    if (badBlocks.isEmpty) return false
    return badBlocks.touches(this.#mappings[copy].offset + this.at(slot, copy), CHUNK_SLOT.bytes)
  }

  /** What a copy says; undefined when it is damaged or may not be read. */
  read(slot: number, copy: Copy): SlotContents {
    if (this.isBad(slot, copy)) return undefined
    const seed = chunkSlotSeed(this.#places.seed, slot)
    return decodeChunkSlot(this.#mappings[copy].bytes, this.at(slot, copy), seed)
  }

  /** Stores a slot, of 128 bytes, in the place of a copy. */
  store(home: Home, slot: number, copy: Copy, bytes: Uint8Array): void {
    home.store(this.#mappings[copy], this.at(slot, copy), bytes)
  }

  /** Stores what the copy `from` says in the place of the other. */
  mend(home: Home, slot: number, from: Copy): void {
    const at = this.at(slot, from)
    const bytes = this.#mappings[from].bytes.slice(at, at + CHUNK_SLOT.bytes)
    this.store(home, slot, from === 0 ? 1 : 0, bytes)
  }

  /** The first slot from `slot` on that may have something in either copy, at most `end`; looks at many at once. */
  unusedFrom(slot: number, end: number): number {
    if (!this.#places.badBlocks.isEmpty || this.#stateOf(slot) !== 0) return slot
    let at = slot
    while (at < end && this.#isZero(at, Math.min(SLOTS_AT_ONCE, end - at))) {
      at = Math.min(at + SLOTS_AT_ONCE, end)
    }
    return at
  }

  #stateOf(slot: number): number {
    return this.#mappings[0].bytes[this.at(slot, 0) + CHUNK_SLOT.fields.state[0]]!
  }

  #isZero(slot: number, count: number): boolean {
    const length = count * CHUNK_SLOT.bytes
    return this.#mappings.every(({ bytes }, copy) => {
      const at = this.at(slot, copy as Copy)
      return isZero(bytes, at, at + length)
    })
  }
}
