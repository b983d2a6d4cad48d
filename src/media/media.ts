/**
 * The seam between plinth and storage: every persistent store of the library goes through here, so
 * that a simulator can stand in for the hardware.
 *
 *   program ──store──▶ visible image ──flush──▶ on its way ──fence──▶ durable
 *              views                  write-back            barrier
 *
 * A store becomes visible at once and durable at some time of the hardware's choosing, at the
 * latest when a flush of its range is followed by a fence. What is between the two at a power cut
 * is there or not, each 8-byte word (byte, cache-line) or 512-byte sector (page) for itself.
 *
 * Page granularity keeps one promise more: nothing that was not flushed or appended reaches the
 * device. Its mappings are private, and flush is what writes.
 *
 * Invariants:
 *   - a mapping's slot is its index in `mappings`, and no two mappings overlap;
 *   - the log is appended to in order of LSN; what was appended is durable after the next fence;
 *   - after `failure` is set nothing is written any more.
 */
import { crc32c } from '../base/checksum.js'
import { PlinthError } from '../base/errors.js'
import { alignUp, LINE_BYTES, type Offset } from '../base/units.js'
import { type BadBlocks, NO_BAD_BLOCKS } from './bad-blocks.js'
import { MAILBOX, type Staging, TARGET_WORDS } from './staging.js'

/**
 * The unit in which stores become durable, in the terms of libpmem2: `byte` (the platform flushes
 * CPU caches at power loss), `cache-line` (write-back and fence from user space), `page` (writes and
 * barriers of the kernel).
 */
export type Granularity = 'byte' | 'cache-line' | 'page'

/** Dirty units of a mapping: a logged change went to them, and no checkpoint has made them durable in place yet. */
export interface DirtyBits {
  /** One bit for each unit. */
  readonly bits: Uint32Array
  /** How many are set. */
  units: number
}

/** One mapped stretch of the device. */
export interface Mapping {
  readonly slot: number
  readonly offset: Offset
  readonly length: number
  /** The whole stretch; empty once it is detached. */
  bytes: Uint8Array
  /** Made when the first one comes. */
  dirty: DirtyBits | undefined
}

/** Counted since the device was opened. Exact: tests assert them. */
export const COUNTER = {
  FENCES: 0,
  LINES_FLUSHED: 1,
  BARRIERS: 2,
  SYSTEM_CALLS: 3,
  BYTES_APPENDED: 4,
  BYTES_WRITTEN: 5,
  STORES: 6,
} as const

/** What was done to the device, counted exactly. */
export interface Counters {
  /** Ranges that commits changed, stored in their in-place locations. Stores of the program's own are not seen. */
  readonly stores: number
  /** Cache lines written back, on devices of cache-line granularity. */
  readonly linesFlushed: number
  /** Each makes what was appended and flushed before it durable. */
  readonly fences: number
  /** Waits for the device: each costs what the device costs. */
  readonly barriers: number
  /** System calls that write or wait, on devices of page granularity. */
  readonly systemCalls: number
  /** Bytes of records appended to the log. */
  readonly bytesAppended: number
  /** Bytes that `write` copied; on page granularity those written to in-place locations and by `persist` as well. */
  readonly bytesWritten: number
}

/** Counts by their names. */
export function countersOf(counts: Float64Array): Counters {
  return {
    stores: counts[COUNTER.STORES]!,
    linesFlushed: counts[COUNTER.LINES_FLUSHED]!,
    fences: counts[COUNTER.FENCES]!,
    barriers: counts[COUNTER.BARRIERS]!,
    systemCalls: counts[COUNTER.SYSTEM_CALLS]!,
    bytesAppended: counts[COUNTER.BYTES_APPENDED]!,
    bytesWritten: counts[COUNTER.BYTES_WRITTEN]!,
  }
}

export abstract class Media {
  abstract readonly granularity: Granularity
  /** Bytes that may be addressed. */
  abstract readonly sizeBytes: number
  /** More of the device may be addressed from now on: it is so long. */
  abstract extend(sizeBytes: number): void
  /** Where an append may start after a fence: a multiple of this. */
  abstract readonly appendBytes: number
  /** log2 of the bytes of a dirty unit, in which in-place locations are written back. */
  abstract readonly dirtyUnitShift: number
  /** So many dirty units make a checkpoint due although the log has room: they bound its duration. */
  abstract readonly dirtyUnitsMax: number
  /** Whether a fence waits for a device: then those who wait at the same time share one, off the event loop. */
  abstract readonly sharesFences: boolean
  readonly counters: Float64Array = new Float64Array(Object.keys(COUNTER).length)
  readonly mappings: (Mapping | undefined)[] = []
  /** Where records are appended. */
  protected ring: Mapping | undefined
  /** Known when the device was opened. Callers keep off them: loads and stores there are faults. */
  badBlocks: BadBlocks = NO_BAD_BLOCKS
  /** Why nothing may be written any more. */
  failure: Error | undefined
  /** Called when `failure` is set. */
  readonly onFailure: (() => void)[] = []

  /**
   * Asked before places at the end are stored to: behind the end of a device that became shorter that is a
   * fault, which ends the process. Where a look costs more than the store it is not taken.
   * @throws PlinthError ERR_VOLUME_FAILED when the device is shorter than the media
   */
  checkLength(): void {}

