// Volume.restore: places chunks where they were, is refused until it is done, and is done in one instant.
import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type ChunkInfo, type Restore, Volume } from 'plinth'
import {
  decodeSuperblock,
  encodeSuperblock,
  INCOMPATIBLE,
  type Superblock,
} from '../../src/layout/superblock.js'
import { inMemory, MIB, PAGE, places } from '../support/devices.js'

const ID = 2 ** 24
const chunk = (id: number, offset: number, size: number, name?: string): ChunkInfo => ({
  id,
  name,
  type: undefined,
  offset,
  size,
})

/** A volume that is being restored, and where its data begins. */
function restoring<T>(body: (restore: Restore, dataAt: number, path: string) => T): T {
  return inMemory((folder) => {
    const path = join(folder, 'device')
    const restore = Volume.restore(path, { size: MIB })
    try {
      const data = restore.volume.stats().areas.find(({ name }) => name === 'data')!
      return body(restore, data.offset, path)
    } finally {
      restore.abandon()
    }
  })
}

describe('placing', () => {
  test('chunks get their ids, offsets and names, those of the library too', () =>
    restoring((restore, at, path) => {
      const wanted = [
        chunk(3 * ID + 7, at + 8 * PAGE, 2 * PAGE, 'a'),
        { ...chunk(ID + 2, at, PAGE, 'slab:1:2'), type: 'plinth.slab' },
      ]
      restore.place(wanted)
      restore.volume.ownedChunk(ID + 2).write(0, Buffer.from('bytes'))
      restore.finish()
      using volume = Volume.open(path, { readOnly: true })
      assert.deepEqual(volume.chunks(), [wanted[1], wanted[0]])
      assert.equal(Buffer.from(volume.ownedChunk(ID + 2).bytes).toString('latin1', 0, 5), 'bytes')
      assert.deepEqual(
        Volume.check(path)
          .map(({ code }) => code)
          .filter((code) => !/heap/.test(code)),
        [],
      )
    }))

  const refused: [what: string, chunks: (at: number) => ChunkInfo[], code: string][] = [
    ['an offset between granules', (at) => [chunk(ID, at + 1, PAGE)], 'ERR_NO_SPACE'],
    ['an offset before the data', () => [chunk(ID, 0, PAGE)], 'ERR_NO_SPACE'],
    ['an end behind the data', (at) => [chunk(ID, at, 2 * MIB)], 'ERR_NO_SPACE'],
    ['half a granule', (at) => [chunk(ID, at, PAGE / 2)], 'ERR_NO_SPACE'],
    ['an id without a generation', (at) => [chunk(5, at, PAGE)], 'ERR_NO_SPACE'],
    ['a slot that is not there', (at) => [chunk(ID + 5000, at, PAGE)], 'ERR_NO_SPACE'],
    ['a generation that is too high', (at) => [chunk(2 ** 53 - 1, at, PAGE)], 'ERR_NO_SPACE'],
    ['the same id', (at) => [chunk(ID, at, PAGE), chunk(ID, at + PAGE, PAGE)], 'ERR_NO_SPACE'],
    [
      'the same slot',
      (at) => [chunk(ID, at, PAGE), chunk(2 * ID, at + PAGE, PAGE)],
      'ERR_NO_SPACE',
    ],
    [
      'the same bytes',
      (at) => [chunk(ID, at, 2 * PAGE), chunk(ID + 1, at + PAGE, PAGE)],
      'ERR_NO_SPACE',
    ],
    [
      'the same name',
      (at) => [chunk(ID, at, PAGE, 'a'), chunk(ID + 1, at + PAGE, PAGE, 'a')],
      'ERR_CHUNK_EXISTS',
    ],
  ]
  for (const [what, chunks, code] of refused) {
    test(`${what} is refused, and all that came with it`, () =>
      restoring((restore, at) => {
        const free = restore.volume.stats().freeBytes
        assert.throws(() => restore.place(chunks(at)), { code })
        assert.deepEqual(restore.volume.chunks(), [])
        assert.equal(restore.volume.stats().freeBytes, free)
      }))
  }

  for (const [what, wanted, code] of [
    ['no array', undefined, 'ERR_INVALID_ARG_TYPE'],
    ['a text', 'chunks', 'ERR_INVALID_ARG_TYPE'],
    ['nothing for a chunk', [null], 'ERR_INVALID_ARG_TYPE'],
    ['a number for a chunk', [1], 'ERR_INVALID_ARG_TYPE'],
    ['an empty chunk', [{}], 'ERR_INVALID_ARG_TYPE'],
    ['a text for a size', [{ ...chunk(ID, 0, 0), size: '4096' }], 'ERR_INVALID_ARG_TYPE'],
    ['an offset that is no number', [chunk(ID, Number.NaN, PAGE)], 'ERR_OUT_OF_RANGE'],
    ['more than 4 GiB', [chunk(ID, 0, 2 ** 32 + PAGE)], 'ERR_CHUNK_TOO_LARGE'],
    [
      'a heap without a name',
      [{ ...chunk(ID, 0, PAGE), type: 'plinth.heap' }],
      'ERR_INVALID_ARG_VALUE',
    ],
    [
      'a heap of no name',
      [{ ...chunk(ID, 0, PAGE, 'heap:'), type: 'plinth.heap' }],
      'ERR_INVALID_ARG_VALUE',
    ],
  ] as [string, never, string][]) {
    test(`${what} is refused with a code`, () =>
      restoring((restore) => {
        assert.throws(() => restore.place(wanted), { code })
        assert.deepEqual(restore.volume.chunks(), [])
      }))
  }

  test('a freed id never comes again', () =>
    restoring((restore, at) => {
      restore.place([chunk(5 * ID, at, PAGE, 'a')])
      restore.volume.free(restore.volume.chunk('a'))
      assert.throws(() => restore.place([chunk(5 * ID, at, PAGE)]), { code: 'ERR_NO_SPACE' })
      assert.equal(restore.volume.allocate({ size: 1 }).id, 6 * ID)
    }))

  test('chunks of heaps are for readers and restores alone', () =>
    inMemory((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: MIB })
      using volume = Volume.open(path)
      volume.heap('a')
      const { id } = volume.chunks()[0]!
      assert.throws(() => volume.ownedChunk(id), { code: 'ERR_CHUNK_OWNED' })
      assert.throws(() => volume.ownedChunk(1), { code: 'ERR_CHUNK_NOT_FOUND' })
    }))
})

