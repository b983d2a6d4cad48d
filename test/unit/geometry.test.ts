import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { GIB, KIB, MIB, PAGE_BYTES, TIB } from '../../src/base/units.js'
import { CHUNK_SLOT, SLOTS_MAX } from '../../src/layout/chunk-slot.js'
import {
  bytesToGranules,
  CHECKPOINT_AT,
  extentEnd,
  type Geometry,
  GRANULE_BYTES_MAX,
  GRANULES_MAX,
  geometryFor,
  geometryOf,
  granuleToOffset,
  metadataRuns,
  planGeometry,
  reshape,
  type Shape,
  SUPERBLOCK_AT,
  slotPlaces,
  TABLE_EXTENTS_MAX,
} from '../../src/layout/geometry.js'
import { seeded } from '../support/random.js'

const G = PAGE_BYTES

function shapeOf({ sizeBytes, granuleBytes, logAt, logBytes, extents }: Shape): Shape {
  return { sizeBytes, granuleBytes, logAt, logBytes, extents }
}

/** Every area of a new volume in order of place: disjoint, within the volume, aligned, and large enough. */
function check(g: Geometry, alignBytes: number): void {
  assert.equal(g.extents.length, 1)
  const { slots, firstAt, secondAt } = g.extents[0]!
  const tableBytes = slots * CHUNK_SLOT.bytes
  const areas: [name: string, at: number, bytes: number, align: number][] = [
    ['superblock', SUPERBLOCK_AT, PAGE_BYTES, PAGE_BYTES],
    ['checkpoint header', CHECKPOINT_AT, PAGE_BYTES, PAGE_BYTES],
    ['table', firstAt, tableBytes, g.granuleBytes],
    ['log', g.logAt, g.logBytes, g.granuleBytes],
    ['table copy', secondAt, tableBytes, g.granuleBytes],
    ['checkpoint header copy', g.checkpointCopyAt, PAGE_BYTES, PAGE_BYTES],
    ['superblock copy', g.superblockCopyAt, PAGE_BYTES, PAGE_BYTES],
  ]
  let end = 0
  for (const [name, at, bytes, align] of areas) {
    assert.ok(Number.isSafeInteger(at) && Number.isSafeInteger(at + bytes), `${name} is exact`)
    assert.ok(at >= end, `${name} at ${at} begins before ${end}`)
    assert.ok(bytes > 0, `${name} is empty`)
    assert.equal(at % align, 0, `${name} is not aligned`)
    end = at + bytes
  }
  assert.equal(end, g.sizeBytes, 'the second superblock ends the volume')
  assert.equal(g.granuleBytes % alignBytes, 0)
  assert.equal(g.sizeBytes % alignBytes, 0)
  assert.equal(g.dataAt, Math.max(2 * PAGE_BYTES, g.granuleBytes))
  assert.equal(granuleToOffset(g, g.granules), g.tailAt)
  assert.ok(g.tailAt <= g.checkpointCopyAt && g.checkpointCopyAt - g.tailAt < g.granuleBytes)
  assert.ok(g.granules <= GRANULES_MAX)
  // Slots for all granules, or so many that the table fits a small part of the volume.
  assert.equal(g.slots, slots)
  assert.ok(slots >= Math.min(8192, Math.floor(g.sizeBytes / g.granuleBytes)))
  assert.ok(slots <= SLOTS_MAX && slots % 32 === 0)
  // Nothing is wasted beyond what alignment costs, and there is room for a chunk.
  assert.equal(firstAt, g.dataAt)
  assert.ok(tableBytes === slots * CHUNK_SLOT.bytes && tableBytes <= Math.max(g.granuleBytes, MIB))
  assert.ok(g.logAt - (firstAt + tableBytes) < g.granuleBytes)
  assert.ok(g.tailAt - (secondAt + tableBytes) < g.granuleBytes)
  assert.ok(secondAt - (g.logAt + g.logBytes) >= g.granuleBytes)
}

