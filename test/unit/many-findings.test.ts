/**
 * A volume with very much wrong: 640 000 findings were listed one by one, and repaired one by one. Slots side by side
 * are one finding, beyond a number of them the rest is one, and check and repair read what is there a
 * fixed number of times.
 */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { checkDevice } from '../../src/check/check.js'
import { FINDINGS_MAX } from '../../src/check/finding.js'
import type { Readable } from '../../src/check/inspection.js'
import { Device } from '../../src/device/device.js'
import { CHECKPOINT_STATE, encodeCheckpoint } from '../../src/layout/checkpoint-header.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkSlotSeed,
  encodeChunkSlot,
} from '../../src/layout/chunk-slot.js'
import { CHECKPOINT_AT, geometryOf, planGeometry } from '../../src/layout/geometry.js'
import {
  encodeSuperblock,
  FORMAT_VERSION,
  shapeFields,
  volumeSeed,
} from '../../src/layout/superblock.js'
import { COUNTER } from '../../src/media/media.js'
import { repairDevice } from '../../src/volume/inspect.js'
import { inFolder, MIB } from '../support/devices.js'

const SLOT = CHUNK_SLOT.bytes
/** The table of a volume that had ever more chunks: each extent is as large as all before it. */
const EXTENTS = [8192, 8192, 16_384, 32_768, 65_536]
const plan = planGeometry({ sizeBytes: 512 * MIB, granuleBytes: 4096, alignBytes: 4096 })
const tableBytes = EXTENTS.reduce((sum, slots) => sum + slots * SLOT, 0)
const logAt = plan.dataAt + tableBytes
const geometry = geometryOf({
  ...plan,
  logAt,
  extents: EXTENTS.map((slots, i) => {
    const at = EXTENTS.slice(0, i).reduce((sum, before) => sum + before * SLOT, 0)
    return { slots, firstAt: plan.dataAt + at, secondAt: plan.tailAt - tableBytes + at }
  }),
})!
const { sizeBytes, checkpointCopyAt, superblockCopyAt, logBytes } = geometry
/** First granule behind the log. */
const START = (logAt + logBytes) / geometry.granuleBytes
const WINDOW = MIB / SLOT
const SLOTS = 100_000

/** A closed volume of so many chunks of a granule each, with all of it but the table sparse. */
function writeImage(path: string, damage: (first: Uint8Array, second: Uint8Array) => void): void {
  const uuid = Uint8Array.from({ length: 16 }, (_, i) => i + 1)
  const seed = volumeSeed(uuid)
  const table = new Uint8Array(SLOTS * SLOT)
  const nothing = { nameBytes: 0, typeBytes: 0, type: new Uint8Array(16), name: new Uint8Array(64) }
  for (let slot = 0; slot < SLOTS; slot++) {
    const values = {
      version: 1,
      generation: 1,
      state: CHUNK_STATE.CHUNK,
      start: START + slot,
      granules: 1,
    }
    encodeChunkSlot({ ...values, ...nothing }, chunkSlotSeed(seed, slot), table, slot * SLOT)
  }
  const copies = [table, table.slice()] as const
  damage(...copies)
  const fd = fs.openSync(path, 'w')
  const write = (at: number, bytes: Uint8Array) => fs.writeSync(fd, bytes, 0, bytes.length, at)
  const label = new Uint8Array(64)
  const growth = { sequence: 1, maxBytes: 0, growBytes: 0, flags: 0, devices: 1, device: 0 }
  const superblock = { ...shapeFields(geometry), ...growth, uuid, label, created: 0 }
  const own = { version: FORMAT_VERSION, incompatible: 0, readOnlyCompatible: 0, compatible: 0 }
  const open = { logSalt: 1, sequence: 1, head: 0, slotsUsed: SLOTS, holes: 0 }
  for (const [copy, at] of [0, superblockCopyAt].entries()) {
    write(at, encodeSuperblock({ ...superblock, ...own, copy }))
  }
  for (const at of [CHECKPOINT_AT, checkpointCopyAt]) {
    write(at, encodeCheckpoint({ ...open, state: CHECKPOINT_STATE.CLOSED }, seed))
  }
  let first = 0
  for (const { slots, firstAt, secondAt } of geometry.extents) {
    const of = (copy: Uint8Array) => copy.subarray(first * SLOT, (first + slots) * SLOT)
    write(firstAt, of(copies[0]))
    write(secondAt, of(copies[1]))
    first += slots
  }
  fs.closeSync(fd)
}

const flip = (bytes: Uint8Array, slot: number) => {
  bytes[slot * SLOT + 20]! ^= 0xff
}

describe('a volume with very much wrong', () => {
  const cases: {
    what: string
    damage: (first: Uint8Array, second: Uint8Array) => void
    findings: number
    /** Fixes, and how often all is looked at to find them. */
    fixes: number
    passes: number
    bytes: number
    dropDamaged: boolean
  }[] = [
    {
      what: 'all of one copy',
      damage: (first) => first.fill(0x55),
      findings: Math.ceil(SLOTS / WINDOW),
      fixes: Math.ceil(SLOTS / WINDOW),
      passes: 2,
      bytes: SLOTS * SLOT,
      dropDamaged: false,
    },
    {
      what: 'every second slot of one copy',
      damage: (_, second) => {
        for (let slot = 0; slot < SLOTS; slot += 2) flip(second, slot)
      },
      findings: FINDINGS_MAX + 1,
      fixes: SLOTS / 2,
      passes: 3,
      bytes: (SLOTS * SLOT) / 2,
      dropDamaged: false,
    },
    {
      what: 'both copies',
      damage: (...copies) => {
        for (const bytes of copies) for (let slot = 0; slot < SLOTS; slot++) flip(bytes, slot)
      },
      findings: Math.ceil(SLOTS / WINDOW),
      fixes: 2 * Math.ceil(SLOTS / WINDOW),
      passes: 2,
      bytes: 2 * SLOTS * SLOT,
      dropDamaged: true,
    },
  ]
  for (const { what, damage, findings, fixes, passes, bytes, dropDamaged } of cases) {
    test(what, () => {
      inFolder((folder) => {
        const path = join(folder, 'device')
        writeImage(path, damage)
        const device = new Device({ path, readOnly: false })
        try {
          let read = 0
          const counting: Readable = {
            sizeBytes: device.sizeBytes,
            read(offset, length) {
              read += length
              return device.read(offset, length)
            },
          }
          const found = checkDevice(counting).findings
          assert.equal(found.length, findings)
          const slots = what.startsWith('every') ? SLOTS / 2 : SLOTS
          assert.equal(
            found.reduce((sum, { count = 1 }) => sum + count, 0),
            slots,
          )
          // Both tables, the log, superblocks and checkpoint headers, and twice their pages for who has the device.
          const once = read
          assert.ok(once >= 2 * tableBytes + logBytes && once < 4 * tableBytes + logBytes + MIB)
          read = 0
          const report = repairDevice(
            { device: counting, alignBytes: 4096, openMedia: (size) => device.media(size, true) },
            { dryRun: false, dropDamaged, force: false },
          )
          assert.deepEqual(report.remaining, [])
          assert.equal(report.fixes.length, fixes)
          assert.equal(read, passes * once)
          const { counters } = device.media(sizeBytes)
          assert.equal(counters[COUNTER.BYTES_WRITTEN], bytes)
        } finally {
          device.close()
        }
      })
    })
  }
})
