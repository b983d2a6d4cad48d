/** The flipped bit of a record is found from its checksum alone, in one pass over the log however the record claims to be. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crc32c } from '../../src/base/checksum.js'
import { findFlippedBit, flippedBitOf } from '../../src/check/bit-flip.js'
import { type Geometry, planGeometry } from '../../src/layout/geometry.js'
import { ENTRY, ENTRY_KIND_SHIFT, RECORD_SKIP } from '../../src/layout/record.js'
import { placesOf } from '../support/places.js'
import { type Random, seeded } from '../support/random.js'

const SEED = 12345
/** Where a change's bytes begin: there is no change then. */
const NONSENSE = 0xee
const geometry: Geometry = planGeometry({ sizeBytes: 1024 * 1024, alignBytes: 4096 })

/** A record at an LSN of a ring, whole; what it says is one change of the data area, or nonsense. */
function ringWith(lsn: number, recordBytes: number, flag: number, fill: Uint8Array, of = geometry) {
  const { logBytes } = of
  const bytes = new Uint8Array(logBytes)
  const at = lsn % logBytes
  bytes.set(fill, at)
  const view = new DataView(bytes.buffer, at)
  if (recordBytes > 40 && fill[40] !== NONSENSE) {
    view.setUint32(24, placesOf(of).chunksAt, true)
    view.setUint32(28, ENTRY.BYTES << ENTRY_KIND_SHIFT, true)
    view.setUint32(32, recordBytes - 40, true)
  }
  view.setUint32(4, recordBytes, true)
  view.setUint32(8, lsn >>> 0, true)
  view.setUint32(12, Math.floor(lsn / 2 ** 32) | flag, true)
  const end = flag === 0 ? recordBytes : 24
  view.setUint32(0, crc32c(SEED, bytes, at + 4, at + end), true)
  const log = { geometry: of, bytes, head: lsn, seed: SEED, volumeSeed: SEED }
  return { log, at, checked: end }
}

/** Random bytes that are no nonsense. */
function anything(random: Random, length: number): Uint8Array {
  const bytes = random.bytes(length)
  if (bytes[40] === NONSENSE) bytes[40] = 0
  return bytes
}

test('each bit of a record', () => {
  seeded((random) => {
    for (const [recordBytes, flag] of [
      [24, 0],
      [64, 0],
      [328, 0],
      [4032, RECORD_SKIP],
    ] as const) {
      const lsn = random.pick([0, 640, 2 ** 32 + 128])
      const { log, at, checked } = ringWith(lsn, recordBytes, flag, anything(random, recordBytes))
      for (let bit = 0; bit < checked * 8; bit++) {
        const [byteAt, mask] = [at + (bit >>> 3), 1 << (bit & 7)]
        const right = log.bytes[byteAt]!
        log.bytes[byteAt] = right ^ mask
        assert.deepEqual(findFlippedBit(log, lsn), { at: byteAt, byte: right }, `bit ${bit}`)
        log.bytes[byteAt] = right
      }
    }
  })
})

test('two bits, or a record that never was, are none', () => {
  seeded((random) => {
    const { log, at } = ringWith(0, 328, 0, anything(random, 328))
    for (let i = 0; i < 200; i++) {
      const [one, other] = [random.below(328 * 8), random.below(328 * 8)]
      const before = log.bytes.slice(at, at + 328)
      for (const bit of [one, other]) log.bytes[at + (bit >>> 3)]! ^= 1 << (bit & 7)
      if (one !== other) assert.equal(findFlippedBit(log, 0), undefined)
      log.bytes.set(before, at)
    }
    log.bytes.set(random.bytes(geometry.logBytes))
    assert.equal(findFlippedBit(log, 0), undefined)
  })
})

/**
 * A record that a crash has torn differs from what was written in more than a bit, and for one in 2^31 / 8 of its
 * bytes some bit makes its checksum right: of 24 MiB, one in ten.
 */
test('what no record can say is not made whole, nor what is so long that chance would make it', () => {
  seeded((random) => {
    const nonsense = random.bytes(328).fill(NONSENSE, 24)
    const long = planGeometry({
      sizeBytes: 4 * 1024 * 1024,
      logBytes: 1024 * 1024,
      alignBytes: 4096,
    })
    for (const [recordBytes, fill, flips] of [
      [328, nonsense, false],
      [65_536, anything(random, 65_536), true],
      [65_600, anything(random, 65_600), false],
    ] as const) {
      const { log, at } = ringWith(0, recordBytes, 0, fill, long)
      log.bytes[at + 100]! ^= 16
      const before = log.bytes.slice()
      assert.equal(findFlippedBit(log, 0)?.at, flips ? at + 100 : undefined, `${recordBytes}`)
      assert.deepEqual(log.bytes, before, 'the log is as it was')
    }
  })
})

/**
 * A bogus record kept a check busy for 19 s: all bits of what it claimed to be were tried, and 32 other lengths were
 * each checksummed anew.
 */
test('a bit far from the end', () => {
  const bytes = new Uint8Array(24 * 1024 * 1024)
  const right = crc32c(SEED, bytes, 4)
  for (const bit of [4 * 8, 4 * 8 + 7, 12_345_678, bytes.length * 8 - 1]) {
    bytes[bit >>> 3]! ^= 1 << (bit & 7)
    assert.equal(flippedBitOf(crc32c(SEED, bytes, 4) ^ right, 0, bytes.length), bit)
    bytes[bit >>> 3]! ^= 1 << (bit & 7)
  }
})