describe('a new volume', () => {
  describe('by default', () => {
    const cases: [size: number, granule: number, log: number, slots: number][] = [
      [MIB, 4 * KIB, 64 * KIB, 256],
      [4 * MIB, 4 * KIB, 64 * KIB, 1024],
      [8 * MIB, 4 * KIB, 128 * KIB, 2048],
      [16 * MIB, 8 * KIB, 256 * KIB, 2048],
      [100 * MIB, 32 * KIB, MIB, 3328],
      [GIB, 64 * KIB, 16 * MIB, 8192],
      [4 * GIB, 64 * KIB, 64 * MIB, 8192],
      [TIB, 64 * KIB, 64 * MIB, 8192],
      [128 * TIB, 64 * KIB, 64 * MIB, 8192],
      [256 * TIB - 64 * KIB, 64 * KIB, 64 * MIB, 8192],
      [256 * TIB, 128 * KIB, 64 * MIB, 8192],
      [2 ** 52, 2 * MIB, 64 * MIB, 16_384],
      [Number.MAX_SAFE_INTEGER, 4 * MIB, 64 * MIB, 32_768],
    ]
    for (const [sizeBytes, granuleBytes, logBytes, slots] of cases) {
      it(`${sizeBytes} bytes: granules of ${granuleBytes}, log of ${logBytes}, ${slots} slots`, () => {
        const g = planGeometry({ sizeBytes, alignBytes: PAGE_BYTES })
        assert.deepEqual([g.granuleBytes, g.logBytes, g.slots], [granuleBytes, logBytes, slots])
        assert.equal(g.sizeBytes, sizeBytes - (sizeBytes % PAGE_BYTES))
        if (granuleBytes <= 64 * KIB) check(g, PAGE_BYTES)
      })
    }
  })

  describe('that grows has the granule of what it may become', () => {
    const cases: [size: number, maxBytes: number | undefined, granule: number][] = [
      [8 * MIB, undefined, 4 * KIB],
      [8 * MIB, 0, 4 * KIB],
      [8 * MIB, MIB, 4 * KIB],
      [8 * MIB, 16 * MIB, 8 * KIB],
      [8 * MIB, GIB, 64 * KIB],
      [8 * MIB, TIB, 64 * KIB],
      [8 * MIB, 2 ** 52, 64 * KIB],
      [8 * MIB, Number.POSITIVE_INFINITY, 64 * KIB],
      [256 * TIB, Number.POSITIVE_INFINITY, 128 * KIB],
    ]
    for (const [sizeBytes, maxBytes, granuleBytes] of cases) {
      it(`${sizeBytes} bytes, at most ${maxBytes}: ${granuleBytes}`, () => {
        const g = planGeometry({ sizeBytes, maxBytes, alignBytes: PAGE_BYTES })
        assert.deepEqual([g.granuleBytes, g.sizeBytes], [granuleBytes, sizeBytes])
        assert.equal(g.logBytes, planGeometry({ sizeBytes, alignBytes: PAGE_BYTES }).logBytes)
      })
    }
  })

  it('of the smallest size keeps most of its bytes for chunks', () => {
    const g = planGeometry({ sizeBytes: MIB, alignBytes: PAGE_BYTES })
    assert.deepEqual(g, {
      sizeBytes: MIB,
      granuleBytes: 4 * KIB,
      logAt: 40 * KIB,
      logBytes: 64 * KIB,
      extents: [{ slots: 256, firstAt: 8 * KIB, secondAt: MIB - 40 * KIB }],
      slots: 256,
      dataAt: 8 * KIB,
      granules: 254,
      tailAt: MIB - 8 * KIB,
      checkpointCopyAt: MIB - 8 * KIB,
      superblockCopyAt: MIB - 4 * KIB,
    })
    assert.deepEqual(metadataRuns(g), [
      { start: 2, length: 8 },
      { start: 10, length: 16 },
      { start: 246, length: 8 },
    ])
  })

  describe('as wanted', () => {
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
      [16 * TIB - 4096, 4 * KIB, undefined, PAGE_BYTES],
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

  describe('is refused', () => {
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
      ['more granules than can be counted', 16 * TIB, 4 * KIB, undefined, PAGE_BYTES],
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
      const wanted = { sizeBytes: MIB, granuleBytes: 4096, logBytes: 940 * KIB, alignBytes: 4096 }
      const g = planGeometry(wanted)
      assert.equal(g.extents[0]!.secondAt - (g.logAt + g.logBytes), 4096)
    })

    it('one granule less of volume, and all can be counted', () => {
      const wanted = { sizeBytes: 16 * TIB - 4096, granuleBytes: 4096, alignBytes: 4096 }
      assert.equal(planGeometry(wanted).granules, GRANULES_MAX - 2)
    })
  })

  it('of any size, granule and log: areas in order, or none', () => {
    seeded((random) => {
      let volumes = 0
      for (let i = 0; i < 5000; i++) {
        const alignBytes = random.pick([PAGE_BYTES, 2 * MIB, GIB])
        const sizeBytes = Math.floor(2 ** (20 + (random.next() / 2 ** 32) * 33))
        const granuleBytes = random.chance(2) ? undefined : 2 ** random.between(12, 32)
        const logBytes = random.chance(2) ? undefined : PAGE_BYTES * random.between(16, 262_144)
        const maxBytes = random.chance(2) ? undefined : Math.floor(2 ** random.between(20, 60))
        let g: Geometry
        try {
          g = planGeometry({ sizeBytes, granuleBytes, logBytes, maxBytes, alignBytes })
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'ERR_DEVICE_TOO_SMALL')
          continue
        }
        check(g, alignBytes)
        // What open works out from the superblock is the same.
        assert.deepEqual(geometryOf(shapeOf(g)), g)
        volumes++
      }
      assert.ok(volumes > 1000, `${volumes} volumes`)
    })
  })
})

