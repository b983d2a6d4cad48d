/**
 * A batch under construction: changes that reach the device all or not at all. It is built in the
 * staging memory in the very form of its record, so that a commit copies it once.
 *
 * What is staged is not visible in the in-place locations; `overlay` shows it to the transaction's own reads.
 */
import { PlinthError } from '../base/errors.js'
import { type Offset, WORD } from '../base/units.js'
import { CHUNK_SLOT } from '../layout/chunk-slot.js'
import {
  ENTRY,
  ENTRY_KIND_SHIFT,
  ENTRY_WORDS_MAX,
  ENTRY_WORDS_SHIFT,
  RECORD_HEADER_BYTES,
} from '../layout/record.js'
import type { Mapping } from '../media/media.js'
import { type Staging, TARGET_WORDS } from '../media/staging.js'
import { TargetIndex } from './target-index.js'

const SLOT_WORDS = CHUNK_SLOT.bytes / 8
const ENTRY_OF_WORDS = ENTRY.WORDS << ENTRY_KIND_SHIFT
/** Kind and length of an entry of eight bytes. */
const ONE_WORD = ENTRY_OF_WORDS | (1 << ENTRY_WORDS_SHIFT)
/** Up to so many targets are looked through; an index of more is worth making. */
const SCANNED_TARGETS = 8

export class Batch {
  readonly staging: Staging
  /** The longest record that the log takes. */
  #bytesMax: number
  /** Of the targets, by place: made when a transaction first reads what it has staged much of. */
  #index: TargetIndex | undefined

  constructor(staging: Staging, bytesMax: number) {
    this.staging = staging
    this.#bytesMax = bytesMax
    this.begin()
  }

  /** The log takes records of another length from now on. */
  limit(bytesMax: number): void {
    this.#bytesMax = bytesMax
  }

  begin(): void {
    this.staging.bytes = RECORD_HEADER_BYTES
    this.staging.targetCount = 0
    if (this.#index !== undefined) this.#index.truncate(0)
  }

  get isEmpty(): boolean {
    return this.staging.bytes === RECORD_HEADER_BYTES
  }

  /** Bytes that can still be staged. */
  get room(): number {
    return this.#bytesMax - this.staging.bytes
  }

  /** Slots of the mappings that the staged changes are for: they must stay. */
  stagedSlots(): Set<number> {
    const { targets, targetCount } = this.staging
    const slots = new Set<number>()
    for (let i = 0; i < targetCount; i++) slots.add(targets[i * TARGET_WORDS]!)
    return slots
  }

  /** Stages bytes for an in-place location: all of `source`, whose length is `length`, whatever it says itself. */
  write(
    mapping: Mapping,
    offset: number,
    source: Uint8Array,
    length: number = source.length,
  ): void {
    const { staging } = this
    const { bytes, u32, u8, targets } = staging
    const end = bytes + 8 + length
    let target = staging.targetCount * TARGET_WORDS
    const isPlain = (length & 7) === 0 && length <= ENTRY_WORDS_MAX * 8 && length > 0
    if (!isPlain || end > this.#bytesMax || end > u8.length || target === targets.length) {
      this.#writeRare(mapping, offset, source, length)
      return
    }
    const at = mapping.offset + offset
    const atLow = at >>> 0
    const word = bytes >>> 2
    u32[word] = atLow
    u32[word + 1] =
      ((at - atLow) * (1 / WORD)) | ENTRY_OF_WORDS | (length << (ENTRY_WORDS_SHIFT - 3))
    u8.set(source, bytes + 8)
    staging.bytes = end
    targets[target++] = mapping.slot
    targets[target++] = offset
    targets[target++] = bytes + 8
    targets[target] = length
    staging.targetCount++
  }

  /** Bytes that are no whole words, many of them, or with no room left. */
  #writeRare(mapping: Mapping, offset: number, source: Uint8Array, length: number): void {
    if (length === 0) return
    const { bytes, targetCount } = this.staging
    const from = this.#payload(mapping.offset + offset, length)
    try {
      this.staging.u8.set(source, from)
    } catch (error) {
      // Another thread has made it longer meanwhile: an entry without its bytes must not be committed.
      this.rewind(bytes, targetCount)
      throw error
    }
    this.staging.target(mapping.slot, offset, from, length)
  }

  /** Stages one 32-bit word, little-endian. */
  setUint32(mapping: Mapping, offset: number, value: number): void {
    const from = this.#payload(mapping.offset + offset, 4)
    this.staging.u32[from >>> 2] = value
    this.staging.target(mapping.slot, offset, from, 4)
  }

  /** Stages one 64-bit word, little-endian; `value` is a whole number below 2^53. */
  setUint64(mapping: Mapping, offset: number, value: number): void {
    const low = value >>> 0
    this.setPair(mapping, offset, low, (value - low) * (1 / WORD))
  }

