/**
 * The bytes on media, pinned. Whatever fails here changes the format: it needs another
 * FORMAT_VERSION, FORMAT.md, and new stored images (test/support/make-images.ts).
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  CHECKPOINT,
  CHECKPOINT_STATE,
  decodeCheckpoint,
  encodeCheckpoint,
} from '../../src/layout/checkpoint-header.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkSlotSeed,
  decodeChunkSlot,
  encodeChunkSlot,
  GENERATION_MAX,
  NAME_BYTES_MAX,
  SLOTS_MAX,
  TYPE_BYTES_MAX,
} from '../../src/layout/chunk-slot.js'
import {
  CHECKPOINT_AT,
  GRANULE_BYTES_MAX,
  GRANULE_BYTES_MIN,
  GRANULES_MAX,
  geometryFor,
  HEAD_BYTES,
  LOG_BYTES_MAX,
  LOG_BYTES_MIN,
  SLOTS_STEP,
  SUPERBLOCK_AT,
  TABLE_EXTENTS_MAX,
  VOLUME_BYTES_MIN,
} from '../../src/layout/geometry.js'
import {
  ENTRY,
  ENTRY_KIND_SHIFT,
  ENTRY_WORDS_MAX,
  ENTRY_WORDS_SHIFT,
  LSN_HIGH_MASK,
  RECORD_ALIGN,
  RECORD_HEADER_BYTES,
  RECORD_SKIP,
} from '../../src/layout/record.js'
import type { FieldTable } from '../../src/layout/struct.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  FEATURES_KNOWN,
  FORMAT_VERSION,
  INCOMPATIBLE,
  LABEL_BYTES_MAX,
  MAGIC,
  SUPERBLOCK,
  SUPERBLOCK_FLAG,
  shapeFields,
  shapeOf,
  volumeSeed,
} from '../../src/layout/superblock.js'
import { Batch } from '../../src/log/batch.js'
import { recordSeed } from '../../src/log/log.js'
import { type Mapping, sealed } from '../../src/media/media.js'
import { MAILBOX, Staging } from '../../src/media/staging.js'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const unhex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'))
const sizes: Record<string, number> = { u16: 2, u32: 4, u64: 8 }
/** The hexadecimal text without the zeros at its end. */
const trimmed = (bytes: Uint8Array) => hex(bytes).replace(/(?:00)+$/, '')

function fieldsOf({ fields }: { fields: FieldTable }): [name: string, at: number, bytes: number][] {
  return Object.entries(fields).map(([name, [at, kind]]) => [
    name,
    at,
    sizes[kind] ?? Number(kind.slice('bytes'.length)),
  ])
}

const uuid = Uint8Array.from({ length: 16 }, (_, i) => i + 1)

/** The volume of the samples below. */
const VOLUME_SEED = 0xa0de6714
const SLOT_SEEDS = [0x3ee91ea5, 0x9cb09476, 0xd7457714]
const RECORD_SEEDS = [0xe5713efd, 0x38349445, 0xa1537c90, 0x52e98ac5]
const SUPERBLOCK_BYTES = [
  '706c696e74681af5617c4d5c02000000020000000300000004000000010000000102030405060708090a0b0c0d0e0f10',
  '00f0ffffffff1f00000020000000000000000004000000000068e5cf8b010000',
  '61206c6162656c'.padEnd(128, '0'),
  // sequence, logAt, maxBytes, growBytes, flags, devices, device, extentCount
  '05000000000004000000200000010000ffffffffffff1f000000000002000000',
  '01000000010000000000000002000000',
  '002000000000000000002000000000000000000000001000',
  '00e0ff000000000000006000000000000000e0ffffff0f',
].join('')
const CHECKPOINT_BYTES =
  '2403e873616e63680000000000010000070000000200000040000000000004006300000003'
const SLOT_BYTES =
  'bece9c4d030000000200000002000300050000000600000004000000000000007472656500000000000000000000000077616c'
/** Checksum, bytes, LSN and durable LSN; then 5 bytes, a u64, a u32, a revocation, a slot. */
const RECORD_BYTES = [
  '0a929fcef00000008002000005000000',
  '0002000005000000',
  '100000000000500005000000000000000102030405000000',
  '18000000000030020100000000010000',
  '20000000000050000400000000000000a4a3a2a100000000',
  '00000000020060000000000004000000',
  '0403020100008020',
  '77'.repeat(128),
].join('')

