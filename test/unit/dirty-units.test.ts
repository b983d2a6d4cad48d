import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DirtyUnits } from '../../src/log/dirty-units.js'
import { type Granularity, type Mapping, Media } from '../../src/media/media.js'
import { Staging } from '../../src/media/staging.js'
import { seeded } from '../support/random.js'

/** Media that only remember what was written in place. */
class Recorder extends Media {
  readonly granularity: Granularity = 'cache-line'
  readonly sizeBytes = 2 ** 40
  readonly appendBytes = 64
  readonly dirtyUnitsMax = 65536
  readonly sharesFences = false
  readonly dirtyUnitShift: number
  written: string[] = []
  calls = 0

  constructor(dirtyUnitShift: number) {
    super()
    this.dirtyUnitShift = dirtyUnitShift
  }

  map(offset: number, length: number): Mapping {
    const slot = this.freeSlot()
    const mapping = { slot, offset, length, bytes: new Uint8Array(0), dirty: undefined }
    this.mappings[slot] = mapping
    return mapping
  }

  unmap(mapping: Mapping): void {
    this.mappings[mapping.slot] = undefined
  }

  persistDirtyUnits(list: Uint32Array, count: number): void {
    this.calls++
    for (let i = 0; i < count; i++) this.written.push(`${list[2 * i]}:${list[2 * i + 1]}`)
  }

  detach(): void {}
  attach(): void {}
  flush(): void {}
  flushStores(): void {}
  fence(): void {}
  protected appendBytesOf(): void {}
  zero(): void {}
  extend(): void {}
  close(): void {}
}

const LINE = 6
const PAGE = 12

