/**
 * The redo log: a ring of records. What is committed is in the log first; home places follow.
 *
 *         head                    durable        tail
 *   ───────┼────────────────────────┼──────────────┼────────▶ position, never reset
 *          │ replayed after a crash │ under way    │
 *          └ a checkpoint moves head to tail       └ the next record begins here
 *
 * A commit is one append and one fence. On page granularity appends gather in memory and one
 * barrier carries all that wait (group commit); each barrier ends a block, so that a block is never
 * written twice.
 *
 * Invariants:
 *   - head <= durable <= tail <= head + logBytes; position modulo logBytes is the place in the ring;
 *   - a home place is written to the device only while its records are durable;
 *   - log space is used again only after both anchors say that replay begins behind it.
 */

import { assert } from '../base/assert.js'
import { crc32c } from '../base/checksum.js'
import { alignUp, type LogPosition, type Offset, WORD } from '../base/units.js'
import { ANCHOR_STATE, type SlotCounts } from '../layout/anchor.js'
import type { Geometry } from '../layout/geometry.js'
import { RECORD_ALIGN, RECORD_HEADER_BYTES, RECORD_SKIP } from '../layout/record.js'
import type { Lifecycle } from '../media/lifecycle.js'
import type { Mapping, Media } from '../media/media.js'
import { MAILBOX, MAILBOX_FLAG, Staging } from '../media/staging.js'
import type { Anchors, AnchorValues } from './anchors.js'
import { Batch } from './batch.js'
import { isObserved, type Observed, observe } from './diagnostics.js'
import { Home } from './home.js'

/** So many pending units make a checkpoint due although the log has room: they bound its duration. */
const UNITS_MAX = { line: 65536, page: 16384 }
/** Raw stores of at most so many bytes over a pending unit are logged; more wait for a checkpoint. */
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
  readonly geometry: Geometry
  readonly anchors: Anchors
  readonly seed: number
  readonly epoch: number
  /** Where the ring is mapped. */
  readonly head: Mapping
  /** First position of this epoch. */
  readonly position: LogPosition
  /** What the chunk table has, asked at each checkpoint when home places are durable. */
  readonly slotCounts: () => SlotCounts
}

export class Log implements Observed {
  readonly lifecycle: Lifecycle
  readonly media: Media
  readonly home: Home
  readonly batch: Batch
  checkpoints = 0
  /** Of which volume messages speak. */
  volume: Observed['volume'] = { path: '', uuid: '' }
  isObserving = false
  readonly #staging = new Staging()
  readonly #skip = new Staging(RECORD_ALIGN, 1)
  readonly #anchors: Anchors
  readonly #slotCounts: () => SlotCounts
  /** What the next anchor says. */
  readonly #anchor: AnchorValues
  readonly #ringAt: Offset
  readonly #ringBytes: number
  readonly #ringEnd: Offset
  readonly #unitsMax: number
  readonly #paged: boolean
  // Numbers from the start: a field that was undefined once makes a new object of every number.
  #head: LogPosition = 0
  #tail: LogPosition = 0
  #durable: LogPosition = 0
  /** Device offset of `#tail`. */
  #tailAt: Offset = 0
  /** Bytes that may be appended at `#tailAt` without a look at the ring's end or head. */
  #room = 0
  #group: Group | undefined
  #barrierUnderWay = false

