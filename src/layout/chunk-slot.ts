/**
 * One slot of the chunk table. A slot that was never used is all zero; a used one keeps its
 * generation when its chunk is freed, so that an id is never given twice.
 */
import { isZero } from '../base/bits.js'
import { crc32c } from '../base/checksum.js'
import { defineStruct, type Values } from './struct.js'

export const CHUNK_STATE = { FREE: 1, CHUNK: 2 } as const
export const NAME_BYTES_MAX = 64
export const TYPE_BYTES_MAX = 16
/** An id is generation * SLOTS_MAX + slot: exact in a double. */
export const SLOTS_MAX = 2 ** 24
export const GENERATION_MAX = 2 ** 29 - 1

export const CHUNK_SLOT = defineStruct({
  bytes: 128,
  // biome-ignore format: the columns are the table
  fields: {
    checksum:   [0, 'u32', 'CRC-32C of the rest, seeded with the volume and the slot: finds misdirected writes'],
    version:    [4, 'u32', 'counts changes of this slot: of two valid copies the higher is newer'],
    generation: [8, 'u32', 'counts chunks that had this slot: an old id names nothing'],
    state:      [12, 'u16', '1 free, 2 chunk; 0 only in a slot that was never used'],
    nameBytes:  [14, 'u16', 'length of the name, 0 for none'],
    start:      [16, 'u32', 'first granule, from the start of the device; checked against every other chunk'],
    granules:   [20, 'u32', 'length in granules, at least 1'],
    typeBytes:  [24, 'u16', 'length of the type, 0 for none'],
    flags:      [26, 'u16', 'none yet; others refuse the volume'],
    type:       [32, 'bytes16', 'what the owner says is in it; UTF-8, zero-padded'],
    name:       [48, 'bytes64', 'unique in the volume; UTF-8, zero-padded'],
  },
})
export type ChunkSlot = Values<typeof CHUNK_SLOT.fields>

export function chunkSlotSeed(volumeSeed: number, slot: number): number {
  return (volumeSeed ^ Math.imul(slot + 1, 0x9e3779b1)) >>> 0
}

/** Writes a slot with its checksum. */
export function encodeChunkSlot(
  values: Omit<ChunkSlot, 'checksum' | 'flags'>,
  seed: number,
  to: Uint8Array,
  at = 0,
): void {
  CHUNK_SLOT.write({ ...values, flags: 0, checksum: 0 }, to, at)
  const checksum = crc32c(seed, to, at + 4, at + CHUNK_SLOT.bytes)
  new DataView(to.buffer, to.byteOffset + at).setUint32(0, checksum, true)
}

/** A slot that no chunk has, whole. */
export function encodeFreeSlot(
  slot: number,
  volumeSeed: number,
  version: number,
  generation: number,
): Uint8Array {
  const bytes = new Uint8Array(CHUNK_SLOT.bytes)
  encodeChunkSlot(
    {
      version,
      generation,
      state: CHUNK_STATE.FREE,
      nameBytes: 0,
      typeBytes: 0,
      start: 0,
      granules: 0,
      type: new Uint8Array(16),
      name: new Uint8Array(64),
    },
    chunkSlotSeed(volumeSeed, slot),
    bytes,
  )
  return bytes
}

/** What is in a slot: its values, `unused`, or undefined when it is damaged. */
export type SlotContents = ChunkSlot | 'unused' | undefined

export function decodeChunkSlot(from: Uint8Array, at: number, seed: number): SlotContents {
  const values = CHUNK_SLOT.read(from, at)
  if (values.state === 0) {
    return isZero(from, at, at + CHUNK_SLOT.bytes) ? 'unused' : undefined
  }
  if (values.checksum !== crc32c(seed, from, at + 4, at + CHUNK_SLOT.bytes)) return undefined
  const sane =
    (values.state === CHUNK_STATE.FREE ||
      (values.state === CHUNK_STATE.CHUNK && values.granules > 0)) &&
    values.nameBytes <= NAME_BYTES_MAX &&
    values.typeBytes <= TYPE_BYTES_MAX &&
    values.generation <= GENERATION_MAX &&
    values.flags === 0 &&
    CHUNK_SLOT.reservedIsZero(from, at)
  return sane ? values : undefined
}

export const SLOT_IS = { UNUSED: 0, WHOLE: 1, DAMAGED: 2 } as const

/**
 * The same without its values, for whoever looks at many: `words` are those of `from`, which begins at a word.
 * Hand-written; a test holds the two together.
 */
export function judgeChunkSlot(
  from: Uint8Array,
  words: Uint32Array,
  at: number,
  seed: number,
): number {
  const word = at >>> 2
  const stateAndName = words[word + 3]!
  const state = stateAndName & 0xffff
  if (state === 0) {
    return isZero(from, at, at + CHUNK_SLOT.bytes) ? SLOT_IS.UNUSED : SLOT_IS.DAMAGED
  }
  const isSane =
    words[word] === crc32c(seed, from, at + 4, at + CHUNK_SLOT.bytes) &&
    (state === CHUNK_STATE.FREE || (state === CHUNK_STATE.CHUNK && words[word + 5]! > 0)) &&
    stateAndName >>> 16 <= NAME_BYTES_MAX &&
    words[word + 6]! <= TYPE_BYTES_MAX &&
    words[word + 2]! <= GENERATION_MAX &&
    words[word + 7] === 0 &&
    (words[word + 28]! | words[word + 29]! | words[word + 30]! | words[word + 31]!) === 0
  return isSane ? SLOT_IS.WHOLE : SLOT_IS.DAMAGED
}

/** Higher is newer; one that was never used is below all others, a damaged one below that. */
export function versionOfSlot(slot: SlotContents): number {
  if (slot === undefined) return -1
  return slot === 'unused' ? 0 : slot.version
}

/** Which of two copies counts: the valid one, of two valid ones the newer; undefined where none is valid. */
export function newerSlot(first: SlotContents, second: SlotContents): 0 | 1 | undefined {
  if (first === undefined && second === undefined) return undefined
  return versionOfSlot(first) >= versionOfSlot(second) ? 0 : 1
}

/** Id of the chunk that has a slot in a generation of it. */
export function chunkIdOf(slot: number, generation: number): number {
  return generation * SLOTS_MAX + slot
}

const decoder = new TextDecoder('utf-8', { fatal: true })

/** The name or the type that a slot gives its chunk, empty for none; undefined when it is not UTF-8. */
export function textOf(values: ChunkSlot, what: 'name' | 'type'): string | undefined {
  try {
    return decoder.decode(values[what].subarray(0, values[`${what}Bytes`]))
  } catch {
    return undefined
  }
}
