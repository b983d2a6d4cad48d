/**
 * The redo log (WAL): a ring of records. What is committed is in the log first; in-place locations follow.
 *
 *         head                    durable        tail
 *   ───────┼────────────────────────┼──────────────┼────────▶ LSN, never reset
 *          │ replayed after a crash │ under way    │
 *          └ a checkpoint moves head to tail       └ the next record begins here
 *
 * A commit is one append and one fence. On page granularity appends wait in the log buffer and one
 * barrier carries all that wait (group commit); each barrier ends a block, so that a block is never
 * written twice.
 *
 * Invariants:
 *   - head <= durable <= tail <= head + logBytes; LSN modulo logBytes is the place in the ring;
 *   - an in-place location is written to the device only while its records are durable;
 *   - log space is used again only after both checkpoint headers say that replay begins behind it.
 */

import { assert } from '../base/assert.js'
import { crc32c } from '../base/checksum.js'
import { alignUp, type Lsn, type Offset, WORD } from '../base/units.js'
import { CHECKPOINT_STATE, type SlotCounts } from '../layout/checkpoint-header.js'
import type { Geometry } from '../layout/geometry.js'
import { RECORD_ALIGN, RECORD_HEADER_BYTES, RECORD_SKIP } from '../layout/record.js'
import type { Lifecycle } from '../media/lifecycle.js'
import type { Mapping, Media } from '../media/media.js'
import { MAILBOX, Staging } from '../media/staging.js'
import { Batch } from './batch.js'
import type { CheckpointHeaders, CheckpointValues } from './checkpoint-headers.js'
import type { Diagnostics } from './diagnostics.js'
import { DirtyUnits } from './dirty-units.js'

/** Raw stores of at most so many bytes over a dirty unit are logged; more wait for a checkpoint. */
const RELOG_BYTES_MAX = 64 * 1024

/** Those who wait for one barrier. */
class Group {
  resolve!: () => void
  reject!: (reason: unknown) => void
  readonly promise = new Promise<void>((resolve, reject) => {
    this.resolve = resolve
    this.reject = reject
  })
}

const RESOLVED = Promise.resolve()

export interface LogStart {
  readonly lifecycle: Lifecycle
  readonly diagnostics: Diagnostics
  readonly geometry: Geometry
  readonly checkpointHeaders: CheckpointHeaders
  readonly seed: number
  readonly logSalt: number
  /** The ring. */
  readonly ring: Mapping
  /** First LSN under this log salt. */
  readonly lsn: Lsn
  /** What the chunk table has, asked at each checkpoint when in-place locations are durable. */
  readonly slotCounts: () => SlotCounts
}

export class Log {
  readonly lifecycle: Lifecycle
  readonly diagnostics: Diagnostics
  readonly media: Media
  readonly dirtyUnits: DirtyUnits
  readonly batch: Batch
  checkpoints = 0
  readonly #staging = new Staging()
  readonly #skip = new Staging(RECORD_ALIGN, 1)
  readonly #checkpointHeaders: CheckpointHeaders
  readonly #seed: number
  readonly #slotCounts: () => SlotCounts
  /** What the next checkpoint header says. */
  readonly #checkpointHeader: CheckpointValues
  #ringAt: Offset
  #ringBytes: number
  #ringEnd: Offset
  readonly #unitsMax: number
  /** An LSN with none of these bits is where an append may begin after a fence. */
  readonly #blockMask: number
  // Numbers from the start: a field that was undefined once makes a new object of every number.
  #head: Lsn = 0
  #tail: Lsn = 0
  #durableLsn: Lsn = 0
  /** Device offset of `#tail`. */
  #tailAt: Offset = 0
  /** Bytes that may be appended at `#tailAt` without a look at the ring's end or head. */
  #room = 0
  #group: Group | undefined
  #areBarriersUnderWay = false