/**
 * A volume that has grown: 1024 granules, of them 2 head and 2 tail.
 *
 *   2+2 first table    20+16 log    50+1, 100+1 second extent, its second copy first    1020+2 second copy
 */
const GROWN: Shape = {
  sizeBytes: 4 * MIB,
  granuleBytes: G,
  logAt: 20 * G,
  logBytes: 16 * G,
  extents: [
    { slots: 64, firstAt: 2 * G, secondAt: 1020 * G },
    { slots: 32, firstAt: 100 * G, secondAt: 50 * G },
  ],
}
const [ONE, TWO] = GROWN.extents as [Shape['extents'][0], Shape['extents'][0]]

describe('the geometry of a shape', () => {
  it('is what follows from it', () => {
    assert.deepEqual(geometryOf(GROWN), {
      ...GROWN,
      slots: 96,
      dataAt: 2 * G,
      granules: 1022,
      tailAt: 1022 * G,
      checkpointCopyAt: 1022 * G,
      superblockCopyAt: 1023 * G,
    })
    assert.deepEqual(geometryFor(GROWN), geometryOf(GROWN))
  })

  const extents = (...some: Shape['extents']) => ({ extents: some })
  /** So many extents of a page, side by side from granule 100 on, the second copies from 500 on. */
  const many = (count: number) => ({
    extents: Array.from({ length: count }, (_, i) => ({
      slots: 32,
      firstAt: (100 + i) * G,
      secondAt: (500 + i) * G,
    })),
  })
  /** Granules of a gigabyte: extents of 8 Mi slots each. */
  const large = (...slots: number[]) => ({
    sizeBytes: 64 * GIB,
    granuleBytes: GIB,
    logAt: GIB,
    extents: slots.map((each, i) => ({
      slots: each,
      firstAt: (4 + 2 * i) * GIB,
      secondAt: (32 + 2 * i) * GIB,
    })),
  })
  const INFINITE = Number.POSITIVE_INFINITY

  const possible: [what: string, change: Partial<Shape>][] = [
    ['the least log', { logBytes: 64 * KIB }],
    ['a log that ends where the granules do', { logAt: 1004 * G }],
    ['a log right behind the head', { logAt: 2 * G, ...extents(TWO) }],
    ['a log between extents, touching both', { logAt: 51 * G, logBytes: 49 * G }],
    ['a log that is no whole granules', { ...large(32), logBytes: 64 * KIB }],
    ['one extent', extents(ONE)],
    ['extents in another order', extents(TWO, ONE)],
    ['as many extents as there can be', many(TABLE_EXTENTS_MAX)],
    ['as many slots as there can be', large(SLOTS_MAX / 2, SLOTS_MAX / 2)],
    [
      'no free granule',
      {
        sizeBytes: MIB,
        logAt: 4 * G,
        logBytes: 248 * G,
        ...extents({ ...TWO, firstAt: 2 * G, secondAt: 3 * G }),
      },
    ],
    [
      'pages that are no granules at the end',
      {
        sizeBytes: 4 * MIB + 3 * G,
        granuleBytes: 4 * G,
        ...extents({ slots: 32, firstAt: 4 * G, secondAt: 8 * G }),
      },
    ],
    ['granules that can just be counted', { sizeBytes: 16 * TIB - G }],
  ]
  for (const [what, change] of possible) {
    it(`${what}: is one`, () => {
      const g = geometryOf({ ...GROWN, ...change })
      assert.ok(g !== undefined)
      assert.deepEqual(shapeOf(g), { ...GROWN, ...change })
    })
  }

  const impossible: [what: string, change: Partial<Shape>][] = [
    ['less than the least', { sizeBytes: MIB - G, logAt: 20 * G, ...extents(TWO) }],
    ['no size', { sizeBytes: 0 }],
    ['a size that is no whole pages', { sizeBytes: 4 * MIB + 512 }],
    ['a size beyond exact numbers', { sizeBytes: 2 ** 53 }],
    ['a size that was not to be read', { sizeBytes: INFINITE }],
    ['no granule', { granuleBytes: 0 }],
    ['a granule below a page', { granuleBytes: G / 2 }],
    ['a granule that is no power of two', { granuleBytes: 3 * G }],
    [
      'a granule above the largest',
      { ...large(32), sizeBytes: 2 ** 50, granuleBytes: 2 * GRANULE_BYTES_MAX },
    ],
    ['a granule that was not to be read', { granuleBytes: INFINITE }],
    ['more granules than can be counted', { sizeBytes: 16 * TIB }],
    ['a granule for which all is between', { granuleBytes: 8 * G }],
    ['no log', { logBytes: 0 }],
    ['a log below the least', { logBytes: 15 * G }],
    ['a log above the largest', { ...large(32), logBytes: GIB + G }],
    ['a log that is no whole pages', { logBytes: 16 * G + 512 }],
    ['a log that was not to be read', { logBytes: INFINITE }],
    ['a log between pages', { logAt: 20 * G + 512 }],
    ['a log between granules', { ...large(32), logAt: GIB + G }],
    ['a log nowhere', { logAt: INFINITE }],
    ['a log in the superblock', { logAt: 0, ...extents(TWO) }],
    ['a log in the checkpoint header', { logAt: G, ...extents(TWO) }],
    ['a log in the tail', { logAt: 1022 * G }],
    ['a log into the tail', { logAt: 1007 * G, ...extents(TWO) }],
    ['a log behind the volume', { logAt: 2000 * G }],
    ['a log over the end of a first copy', { logAt: 3 * G }],
    ['a log over the start of a second copy', { logAt: 1005 * G }],
    ['a log over a small extent', { logAt: 90 * G }],
    ['a log at the place of an extent', { logAt: 100 * G }],
    ['no extents', extents()],
    ['one extent too many', many(TABLE_EXTENTS_MAX + 1)],
    ['no slots', extents(ONE, { ...TWO, slots: 0 })],
    ['slots that are no whole pages', extents(ONE, { ...TWO, slots: 31 })],
    ['more slots than ids in one', large(SLOTS_MAX + 32)],
    ['more slots than ids in all', large(SLOTS_MAX / 2, SLOTS_MAX / 2, 32)],
    ['a first copy between granules', extents(ONE, { ...TWO, firstAt: 100 * G + 128 })],
    ['a second copy between granules', extents(ONE, { ...TWO, secondAt: 50 * G + 2048 })],
    ['a first copy nowhere', extents(ONE, { ...TWO, firstAt: INFINITE })],
    ['a second copy nowhere', extents(ONE, { ...TWO, secondAt: INFINITE })],
    ['a first copy in the superblock', extents(ONE, { ...TWO, firstAt: 0 })],
    ['a second copy in the checkpoint header', extents(ONE, { ...TWO, secondAt: G })],
    ['a second copy in the tail', extents(ONE, { ...TWO, secondAt: 1022 * G })],
    ['a second copy into the tail', extents({ ...ONE, secondAt: 1021 * G }, TWO)],
    ['a second copy behind the volume', extents({ ...ONE, secondAt: 1024 * G }, TWO)],
    ['both copies at one place', extents(ONE, { ...TWO, secondAt: TWO.firstAt })],
    ['copies that overlap', extents({ ...ONE, secondAt: 3 * G }, TWO)],
    ['extents that overlap', extents(ONE, { ...TWO, firstAt: 3 * G })],
    ['a copy over the other extent', extents(ONE, { ...TWO, secondAt: 1021 * G })],
    ['one extent twice', extents(ONE, ONE)],
    ['a copy over the start of the log', extents({ ...ONE, secondAt: 19 * G }, TWO)],
    ['a copy at the end of the log', extents(ONE, { ...TWO, firstAt: 35 * G })],
  ]
  for (const [what, change] of impossible) {
    it(`${what}: there is none`, () => {
      assert.equal(geometryOf({ ...GROWN, ...change }), undefined)
    })
  }

  it('two tables in one granule: there is none, however small they are', () => {
    const shape = {
      ...GROWN,
      granuleBytes: 4 * G,
      ...extents({ slots: 32, firstAt: 8 * G, secondAt: 9 * G }),
    }
    assert.equal(geometryOf(shape), undefined)
    assert.ok(geometryOf({ ...shape, ...extents({ slots: 32, firstAt: 8 * G, secondAt: 12 * G }) }))
  })
})