describe('in-place locations that wait for a checkpoint', () => {
  const cases: [shift: number, offset: number, length: number, units: number[]][] = [
    [LINE, 0, 1, [0]],
    [LINE, 63, 1, [0]],
    [LINE, 63, 2, [0, 1]],
    [LINE, 64, 64, [1]],
    [LINE, 64, 65, [1, 2]],
    [LINE, 2047, 2, [31, 32]],
    [PAGE, 4095, 4098, [0, 1, 2]],
    [PAGE, 8192, 4096, [2]],
    [LINE, 2 ** 32 - 64, 64, [2 ** 26 - 1]],
    [PAGE, 2 ** 31 - 1, 2, [2 ** 19 - 1, 2 ** 19]],
  ]
  for (const [shift, offset, length, units] of cases) {
    it(`${length} bytes at ${offset} are units ${units} of ${2 ** shift}`, () => {
      const media = new Recorder(shift)
      const dirtyUnits = new DirtyUnits(media)
      const mapping = media.map(0, 2 ** 32)
      dirtyUnits.mark(mapping, offset, length)
      dirtyUnits.mark(mapping, offset, length)
      assert.equal(dirtyUnits.count, units.length)
      assert.equal(dirtyUnits.hasDirty(mapping), true)
      assert.equal(dirtyUnits.isDirty(mapping, offset, length), true)
      assert.equal(dirtyUnits.isDirty(mapping, offset, 0), false)
      const first = units[0]! * 2 ** shift
      if (first > 0) assert.equal(dirtyUnits.isDirty(mapping, first - 1, 1), false)
      dirtyUnits.persist()
      assert.deepEqual(
        media.written,
        units.map((unit) => `${mapping.slot}:${unit}`),
      )
      assert.equal(dirtyUnits.hasDirty(mapping), false)
      assert.equal(dirtyUnits.count, 0)
      dirtyUnits.persist()
      assert.equal(media.calls, 1, 'with nothing dirty nothing is asked of the media')
    })
  }

  it('marks the targets of a record', () => {
    const media = new Recorder(LINE)
    const dirtyUnits = new DirtyUnits(media)
    const [a, b] = [media.map(0, 4096), media.map(4096, 4096)]
    const staging = new Staging()
    staging.target(a.slot, 0, 16, 8)
    staging.target(b.slot, 100, 16, 100)
    dirtyUnits.markTargets(staging)
    dirtyUnits.persist()
    assert.deepEqual(media.written, ['0:0', '1:1', '1:2', '1:3'])
  })

  it('are nobody else’s: one that follows another lists what it has marked', () => {
    // Recovery's own bookkeeping once left bits that hid later changes from the checkpoints of the log.
    const media = new Recorder(LINE)
    const mapping = media.map(0, 4096)
    const first = new DirtyUnits(media)
    first.mark(mapping, 0, 64)
    first.persist()
    first.mark(mapping, 128, 64)
    const second = new DirtyUnits(media)
    assert.equal(second.hasDirty(mapping), false)
    media.written = []
    second.mark(mapping, 0, 64)
    second.mark(mapping, 128, 64)
    second.persist()
    assert.deepEqual(media.written, ['0:0', '0:2'])
    second.mark(mapping, 0, 64)
    second.forget(mapping)
    assert.equal(second.hasDirty(mapping), false)
  })

  for (const [what, marks] of [
    ['few', 3],
    ['many', 600],
  ] as const) {
    it(`${what}: a checkpoint keeps the bitmap, the second without a mark drops it`, () => {
      const media = new Recorder(LINE)
      const dirtyUnits = new DirtyUnits(media)
      const mapping = media.map(0, 1024 * 64)
      const mark = () => {
        for (let unit = 0; unit < marks; unit++) dirtyUnits.mark(mapping, unit * 64, 64)
      }
      mark()
      const { dirty } = mapping
      assert.deepEqual([dirty!.units, dirtyUnits.hasDirty(mapping)], [marks, true])
      dirtyUnits.persist()
      assert.equal(mapping.dirty, dirty)
      assert.ok(dirty!.bits.every((word) => word === 0))
      assert.deepEqual([dirty!.units, dirtyUnits.hasDirty(mapping)], [0, false])
      mark()
      dirtyUnits.persist()
      assert.equal(mapping.dirty, dirty)
      assert.equal(media.written.length, 2 * marks)
      dirtyUnits.persist()
      assert.equal(mapping.dirty, undefined)
    })
  }

  it('any marks, beside a plain set', () => {
    seeded((random) => {
      // Few units, most of them marked between two checkpoints, and many, of which few are.
      for (const [shift, units] of [
        [LINE, 100],
        [LINE, 20_000],
        [PAGE, 100],
      ] as const) {
        const media = new Recorder(shift)
        const dirtyUnits = new DirtyUnits(media)
        const unitBytes = 2 ** shift
        const open: (Mapping | undefined)[] = []
        const dirty = new Set<string>()
        for (let step = 0; step < 20_000; step++) {
          const at = random.below(6)
          const mapping = open[at]
          const offset = random.below(units * unitBytes - 1)
          const length = random.between(1, Math.min(5 * unitBytes, units * unitBytes - offset))
          const touched: string[] = []
          for (let u = Math.floor(offset / unitBytes); u * unitBytes < offset + length; u++) {
            touched.push(`${mapping?.slot}:${u}`)
          }
          const what = random.below(100)
          if (mapping === undefined) open[at] = media.map(0, units * unitBytes)
          else if (what < 60) {
            dirtyUnits.mark(mapping, offset, length)
            for (const unit of touched) dirty.add(unit)
          } else if (what < 95) {
            assert.equal(
              dirtyUnits.isDirty(mapping, offset, length),
              touched.some((unit) => dirty.has(unit)),
            )
            assert.equal(
              dirtyUnits.hasDirty(mapping),
              [...dirty].some((unit) => unit.startsWith(`${mapping.slot}:`)),
            )
          } else if (what < 98) {
            // Its chunk is freed; the slot is taken by the next mapping.
            dirtyUnits.forget(mapping)
            media.unmap(mapping)
            open[at] = undefined
            for (const unit of dirty) if (unit.startsWith(`${mapping.slot}:`)) dirty.delete(unit)
          } else {
            media.written = []
            dirtyUnits.persist()
            assert.equal(new Set(media.written).size, media.written.length, 'each unit once')
            assert.deepEqual(new Set(media.written), dirty)
            dirty.clear()
          }
        }
      }
    })
  })
})
