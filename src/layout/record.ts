/**
 * A record of the redo log: one batch. Records begin at multiples of a line and never straddle the
 * end of the ring.
 *
 *   ┌──────────┬───────┬─────────────┬────────────┬─────────┬─────────┬───
 *   │ checksum │ bytes │ lsn | flags │ durableLsn │ entry   │ entry   │ …
 *   └──────────┴───────┴─────────────┴────────────┴─────────┴─────────┴───
 *    u32        u32     u64           u64
 *
 * `checksum` is CRC-32C of everything behind it, seeded with volume and log salt. `lsn` counts
 * the bytes ever appended: what lies in the ring from an earlier lap has an earlier LSN.
 * `durableLsn` is the LSN up to which everything was durable when the record was placed: an
 * invalid record before that, with this one valid behind it, was not torn but damaged.
 *
 * A skip record (flag) has no entries; its `bytes` is the distance to the next record, and only the
 * header is checksummed. It fills the ring to its end, or a block of a page device.
 *
 * An entry is a multiple of 8 bytes:
 *
 *   u32 low word of the offset · u32: 21 bits high part of the offset, 4 bits kind, 7 bits words
 */
import { LINE_BYTES } from '../base/units.js'
import { CHUNK_SLOT } from './chunk-slot.js'

export const RECORD_HEADER_BYTES = 24
export const RECORD_ALIGN = LINE_BYTES
/** In the upper word of `lsn`, above its 21 bits. */
export const RECORD_SKIP = 2 ** 21
export const LSN_HIGH_MASK = 2 ** 21 - 1

/** 0 and the rest are never valid. */
export const ENTRY = {
  /** `words` (1 to 127) times 8 bytes for `offset` follow. */
  WORDS: 1,
  /** u32 length, u32 zero, then that many bytes for `offset`, padded to 8. */
  BYTES: 2,
  /** u64 length: what earlier records say of this range is void (it was freed). */
  REVOKE: 3,
  /** As WORDS, for both copies of a slot of the chunk table: its number stands in the place of the offset. */
  SLOT: 4,
} as const
export const ENTRY_KIND_SHIFT = 21
export const ENTRY_WORDS_SHIFT = 25
export const ENTRY_WORDS_MAX = 127

/** Bytes of a record that entries take. */
export const ENTRY_BYTES = {
  /** One word of 8 bytes. */
  WORD: 16,
  REVOKE: 16,
  SLOT: 8 + CHUNK_SLOT.bytes,
} as const