describe('granules that no chunk can have', () => {
  it('are in order of place, whatever order the extents have', () => {
    const runs = [
      { start: 2, length: 2 },
      { start: 20, length: 16 },
      { start: 50, length: 1 },
      { start: 100, length: 1 },
      { start: 1020, length: 2 },
    ]
    assert.deepEqual(metadataRuns(GROWN), runs)
    assert.deepEqual(metadataRuns({ ...GROWN, extents: [TWO, ONE] }), runs)
  })

  it('are whole ones', () => {
    const extents = [{ slots: 32, firstAt: 64 * KIB, secondAt: 128 * KIB }]
    const shape = {
      ...GROWN,
      granuleBytes: 64 * KIB,
      logAt: 192 * KIB,
      logBytes: 68 * KIB,
      extents,
    }
    assert.deepEqual(metadataRuns(shape), [
      { start: 1, length: 1 },
      { start: 2, length: 1 },
      { start: 3, length: 2 },
    ])
  })
})

describe('places of slots', () => {
  const cases: [slot: number, first: number, second: number, end: number][] = [
    [0, 2 * G, 1020 * G, 64],
    [1, 2 * G + 128, 1020 * G + 128, 64],
    [63, 4 * G - 128, 1022 * G - 128, 64],
    [64, 100 * G, 50 * G, 96],
    [95, 101 * G - 128, 51 * G - 128, 96],
  ]
  for (const [slot, first, second, end] of cases) {
    it(`${slot}: at ${first} and ${second}, in the extent before ${end}`, () => {
      assert.deepEqual(slotPlaces(GROWN, slot), [first, second])
      assert.equal(extentEnd(GROWN, slot), end)
    })
  }

  it('of as many extents as there can be are all different', () => {
    const extents = Array.from({ length: TABLE_EXTENTS_MAX }, (_, i) => ({
      slots: 32 * (1 + (i % 3)),
      firstAt: (100 + 3 * i) * G,
      secondAt: (500 + 3 * i) * G,
    }))
    const g = geometryOf({ ...GROWN, extents })!
    const seen = new Set<number>()
    let slot = 0
    for (const { slots, firstAt, secondAt } of extents) {
      for (let i = 0; i < slots; i++) {
        const places = slotPlaces(g, slot++)
        assert.deepEqual(places, [firstAt + 128 * i, secondAt + 128 * i])
        for (const at of places) seen.add(at)
        assert.equal(extentEnd(g, slot - 1), slot - 1 - i + slots)
      }
    }
    assert.deepEqual([slot, seen.size], [g.slots, 2 * g.slots])
  })
})

