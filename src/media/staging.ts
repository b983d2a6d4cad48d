/**
 * The memory in which a record is built, and the mailbox of the fused commit call.
 *
 *   u8, u32   the record itself, header first; checksummed and copied to the log as it is
 *   targets   four words for each home place that changes: mapping slot, offset in the mapping,
 *             offset in the record, length
 *   mailbox   arguments of the native call, so that it needs none (a Node-API call with three
 *             arguments costs 23 ns, with none 10)
 *
 * Invariant: the three always view the memory that the addon is bound to; `bound` says when they
 * were replaced by larger ones and have to be bound again.
 */
import { powerOfTwoCeil } from '../base/units.js'

export const MAILBOX_WORDS = 8
/** Indices into the mailbox. The addon has the same numbers. */
export const MAILBOX = {
  LOG_SLOT: 0,
  LOG_OFFSET: 1,
  RECORD_BYTES: 2,
  SEED: 3,
  TARGET_COUNT: 4,
  /** Bit 0: no write-back is needed, the platform flushes its caches at power loss. */
  FLAGS: 5,
} as const
export const TARGET_WORDS = 4

const RECORD_BYTES_FIRST = 64 * 1024
const TARGETS_FIRST = 1024

export class Staging {
  u8: Uint8Array = new Uint8Array(RECORD_BYTES_FIRST)
  u32: Uint32Array = new Uint32Array(this.u8.buffer)
  targets: Uint32Array = new Uint32Array(TARGETS_FIRST * TARGET_WORDS)
  readonly mailbox: Uint32Array = new Uint32Array(MAILBOX_WORDS)
  /** Bytes of the record so far. */
  bytes = 0
  targetCount = 0
  /** False after the memory was replaced: whoever holds addresses of it must take the new ones. */
  bound = false

  /** Makes room for `bytes` more of the record. */
  reserve(bytes: number): void {
    if (this.bytes + bytes <= this.u8.length) return
    const grown = new Uint8Array(powerOfTwoCeil(this.bytes + bytes))
    grown.set(this.u8.subarray(0, this.bytes))
    this.u8 = grown
    this.u32 = new Uint32Array(grown.buffer)
    this.bound = false
  }

  /** Adds a home place: `length` bytes at `from` of the record belong to `offset` of mapping `slot`. */
  target(slot: number, offset: number, from: number, length: number): void {
    let at = this.targetCount * TARGET_WORDS
    if (at === this.targets.length) {
      const grown = new Uint32Array(this.targets.length * 2)
      grown.set(this.targets)
      this.targets = grown
      this.bound = false
    }
    const targets = this.targets
    targets[at++] = slot
    targets[at++] = offset
    targets[at++] = from
    targets[at] = length
    this.targetCount++
  }
}