  constructor(start: LogStart) {
    const { lifecycle, geometry } = start
    const { media } = lifecycle
    this.lifecycle = lifecycle
    this.diagnostics = start.diagnostics
    this.media = media
    this.dirtyUnits = new DirtyUnits(media)
    this.#checkpointHeaders = start.checkpointHeaders
    this.#seed = start.seed
    this.#slotCounts = start.slotCounts
    this.#checkpointHeader = { logSalt: start.logSalt, state: 0, head: 0, slotsUsed: 0, holes: 0 }
    this.#ringAt = geometry.logAt
    this.#ringBytes = geometry.logBytes
    this.#ringEnd = geometry.logAt + geometry.logBytes
    this.#blockMask = media.appendBytes - 1
    this.#unitsMax = media.dirtyUnitsMax
    this.batch = new Batch(this.#staging, geometry.logBytes - 2 * media.appendBytes)
    assert(start.lsn % media.appendBytes === 0)
    this.#head = this.#tail = this.#durableLsn = start.lsn
    this.#tailAt = this.#ringAt + (start.lsn % this.#ringBytes)
    this.#bind(start.ring)
    this.#measureRoom()
  }

  get usedBytes(): number {
    return this.#tail - this.#head
  }

  get capacityBytes(): number {
    return this.#ringBytes
  }

  /** Whether everything appended so far is durable. */
  get isDurable(): boolean {
    return this.#durableLsn >= this.#tail
  }

  /** Commits the batch: durable when it returns. One fence, or one barrier. */
  commit(): void {
    this.#commit(true)
  }

  /**
   * Commits the batch: visible when it returns, durable when the promise resolves. Where a fence waits for a
   * device those who wait at the same time share one.
   */
  commitAsync(): Promise<void> {
    const isFenced = !this.media.sharesFences
    this.#commit(isFenced)
    return isFenced ? RESOLVED : this.#join()
  }

  /** The way of a record, which is the batch: to its place in the ring, with `isFenced` past its fence, to its in-place locations. */
  #commit(isFenced: boolean): void {
    const step = this.diagnostics.begin(isFenced ? 'commit' : 'append')
    const { media } = this
    const staging = this.#staging
    let span = this.#place(staging)
    if (isFenced) {
      const end = this.#tail + span
      const rest = -end & this.#blockMask
      media.commit(this.#tailAt, staging, rest === 0 ? undefined : this.#skipRecord(end, rest))
      span += rest
    } else {
      media.append(this.#tailAt, staging)
      media.apply(staging)
    }
    this.#advance(span)
    if (isFenced) this.#durableLsn = this.#tail
    this.dirtyUnits.markTargets(staging)
    this.batch.begin()
    this.diagnostics.end(step)
  }

  /** Resolves when everything appended so far is durable. */
  makeDurableAsync(): Promise<void> {
    return this.isDurable ? RESOLVED : this.#join()
  }

  /** The fence that will make everything appended so far durable. */
  #join(): Promise<void> {
    if (this.#group === undefined) {
      this.#group = new Group()
      // A microtask later, so that all that is committed in this turn shares it.
      if (!this.#areBarriersUnderWay) queueMicrotask(() => this.#runBarriers())
    }
    return this.#group.promise
  }

  /** One barrier after the other until nobody waits: who joins while one is under way shares the next. */
  async #runBarriers(): Promise<void> {
    this.#areBarriersUnderWay = true
    for (let group = this.#group; group !== undefined; group = this.#group) {
      this.#group = undefined
      await this.#barrier().then(group.resolve, group.reject)
    }
    this.#areBarriersUnderWay = false
  }

  async #barrier(): Promise<void> {
    if (this.isDurable) return
    const step = this.diagnostics.begin('barrier', 'transactAsync')
    this.#pad()
    const upTo = this.#tail
    const { logSalt } = this.#checkpointHeader
    await this.media.fenceAsync()
    // LSNs of a ring that was replaced meanwhile say nothing of this one.
    if (logSalt === this.#checkpointHeader.logSalt)
      this.#durableLsn = Math.max(this.#durableLsn, upTo)
    this.diagnostics.end(step)
  }

  /** Makes everything appended so far durable, now. No fence when it is. */
  makeDurable(): void {
    if (!this.isDurable) this.fence()
  }

  /** Makes everything appended and flushed so far durable, now. One fence, or one barrier. */
  fence(): void {
    const step = this.diagnostics.begin('barrier')
    this.#fence()
    this.diagnostics.end(step)
  }

  #fence(): void {
    this.#pad()
    this.media.fence()
    this.#durableLsn = this.#tail
  }

