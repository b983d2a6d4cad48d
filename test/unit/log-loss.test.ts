/**
 * What was durable in the log and cannot be reached: a record is damaged, says what none can say, or the
 * log was overwritten. None of that is repaired without a word; what stands before it can be read, and the
 * rest be given up.
 */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type FindingCode, formatFindings, Volume } from 'plinth'
import { crc32c } from '../../src/base/checksum.js'
import { decodeCheckpoint } from '../../src/layout/checkpoint-header.js'
import { CHECKPOINT_AT, planGeometry } from '../../src/layout/geometry.js'
import { volumeSeed } from '../../src/layout/superblock.js'
import { recordSeed } from '../../src/log/log.js'
import { plinth } from '../support/cli.js'
import { inMemory } from '../support/devices.js'
import { placesOf } from '../support/places.js'

const SIZE = 4 * 1024 * 1024
const geometry = planGeometry({ sizeBytes: SIZE, alignBytes: 4096 })
const { logAt, logBytes, slots } = geometry
const { tableAt, tableCopyAt } = placesOf(geometry)
/** On page granularity each transaction ends a block of this. */
const BLOCK = 4096

/** A volume that was not closed: chunk `a` from before the last checkpoint, `b` to `e` from the log. */
function crashed<T>(
  damage: (image: Uint8Array, head: number) => void,
  body: (path: string) => T,
): T {
  return inMemory((folder) => {
    const [open, path] = [join(folder, 'open'), join(folder, 'device')]
    Volume.format(open, { size: SIZE })
    const volume = Volume.open(open)
    volume.allocate({ size: 4096, name: 'a' }).write(0, Uint8Array.of(1))
    volume.checkpoint()
    for (const name of ['b', 'c', 'd', 'e']) volume.allocate({ size: 4096, name })
    volume.transact((tx) => tx.setUint32(volume.chunk('a'), 8, 2))
    const image = Uint8Array.from(fs.readFileSync(open))
    volume.close()
    const { head } = decodeCheckpoint(
      image.subarray(CHECKPOINT_AT, CHECKPOINT_AT + 64),
      seedOf(image),
    )!
    damage(image, head)
    fs.writeFileSync(path, image)
    return body(path)
  })
}

const seedOf = (image: Uint8Array) => volumeSeed(image.subarray(32, 48))
const codes = (path: string) => Volume.check(path).map(({ code }) => code)
const names = (volume: Volume) => volume.chunks().map(({ name }) => name)

/** Overwrites many bytes of the third record of the log: that which allocates `d`. */
function damageThird(image: Uint8Array, head: number): void {
  image.fill(0x5a, logAt + ((head + 2 * BLOCK) % logBytes) + 32, logAt + head + 2 * BLOCK + 100)
}

/** Makes it one that changes the superblock, with a right checksum. */
function forgeThird(image: Uint8Array, head: number): void {
  const at = logAt + head + 2 * BLOCK
  const view = new DataView(image.buffer, at)
  view.setUint32(24, 0, true)
  const { logSalt } = decodeCheckpoint(
    image.subarray(CHECKPOINT_AT, CHECKPOINT_AT + 64),
    seedOf(image),
  )!
  const end = at + view.getUint32(4, true)
  view.setUint32(0, crc32c(recordSeed(seedOf(image), logSalt), image, at + 4, end), true)
}

