/**
 * What the job queue keeps on the volume: two chunks.
 *
 *   NAME.table       header │ slot 0 │ slot 1 │ …     all that is known of a job but its payload
 *   NAME.payloads    cell 0 │ cell 1 │ …              the payload of the job in slot n is in cell n
 *
 * Everything is little-endian and of a fixed size: a job is found by arithmetic, and a queue needs
 * nothing from the allocator after it was made.
 *
 *   header   0  u64  magic            that this is a queue, and nothing else
 *            8  u32  version          of this layout
 *           12  u32  slots            how many slots and cells there are
 *           16  u32  payloadBytesMax  the size of a cell
 *           20  u32  attemptsMax      leases after which a job is a dead letter
 *
 *   slot     0  u64  id               running number of the job; id % slots is its slot.
 *                                     A free slot keeps its last id, so the highest id ever given
 *                                     out is always in the table: no id is used twice
 *            8  u32  state            one of STATE
 *           12  u32  attempts         how often it was leased
 *           16  u64  leasedUntil      ms since 1970; once that has passed, a leased job counts as
 *                                     ready again (or dead): a lease that expires writes nothing
 *           24  u32  worker           who has it
 *           28  u32  resultBytes
 *           32  u32  payloadBytes
 *           64  …    result           64 bytes, for a digest or a place where there is more
 */

export const HEADER = {
  magic: 0,
  version: 8,
  slots: 12,
  payloadBytesMax: 16,
  attemptsMax: 20,
  bytes: 128,
} as const

export const SLOT = {
  id: 0,
  state: 8,
  attempts: 12,
  leasedUntil: 16,
  worker: 24,
  resultBytes: 28,
  /** Where what a lease writes ends; it begins at `state`. */
  leaseEnd: 32,
  payloadBytes: 32,
  /** Where what a new job writes ends. */
  headEnd: 40,
  result: 64,
  bytes: 128,
} as const

/** 'PLQUEUE1' as two u32. */
export const MAGIC_LOW = 0x55514c50
export const MAGIC_HIGH = 0x31455545
export const VERSION = 1

/** 0 is what a chunk of zeros says of all its slots. */
export const STATE = { free: 0, ready: 1, leased: 2, done: 3, dead: 4 } as const
export type StateName = keyof typeof STATE
export const STATE_NAMES = ['free', 'ready', 'leased', 'done', 'dead'] as const

export const SLOTS_MAX = 1024 * 1024
export const PAYLOAD_BYTES_MAX = 64 * 1024
export const RESULT_BYTES_MAX = 64
export const LEASE_MS_MAX = 24 * 60 * 60 * 1000

/** A u64 as a number: exact up to 2^53, and far above that for what cannot be an id or a time. */
export function getUint64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32
}

export function setUint64(view: DataView, at: number, value: number): void {
  const low = value >>> 0
  view.setUint32(at, low, true)
  view.setUint32(at + 4, (value - low) / 2 ** 32, true)
}
