/**
 * Pages that the device gives an error for, which nobody knew of: check and repair threw it, at the first one, and
 * said nothing of the rest. The device's part is played by `readSync`.
 */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type FindingCode, type Severity, Volume } from 'plinth'
import { Lenient } from '../../src/check/lenient.js'
import { PlinthError } from '../../src/index.js'
import { CHECKPOINT_AT, planGeometry } from '../../src/layout/geometry.js'
import { inMemory, MIB, PAGE } from '../support/devices.js'
import { placesOf } from '../support/places.js'

const geometry = planGeometry({ sizeBytes: MIB, alignBytes: PAGE })
const { checkpointCopyAt, superblockCopyAt, logAt } = geometry
const { tableAt, tableCopyAt, chunksAt } = placesOf(geometry)

/** A closed volume; `body` reads it while these pages cannot be read. */
function withErrors(
  t: { mock: typeof import('node:test').mock },
  pages: readonly number[],
  body: (path: string) => void,
): void {
  inMemory((folder) => {
    const path = join(folder, 'device')
    Volume.format(path, { size: MIB })
    const volume = Volume.open(path)
    volume.heap('things').allocate(64)
    volume.allocate({ size: 4096, name: 'a' }).write(0, Uint8Array.of(7))
    volume.close()
    const real = fs.readSync as (...given: unknown[]) => number
    t.mock.method(fs, 'readSync', (...given: unknown[]) => {
      const [, , , length, position] = given as [number, Uint8Array, number, number, number]
      if (pages.some((at) => at < position + length && at + PAGE > position)) {
        throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' })
      }
      return real(...given)
    })
    try {
      body(path)
    } finally {
      t.mock.restoreAll()
    }
  })
}

describe('a page that cannot be read', () => {
  const cases: [what: string, at: number, severity: Severity, others: FindingCode[]][] = [
    ['first superblock', 0, 'warning', ['superblock-damaged']],
    ['first checkpoint header', CHECKPOINT_AT, 'error', ['checkpoint-damaged']],
    ['chunk table', tableAt, 'error', ['slot-behind']],
    ['log', logAt, 'error', []],
    ['chunk of a heap', chunksAt, 'error', ['heap-damaged']],
    ['second chunk table', tableCopyAt, 'error', ['slot-behind']],
    ['second checkpoint header', checkpointCopyAt, 'error', ['checkpoint-damaged']],
    ['second superblock', superblockCopyAt, 'warning', ['superblock-damaged']],
  ]
  for (const [what, at, severity, others] of cases) {
    test(`of the ${what} is a finding, and nothing is written there`, (t) => {
      withErrors(t, [at], (path) => {
        const before = fs.readFileSync(path)
        const findings = Volume.check(path)
        assert.deepEqual(
          findings.map(({ code }) => code),
          [...others, 'unreadable'],
        )
        const last = findings.at(-1)!
        assert.deepEqual([last.place.offset, last.severity], [at, severity])
        assert.match(last.message, /^4096 bytes cannot be read, in /)
        assert.ok(findings.every(({ fixable }) => !fixable))
        for (const dropDamaged of [false, true]) {
          const report = Volume.repair(path, { dryRun: false, dropDamaged })
          assert.deepEqual(report.fixes, [])
          assert.deepEqual(report.remaining, findings)
        }
        assert.deepEqual(fs.readFileSync(path), before)
      })
    })
  }

  test('keeps repair from nothing else', (t) => {
    withErrors(t, [superblockCopyAt], (path) => {
      const fd = fs.openSync(path, 'r+')
      fs.writeSync(fd, Uint8Array.of(99), 0, 1, tableCopyAt + 60)
      fs.closeSync(fd)
      const { fixes, remaining } = Volume.repair(path, { dryRun: false })
      assert.deepEqual(
        fixes.map(({ code }) => code),
        ['slot-damaged'],
      )
      assert.deepEqual(
        remaining.map(({ code }) => code),
        ['superblock-damaged', 'unreadable'],
      )
    })
  })

  test('of either superblock keeps nobody from opening', (t) => {
    for (const at of [0, superblockCopyAt]) {
      withErrors(t, [at], (path) => {
        for (const readOnly of [true, false]) {
          const volume = Volume.open(path, { readOnly })
          assert.equal(volume.chunk('a').bytes[0], 7)
          assert.equal(volume.recovery.repaired, 0)
          volume.close()
        }
      })
    }
  })

  test('where no volume is found is told as well', (t) => {
    withErrors(t, [0, superblockCopyAt], (path) => {
      const findings = Volume.check(path)
      assert.deepEqual(
        findings.map(({ code, place }) => [code, place.offset]),
        [
          ['not-a-volume', 0],
          ['unreadable', 0],
          ['unreadable', superblockCopyAt],
        ],
      )
    })
  })
})

/** The whole, its pages, and both halves of the 21 stretches that failed and were no single page. */
const FIRST_READS = 2 + 2 * 21

test('what cannot be read is found by halves, and asked for once', () => {
  const bad = [3, 4, 700].map((page) => page * PAGE)
  let reads = 0
  const device = new Lenient({
    sizeBytes: 4 * MIB,
    read(offset, length) {
      reads++
      if (bad.some((at) => at < offset + length && at + PAGE > offset)) {
        throw new PlinthError('ERR_DEVICE_IO', 'EIO')
      }
      return new Uint8Array(length).fill(1)
    },
  })
  const bytes = device.read(100, 4 * MIB - 200)
  const expected = new Uint8Array(4 * MIB - 200).fill(1)
  for (const at of bad) expected.fill(0, at - 100, at - 100 + PAGE)
  assert.deepEqual(bytes, expected)
  assert.deepEqual(device.unreadable.stretches, [
    { offset: 3 * PAGE, length: 2 * PAGE },
    { offset: 700 * PAGE, length: PAGE },
  ])
  assert.equal(reads, FIRST_READS)
  assert.equal(device.read(3 * PAGE, PAGE)[0], 0)
  assert.equal(reads, FIRST_READS, 'it is not asked again')
})