describe('a volume that has another shape', () => {
  it('has it for all who have its geometry', () => {
    const g = geometryOf(GROWN)!
    const seen = g
    const next = geometryFor({ ...shapeOf(g), sizeBytes: 8 * MIB, extents: [ONE] })
    reshape(g, next)
    assert.deepEqual(seen, next)
    assert.deepEqual([seen.granules, seen.slots, seen.superblockCopyAt], [2046, 64, 8 * MIB - G])
    assert.deepEqual(geometryOf(shapeOf(seen)), next)
  })
})

describe('granules', () => {
  const cases: [bytes: number, granules: number][] = [
    [1, 1],
    [4095, 1],
    [4096, 1],
    [4097, 2],
    [4 * GIB, MIB],
  ]
  for (const [bytes, count] of cases) {
    it(`${bytes} bytes take ${count} of 4096`, () => {
      assert.equal(bytesToGranules(geometryFor(GROWN), bytes), count)
    })
  }
  it('are counted from the start of the device', () => {
    assert.deepEqual([granuleToOffset(GROWN, 0), granuleToOffset(GROWN, 5)], [0, 5 * G])
    const large = { granuleBytes: GRANULE_BYTES_MAX }
    assert.equal(granuleToOffset(large, 2 ** 21 - 1), 2 ** 53 - 2 ** 32)
  })
})
