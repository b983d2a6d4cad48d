/** Known bad blocks: nothing touches them, nobody gets them, and what stood there is told. */
import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type Chunk, type OpenOptions, Volume } from 'plinth'
import { freeRunsOf } from '../../src/cli/stats.js'
import { formatDeviceNumber } from '../../src/device/sysfs.js'
import { CHECKPOINT_AT, planGeometry } from '../../src/layout/geometry.js'
import type { Stretch } from '../../src/media/bad-blocks.js'
import {
  inFolder,
  MIB,
  PAGE,
  type Place,
  placeOf,
  readAt,
  usualPlace,
  writeAt,
} from '../support/devices.js'
import { pattern } from '../support/pattern.js'
import { placesOf } from '../support/places.js'
import { badList, inTree, withBadBlocks, writeTree } from '../support/sysfs.js'

const geometry = planGeometry({ sizeBytes: MIB, alignBytes: PAGE })
const { logAt, granuleBytes, checkpointCopyAt, superblockCopyAt } = geometry
const { tableAt, tableCopyAt, chunksAt } = placesOf(geometry)
const page = (offset: number, pages = 1): Stretch => ({ offset, length: pages * PAGE })
const refused = { name: 'PlinthError', code: 'ERR_BAD_BLOCKS' }
/** A loop device, by both kinds of media. */
const loop = usualPlace('loop, page, native')
const lines: Pick<OpenOptions, 'unsafeGranularity'> = { unsafeGranularity: 'cache-line' }

interface Bench {
  readonly path: string
  /** Opens with these blocks bad. */
  open(bad: readonly Stretch[], options?: OpenOptions): Volume
  /** The tree in which they are. */
  tree(bad: readonly Stretch[]): string
}

function onLoop(at: Place, granularity: object, body: (bench: Bench) => void): void {
  at.with(MIB, (path) =>
    inFolder((folder) => {
      let trees = 0
      const tree = (bad: readonly Stretch[]) =>
        withBadBlocks(join(folder, String(trees++)), path, bad)
      Volume.format(path, { label: 'whole', ...granularity })
      const open = (bad: readonly Stretch[], options: OpenOptions = {}) =>
        inTree(tree(bad), () =>
          Volume.open(path, { ...(options.readOnly ? {} : granularity), ...options }),
        )
      body({ path, open, tree })
    }),
  )
}

/** Two chunks with known contents; closed. */
function fill({ open }: Bench): { a: Pick<Chunk, 'offset' | 'size'>; b: Pick<Chunk, 'offset'> } {
  const volume = open([])
  const a = volume.allocate({ size: 4 * granuleBytes, name: 'a' })
  const b = volume.allocate({ size: granuleBytes, name: 'b' })
  for (const [i, chunk] of [a, b].entries()) chunk.write(0, pattern(chunk.size, i))
  volume.close()
  return { a, b }
}