  /**
   * Stages eight bytes, given as two 32-bit words. Here as in `write` what `#payload` and `target`
   * do is written out, since commits are made of these: that halves the price.
   */
  setPair(mapping: Mapping, offset: number, low: number, high: number): void {
    const { staging } = this
    const { bytes, u32, targets } = staging
    let target = staging.targetCount * TARGET_WORDS
    if (bytes + 16 > this.#bytesMax || bytes + 16 > u32.length * 4 || target === targets.length) {
      const from = this.#payload(mapping.offset + offset, 8)
      staging.u32[from >>> 2] = low
      staging.u32[(from >>> 2) + 1] = high
      staging.target(mapping.slot, offset, from, 8)
      return
    }
    const at = mapping.offset + offset
    const atLow = at >>> 0
    let word = bytes >>> 2
    u32[word++] = atLow
    u32[word++] = ((at - atLow) * (1 / WORD)) | ONE_WORD
    u32[word++] = low
    u32[word] = high
    staging.bytes = bytes + 16
    targets[target++] = mapping.slot
    targets[target++] = offset
    targets[target++] = bytes + 8
    targets[target] = 8
    staging.targetCount++
  }

  /** Drops what was staged since the batch had so many bytes and targets. */
  rewind(bytes: number, targetCount: number): void {
    this.staging.bytes = bytes
    this.staging.targetCount = targetCount
    this.#index?.truncate(targetCount)
  }

  /**
   * Makes sure that entries of `bytes` in all, with their heads, fit: a caller that changes memory first cannot be
   * refused behind that.
   * @throws PlinthError ERR_TX_TOO_LARGE
   */
  require(bytes: number): void {
    if (this.staging.bytes + bytes > this.#bytesMax) throw this.#tooLarge()
  }

  /**
   * Stages a slot of the chunk table for both copies, which are `offset` bytes from the start of their mappings.
   * Returns where in the staging memory the caller has to put its bytes.
   */
  slot(slot: number, first: Mapping, second: Mapping, offset: number): number {
    const from = this.#entry(ENTRY.SLOT, slot, SLOT_WORDS, CHUNK_SLOT.bytes)
    this.staging.target(first.slot, offset, from, CHUNK_SLOT.bytes)
    this.staging.target(second.slot, offset, from, CHUNK_SLOT.bytes)
    return from
  }

  /** Changes where one copy of the slot that was staged last is stored. */
  retargetSlot(copy: 0 | 1, mapping: Mapping): void {
    const { targets, targetCount } = this.staging
    targets[(targetCount - 2 + copy) * TARGET_WORDS] = mapping.slot
  }

  /** Voids what earlier records say of a range: it was freed, and its next owner may store there without a record. */
  revoke(offset: Offset, length: number): void {
    const from = this.#entry(ENTRY.REVOKE, offset, 0, 8)
    const low = length >>> 0
    this.staging.u32[from >>> 2] = low
    this.staging.u32[(from >>> 2) + 1] = (length - low) * (1 / WORD)
  }

  /** Puts what this batch has staged for a range of a mapping over `bytes`, its present contents. */
  overlay(mapping: Mapping, offset: number, bytes: Uint8Array): void {
    const { staging } = this
    if (staging.targetCount > SCANNED_TARGETS) {
      this.#index ??= new TargetIndex()
      this.#index.extend(staging)
      this.#index.overlay(staging, mapping.slot, offset, bytes)
      return
    }
    const { targets, targetCount, u8 } = staging
    const end = offset + bytes.length
    for (let at = 0; at < targetCount * TARGET_WORDS; at += TARGET_WORDS) {
      if (targets[at] !== mapping.slot) continue
      const to = targets[at + 1]!
      const first = Math.max(to, offset)
      const last = Math.min(to + targets[at + 3]!, end)
      if (first >= last) continue
      const from = targets[at + 2]! + first - to
      bytes.set(u8.subarray(from, from + last - first), first - offset)
    }
  }

  /** Room for the contents of an in-place location: as words where it can be, which saves 8 bytes. */
  #payload(offset: Offset, length: number): number {
    return (length & 7) === 0 && length <= ENTRY_WORDS_MAX * 8
      ? this.#entry(ENTRY.WORDS, offset, length >>> 3, length)
      : this.#paddedPayload(offset, length)
  }

  #paddedPayload(offset: Offset, length: number): number {
    const padded = Math.ceil(length / 8) * 8
    const at = this.#entry(ENTRY.BYTES, offset, 0, 8 + padded)
    const { u32 } = this.staging
    u32[at >>> 2] = length
    u32[(at >>> 2) + 1] = 0
    // The padding is on media and under the checksum: it is zero, not what the last batch left.
    u32[(at + padded) >>> 2] = 0
    u32[(at + padded + 4) >>> 2] = 0
    return at + 8
  }

  #tooLarge(): PlinthError {
    return new PlinthError(
      'ERR_TX_TOO_LARGE',
      `the transaction needs more than the ${this.#bytesMax} bytes that a record of this log can have; ` +
        'write large data with chunk.write, or format with a larger logSize',
    )
  }

  /** Adds the head of an entry and room for `bytes`; returns where the room begins. */
  #entry(kind: number, offset: Offset, words: number, bytes: number): number {
    const { staging } = this
    if (staging.bytes + 8 + bytes > this.#bytesMax) throw this.#tooLarge()
    if (staging.bytes + 8 + bytes > staging.u8.length) staging.reserve(8 + bytes)
    const at = staging.bytes
    const low = offset >>> 0
    staging.u32[at >>> 2] = low
    staging.u32[(at >>> 2) + 1] =
      ((offset - low) * (1 / WORD)) | (kind << ENTRY_KIND_SHIFT) | (words << ENTRY_WORDS_SHIFT)
    staging.bytes = at + 8 + bytes
    return at + 8
  }
}
