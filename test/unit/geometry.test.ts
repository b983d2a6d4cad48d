import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { GIB, KIB, MIB, PAGE_BYTES, TIB } from '../../src/base/units.js'
import { CHUNK_SLOT } from '../../src/layout/chunk-slot.js'
import {
  ANCHOR_AT,
  bytesToGranules,
  computeGeometry,
  type Geometry,
  GRANULE_BYTES_MAX,
  GRANULES_MAX,
  granuleToOffset,
  planGeometry,
  SUPERBLOCK_AT,
  TABLE_AT,
} from '../../src/layout/geometry.js'
import { seeded } from '../support/random.js'

/** Every area in order of place: disjoint, within the volume, aligned, and large enough. */
function check(g: Geometry, alignBytes: number): void {
  const areas: [name: string, at: number, bytes: number][] = [
    ['superblock', SUPERBLOCK_AT, PAGE_BYTES],
    ['anchor', ANCHOR_AT, PAGE_BYTES],
    ['table', TABLE_AT, g.tableBytes],
    ['log', g.logAt, g.logBytes],
    ['data', g.dataAt, g.granules * g.granuleBytes],
    ['table copy', g.tableCopyAt, g.tableBytes],
    ['anchor copy', g.anchorCopyAt, PAGE_BYTES],
    ['superblock copy', g.superblockCopyAt, PAGE_BYTES],
  ]
  let end = 0
  for (const [name, at, bytes] of areas) {
    assert.ok(Number.isSafeInteger(at) && Number.isSafeInteger(at + bytes), `${name} is exact`)
    assert.ok(at >= end, `${name} at ${at} begins before ${end}`)
    assert.ok(bytes > 0, `${name} is empty`)
    assert.equal(at % PAGE_BYTES, 0, `${name} is not aligned`)
    end = at + bytes
  }
  assert.equal(end, g.sizeBytes, 'the second superblock ends the volume')
  assert.equal(g.tailAt, g.dataAt + g.granules * g.granuleBytes)
  assert.equal(g.dataAt % g.granuleBytes, 0)
  assert.equal(g.granuleBytes % alignBytes, 0)
  assert.equal(g.sizeBytes % alignBytes, 0)
  assert.ok(g.slots >= g.granules, 'a slot for each granule')
  assert.ok(g.tableBytes >= g.slots * CHUNK_SLOT.bytes, 'the table holds its slots')
  assert.ok(g.slots <= GRANULES_MAX)
  // Nothing is wasted beyond what alignment costs.
  assert.ok(g.dataAt - (g.logAt + g.logBytes) < g.granuleBytes)
  assert.ok(g.tableCopyAt - g.tailAt < g.granuleBytes)
  assert.equal(granuleToOffset(g, 0), g.dataAt)
  assert.equal(granuleToOffset(g, g.granules), g.tailAt)
}