  /**
   * Makes raw stores to a range durable. One fence.
   *
   * A range that a logged change went to since the last checkpoint must not be written beside the
   * log: replay would put the older, logged bytes over it. Its present bytes go through the log.
   */
  persist(mapping: Mapping, offset: number, length: number): void {
    const step = this.diagnostics.begin('persist')
    if (this.#flush(mapping, offset, length)) this.#fence()
    this.diagnostics.end(step)
  }

  /** The first half of `persist`. */
  flush(mapping: Mapping, offset: number, length: number): void {
    const step = this.diagnostics.begin('flush')
    this.#flush(mapping, offset, length)
    this.diagnostics.end(step)
  }

  /** Returns whether a fence is still wanted. */
  #flush(mapping: Mapping, offset: number, length: number): boolean {
    if (length === 0) return true
    if (this.dirtyUnits.isDirty(mapping, offset, length)) {
      if (this.batch.isEmpty && length <= RELOG_BYTES_MAX && length <= this.#ringBytes / 4) {
        this.batch.write(mapping, offset, mapping.bytes.subarray(offset, offset + length))
        this.commit()
        return false
      }
      this.checkpoint()
    }
    // A range may belong to its owner by a record that is not durable yet: that goes first.
    this.makeDurable()
    this.media.flush(mapping, offset, length)
    return true
  }

  /** Copies bytes into a mapping and makes them durable. */
  write(mapping: Mapping, offset: number, source: Uint8Array): void {
    if (source.length === 0) return
    const step = this.diagnostics.begin('persist')
    if (this.dirtyUnits.isDirty(mapping, offset, source.length)) this.checkpoint()
    this.makeDurable()
    this.media.write(mapping, offset, source)
    this.media.fence()
    this.diagnostics.end(step)
  }

  /** Zeroes a range, durably. */
  zero(mapping: Mapping, offset: number, length: number): void {
    const step = this.diagnostics.begin('persist')
    if (this.dirtyUnits.isDirty(mapping, offset, length)) this.checkpoint()
    this.makeDurable()
    this.media.zero(mapping, offset, length)
    this.media.fence()
    this.diagnostics.end(step)
  }

  /** Flushes every store of the program to a mapping: durable after the next `fence`. */
  flushStores(mapping: Mapping): void {
    const step = this.diagnostics.begin('flush')
    if (this.dirtyUnits.hasDirty(mapping)) this.checkpoint()
    this.makeDurable()
    this.media.flushStores(mapping)
    this.diagnostics.end(step)
  }

  /**
   * A checkpoint after which nothing that is in the ring counts any more, as after a close: under the next log salt it begins at
   * LSN 0, in this ring or in another. Nothing may be appended before `restart`.
   */
  retire(): void {
    this.checkpoint()
    const header = this.#checkpointHeader
    header.state = CHECKPOINT_STATE.CLOSED
    header.head = 0
    this.#checkpointHeaders.write(header)
  }

  /** Goes on in a ring, which is zero, under the next log salt. The log is retired. Two fences. */
  restart(ring: Mapping, ringBytes: number): void {
    const { media } = this
    const header = this.#checkpointHeader
    assert(header.state === CHECKPOINT_STATE.CLOSED)
    header.logSalt = (header.logSalt + 1) >>> 0
    this.#ringAt = ring.offset
    this.#ringBytes = ringBytes
    this.#ringEnd = ring.offset + ringBytes
    this.#head = this.#tail = this.#durableLsn = 0
    this.#bind(ring)
    this.batch.limit(ringBytes - 2 * media.appendBytes)
    header.state = CHECKPOINT_STATE.OPEN
    header.head = 0
    this.#checkpointHeaders.write(header)
    this.#tailAt = this.#ringAt
    this.#measureRoom()
  }