for (const [name, granularity] of [
  ['page', {}],
  ['cache-line', lines],
] as const) {
  describe(`bad blocks on a block device, ${name}`, { skip: loop.skip }, () => {
    const bench = (body: (bench: Bench) => void) => () => onLoop(loop, granularity, body)

    it(
      'free runs are without them',
      bench(({ open }) => {
        const at = chunksAt + 20 * granuleBytes
        const bad = [page(0), page(at), page(at + granuleBytes), page(chunksAt + 40 * granuleBytes)]
        using volume = open(bad.slice(1))
        volume.allocate({ size: 3 * granuleBytes })
        const { freeBytes, freeRuns, badBytes } = volume.stats()
        assert.equal(badBytes, 3 * granuleBytes)
        const runs = freeRunsOf(volume, volume.chunks(), bad)
        assert.equal(
          runs.reduce((sum, { bytes }) => sum + bytes, 0),
          freeBytes,
        )
        assert.equal(
          runs.reduce((sum, each) => sum + each.runs, 0),
          freeRuns,
        )
        assert.equal(freeRuns, 3)
      }),
    )

    it(
      'format refuses them in metadata, and changes nothing',
      bench(({ path, tree }) => {
        const format = (bad: readonly Stretch[]) =>
          inTree(tree(bad), () => Volume.format(path, { force: true, ...granularity }))
        const before = readAt(path, 0, MIB)
        for (const at of [
          0,
          CHECKPOINT_AT,
          tableAt,
          logAt,
          tableCopyAt,
          checkpointCopyAt,
          MIB - PAGE,
        ]) {
          assert.throws(() => format([page(at)]), refused)
        }
        assert.equal(Buffer.compare(readAt(path, 0, MIB), before), 0)
        format([page(chunksAt)])
      }),
    )

    it(
      'free granules that have them are quarantined, and told',
      bench(({ open, path }) => {
        // Sectors of one page, and a stretch over the end of a granule.
        const bad = [
          { offset: chunksAt + granuleBytes + 512, length: 1024 },
          page(chunksAt + 6 * granuleBytes - PAGE, 2),
        ]
        const marks = bad.map(({ offset, length }) => readAt(path, offset, length))
        const volume = open(bad)
        const { freeBytes, badBytes, usedBytes, dataBytes } = volume.stats()
        assert.deepEqual([badBytes, usedBytes], [3 * granuleBytes, 0])
        assert.equal(freeBytes + badBytes, dataBytes)
        while (volume.stats().freeBytes > 0) {
          const size = Math.min(3 * granuleBytes, volume.stats().largestFreeBytes)
          const chunk = volume.allocate({ size, zero: true })
          chunk.write(0, pattern(chunk.size, 5))
        }
        assert.throws(() => volume.allocate({ size: 1 }), { code: 'ERR_NO_SPACE' })
        assert.deepEqual(volume.check(), [])
        for (const chunk of volume.chunks()) {
          assert.equal(chunk.badBlocks, undefined)
          volume.free(volume.chunk(chunk.id))
        }
        assert.equal(volume.stats().freeBytes, freeBytes)
        volume.close()
        for (const [i, { offset, length }] of bad.entries()) {
          assert.deepEqual(readAt(path, offset, length), marks[i])
        }
      }),
    )

    it(
      'a chunk that has them is told, refused, and can be freed',
      bench((the) => {
        const { a, b } = fill(the)
        const bad = [page(a.offset + granuleBytes)]
        const volume = the.open(bad)
        assert.deepEqual(
          volume.chunks().map(({ badBlocks }) => badBlocks),
          [[page(granuleBytes)], undefined],
        )
        const chunk = volume.chunk('a')
        assert.throws(() => chunk.bytes, refused)
        assert.throws(() => chunk.persist(0, 1), refused)
        assert.throws(() => chunk.write(0, pattern(1)), refused)
        assert.throws(() => volume.transact((tx) => tx.setUint32(chunk, 0, 1)), refused)
        assert.deepEqual(volume.chunk('b').bytes.slice(), pattern(granuleBytes, 1))
        assert.deepEqual(
          volume.check().map(({ code, severity, place }) => [code, severity, place.offset]),
          [['bad-blocks', 'error', a.offset + granuleBytes]],
        )
        assert.equal(volume.stats().badBytes, 0)
        volume.free(chunk)
        assert.equal(volume.stats().badBytes, granuleBytes)
        assert.deepEqual(volume.check(), [])
        const again = volume.allocate({ size: 4 * granuleBytes, name: 'a' })
        assert.ok(again.offset > b.offset)
        volume.close()
      }),
    )

    it(
      'a reader may have the rest of such a chunk',
      bench((the) => {
        const { a } = fill(the)
        const bad = [page(a.offset + PAGE)]
        assert.throws(() => the.open(bad, { zeroBadBlocks: true }), {
          code: 'ERR_INVALID_ARG_VALUE',
        })
        const strict = the.open(bad, { readOnly: true })
        assert.throws(() => strict.chunk('a').bytes, refused)
        strict.close()
        const reader = the.open(bad, { readOnly: true, zeroBadBlocks: true })
        const expected = pattern(a.size, 0)
        expected.fill(0, PAGE, 2 * PAGE)
        assert.deepEqual(reader.chunk('a').bytes.slice(), expected)
        reader.close()
      }),
    )

    it(
      'a superblock that has them is neither read nor written: the other one serves',
      bench((the) => {
        fill(the)
        for (const at of [0, superblockCopyAt]) {
          const whole = readAt(the.path, at, PAGE)
          // Whole as well, and another: who reads it takes it for the volume's.
          const other = whole.slice()
          other.fill(0xee, 512)
          writeAt(the.path, at, other)
          for (const readOnly of [true, false]) {
            const volume = the.open([page(at)], { readOnly })
            assert.equal(volume.recovery.repaired, 0)
            assert.equal(volume.info.label, 'whole')
            assert.equal(volume.chunks().length, 2)
            volume.close()
          }
          assert.deepEqual(readAt(the.path, at, PAGE), other)
          const codes = inTree(the.tree([page(at)]), () => Volume.check(the.path))
          assert.deepEqual(
            codes.map(({ code, fixable }) => [code, fixable]),
            [
              ['superblock-damaged', false],
              ['bad-blocks', false],
            ],
          )
          // Cleared, they are zeros, and opening repairs.
          writeAt(the.path, at, new Uint8Array(PAGE))
          const repaired = the.open([])
          assert.equal(repaired.recovery.repaired, 1)
          repaired.close()
          assert.deepEqual(readAt(the.path, at, PAGE), whole)
        }
        assert.throws(() => the.open([page(0), page(superblockCopyAt)]), refused)
      }),
    )

    it(
      'a chunk table that has them lives on in its other copy',
      bench((the) => {
        fill(the)
        for (const at of [tableAt, tableCopyAt]) {
          const before = readAt(the.path, at, PAGE)
          writeAt(the.path, at, new Uint8Array(PAGE).fill(0xee))
          const bad = [page(at)]
          let volume = the.open(bad)
          assert.equal(volume.recovery.repaired, 0)
          volume.allocate({ size: 1, name: 'c' })
          volume.transact(() => volume.rename(volume.chunk('b'), 'd'))
          volume.checkpoint()
          volume.free(volume.chunk('d'))
          volume.allocate({ size: 1, name: 'b' })
          const names = volume.chunks().map(({ name }) => name)
          // As after a crash: a copy with a log that is not empty.
          const crashed = readAt(the.path, 0, MIB)
          volume.close()
          writeAt(the.path, 0, crashed)
          const reader = the.open(bad, { readOnly: true })
          assert.deepEqual(
            reader.chunks().map(({ name }) => name),
            names,
          )
          reader.close()
          volume = the.open(bad)
          assert.ok(volume.recovery.recordsReplayed > 0)
          assert.deepEqual(
            volume.chunks().map(({ name }) => name),
            names,
          )
          volume.free(volume.chunk('c'))
          volume.close()
          assert.ok(
            readAt(the.path, at, PAGE).every((byte) => byte === 0xee),
            'nothing was written',
          )
          // Cleared: what is then there is anybody's guess, here zeros.
          writeAt(the.path, at, new Uint8Array(PAGE))
          const repaired = the.open([])
          assert.ok(repaired.recovery.repaired > 0)
          assert.deepEqual(repaired.check(), [])
          repaired.close()
          assert.notDeepEqual(readAt(the.path, at, PAGE), before)
        }
        assert.throws(() => the.open([page(tableAt), page(tableCopyAt)]), refused)
      }),
    )

    it(
      'one checkpoint header with them: for readers only; both, or the log: for nobody',
      bench((the) => {
        const { a } = fill(the)
        for (const at of [CHECKPOINT_AT, checkpointCopyAt]) {
          assert.throws(() => the.open([page(at)]), refused)
          const reader = the.open([page(at)], { readOnly: true })
          assert.deepEqual(reader.chunk('a').bytes.slice(), pattern(a.size, 0))
          reader.close()
        }
        for (const bad of [
          [page(CHECKPOINT_AT), page(checkpointCopyAt)],
          [page(logAt + 5 * PAGE)],
        ]) {
          for (const readOnly of [true, false]) {
            assert.throws(() => the.open(bad, { readOnly }), refused)
          }
        }
        the.open([]).close()
      }),
    )

    it(
      'replay stores nothing there, and everything beside it',
      bench((the) => {
        const { a } = fill(the)
        const volume = the.open([])
        volume.transact((tx) => {
          tx.write(volume.chunk('a'), PAGE - 100, pattern(PAGE + 200, 9))
          tx.write(volume.chunk('b'), 0, pattern(100, 8))
        })
        const crashed = readAt(the.path, 0, MIB)
        volume.close()
        const at = a.offset + PAGE
        crashed.fill(0xee, at, at + PAGE)
        writeAt(the.path, 0, crashed)
        const again = the.open([page(at)])
        assert.equal(again.recovery.recordsReplayed, 1)
        assert.deepEqual(again.chunk('b').bytes.slice(0, 100), pattern(100, 8))
        again.close()
        assert.ok(readAt(the.path, at, PAGE).every((byte) => byte === 0xee))
        const written = pattern(PAGE + 200, 9)
        assert.deepEqual(readAt(the.path, at - 100, 100), written.slice(0, 100))
        assert.deepEqual(readAt(the.path, at + PAGE, 100), written.slice(-100))
      }),
    )

    it(
      'a probe tells of them',
      bench(({ path, tree }) => {
        const bad = [{ offset: chunksAt + 512, length: 512 }, page(MIB * 7)]
        const { badBlocks, evidence, notes } = inTree(tree(bad), () => Volume.probe(path))
        assert.deepEqual(badBlocks, [page(chunksAt)])
        assert.match(evidence.find(({ of }) => of === 'bad blocks')!.says, /^4608 bytes, some/)
        assert.match(notes.join(), /4096 bytes are known to be bad/)
        assert.deepEqual(inTree(tree([]), () => Volume.probe(path)).badBlocks, [])
      }),
    )
  })
}

describe('bad blocks below a filesystem', () => {
  it('are found in the file by its extents', (t) => {
    inFolder((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: MIB })
      let place: number
      try {
        place = placeOf(path, chunksAt + PAGE)
      } catch {
        return t.skip('this filesystem does not say where its files are')
      }
      const root = join(folder, 'sys')
      const node = `dev/block/${formatDeviceNumber(statSync(path).dev)}`
      writeTree(root, {
        [`${node}/badblocks`]: `0 1\n${badList([{ offset: place, length: 512 }])}`,
      })
      const probe = inTree(root, () => Volume.probe(path))
      assert.deepEqual(probe.badBlocks, [page(chunksAt + PAGE)])
      const volume = inTree(root, () => Volume.open(path))
      assert.equal(volume.stats().badBytes, granuleBytes)
      volume.close()
    })
  })
})