describe('until it is finished', () => {
  for (const place of places) {
    test(
      `on ${place.name}: the device is refused, and afterwards it is not`,
      { skip: place.skip },
      () =>
        place.with(4 * MIB, (path) => {
          const size = place.isFile ? { size: 4 * MIB } : {}
          const restore = Volume.restore(path, { ...size, ...place.options, label: 'x' })
          restore.volume.allocate({ size: PAGE, name: 'a' }).write(0, Buffer.from('kept'))
          restore.abandon()
          assert.throws(() => Volume.open(path, place.options), { code: 'ERR_VOLUME_INCOMPLETE' })
          assert.match(Volume.probe(path).advice, /ERR_VOLUME_INCOMPLETE/)
          const again = Volume.restore(path, { ...size, ...place.options, force: true })
          again.volume.allocate({ size: PAGE, name: 'a' }).write(0, Buffer.from('kept'))
          again.finish()
          using volume = Volume.open(path, place.options)
          assert.equal(Buffer.from(volume.chunk('a').bytes).toString('latin1', 0, 4), 'kept')
          assert.equal(volume.recovery.clean, true)
          assert.deepEqual(volume.check(), [])
        }),
    )
  }

  test('finish of what was abandoned is refused', () =>
    restoring((restore) => {
      restore.abandon()
      assert.throws(() => restore.finish(), { code: 'ERR_VOLUME_CLOSED' })
    }))

  // The last writes: second superblock, barrier, first superblock. A crash leaves each of the two as it
  // was, as it becomes, or torn: 512-byte sectors on page granularity, 8-byte words on memory.
  test('power failing within the last writes leaves it incomplete or whole', () =>
    inMemory((folder) => {
      const path = join(folder, 'device')
      const restore = Volume.restore(path, { size: MIB })
      restore.volume.allocate({ size: PAGE, name: 'a' }).write(0, Buffer.from('kept'))
      restore.finish()
      const after = readFileSync(path)
      const size = after.length
      const before = asRestoring(after)
      let incomplete = 0
      let whole = 0
      const state = (second: Buffer, first: Buffer) => {
        const image = Buffer.from(before)
        second.copy(image, size - PAGE)
        first.copy(image, 0)
        writeFileSync(path, image)
        if (opens(path)) whole++
        else incomplete++
        assert(Volume.check(path).every(({ code }) => code !== 'slot-lost'))
      }
      const pages = (image: Buffer) =>
        [image.subarray(0, PAGE), image.subarray(size - PAGE)] as const
      const [oldFirst, oldSecond] = pages(before)
      const [newFirst, newSecond] = pages(after)
      for (const unit of [8, 512]) {
        for (const second of mixes(oldSecond, newSecond, unit)) state(second, oldFirst)
        for (const first of mixes(oldFirst, newFirst, unit)) state(newSecond, first)
      }
      assert(incomplete > 0 && whole > 0)
    }))

  /** The same volume before its last writes. */
  function asRestoring(image: Buffer): Buffer {
    const before = Buffer.from(image)
    for (const at of [0, image.length - PAGE]) {
      const values = decodeSuperblock(image.subarray(at, at + PAGE)) as Superblock
      before.set(encodeSuperblock({ ...values, incompatible: INCOMPATIBLE.RESTORING }), at)
    }
    return before
  }

  /** A page in every mix of the units that differ. */
  function* mixes(old: Buffer, fresh: Buffer, unit: number): Generator<Buffer> {
    const differing: number[] = []
    for (let at = 0; at < PAGE; at += unit) {
      if (old.compare(fresh, at, at + unit, at, at + unit) !== 0) differing.push(at)
    }
    for (let mask = 0; mask < 2 ** differing.length; mask++) {
      const page = Buffer.from(old)
      differing.forEach((at, i) => {
        if ((mask >> i) & 1) fresh.copy(page, at, at, at + unit)
      })
      yield page
    }
  }

  function opens(path: string): boolean {
    try {
      using volume = Volume.open(path)
      assert.equal(Buffer.from(volume.chunk('a').bytes).toString('latin1', 0, 4), 'kept')
      assert.deepEqual(volume.check(), [])
      return true
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'ERR_VOLUME_INCOMPLETE')
      return false
    }
  }
})

