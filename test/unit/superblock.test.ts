/** The superblock: what a page says, what is damage in it, and which of two copies counts. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { crc32c } from '../../src/base/checksum.js'
import { MIB, PAGE_BYTES } from '../../src/base/units.js'
import { type Shape, TABLE_EXTENTS_MAX } from '../../src/layout/geometry.js'
import { followSuperblock } from '../../src/layout/refusal.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  FORMAT_VERSION,
  isLaterSuperblock,
  isSameSuperblock,
  SUPERBLOCK,
  type Superblock,
  shapeFields,
  shapeOf,
} from '../../src/layout/superblock.js'
import { makeImage } from '../../src/testing/simulated-volume.js'
import { findSuperblock } from '../../src/volume/superblocks.js'
import { seeded } from '../support/random.js'

const SHAPE: Shape = {
  sizeBytes: 4 * MIB,
  granuleBytes: 4096,
  logAt: 40_960,
  logBytes: 65_536,
  extents: [{ slots: 256, firstAt: 8192, secondAt: 2 * MIB }],
}
const values = {
  version: FORMAT_VERSION,
  compatible: 0,
  readOnlyCompatible: 0,
  incompatible: 0,
  copy: 0,
  uuid: Uint8Array.from({ length: 16 }, (_, i) => i + 1),
  ...shapeFields(SHAPE),
  created: 1_700_000_000_000,
  label: new Uint8Array(64),
  sequence: 7,
  maxBytes: 2 ** 40,
  growBytes: MIB,
  flags: 1,
  devices: 1,
  device: 0,
}

function seal(page: Uint8Array): Uint8Array {
  const view = new DataView(page.buffer)
  view.setUint32(8, 0, true)
  view.setUint32(8, crc32c(0, page), true)
  return page
}

/** The page with some 32-bit words changed, and a right checksum. */
function forged(...words: (readonly [at: number, word: number])[]): Uint8Array {
  const page = encodeSuperblock(values)
  for (const [at, word] of words) new DataView(page.buffer).setUint32(at, word, true)
  return seal(page)
}

function read(page: Uint8Array): Superblock {
  const found = decodeSuperblock(page)
  assert.ok(typeof found === 'object', String(found))
  return found
}

const extentsOf = (count: number, random: () => number) =>
  Array.from({ length: count }, () => ({
    slots: random() >>> 8,
    firstAt: 4096 * random(),
    secondAt: 4096 * random(),
  }))

describe('a superblock', () => {
  it('says what was written, for any places', () => {
    seeded((random) => {
      for (let count = 1; count <= TABLE_EXTENTS_MAX; count++) {
        const shape: Shape = {
          sizeBytes: 4096 * random.next(),
          granuleBytes: 2 ** random.between(12, 32),
          logAt: 4096 * random.next(),
          logBytes: random.next(),
          extents: extentsOf(count, () => random.next()),
        }
        const written = {
          ...values,
          ...shapeFields(shape),
          sequence: random.next() * 2 ** 20,
          maxBytes: random.pick([0, 4096 * random.next(), 2 ** 53 - 1]),
          growBytes: random.pick([0, 4096 * random.next(), 2 ** 53 - 1]),
          flags: random.below(2),
        }
        const { magic: _, checksum: __, ...rest } = read(encodeSuperblock(written))
        assert.deepEqual(rest, written)
        assert.deepEqual(shapeOf({ ...rest, magic: _, checksum: __ }), shape)
      }
    })
  })

  it('with any bit of it changed is damaged', () => {
    const page = encodeSuperblock(values)
    seeded((random) => {
      for (let at = 0; at < PAGE_BYTES; at++) {
        const bit = 1 << random.below(8)
        page[at]! ^= bit
        assert.equal(decodeSuperblock(page), at < 8 ? 'no-magic' : 'checksum', `byte ${at}`)
        page[at]! ^= bit
      }
    })
    read(page)
  })

  const { fields } = SUPERBLOCK
  const [extentsAt] = fields.extents
  const HIGH = 0x200000
  const impossible: [what: string, ...words: (readonly [number, number])[]][] = [
    [
      'no extents',
      [fields.extentCount[0], 0],
      [extentsAt, 0],
      [extentsAt + 8, 0],
      [extentsAt + 16, 0],
    ],
    ['33 extents', [fields.extentCount[0], 33]],
    ['the most extents', [fields.extentCount[0], 0xffffffff]],
    ['fewer extents than there are', [fields.extentCount[0], 1], [extentsAt + 24, 32]],
    ['a place behind the extents', [extentsAt + 24 + 8, 4096]],
    ['something in the last extent', [extentsAt + 31 * 24 + 20, 1]],
    ['something between the fields of an extent', [extentsAt + 4, 1]],
    ['an unknown flag', [fields.flags[0], 2]],
    ['a known flag and an unknown one', [fields.flags[0], 3]],
    ['the highest flag', [fields.flags[0], 0x80000000]],
    ['no devices', [fields.devices[0], 0]],
    ['two devices', [fields.devices[0], 2]],
    ['another device than the first', [fields.device[0], 1]],
    ['a sequence beyond exact numbers', [fields.sequence[0] + 4, HIGH]],
    ['the last sequence', [fields.sequence[0] + 4, HIGH - 1], [fields.sequence[0], 0xffffffff]],
    ['a size to grow to beyond exact numbers', [fields.maxBytes[0] + 4, HIGH]],
    ['a step of growth beyond exact numbers', [fields.growBytes[0] + 4, 0xffffffff]],
    ['something behind the extents', [960, 1]],
    ['something at the end of the page', [4092, 0x01000000]],
  ]
  for (const [what, ...words] of impossible) {
    it(`${what}, with a right checksum: is damaged`, () => {
      assert.equal(decodeSuperblock(forged(...words)), 'reserved')
      // What it means in another version only that version knows.
      for (const version of [FORMAT_VERSION - 1, FORMAT_VERSION + 1]) {
        assert.equal(read(forged(...words, [fields.version[0], version])).version, version)
      }
    })
  }

  it('of another place is misdirected', () => {
    for (const copy of [0, 1] as const) {
      const page = encodeSuperblock({ ...values, copy })
      assert.ok(typeof decodeSuperblock(page, copy) === 'object')
      assert.equal(decodeSuperblock(page, copy === 0 ? 1 : 0), 'misdirected')
    }
  })

  const followed: [what: string, change: Partial<Superblock>, why: string, message: RegExp][] = [
    ['format 0', { version: 0 }, 'older', /format 0, from before the first release/],
    ['format 1', { version: 1 }, 'older', /format 1, from before the first release/],
    ['format 3', { version: 3 }, 'newer', /format 3 .* later version/],
    ['a feature', { incompatible: 2 }, 'newer', /features 2/],
    ['the highest feature', { incompatible: 2 ** 31 }, 'newer', /features 2147483648,/],
    ['a restore', { incompatible: 1 }, 'restoring', /restore it again/],
    ['a log in the head', { logAt: 0 }, 'impossible', /impossible/],
    ['a larger volume', { sizeBytes: 8 * MIB }, 'truncated', /4194304 bytes, the volume 8388608/],
  ]
  for (const [what, change, why, message] of followed) {
    it(`of ${what} is not followed: ${why}`, () => {
      const refusal = followSuperblock({ ...read(encodeSuperblock(values)), ...change }, 4 * MIB)
      assert.ok('why' in refusal)
      assert.equal(refusal.why, why)
      assert.match(refusal.message, message)
    })
  }
})