describe('a log whose records behind a damage were durable', () => {
  const cases: [what: string, damage: typeof damageThird, code: FindingCode, records: number][] = [
    ['damaged', damageThird, 'log-damaged', 2],
    ['impossible', forgeThird, 'log-entry-impossible', 2],
  ]
  for (const [what, damage, code, records] of cases) {
    test(`${what}: is refused, read up to there, and given up`, () => {
      crashed(damage, (path) => {
        const before = fs.readFileSync(path)
        assert.ok(codes(path).includes(code))
        for (const readOnly of [true, false]) {
          assert.throws(() => Volume.open(path, { readOnly }), { code: 'ERR_VOLUME_CORRUPT' })
        }
        const reader = Volume.open(path, { readOnly: true, salvage: true })
        assert.deepEqual(names(reader), ['a', 'b', 'c'])
        assert.equal(reader.chunk('a').bytes[0], 1)
        assert.ok(reader.chunks().every(({ unverified }) => unverified))
        const { loss } = reader.recovery
        assert.equal(loss?.records, records)
        assert.equal(loss?.bytes, 3 * BLOCK)
        assert.equal(loss?.slots, 0)
        reader.close()
        assert.deepEqual(Volume.repair(path, { dryRun: false }).fixes, [])
        assert.deepEqual(fs.readFileSync(path), before, 'nothing is written')

        const plan = Volume.repair(path, { dropDamaged: true })
        assert.ok(plan.fixes.length > 0 && plan.fixes.every(({ drops }) => drops))
        assert.match(plan.fixes[0]!.message, /from LSN \d+ on is lost \(2 whole records/)
        const { remaining } = Volume.repair(path, { dropDamaged: true, dryRun: false })
        assert.deepEqual(
          remaining.filter(({ severity }) => severity !== 'info'),
          [],
          formatFindings(remaining),
        )
        const volume = Volume.open(path)
        assert.deepEqual(names(volume), ['a', 'b', 'c'])
        assert.equal(volume.recovery.loss, undefined)
        volume.allocate({ size: 4096, name: 'later' })
        volume.close()
        assert.deepEqual(codes(path), [])
      })
    })
  }

  test('a volume without damage loses nothing to salvage', () => {
    crashed(
      () => {},
      (path) => {
        const reader = Volume.open(path, { readOnly: true, salvage: true })
        assert.deepEqual(names(reader), ['a', 'b', 'c', 'd', 'e'])
        assert.equal(reader.recovery.loss, undefined)
        assert.equal(reader.chunks()[0]!.unverified, undefined)
        reader.close()
        assert.throws(() => Volume.open(path, { salvage: true }), { code: 'ERR_INVALID_ARG_VALUE' })
      },
    )
  })

  /** The table was evicted from the cache, or written by a checkpoint that a crash cut: it is ahead of what is left of the log. */
  test('slots that are newer than what is left of the log are rolled back', () => {
    const renamed = (image: Uint8Array, head: number) => {
      damageThird(image, head)
      // Slot 1 (`b`), a version newer than its record.
      for (const table of [tableAt, tableCopyAt]) {
        const at = table + 128
        const record = logAt + head + 24 + 8
        image.copyWithin(at, record, record + 128)
        new DataView(image.buffer).setUint32(at + 4, 9, true)
        const seed = (seedOf(image) ^ Math.imul(2, 0x9e3779b1)) >>> 0
        new DataView(image.buffer).setUint32(at, crc32c(seed, image, at + 4, at + 128), true)
      }
    }
    crashed(renamed, (path) => {
      const reader = Volume.open(path, { readOnly: true, salvage: true })
      assert.deepEqual(names(reader), ['a', 'b', 'c'])
      reader.close()
      Volume.repair(path, { dropDamaged: true, dryRun: false })
      const volume = Volume.open(path)
      assert.deepEqual(names(volume), ['a', 'b', 'c'])
      assert.deepEqual(volume.check(), [])
      volume.close()
    })
  })

  test('the commands read with --salvage and say what is lost', () => {
    crashed(damageThird, (path) => {
      for (const [command, ...rest] of [['info'], ['ls'], ['export', 'a'], ['dump']]) {
        assert.equal(plinth([command!, path, ...rest]).code, 3, command)
        const { code, err } = plinth([command!, path, ...rest, '--salvage'])
        assert.equal(code, 0, err)
        assert.match(err, /salvaged: the log cannot be read from LSN \d+ on \(2 whole records/)
      }
      assert.match(plinth(['check', path]).out, /repair \S+ --drop-damaged/)
      const repaired = plinth(['repair', path, '--drop-damaged', '--apply', '--force'])
      assert.match(repaired.out, /zeroed: what was committed from LSN/)
      assert.equal(plinth(['ls', path]).code, 0)
    })
  })
})

describe('a log that was overwritten', () => {
  /**
   * The beginning of a volume that a crash had left was zeroed. Everything that is kept twice came back from
   * its second copy, "without loss", and four acknowledged chunks were gone.
   */
  test('together with all that stands before it: nothing is called lossless', () => {
    for (const end of [SIZE / 4, logAt + logBytes]) {
      crashed(
        (image) => image.fill(0, 0, end),
        (path) => {
          const before = fs.readFileSync(path)
          assert.ok(Volume.check(path).every(({ fixable }) => !fixable))
          const force = true
          const { findings, fixes } = Volume.repair(path, { dryRun: false, force })
          assert.ok(
            findings.some(({ code, severity }) => code === 'log-gone' && severity === 'error'),
          )
          assert.ok(findings.every(({ fixable }) => !fixable))
          assert.deepEqual(fixes, [])
          assert.deepEqual(fs.readFileSync(path), before)
          const options = { dryRun: false, force, dropDamaged: true }
          assert.deepEqual(Volume.repair(path, options).remaining, [])
          const volume = Volume.open(path)
          assert.deepEqual(names(volume), ['a'])
          volume.close()
          assert.deepEqual(codes(path), [])
        },
      )
    }
  })

  test('alone: opening refuses it too', () => {
    crashed(
      (image) => image.fill(0, logAt, logAt + logBytes),
      (path) => {
        assert.deepEqual(codes(path), ['not-closed', 'log-gone'])
        assert.throws(() => Volume.open(path), { code: 'ERR_VOLUME_CORRUPT' })
        assert.throws(() => Volume.open(path, { readOnly: true }), { code: 'ERR_VOLUME_CORRUPT' })
        const reader = Volume.open(path, { readOnly: true, salvage: true })
        assert.deepEqual(names(reader), ['a'])
        assert.equal(reader.recovery.loss?.records, 0)
        reader.close()
        Volume.repair(path, { dryRun: false, dropDamaged: true })
        assert.deepEqual(names(Volume.open(path)), ['a'])
      },
    )
  })

  test('a closed volume has nothing in it to lose', () => {
    inMemory((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: SIZE })
      const volume = Volume.open(path)
      volume.allocate({ size: 4096, name: 'a' })
      volume.close()
      const image = Uint8Array.from(fs.readFileSync(path))
      image.fill(0, 0, SIZE / 4)
      fs.writeFileSync(path, image)
      const { fixes, remaining } = Volume.repair(path, { dryRun: false, force: true })
      assert.ok(fixes.length > 0 && fixes.every(({ drops }) => !drops))
      assert.deepEqual(remaining, [])
      assert.deepEqual(names(Volume.open(path)), ['a'])
    })
  })

  test('a lost sector of the head does not put the log in doubt', () => {
    for (const at of [0, CHECKPOINT_AT, tableAt]) {
      crashed(
        (image) => image.fill(0, at, at + 512),
        (path) => {
          assert.ok(!codes(path).includes('log-gone'))
          assert.ok(
            Volume.check(path).every(({ fixable, severity }) => fixable || severity === 'info'),
          )
        },
      )
    }
    assert.ok(slots * 128 > 512)
  })
})
