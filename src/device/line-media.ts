/**
 * Byte-addressable media: DAX, and memory that stands in for it. Stores go straight to the device;
 * a cache-line write-back and a fence make them durable; the kernel is not asked.
 *
 * A commit is one call of the addon without arguments: checksum, copy to the log, write-back,
 * fence, in-place locations.
 */
import fs from 'node:fs'
import { LINE_BYTES } from '../base/units.js'
import { COUNTER, type Granularity, linesOf, type Mapping, Media } from '../media/media.js'
import { MAILBOX, MAILBOX_FLAG, type Staging } from '../media/staging.js'
import type { NativeAddon } from '../native/addon.js'
import { bindStaging } from './commit-call.js'
import type { Mapper, Sharing } from './mapper.js'

const NO_BYTES = new Uint8Array(0)
// By name once, not in every commit: the compiler inlines a bounded amount of code.
const { LOG_OFFSET, RECORD_BYTES, TARGET_COUNT } = MAILBOX
const { FENCES, BYTES_APPENDED, LINES_FLUSHED, STORES } = COUNTER

export interface LineMediaParts {
  readonly sizeBytes: number
  readonly granularity: 'byte' | 'cache-line'
  readonly mapper: Mapper
  readonly addon: NativeAddon
  readonly fd: number
  /** `sync` on DAX; `shared` where somebody vouches for the memory. */
  readonly sharing: Sharing
}

export class LineMedia extends Media {
  readonly granularity: Granularity
  readonly appendBytes = LINE_BYTES
  readonly dirtyUnitShift = 6
  sizeBytes: number
  readonly dirtyUnitsMax = 65536
  readonly sharesFences = false
  readonly #parts: LineMediaParts
  readonly #addon: NativeAddon
  readonly #flushes: boolean
  /** 1 or 0. */
  readonly #linesAreFlushed: number
  #commitCall: () => void = () => {}
  #bound: Staging | undefined
  #ringAt = 0
  #closed = false

  constructor(parts: LineMediaParts) {
    super()
    this.#parts = parts
    this.#addon = parts.addon
    this.granularity = parts.granularity
    this.sizeBytes = parts.sizeBytes
    this.#flushes = parts.granularity === 'cache-line'
    this.#linesAreFlushed = this.#flushes ? 1 : 0
  }

  extend(sizeBytes: number): void {
    this.sizeBytes = sizeBytes
  }

  override useRing(ring: Mapping): void {
    super.useRing(ring)
    this.#ringAt = ring.offset
  }

  map(offset: number, length: number): Mapping {
    const { mapper, fd, sharing } = this.#parts
    const { slot, bytes } = mapper.map(fd, offset, length, sharing)
    const mapping = { slot, offset, length, bytes, dirty: undefined }
    this.mappings[slot] = mapping
    return mapping
  }

  detach(mapping: Mapping): void {
    this.#parts.mapper.detach(mapping.slot)
    mapping.bytes = NO_BYTES
  }

  attach(mapping: Mapping): void {
    mapping.bytes = this.#parts.mapper.attach(mapping.slot)
  }

  unmap(mapping: Mapping): void {
    this.mappings[mapping.slot] = undefined
    mapping.bytes = NO_BYTES
    this.#parts.mapper.unmap(mapping.slot)
  }

  override commit(at: number, staging: Staging): void {
    if (!staging.bound || this.#bound !== staging) this.#bind(staging)
    const { mailbox, bytes, targetCount } = staging
    mailbox[LOG_OFFSET] = at - this.#ringAt
    mailbox[RECORD_BYTES] = bytes
    mailbox[TARGET_COUNT] = targetCount
    this.#commitCall()
    const { counters } = this
    counters[FENCES]!++
    counters[STORES]! += targetCount
    counters[BYTES_APPENDED]! += bytes
    counters[LINES_FLUSHED]! += ((bytes + LINE_BYTES - 1) >>> 6) * this.#linesAreFlushed
  }

  #bind(staging: Staging): void {
    staging.mailbox[MAILBOX.FLAGS] = this.#flushes ? 0 : MAILBOX_FLAG.NO_WRITE_BACK
    this.#commitCall = bindStaging(this.#addon, staging)
    this.#bound = staging
  }

  protected appendBytesOf(at: number, record: Uint8Array): void {
    // Only what is outside the common way comes here: skip records.
    const ring = this.ring!
    this.store(ring, at - ring.offset, record)
    this.flush(ring, at - ring.offset, record.length)
    this.counters[COUNTER.BYTES_APPENDED]! += record.length
  }

  fence(): void {
    this.#addon.fence()
    this.counters[COUNTER.FENCES]!++
  }

  flush(mapping: Mapping, offset: number, length: number): void {
    if (!this.#flushes) return
    this.#addon.flush(mapping.slot, offset, length)
    this.counters[COUNTER.LINES_FLUSHED]! += linesOf(offset, length)
  }

  persistDirtyUnits(list: Uint32Array, count: number): void {
    if (this.#flushes) {
      this.#addon.persistUnits(list, count, this.dirtyUnitShift)
      this.counters[COUNTER.LINES_FLUSHED]! += count
      this.counters[COUNTER.FENCES]!++
    } else {
      this.fence()
    }
  }

  flushStores(mapping: Mapping): void {
    this.flush(mapping, 0, mapping.length)
  }

  override write(mapping: Mapping, offset: number, source: Uint8Array): void {
    this.#addon.copyPersist(mapping.slot, offset, source)
    this.counters[COUNTER.LINES_FLUSHED]! += linesOf(offset, source.length)
    this.counters[COUNTER.BYTES_WRITTEN]! += source.length
  }

  zero(mapping: Mapping, offset: number, length: number): void {
    this.#addon.zeroPersist(mapping.slot, offset, length)
    this.counters[COUNTER.LINES_FLUSHED]! += linesOf(offset, length)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const mapping of this.mappings) if (mapping !== undefined) this.unmap(mapping)
    fs.closeSync(this.#parts.fd)
  }
}