describe('geometry', () => {
  describe('defaults', () => {
    const cases: [size: number, granule: number, log: number][] = [
      [MIB, 4 * KIB, 64 * KIB],
      [4 * MIB, 4 * KIB, 64 * KIB],
      [8 * MIB, 4 * KIB, 128 * KIB],
      [16 * MIB, 8 * KIB, 256 * KIB],
      [100 * MIB, 32 * KIB, MIB],
      [GIB, 512 * KIB, 16 * MIB],
      [4 * GIB, 2 * MIB, 64 * MIB],
      [TIB, 2 * MIB, 64 * MIB],
      [8 * TIB, 2 * MIB, 64 * MIB],
      [9 * TIB, 4 * MIB, 64 * MIB],
      [2 ** 52, GIB, 64 * MIB],
      [Number.MAX_SAFE_INTEGER, 2 * GIB, 64 * MIB],
    ]
    for (const [sizeBytes, granuleBytes, logBytes] of cases) {
      it(`${sizeBytes} bytes: granules of ${granuleBytes}, log of ${logBytes}`, () => {
        const g = planGeometry({ sizeBytes, alignBytes: PAGE_BYTES })
        assert.deepEqual([g.granuleBytes, g.logBytes], [granuleBytes, logBytes])
        assert.equal(g.sizeBytes, sizeBytes - (sizeBytes % PAGE_BYTES))
        check(g, PAGE_BYTES)
      })
    }
  })

  it('the smallest volume keeps most of its bytes for chunks', () => {
    const g = planGeometry({ sizeBytes: MIB, alignBytes: PAGE_BYTES })
    assert.deepEqual(
      [g.slots, g.tableBytes, g.logAt, g.dataAt, g.granules, g.tailAt],
      [256, 32 * KIB, 40 * KIB, 104 * KIB, 220, MIB - 40 * KIB],
    )
  })

  describe('wanted', () => {
    const cases: [
      size: number,
      granule: number | undefined,
      log: number | undefined,
      align: number,
    ][] = [
      [MIB, 4 * KIB, 64 * KIB, PAGE_BYTES],
      [MIB, 64 * KIB, 64 * KIB, PAGE_BYTES],
      [MIB + 4095, undefined, undefined, PAGE_BYTES],
      [MIB + 12345, 8 * KIB, 128 * KIB, PAGE_BYTES],
      [64 * MIB, undefined, undefined, 2 * MIB],
      [65 * MIB + 1, 4 * KIB, 64 * KIB, 2 * MIB],
      [16 * GIB, 4 * KIB, GIB, PAGE_BYTES],
      [64 * GIB, GRANULE_BYTES_MAX, undefined, PAGE_BYTES],
      [64 * GIB, undefined, undefined, GIB],
      [Number.MAX_SAFE_INTEGER, GRANULE_BYTES_MAX, GIB, 2 * MIB],
    ]
    for (const [sizeBytes, granuleBytes, logBytes, alignBytes] of cases) {
      it(`${sizeBytes} bytes, granule ${granuleBytes}, log ${logBytes}, aligned to ${alignBytes}`, () => {
        const g = planGeometry({ sizeBytes, granuleBytes, logBytes, alignBytes })
        check(g, alignBytes)
        if (logBytes !== undefined) assert.equal(g.logBytes, logBytes)
        if (granuleBytes !== undefined) {
          assert.equal(g.granuleBytes, Math.max(granuleBytes, alignBytes))
        }
      })
    }
  })

  describe('refused', () => {
    const cases: [
      why: string,
      size: number,
      granule: number | undefined,
      log: number | undefined,
      align: number,
    ][] = [
      ['less than the least', MIB - 1, undefined, undefined, PAGE_BYTES],
      ['nothing', 0, undefined, undefined, PAGE_BYTES],
      ['less than the least after rounding', 3 * MIB - 1, undefined, undefined, 4 * MIB],
      ['a granule as large as the volume', MIB, MIB, undefined, PAGE_BYTES],
      ['a log as large as the volume', MIB, undefined, MIB, PAGE_BYTES],
      ['a log that leaves no granule', MIB, 4 * KIB, 944 * KIB, PAGE_BYTES],
      ['more granules than the table may have', 32 * GIB, 4 * KIB, undefined, PAGE_BYTES],
    ]
    for (const [why, sizeBytes, granuleBytes, logBytes, alignBytes] of cases) {
      it(why, () => {
        assert.throws(() => planGeometry({ sizeBytes, granuleBytes, logBytes, alignBytes }), {
          name: 'PlinthError',
          code: 'ERR_DEVICE_TOO_SMALL',
        })
      })
    }

    it('one granule less of log, and there is room for one chunk', () => {
      const g = computeGeometry({ sizeBytes: MIB, granuleBytes: 4096, logBytes: 940 * KIB })
      assert.equal(g?.granules, 1)
    })
  })

  it('any size, granule and log: areas in order, or no volume', () => {
    seeded((random) => {
      let volumes = 0
      for (let i = 0; i < 5000; i++) {
        const alignBytes = random.pick([PAGE_BYTES, 2 * MIB, GIB])
        const sizeBytes = Math.floor(2 ** (20 + (random.next() / 2 ** 32) * 33))
        const granuleBytes = random.chance(2) ? undefined : 2 ** random.between(12, 32)
        const logBytes = random.chance(2) ? undefined : PAGE_BYTES * random.between(16, 262_144)
        let g: Geometry
        try {
          g = planGeometry({ sizeBytes, granuleBytes, logBytes, alignBytes })
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'ERR_DEVICE_TOO_SMALL')
          continue
        }
        check(g, alignBytes)
        // What open works out from the superblock is the same.
        assert.deepEqual(computeGeometry(g), g)
        volumes++
      }
      assert.ok(volumes > 1000, `${volumes} volumes`)
    })
  })

  const granules: [bytes: number, granules: number][] = [
    [1, 1],
    [4095, 1],
    [4096, 1],
    [4097, 2],
    [4 * GIB, MIB],
  ]
  for (const [bytes, count] of granules) {
    it(`${bytes} bytes take ${count} granules of 4096`, () => {
      const g = computeGeometry({ sizeBytes: MIB, granuleBytes: 4096, logBytes: 64 * KIB })!
      assert.equal(bytesToGranules(g, bytes), count)
    })
  }
})
