/** The two copies of the chunk table's slots: where each is, and what they say where they may be touched. */
import { isZero } from '../base/bits.js'
import {
  CHUNK_SLOT,
  chunkSlotSeed,
  decodeChunkSlot,
  type SlotContents,
} from '../layout/chunk-slot.js'
import type { BadBlocks } from '../media/bad-blocks.js'
import type { Mapping } from '../media/media.js'
import type { DirtyUnits } from './dirty-units.js'

export type Copy = 0 | 1

const SLOTS_AT_ONCE = 64

/** An extent of the chunk table: each copy from the start of its mapping on. */
export interface MappedExtent {
  readonly slots: number
  readonly copies: readonly [Mapping, Mapping]
}

export interface SlotPlaces {
  /** Start value of the checksums of this volume. */
  readonly seed: number
  /** One more comes when the table grows. */
  readonly extents: readonly MappedExtent[]
  readonly badBlocks: BadBlocks
}

/** Where a slot is in both of its extent's mappings. Whoever looks slots up keeps one. */
export class SlotPlace {
  offset = 0

  /** Finds a slot, which is below the table's. */
  find(extents: readonly MappedExtent[], slot: number): MappedExtent {
    let first = 0
    let i = 0
    // There are few: each is as large as all before it.
    while (slot >= first + extents[i]!.slots) first += extents[i++]!.slots
    this.offset = (slot - first) * CHUNK_SLOT.bytes
    return extents[i]!
  }
}

export class SlotCopies {
  readonly #places: SlotPlaces
  readonly #place = new SlotPlace()

  constructor(places: SlotPlaces) {
    this.#places = places
  }

  /** Where a slot begins in the mappings of both copies. */
  at(slot: number): number {
    this.#find(slot)
    return this.#place.offset
  }

  /** Bytes of a copy, as they are: not to be touched where it `isBad`. */
  bytes(slot: number, copy: Copy): Uint8Array {
    const { bytes } = this.#find(slot).copies[copy]
    const at = this.#place.offset
    return bytes.subarray(at, at + CHUNK_SLOT.bytes)
  }

  mapping(slot: number, copy: Copy): Mapping {
    return this.#find(slot).copies[copy]
  }

  #find(slot: number): MappedExtent {
    return this.#place.find(this.#places.extents, slot)
  }

  /** Whether a known bad block is there: the other copy is the only one. */
  isBad(slot: number, copy: Copy): boolean {
    const { badBlocks } = this.#places
    if (badBlocks.isEmpty) return false
    const { offset } = this.#find(slot).copies[copy]
    return badBlocks.touches(offset + this.#place.offset, CHUNK_SLOT.bytes)
  }

  /** Whether nothing was ever written to the slot: told by the copy that may be read. */
  isUnwritten(slot: number): boolean {
    const copy = this.isBad(slot, 0) ? 1 : 0
    const { bytes } = this.#find(slot).copies[copy]
    return bytes[this.#place.offset + CHUNK_SLOT.fields.state[0]] === 0
  }

  /** What a copy says; undefined when it is damaged or may not be read. */
  read(slot: number, copy: Copy): SlotContents {
    if (this.isBad(slot, copy)) return undefined
    const { bytes } = this.#find(slot).copies[copy]
    return decodeChunkSlot(bytes, this.#place.offset, chunkSlotSeed(this.#places.seed, slot))
  }

  /** Stores a slot, of 128 bytes, in the place of a copy. */
  store(dirtyUnits: DirtyUnits, slot: number, copy: Copy, bytes: Uint8Array): void {
    dirtyUnits.store(this.mapping(slot, copy), this.#place.offset, bytes)
  }

  /** Stores what the copy `from` says in the place of the other. */
  repair(dirtyUnits: DirtyUnits, slot: number, from: Copy): void {
    this.store(dirtyUnits, slot, from === 0 ? 1 : 0, this.bytes(slot, from).slice())
  }

  /**
   * The first slot from `slot` on, at most `end`, whose copies are not the same; looks at many at once, of one
   * extent. `slot` itself where something may not be read.
   */
  sameUntil(slot: number, end: number): number {
    if (!this.#places.badBlocks.isEmpty) return slot
    const { copies, slots } = this.#find(slot)
    const from = this.#place.offset
    const left = slots - from / CHUNK_SLOT.bytes
    let count = Math.min(SLOTS_AT_ONCE, end - slot, left)
    const [one, other] = [copies[0].bytes, copies[1].bytes]
    const isSame = (first: number, bytes: number) =>
      Buffer.compare(one.subarray(first, first + bytes), other.subarray(first, first + bytes)) === 0
    if (!isSame(from, count * CHUNK_SLOT.bytes)) {
      let same = 0
      while (isSame(from + same * CHUNK_SLOT.bytes, CHUNK_SLOT.bytes)) same++
      count = same
    }
    return slot + count
  }

  /** The first slot from `slot` on that may have something in either copy, at most `end`; looks at many at once. */
  unusedFrom(slot: number, end: number): number {
    if (!this.#places.badBlocks.isEmpty || !this.isUnwritten(slot)) return slot
    let at = slot
    while (at < end) {
      const { copies, slots } = this.#find(at)
      const from = this.#place.offset
      const left = slots - from / CHUNK_SLOT.bytes
      const count = Math.min(SLOTS_AT_ONCE, end - at, left)
      const length = count * CHUNK_SLOT.bytes
      const isEmpty = copies.every(({ bytes }) => isZero(bytes.subarray(from, from + length)))
      if (!isEmpty) break
      at += count
    }
    return at
  }
}