describe('format version 2', () => {
  it('is the present one', () => assert.equal(FORMAT_VERSION, 2))

  it('superblock', () => {
    assert.equal(SUPERBLOCK.bytes, 4096)
    assert.deepEqual(fieldsOf(SUPERBLOCK), [
      ['magic', 0, 8],
      ['checksum', 8, 4],
      ['version', 12, 4],
      ['compatible', 16, 4],
      ['readOnlyCompatible', 20, 4],
      ['incompatible', 24, 4],
      ['copy', 28, 4],
      ['uuid', 32, 16],
      ['sizeBytes', 48, 8],
      ['granuleBytes', 56, 8],
      ['logBytes', 64, 8],
      ['created', 72, 8],
      ['label', 80, 64],
      ['sequence', 144, 8],
      ['logAt', 152, 8],
      ['maxBytes', 160, 8],
      ['growBytes', 168, 8],
      ['flags', 176, 4],
      ['devices', 180, 4],
      ['device', 184, 4],
      ['extentCount', 188, 4],
      ['extents', 192, 768],
    ])
    assert.deepEqual(SUPERBLOCK_FLAG, { LOG_IS_CHOSEN: 1 })
    assert.deepEqual(INCOMPATIBLE, { RESTORING: 1 })
    assert.deepEqual(FEATURES_KNOWN, { compatible: 0, readOnlyCompatible: 0, incompatible: 1 })
    assert.equal(hex(MAGIC), '706c696e74681af5')
    assert.equal(LABEL_BYTES_MAX, 64)
  })

  it('checkpoint header', () => {
    assert.equal(CHECKPOINT.bytes, 64)
    assert.deepEqual(fieldsOf(CHECKPOINT), [
      ['checksum', 0, 4],
      ['magic', 4, 4],
      ['sequence', 8, 8],
      ['logSalt', 16, 4],
      ['state', 20, 4],
      ['head', 24, 8],
      ['slotsUsed', 32, 4],
      ['holes', 36, 4],
    ])
    assert.deepEqual(CHECKPOINT_STATE, { CLOSED: 1, OPEN: 2 })
  })

  it('chunk slot', () => {
    assert.equal(CHUNK_SLOT.bytes, 128)
    assert.deepEqual(fieldsOf(CHUNK_SLOT), [
      ['checksum', 0, 4],
      ['version', 4, 4],
      ['generation', 8, 4],
      ['state', 12, 2],
      ['nameBytes', 14, 2],
      ['start', 16, 4],
      ['granules', 20, 4],
      ['typeBytes', 24, 2],
      ['flags', 26, 2],
      ['type', 32, 16],
      ['name', 48, 64],
    ])
    assert.deepEqual(CHUNK_STATE, { FREE: 1, CHUNK: 2 })
    assert.deepEqual(
      [NAME_BYTES_MAX, TYPE_BYTES_MAX, SLOTS_MAX, GENERATION_MAX],
      [64, 16, 16_777_216, 536_870_911],
    )
  })

  it('record', () => {
    assert.deepEqual([RECORD_HEADER_BYTES, RECORD_ALIGN], [24, 64])
    assert.deepEqual(
      [RECORD_SKIP, LSN_HIGH_MASK, ENTRY_KIND_SHIFT, ENTRY_WORDS_SHIFT, ENTRY_WORDS_MAX],
      [0x200000, 0x1fffff, 21, 25, 127],
    )
    assert.deepEqual(ENTRY, { WORDS: 1, BYTES: 2, REVOKE: 3, SLOT: 4 })
  })

  it('places', () => {
    assert.deepEqual([SUPERBLOCK_AT, CHECKPOINT_AT, HEAD_BYTES], [0, 4096, 8192])
    const extents = [{ slots: 32, firstAt: 65_536, secondAt: 131_072 }]
    const shape = { granuleBytes: 65_536, logAt: 196_608, logBytes: 65_536, extents }
    const { dataAt, granules, tailAt, checkpointCopyAt, superblockCopyAt } = geometryFor({
      ...shape,
      sizeBytes: 1_056_768,
    })
    assert.deepEqual(
      [dataAt, granules, tailAt, checkpointCopyAt, superblockCopyAt],
      [65_536, 16, 1_048_576, 1_048_576, 1_052_672],
    )
  })

  it('limits', () => {
    assert.deepEqual(
      [VOLUME_BYTES_MIN, GRANULE_BYTES_MIN, GRANULE_BYTES_MAX, GRANULES_MAX],
      [1_048_576, 4096, 4_294_967_296, 4_294_967_295],
    )
    assert.deepEqual(
      [LOG_BYTES_MIN, LOG_BYTES_MAX, TABLE_EXTENTS_MAX, SLOTS_STEP],
      [65_536, 1_073_741_824, 32, 32],
    )
  })

  it('seeds', () => {
    assert.equal(volumeSeed(uuid), VOLUME_SEED)
    assert.deepEqual(
      [0, 1, 4095].map((slot) => chunkSlotSeed(VOLUME_SEED, slot)),
      SLOT_SEEDS,
    )
    assert.deepEqual(
      [0, 1, 0x01020304, 0xffffffff].map((logSalt) => recordSeed(VOLUME_SEED, logSalt)),
      RECORD_SEEDS,
    )
  })

  it('a superblock, byte for byte', () => {
    const extents = [
      { slots: 8192, firstAt: 2 ** 21, secondAt: 2 ** 52 },
      { slots: 2 ** 24 - 8192, firstAt: 3 * 2 ** 21, secondAt: 2 ** 52 - 2 ** 21 },
    ]
    const shape = {
      sizeBytes: 2 ** 53 - 4096,
      granuleBytes: 2 ** 21,
      logAt: 2 ** 40 + 2 ** 21,
      logBytes: 2 ** 26,
      extents,
    }
    const values = {
      version: 2,
      compatible: 2,
      readOnlyCompatible: 3,
      incompatible: 4,
      copy: 1,
      uuid,
      ...shapeFields(shape),
      created: 1_700_000_000_000,
      label: new TextEncoder().encode('a label'),
      sequence: 2 ** 50 + 5,
      maxBytes: 2 ** 53 - 1,
      growBytes: 2 ** 33,
      flags: 1,
      devices: 1,
      device: 0,
    }
    const page = encodeSuperblock(values)
    assert.equal(trimmed(page), SUPERBLOCK_BYTES)
    const read = decodeSuperblock(page)
    assert.ok(typeof read !== 'string')
    const { magic, checksum, label, ...rest } = read
    assert.deepEqual({ ...rest, label: label.slice(0, 7) }, values)
    assert.deepEqual(shapeOf(read), shape)
    assert.deepEqual(
      [hex(magic), checksum],
      [hex(MAGIC), new DataView(page.buffer).getUint32(8, true)],
    )
  })

  it('a checkpoint header, byte for byte', () => {
    const values = {
      sequence: 2 ** 40,
      logSalt: 7,
      state: 2,
      head: 2 ** 50 + 64,
      slotsUsed: 99,
      holes: 3,
    }
    const line = encodeCheckpoint(values, VOLUME_SEED)
    assert.equal(trimmed(line), CHECKPOINT_BYTES)
    const { magic, checksum, ...rest } = decodeCheckpoint(unhex(hex(line)), VOLUME_SEED)!
    assert.deepEqual(rest, values)
    assert.ok(magic !== 0 && checksum !== 0)
  })

  it('a chunk slot, byte for byte', () => {
    const slot = new Uint8Array(128)
    const values = {
      version: 3,
      generation: 2,
      state: CHUNK_STATE.CHUNK,
      nameBytes: 3,
      start: 5,
      granules: 6,
      typeBytes: 4,
      type: new TextEncoder().encode('tree'),
      name: new TextEncoder().encode('wal'),
    }
    encodeChunkSlot(values, chunkSlotSeed(VOLUME_SEED, 9), slot)
    assert.equal(trimmed(slot), SLOT_BYTES)
    const read = decodeChunkSlot(slot, 0, chunkSlotSeed(VOLUME_SEED, 9))
    assert.ok(typeof read === 'object')
    assert.deepEqual([read.version, read.generation, read.start, read.granules], [3, 2, 5, 6])
    assert.equal(decodeChunkSlot(slot, 0, chunkSlotSeed(VOLUME_SEED, 8)), undefined)
  })

  it('a record with every kind of entry, byte for byte', () => {
    const at = (slot: number, offset: number): Mapping => ({
      slot,
      offset,
      length: 8192,
      bytes: new Uint8Array(0),
      dirty: undefined,
    })
    const staging = new Staging()
    const batch = new Batch(staging, 65_536)
    const far = at(2, 2 ** 52)
    batch.write(far, 16, Uint8Array.of(1, 2, 3, 4, 5))
    batch.setUint64(far, 24, 2 ** 40 + 1)
    batch.setUint32(far, 32, 0xa1a2a3a4)
    batch.revoke(2 ** 33, 2 ** 34)
    staging.u8.fill(0x77, batch.slot(0x0102_0304, at(0, 0), at(1, 0), 512), staging.bytes)
    staging.u32[1] = staging.bytes
    staging.u32[2] = 640
    staging.u32[3] = 5
    staging.u32[4] = 512
    staging.u32[5] = 5
    staging.mailbox[MAILBOX.SEED] = recordSeed(VOLUME_SEED, 1)
    assert.equal(hex(sealed(staging)), RECORD_BYTES)
  })
})
