/**
 * The memory in which a record is built, and the mailbox of the fused commit call.
 *
 *   u8, u32   the record itself, header first; checksummed and copied to the log as it is
 *   targets   four words for each in-place location that changes: mapping slot, offset in the mapping,
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
  FLAGS: 5,
} as const
/** Bits of the flags. */
export const MAILBOX_FLAG = {
  /** No write-back is needed, the platform flushes its caches at power loss. */
  NO_WRITE_BACK: 1,
  /** The checksum alone. */
  SEAL: 2,
  /** The in-place locations alone. */
  APPLY: 4,
} as const
export const TARGET_WORDS = 4

const RECORD_BYTES_FIRST = 16 * 1024
const TARGETS_FIRST = 256

export class Staging {
  u8!: Uint8Array
  u32!: Uint32Array
  targets!: Uint32Array
  mailbox!: Uint32Array
  /** Bytes of the record so far. */
  bytes = 0
  targetCount = 0
  /** False after the memory was replaced: whoever holds addresses of it must take the new ones. */
  bound = false

  /** Room to begin with; it grows. */
  constructor(recordBytes = RECORD_BYTES_FIRST, targets = TARGETS_FIRST) {
    this.#resize(recordBytes, targets)
  }

  /** One ArrayBuffer for all three: the addon looks at each distinct one in every call (10 ns). */
  #resize(recordBytes: number, targets: number): void {
    const { u8, targets: targetsBefore, mailbox } = this
    const targetWords = targets * TARGET_WORDS
    const memory = new ArrayBuffer(recordBytes + (targetWords + MAILBOX_WORDS) * 4)
    this.u8 = new Uint8Array(memory, 0, recordBytes)
    this.u32 = new Uint32Array(memory, 0, recordBytes / 4)
    this.targets = new Uint32Array(memory, recordBytes, targetWords)
    this.mailbox = new Uint32Array(memory, recordBytes + targetWords * 4, MAILBOX_WORDS)
    this.bound = false
    if (u8 === undefined) return
    this.u8.set(u8.subarray(0, this.bytes))
    this.targets.set(targetsBefore)
    this.mailbox.set(mailbox)
  }

  /** Makes room for `bytes` more of the record. */
  reserve(bytes: number): void {
    const wanted = this.bytes + bytes
    if (wanted <= this.u8.length) return
    this.#resize(powerOfTwoCeil(wanted), this.targets.length / TARGET_WORDS)
  }

  /** Adds an in-place location: `length` bytes at `from` of the record belong to `offset` of mapping `slot`. */
  target(slot: number, offset: number, from: number, length: number): void {
    const at = this.targetCount++ * TARGET_WORDS
    if (at === this.targets.length) this.#growTargets()
    const { targets } = this
    targets[at] = slot
    targets[at + 1] = offset
    targets[at + 2] = from
    targets[at + 3] = length
  }

  #growTargets(): void {
    this.#resize(this.u8.length, (this.targets.length / TARGET_WORDS) * 2)
  }
}