describe('of two copies', () => {
  const one = read(encodeSuperblock(values))

  it('the one with the higher sequence is later, of the same volume alone', () => {
    const other = { ...one, copy: 1, sequence: one.sequence + 1 }
    assert.deepEqual([isLaterSuperblock(other, one), isLaterSuperblock(one, other)], [true, false])
    assert.equal(isLaterSuperblock(one, { ...one, copy: 1 }), false)
    const foreign = { ...other, uuid: one.uuid.toReversed() }
    assert.deepEqual(
      [isLaterSuperblock(foreign, one), isLaterSuperblock(one, foreign)],
      [false, false],
    )
  })

  it('both say the same only when every field does, but which copy they are', () => {
    assert.ok(isSameSuperblock(one, { ...one, copy: 1, checksum: one.checksum + 1 }))
    for (const [name, value] of Object.entries(one)) {
      if (name === 'copy' || name === 'checksum') continue
      const other = typeof value === 'number' ? value + 1 : value.map((byte) => byte + 1)
      assert.equal(isSameSuperblock(one, { ...one, [name]: other }), false, name)
    }
  })

  /** First and second copy, each as a change of the volume's own, or damaged. */
  type Copy = Partial<Superblock> | 'damaged'
  const foreign = { uuid: new Uint8Array(16).fill(9) }
  const cases: [what: string, first: Copy, second: Copy, counts: number, repairable: boolean][] = [
    ['the same', { sequence: 5 }, { sequence: 5 }, 5, false],
    ['a later second', { sequence: 5 }, { sequence: 6 }, 6, true],
    ['a later first', { sequence: 6 }, { sequence: 5 }, 6, true],
    ['a damaged first', 'damaged', { sequence: 5 }, 5, true],
    ['a damaged second', { sequence: 5 }, 'damaged', 5, true],
    ['another volume behind it', { sequence: 5 }, { ...foreign, sequence: 6 }, 5, true],
  ]
  for (const [what, first, second, counts, repairable] of cases) {
    it(`${what}: ${counts} counts`, () => {
      const image = makeImage()
      const end = image.length - PAGE_BYTES
      const own = read(image.slice(0, PAGE_BYTES))
      for (const [copy, change] of [first, second].entries()) {
        const at = copy === 0 ? 0 : end
        if (change === 'damaged') image[at + 100]! ^= 1
        else image.set(encodeSuperblock({ ...own, ...change, copy }), at)
      }
      const device = {
        sizeBytes: image.length,
        read: (from: number, length: number) => image.slice(from, from + length),
      }
      const { superblock, isRepairable } = findSuperblock(device, 'device', false)
      assert.deepEqual([superblock.sequence, isRepairable], [counts, repairable])
      assert.deepEqual(superblock.uuid, own.uuid)
    })
  }
})
