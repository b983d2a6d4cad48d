/**
 * The checkpoint header: the little that changes at open, close and checkpoint. One line in a page of its own,
 * kept at both ends. Copies are written one after the other with a fence between, so that at any
 * instant one is whole; the valid one with the higher sequence counts.
 */
import { crc32c } from '../base/checksum.js'
import { LINE_BYTES } from '../base/units.js'
import { RECORD_ALIGN } from './record.js'
import { defineStruct, putUint32, type Values } from './struct.js'

export const CHECKPOINT_STATE = { CLOSED: 1, OPEN: 2 } as const
/**
 * LSNs and sequences of checkpoint headers that reach this begin anew at the next opening; those
 * that are twice as large are damage. At a gigabyte a second a log gets there in 52 days of writing.
 */
export const COUNT_RESTART = 2 ** 52
/** ASCII "anch". */
export const CHECKPOINT_MAGIC = 0x68636e61

export const CHECKPOINT = defineStruct({
  bytes: LINE_BYTES,
  // biome-ignore format: the columns are the table
  fields: {
    checksum:  [0, 'u32', 'CRC-32C of the rest, seeded with the volume'],
    magic:     [4, 'u32', 'tells a checkpoint header from anything else'],
    sequence:  [8, 'u64', 'the copy with the higher one is newer'],
    logSalt:   [16, 'u32', 'counts openings; seed of the records: those of an earlier run never pass'],
    state:     [20, 'u32', '1 closed, 2 open: whether the last user closed the volume'],
    head:      [24, 'u64', 'LSN where replay begins'],
    slotsUsed: [32, 'u32', 'slots of the chunk table beyond this were never used'],
    holes:     [36, 'u32', 'so many of these were never written: one more that is empty in both copies was lost'],
  },
})
/** What follows from an LSN stays exact: a ring further and some. */
const COUNT_MAX = 2 ** 53 - 2 ** 31
export type CheckpointHeader = Values<typeof CHECKPOINT.fields>
/** What a checkpoint header says of the chunk table. */
export type SlotCounts = Pick<CheckpointHeader, 'slotsUsed' | 'holes'>

/** The checkpoint header as its line, in `line` if one is given. */
export function encodeCheckpoint(
  values: Omit<CheckpointHeader, 'checksum' | 'magic'>,
  seed: number,
  line: Uint8Array = new Uint8Array(CHECKPOINT.bytes),
): Uint8Array {
  CHECKPOINT.write(values, line)
  putUint32(line, CHECKPOINT.fields.magic[0], CHECKPOINT_MAGIC)
  putUint32(line, CHECKPOINT.fields.checksum[0], crc32c(seed, line, 4))
  return line
}

/** Which of two copies counts: the valid one, of two valid ones the newer; undefined where none is valid. */
export function newerCheckpoint(
  first: CheckpointHeader | undefined,
  second: CheckpointHeader | undefined,
): 0 | 1 | undefined {
  if (first === undefined) return second === undefined ? undefined : 1
  if (second === undefined) return 0
  return first.sequence >= second.sequence ? 0 : 1
}

/** The checkpoint header in a line, or undefined when it is damaged, foreign or absurd. */
export function decodeCheckpoint(line: Uint8Array, seed: number): CheckpointHeader | undefined {
  const header = CHECKPOINT.read(line)
  if (header.magic !== CHECKPOINT_MAGIC) return undefined
  if (header.checksum !== crc32c(seed, line, 4, CHECKPOINT.bytes)) return undefined
  if (!CHECKPOINT.reservedIsZero(line)) return undefined
  if (!(header.sequence < COUNT_MAX && header.head < COUNT_MAX)) return undefined
  if (header.head % RECORD_ALIGN !== 0 || header.holes > header.slotsUsed) return undefined
  if (header.state !== CHECKPOINT_STATE.CLOSED && header.state !== CHECKPOINT_STATE.OPEN)
    return undefined
  return header
}