  /** Records go to this ring, and have the checksums of this log salt. */
  #bind(ring: Mapping): void {
    const { media } = this
    media.useRing(ring)
    const seed = recordSeed(this.#seed, this.#checkpointHeader.logSalt)
    for (const { mailbox } of [this.#staging, this.#skip]) {
      mailbox[MAILBOX.SEED] = seed
      mailbox[MAILBOX.LOG_SLOT] = ring.slot
    }
  }

  /** Makes all in-place locations durable, so that the whole log can be used again. */
  checkpoint(state: number = CHECKPOINT_STATE.OPEN): void {
    this.#checkpoint(this.#tail, state)
  }

  #checkpoint(next: Lsn, state: number = CHECKPOINT_STATE.OPEN): void {
    const step = this.diagnostics.begin('checkpoint')
    this.media.checkLength()
    // 1. The records first: an in-place location must never be ahead of its record.
    this.makeDurable()
    // 2. In-place locations. A crash here or within replays all of the log: the same bytes once more.
    this.dirtyUnits.persist()
    // 3. Checkpoint headers. Until both say so the space before `next` is not used again.
    const tail = alignUp(Math.max(next, this.#tail), this.media.appendBytes)
    const header = this.#checkpointHeader
    const { slotsUsed, holes } = this.#slotCounts()
    header.state = state
    header.head = tail
    header.slotsUsed = slotsUsed
    header.holes = holes
    this.#checkpointHeaders.write(header)
    this.#head = this.#tail = this.#durableLsn = tail
    this.#tailAt = this.#ringAt + (tail % this.#ringBytes)
    this.#measureRoom()
    this.checkpoints++
    this.diagnostics.end(step)
  }

  /** Finds the place of a record and writes its header; returns the bytes it takes in the ring. */
  // The way of a commit is small functions, with what is rare in functions of their own: the compiler
  // inlines a bounded amount of code, and calls that it did not inline cost up to 40 ns a commit.
  #place(staging: Staging): number {
    const span = spanOf(staging.bytes)
    if (span > this.#room || this.dirtyUnits.count > this.#unitsMax) this.#makeRoom(span)
    const { u32 } = staging
    const tail = this.#tail
    const low = tail >>> 0
    u32[1] = staging.bytes
    u32[2] = low
    u32[3] = (tail - low) * (1 / WORD)
    this.#writeDurableLsn(u32)
    return span
  }

  /** Not `#tail`, even where each commit is fenced: a skip record before this one may be under way with it. */
  #writeDurableLsn(u32: Uint32Array): void {
    const durable = this.#durableLsn
    const low = durable >>> 0
    u32[4] = low
    u32[5] = (durable - low) * (1 / WORD)
  }

  #makeRoom(span: number): void {
    const skipped = this.#skippedFor(span)
    const tooFull = this.usedBytes + skipped + span > this.#ringBytes
    if (tooFull || this.dirtyUnits.count > this.#unitsMax) {
      this.makeDurable()
      // An empty ring may begin anywhere: behind the end if the record does not fit before it.
      this.#checkpoint(this.#tail + this.#skippedFor(span))
    } else if (skipped > 0) {
      this.#skipTo(skipped)
    }
    this.#measureRoom()
    assert(this.#room >= span)
  }

  /** Bytes left unused at the end of the ring when a record of `span` bytes comes next. */
  #skippedFor(span: number): number {
    const toEnd = this.#ringEnd - this.#tailAt
    return span > toEnd ? toEnd : 0
  }

  /** Head and end of the ring are where a block ends: a record that fits before them does so with what fills its block. */
  #measureRoom(): void {
    this.#room = Math.min(this.#ringEnd - this.#tailAt, this.#ringBytes - this.usedBytes)
  }

  #advance(span: number): void {
    this.#tail += span
    this.#tailAt += span
    this.#room -= span
    if (this.#tailAt === this.#ringEnd) this.#wrap()
  }

  #wrap(): void {
    this.#tailAt = this.#ringAt
    this.#measureRoom()
  }

  /** Ends the block, so that the next append begins a new one. */
  #pad(): void {
    const rest = -this.#tail & this.#blockMask
    if (rest > 0) this.#skipTo(rest)
  }

  /** Appends a skip record of `bytes`. */
  #skipTo(bytes: number): void {
    this.media.append(this.#tailAt, this.#skipRecord(this.#tail, bytes))
    this.#advance(bytes)
  }

  /** A skip record of `bytes`, for `lsn`. */
  #skipRecord(lsn: Lsn, bytes: number): Staging {
    const skip = this.#skip
    const { u32 } = skip
    const low = lsn >>> 0
    u32[1] = bytes
    u32[2] = low
    u32[3] = ((lsn - low) * (1 / WORD)) | RECORD_SKIP
    this.#writeDurableLsn(u32)
    skip.bytes = RECORD_HEADER_BYTES
    return skip
  }
}

/** Bytes that a record takes in the ring. */
export function spanOf(recordBytes: number): number {
  return (recordBytes + RECORD_ALIGN - 1) & -RECORD_ALIGN
}

/** Start value of the records' checksums: no record of another volume or an earlier run passes. */
export function recordSeed(volumeSeed: number, logSalt: number): number {
  return crc32c(volumeSeed, Uint8Array.of(logSalt, logSalt >>> 8, logSalt >>> 16, logSalt >>> 24))
}