  /** Maps a stretch. Refused with `ERR_BACKEND_LIMIT` where the backend cannot do it exactly. */
  abstract map(offset: Offset, length: number): Mapping
  /** Empties the views on a mapping, and keeps the mapping. */
  abstract detach(mapping: Mapping): void
  /** Gives a detached mapping its `bytes` again. */
  abstract attach(mapping: Mapping): void
  /**
   * Whether somebody who was given views has moved their memory to others (`ArrayBuffer.prototype.transfer`): then the
   * mapping has new ones when this returns. Those that were moved stay, and show the same memory.
   * @throws PlinthError ERR_VOLUME_FAILED where the backend has no way back to the memory: what was stored is not known
   */
  regain(mapping: Mapping): boolean {
    if (mapping.bytes.length === mapping.length) return false
    this.detachMoved(mapping)
    this.attach(mapping)
    if (mapping.bytes.length !== mapping.length) {
      throw this.fail(
        new Error('the memory of a view was moved away, and this backend cannot show it again'),
      )
    }
    return true
  }

  /** Lets go of views that were moved away. */
  protected detachMoved(mapping: Mapping): void {
    this.detach(mapping)
  }

  /** Empties the views and gives the address space back. What was stored and not flushed is lost. */
  abstract unmap(mapping: Mapping): void

  /** Writes back a range. Durable after the next fence. */
  abstract flush(mapping: Mapping, offset: number, length: number): void
  /** Writes back `count` dirty units, (slot, unit) pairs in `list`, and fences. */
  abstract persistDirtyUnits(list: Uint32Array, count: number): void
  /** Writes back every store of the program to this mapping that may not have reached the device. */
  abstract flushStores(mapping: Mapping): void
  /**
   * Makes everything appended and flushed so far durable.
   * @throws PlinthError ERR_VOLUME_FAILED when the device reports a failure; `failure` is set then.
   */
  abstract fence(): void
  /** The same with the waiting done off the event loop where the media can. */
  fenceAsync(): Promise<void> {
    try {
      this.fence()
      return Promise.resolve()
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Records are appended to this mapping from now on. */
  useRing(ring: Mapping): void {
    this.ring = ring
  }

  /** Copies a record to the log at device offset `at`, checksummed, and writes it back. No fence. */
  append(at: Offset, staging: Staging): void {
    this.appendBytesOf(at, sealed(staging))
  }

  protected abstract appendBytesOf(at: Offset, record: Uint8Array): void

  /** Stores the targets of a record in their in-place locations. */
  apply(staging: Staging): void {
    const { targets, u8 } = staging
    this.counters[COUNTER.STORES]! += staging.targetCount
    for (let i = 0, at = 0; i < staging.targetCount; i++, at += TARGET_WORDS) {
      const from = targets[at + 2]!
      this.store(
        this.mappings[targets[at]!]!,
        targets[at + 1]!,
        u8.subarray(from, from + targets[at + 3]!),
      )
    }
  }

  /**
   * The whole way of a record: append, fence, apply. One fence. `skip` is the record that fills its block, where it
   * does not end with one.
   */
  commit(at: Offset, staging: Staging, skip: Staging | undefined): void {
    // 1. Append. A torn record is harmless: its checksum fails and replay stops before it.
    this.append(at, staging)
    if (skip !== undefined) this.append(at + alignUp(staging.bytes, LINE_BYTES), skip)
    // 2. Fence. From here on the batch has happened: recovery replays it.
    this.fence()
    // 3. In-place locations. Lost at a crash; the log has them until a checkpoint has flushed them.
    this.apply(staging)
  }

  /** Stores bytes in a mapping. Visible, not durable. */
  store(mapping: Mapping, offset: number, source: Uint8Array): void {
    this.regain(mapping)
    mapping.bytes.set(source, offset)
  }

  /** Copies bytes into a mapping and flushes them; the fast way for large data. No fence is promised, none is excluded. */
  write(mapping: Mapping, offset: number, source: Uint8Array): void {
    this.store(mapping, offset, source)
    this.flush(mapping, offset, source.length)
  }

  /** The same with zeros. */
  abstract zero(mapping: Mapping, offset: number, length: number): void

  /** Unmaps everything and closes the device. Makes nothing durable. */
  abstract close(): void

  protected fail(cause: unknown): PlinthError {
    if (this.failure === undefined) {
      this.failure = new PlinthError(
        'ERR_VOLUME_FAILED',
        'a write to the device failed; close the volume and open it again: recovery decides what was kept',
        { cause },
      )
      for (const act of this.onFailure) act()
    }
    return this.failure as PlinthError
  }

  /** Takes the lowest free slot. */
  protected freeSlot(): number {
    const slot = this.mappings.indexOf(undefined)
    return slot === -1 ? this.mappings.length : slot
  }
}

/** Writes the checksum into the record's first word and returns the record. */
export function sealed(staging: Staging): Uint8Array {
  const record = staging.u8.subarray(0, staging.bytes)
  staging.u32[0] = crc32c(staging.mailbox[MAILBOX.SEED]!, record, 4)
  return record
}

/** Lines that a range touches. */
export function linesOf(offset: number, length: number): number {
  if (length === 0) return 0
  return Math.floor((offset + length - 1) / LINE_BYTES) - Math.floor(offset / LINE_BYTES) + 1
}