  constructor(start: LogStart) {
    const { lifecycle, geometry } = start
    const { media } = lifecycle
    this.lifecycle = lifecycle
    this.media = media
    this.home = new Home(media)
    this.#anchors = start.anchors
    this.#slotCounts = start.slotCounts
    this.#anchor = { epoch: start.epoch, state: 0, head: 0, slotsUsed: 0, holes: 0 }
    this.#ringAt = geometry.logAt
    this.#ringBytes = geometry.logBytes
    this.#ringEnd = geometry.logAt + geometry.logBytes
    this.#paged = media.appendBytes > RECORD_ALIGN
    this.#unitsMax = media.granularity === 'page' ? UNITS_MAX.page : UNITS_MAX.line
    this.batch = new Batch(this.#staging, geometry.logBytes - 2 * media.appendBytes)
    assert(start.position % media.appendBytes === 0)
    this.#head = this.#tail = this.#durable = start.position
    this.#tailAt = this.#ringAt + (start.position % this.#ringBytes)
    const seed = recordSeed(start.seed, start.epoch)
    for (const { mailbox } of [this.#staging, this.#skip]) {
      mailbox[MAILBOX.SEED] = seed
      mailbox[MAILBOX.LOG_SLOT] = start.head.slot
      mailbox[MAILBOX.FLAGS] = media.granularity === 'byte' ? MAILBOX_FLAG.NO_WRITE_BACK : 0
    }
    this.#measureRoom()
  }

  get usedBytes(): number {
    return this.#tail - this.#head
  }

  get capacityBytes(): number {
    return this.#ringBytes
  }

  /** Whether something was appended that no barrier has made durable yet. */
  get isUnsettled(): boolean {
    return this.#durable < this.#tail
  }

  /** Commits the batch: durable when it returns. One fence, or one barrier. */
  commit(): void {
    const staging = this.#staging
    const span = this.#place(staging)
    if (this.#paged) this.#commitPaged(staging, span)
    else {
      this.media.commit(this.#tailAt, staging)
      this.#advance(span)
      this.#durable = this.#tail
    }
    this.home.markTargets(staging)
    this.batch.begin()
  }

  #commitPaged(staging: Staging, span: number): void {
    this.media.append(this.#tailAt, staging)
    this.#advance(span)
    this.settle()
    this.media.apply(staging)
  }

  /**
   * Commits the batch: visible when it returns, durable when the promise resolves. Those who wait
   * at the same time share one barrier.
   */
  commitAsync(): Promise<void> {
    if (!this.#paged) {
      this.commit()
      return RESOLVED
    }
    const staging = this.#staging
    const span = this.#place(staging)
    this.media.append(this.#tailAt, staging)
    this.#advance(span)
    this.media.apply(staging)
    this.home.markTargets(staging)
    this.batch.begin()
    return this.#join()
  }

  /** Resolves when everything appended so far is durable. */
  settleAsync(): Promise<void> {
    return this.isUnsettled ? this.#join() : RESOLVED
  }

  /** The barrier that will make everything appended so far durable. */
  #join(): Promise<void> {
    if (this.#group === undefined) {
      this.#group = new Group()
      // A microtask later, so that all that is committed in this turn shares it.
      if (!this.#barrierUnderWay) queueMicrotask(() => this.#startBarrier())
    }
    return this.#group.promise
  }

  #startBarrier(): void {
    const group = this.#group
    if (group === undefined || this.#barrierUnderWay) return
    this.#group = undefined
    this.#barrierUnderWay = true
    const barrier = this.#barrier()
    const upTo = this.#tail
    barrier.then(
      () => {
        this.#barrierUnderWay = false
        this.#durable = Math.max(this.#durable, upTo)
        group.resolve()
        this.#startBarrier()
      },
      (reason) => {
        this.#barrierUnderWay = false
        group.reject(reason)
        this.#group?.reject(reason)
        this.#group = undefined
      },
    )
  }

  #barrier(): Promise<void> {
    if (isObserved(this)) return observe('barrier', this, this, this.#barrier)
    this.#pad()
    return this.media.fenceAsync()
  }

  /** Makes everything appended so far durable, now. No barrier when it is. */
  settle(): void {
    if (this.isUnsettled) this.fence()
  }

  /** Makes everything appended and flushed so far durable, now. One fence, or one barrier. */
  fence(): void {
    this.#pad()
    try {
      this.media.fence()
    } catch (error) {
      this.#group?.reject(error)
      this.#group = undefined
      throw error
    }
    this.#durable = this.#tail
    this.#group?.resolve()
    this.#group = undefined
  }

  /**
   * Makes raw stores to a range durable. One fence.
   *
   * A range that a logged change went to since the last checkpoint must not be written beside the
   * log: replay would put the older, logged bytes over it. Its present bytes go through the log.
   */
  persist(mapping: Mapping, offset: number, length: number): void {
    if (this.flush(mapping, offset, length)) this.fence()
  }

  /** The first half of `persist`. Returns whether a fence is still wanted. */
  flush(mapping: Mapping, offset: number, length: number): boolean {
    if (length === 0) return true
    if (this.home.isPending(mapping, offset, length)) {
      if (this.batch.isEmpty && length <= RELOG_BYTES_MAX && length <= this.#ringBytes / 4) {
        this.batch.write(mapping, offset, mapping.bytes.subarray(offset, offset + length))
        this.commit()
        return false
      }
      this.checkpoint()
    }
    // A range may belong to its owner by a record that is not durable yet: that goes first.
    this.settle()
    this.media.flush(mapping, offset, length)
    return true
  }

  /** Copies bytes into a mapping and makes them durable. */
  write(mapping: Mapping, offset: number, source: Uint8Array): void {
    if (source.length === 0) return
    if (this.home.isPending(mapping, offset, source.length)) this.checkpoint()
    this.settle()
    this.media.write(mapping, offset, source)
    this.media.fence()
  }

  /** Zeroes a range, durably. */
  zero(mapping: Mapping, offset: number, length: number): void {
    if (this.home.isPending(mapping, offset, length)) this.checkpoint()
    this.settle()
    this.media.zero(mapping, offset, length)
    this.media.fence()
  }

  /** Flushes every store of the program to a mapping: durable after the next `fence`. */
  flushStores(mapping: Mapping): void {
    if (this.home.hasPending(mapping)) this.checkpoint()
    this.settle()
    this.media.flushStores(mapping)
  }

  /** Makes all home places durable, so that the whole log can be used again. */
  checkpoint(state: number = ANCHOR_STATE.OPEN): void {
    this.#checkpoint(this.#tail, state)
  }

  #checkpoint(next: LogPosition, state: number = ANCHOR_STATE.OPEN): void {
    this.media.checkLength()
    // 1. The records first: a home place must never be ahead of its record.
    this.settle()
    // 2. Home places. A crash here or within replays all of the log: the same bytes once more.
    this.home.persist()
    // 3. Anchors. Until both say so the space before `next` is not used again.
    const tail = alignUp(Math.max(next, this.#tail), this.media.appendBytes)
    const anchor = this.#anchor
    const { slotsUsed, holes } = this.#slotCounts()
    anchor.state = state
    anchor.head = tail
    anchor.slotsUsed = slotsUsed
    anchor.holes = holes
    this.#anchors.write(anchor)
    this.#head = this.#tail = this.#durable = tail
    this.#tailAt = this.#ringAt + (tail % this.#ringBytes)
    this.#measureRoom()
    this.checkpoints++
  }

  /** Finds the place of a record and writes its header; returns the bytes it takes in the ring. */
  // The way of a commit is small functions, with what is rare in functions of their own: the compiler
  // inlines a bounded amount of code, and calls that it did not inline cost up to 40 ns a commit.
  #place(staging: Staging): number {
    const span = spanOf(staging.bytes)
    if (span > this.#room || this.home.units > this.#unitsMax) this.#makeRoom(span)
    const { u32 } = staging
    const tail = this.#tail
    const low = tail >>> 0
    u32[1] = staging.bytes
    u32[2] = low
    u32[3] = (tail - low) * (1 / WORD)
    this.#writeSettled(u32)
    return span
  }

  /** Not `#tail`, even where each commit is fenced: a skip record before this one may be under way with it. */
  #writeSettled(u32: Uint32Array): void {
    const durable = this.#durable
    const low = durable >>> 0
    u32[4] = low
    u32[5] = (durable - low) * (1 / WORD)
  }

  #makeRoom(span: number): void {
    // A block of a page device may end behind the record: its skip record needs room as well.
    const wanted = this.#paged ? span + this.media.appendBytes : span
    const skipped = this.#skippedFor(wanted)
    const tooFull = this.usedBytes + skipped + wanted > this.#ringBytes
    if (tooFull || this.home.units > this.#unitsMax) {
      this.settle()
      // An empty ring may begin anywhere: behind the end if the record does not fit before it.
      this.#checkpoint(this.#tail + this.#skippedFor(wanted))
    } else if (skipped > 0) {
      this.#skipTo(skipped)
    }
    this.#measureRoom()
    assert(this.#room >= span)
  }

  /** Bytes left unused at the end of the ring when a record of `wanted` bytes comes next. */
  #skippedFor(wanted: number): number {
    const toEnd = this.#ringEnd - this.#tailAt
    return wanted > toEnd ? toEnd : 0
  }

  #measureRoom(): void {
    const toEnd = this.#ringEnd - this.#tailAt
    const free = this.#ringBytes - this.usedBytes
    this.#room = Math.min(toEnd, free) - (this.#paged ? this.media.appendBytes : 0)
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
    const rest = alignUp(this.#tail, this.media.appendBytes) - this.#tail
    if (rest > 0) this.#skipTo(rest)
  }

  /** Appends a skip record of `bytes`. */
  #skipTo(bytes: number): void {
    const { u32 } = this.#skip
    const tail = this.#tail
    const low = tail >>> 0
    u32[1] = bytes
    u32[2] = low
    u32[3] = ((tail - low) * (1 / WORD)) | RECORD_SKIP
    this.#writeSettled(u32)
    this.#skip.bytes = RECORD_HEADER_BYTES
    this.media.append(this.#tailAt, this.#skip)
    this.#advance(bytes)
  }
}

/** Bytes that a record takes in the ring. */
export function spanOf(recordBytes: number): number {
  return (recordBytes + RECORD_ALIGN - 1) & -RECORD_ALIGN
}

/** Start value of the records' checksums: no record of another volume or an earlier run passes. */
export function recordSeed(volumeSeed: number, epoch: number): number {
  return crc32c(volumeSeed, Uint8Array.of(epoch, epoch >>> 8, epoch >>> 16, epoch >>> 24))
}