describe('options that are none', () => {
  const uuid = '00000000-0000-4000-8000-000000000000'
  const created = new Date(1)
  for (const [what, options, code] of [
    ['null', null, 'ERR_INVALID_ARG_TYPE'],
    ['a number', 5, 'ERR_INVALID_ARG_TYPE'],
    ['an unknown one', { size: MIB, likes: {} }, 'ERR_UNKNOWN_OPTION'],
    ['like nothing', { like: null }, 'ERR_INVALID_ARG_TYPE'],
    ['like a text', { like: uuid }, 'ERR_INVALID_ARG_TYPE'],
    ['like, without anything', { like: {} }, 'ERR_INVALID_ARG_TYPE'],
    ['like, with more', { like: { uuid, created, label: '' } }, 'ERR_UNKNOWN_OPTION'],
    ['no uuid', { like: { created } }, 'ERR_INVALID_ARG_TYPE'],
    ['a number as uuid', { like: { uuid: 5, created } }, 'ERR_INVALID_ARG_TYPE'],
    ['a text as uuid', { like: { uuid: 'uuid', created } }, 'ERR_INVALID_ARG_VALUE'],
    ['a text as date', { like: { uuid, created: '2020-01-01' } }, 'ERR_INVALID_ARG_TYPE'],
    ['an invalid date', { like: { uuid, created: new Date(Number.NaN) } }, 'ERR_INVALID_ARG_VALUE'],
    ['a date before 1970', { like: { uuid, created: new Date(-1) } }, 'ERR_INVALID_ARG_VALUE'],
  ] as [string, never, string][]) {
    test(`${what}: a code, and no file`, () =>
      inMemory((folder) => {
        const path = join(folder, 'device')
        assert.throws(
          () =>
            Volume.restore(
              path,
              typeof options === 'object' && options !== null
                ? { size: MIB, ...(options as object) }
                : options,
            ),
          { code },
        )
        assert.equal(existsSync(path), false)
      }))
  }
})

test('a volume made at a moment that no Date can hold is shown with the last one', () =>
  inMemory((folder) => {
    const path = join(folder, 'device')
    Volume.format(path, { size: MIB })
    const image = readFileSync(path)
    for (const [copy, at] of [0, MIB - PAGE].entries()) {
      const superblock = decodeSuperblock(image.subarray(at, at + PAGE)) as Superblock
      image.set(encodeSuperblock({ ...superblock, created: 2 ** 53 - 1, copy }), at)
    }
    writeFileSync(path, image)
    using volume = Volume.open(path)
    assert.equal(volume.info.created.toISOString(), '+275760-09-13T00:00:00.000Z')
  }))
