/** Volumes that grow while they are used: files by themselves, devices that have become larger. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { PlinthError, Volume } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { account } from '../support/account.js'
import { inFolder, MIB, onLoop, onSmallTmpfs, places, withVolume } from '../support/devices.js'
import { pattern } from '../support/pattern.js'
import { seeded } from '../support/random.js'

const PAGE = 4096
const asRoot = process.getuid?.() === 0 ? false : 'this needs root'
const code = (code: string) => ({ name: /Error$/, code: `ERR_${code}` })

function counted(volume: Volume, body: () => void): { fences: number; barriers: number } {
  const before = volume.stats().counters
  body()
  const after = volume.stats().counters
  return { fences: after.fences - before.fences, barriers: after.barriers - before.barriers }
}

describe('a file that is made without a size', () => {
  it('begins small, grows with what is put into it, and is found again', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path)
      assert.equal(statSync(path).size, 16 * MIB)
      let volume = Volume.open(path)
      assert.equal(volume.info.maxSize, Number.POSITIVE_INFINITY)
      const map = OrderedMap.open(volume, 'map')
      const kept = volume.allocate({ size: MIB, name: 'kept' })
      const { bytes } = kept
      bytes.set(pattern(1000, 1))
      kept.persist(0, 1000)
      for (let i = 0; i < 300; i++) map.put(Buffer.from(`key ${i}`), pattern(100_000, i))
      volume.allocate({ size: 40 * MIB, name: 'large' })
      account(volume)
      assert.ok(volume.info.size > 64 * MIB)
      assert.equal(volume.info.size, statSync(path).size)
      assert.ok(statSync(path).blocks * 512 >= volume.info.size, 'every byte has its place')
      assert.deepEqual(bytes.subarray(0, 1000), pattern(1000, 1), 'views stay where they are')
      volume.close()
      volume = Volume.open(path)
      account(volume)
      const again = OrderedMap.open(volume, 'map')
      for (let i = 0; i < 300; i++) {
        assert.deepEqual(new Uint8Array(again.get(Buffer.from(`key ${i}`))!), pattern(100_000, i))
      }
      volume.close()
      assert.deepEqual(Volume.check(path), [])
    }))

  it('up to maxSize, and says so', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 4 * MIB, maxSize: 8 * MIB, growBy: MIB })
      using volume = Volume.open(path)
      for (let i = 0; i < 20; i++) {
        try {
          volume.allocate({ size: MIB })
        } catch (error) {
          assert.ok(error instanceof PlinthError)
          assert.equal(error.code, 'ERR_NO_SPACE')
          assert.match(error.message, /grows to no more than its device and its maxSize of 8388608/)
          assert.ok(i >= 6, `${i} chunks`)
          account(volume)
          return
        }
      }
      assert.fail('it has no end')
    }))

  it('what open says of growing counts while it is open', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 2 * MIB })
      const fixed = Volume.open(path)
      assert.throws(() => fixed.allocate({ size: 2 * MIB }), {
        code: 'ERR_NO_SPACE',
        message: /keeps its 2097152 bytes until it is made to grow/,
      })
      fixed.close()
      const growing = Volume.open(path, { maxSize: 16 * MIB })
      growing.allocate({ size: 2 * MIB })
      growing.close()
      using again = Volume.open(path)
      assert.equal(again.info.maxSize, undefined)
      assert.ok(again.info.size > 4 * MIB - PAGE)
    }))

  it(
    'on a filesystem that is full: one clear error, nothing has changed, deletes work',
    { skip: asRoot },
    () =>
      onSmallTmpfs(24 * MIB, (folder) => {
        const path = join(folder, 'volume')
        Volume.format(path)
        using volume = Volume.open(path)
        const map = OrderedMap.open(volume, 'map')
        let put = 0
        assert.throws(
          () => {
            for (; put < 10_000; put++) map.put(Buffer.from(`key ${put}`), pattern(20_000, put))
          },
          (error: PlinthError) => {
            assert.equal(error.code, 'ERR_NO_SPACE')
            assert.match(error.message, /cannot grow to \d+ bytes: its filesystem has no space/)
            return true
          },
        )
        account(volume)
        assert.equal(map.count(), put)
        for (let i = 0; i < put; i += 2) assert.ok(map.delete(Buffer.from(`key ${i}`)))
        account(volume)
        for (let i = 0; i < 10; i++) map.put(Buffer.from(`again ${i}`), pattern(20_000, i))
        account(volume)
      }),
  )
})

describe('grow', () => {
  for (const at of places.filter(({ isFile }) => isFile)) {
    describe(at.name, { skip: at.skip }, () => {
      it('a longer file, with heaps, maps, snapshots and views in use', () =>
        withVolume(
          at,
          (volume, path) => {
            const map = OrderedMap.open(volume, 'map')
            for (let i = 0; i < 50; i++) map.put(Buffer.from(`key ${i}`), pattern(100, i))
            using snapshot = map.snapshot()
            const before = volume.info.size
            volume.grow(before + 4 * MIB)
            assert.equal(volume.info.size, before + 4 * MIB)
            assert.equal(statSync(path).size, before + 4 * MIB)
            map.clear()
            assert.equal([...snapshot.entries()].length, 50)
            volume.allocate({ size: 3 * MIB })
            account(volume)
          },
          { size: 4 * MIB },
        ))

      it('costs as many fences, whatever the size', () =>
        withVolume(
          at,
          (volume) => {
            // The log was long enough: the tail, two superblocks, the old tail.
            const one = counted(volume, () => volume.grow(volume.info.size + 64 * 1024))
            assert.equal(one.fences, 4)
            const two = counted(volume, () => volume.grow(volume.info.size + 512 * 1024))
            assert.deepEqual(two, one)
          },
          { size: 4 * MIB },
        ))
    })
  }

  it('a loop device that has become larger', { skip: asRoot }, () =>
    onLoop(8 * MIB, (path) => {
      Volume.format(path)
      const volume = Volume.open(path)
      try {
        assert.throws(() => volume.grow(16 * MIB), code('DEVICE_TOO_SMALL'))
        volume.grow()
        assert.equal(volume.info.size, 8 * MIB, 'there is no more')
        const backing = readFileSync(
          `/sys/block/${path.replace('/dev/', '')}/loop/backing_file`,
          'utf8',
        ).trim()
        truncateSync(backing, 24 * MIB)
        execFileSync('losetup', ['--set-capacity', path])
        volume.grow()
        assert.equal(volume.info.size, 24 * MIB)
        volume.allocate({ size: 12 * MIB })
        account(volume)
      } finally {
        volume.close()
      }
      assert.deepEqual(Volume.check(path), [])
    }),
  )

  it('of a device that has more than its volume is told by probe', { skip: asRoot }, () =>
    onLoop(8 * MIB, (path) => {
      Volume.format(path, { size: 4 * MIB })
      const { notes } = Volume.probe(path)
      assert.ok(notes.some((note) => note.includes(`${4 * MIB} bytes behind the volume`)))
      using volume = Volume.open(path)
      volume.grow()
      assert.equal(volume.info.size, 8 * MIB)
    }),
  )

  const bad: [what: string, call: (volume: Volume) => void, error: string][] = [
    ['less than it is', (volume) => volume.grow(MIB), 'INVALID_ARG_VALUE'],
    ['beyond its maxSize', (volume) => volume.grow(64 * MIB), 'INVALID_ARG_VALUE'],
    ['more than granules can be counted', (volume) => volume.grow(2 ** 52), 'OUT_OF_RANGE'],
    ['beyond 2^53', (volume) => volume.grow(2 ** 54), 'OUT_OF_RANGE'],
    ['no whole number', (volume) => volume.grow(4.5 * MIB + 0.5), 'OUT_OF_RANGE'],
    ['no number', (volume) => volume.grow('8M' as never), 'INVALID_ARG_TYPE'],
    ['in a transaction', (volume) => volume.transact(() => volume.grow(8 * MIB)), 'TX_ACTIVE'],
  ]
  for (const [what, call, error] of bad) {
    it(`${what}: ERR_${error}, and nothing has changed`, () =>
      inFolder((folder) => {
        const path = join(folder, 'volume')
        Volume.format(path, { size: 4 * MIB, maxSize: 32 * MIB, granule: PAGE })
        using volume = Volume.open(path)
        assert.throws(() => call(volume), code(error))
        assert.equal(volume.info.size, 4 * MIB)
        assert.equal(statSync(path).size, 4 * MIB)
        account(volume)
      }))
  }

  it('of a reader, and of a closed volume: refused', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 4 * MIB })
      const reader = Volume.open(path, { readOnly: true })
      assert.throws(() => reader.grow(8 * MIB), code('READ_ONLY'))
      reader.close()
      assert.throws(() => reader.grow(8 * MIB), code('VOLUME_CLOSED'))
      for (const options of [
        { maxSize: 4.5 },
        { maxSize: 0 },
        { growBy: 0 },
        { growBy: Number.NaN },
      ]) {
        assert.throws(() => Volume.open(path, options), code('OUT_OF_RANGE'))
        assert.throws(() => Volume.format(path, { ...options, force: true }), code('OUT_OF_RANGE'))
      }
    }))
})

describe('many rounds', () => {
  it('of growing, filling and freeing: each byte is accounted for', () =>
    inFolder((folder) =>
      seeded((random) => {
        const path = join(folder, 'volume')
        Volume.format(path, { size: MIB, granule: PAGE, maxSize: 64 * MIB, growBy: 64 * 1024 })
        let volume = Volume.open(path)
        const known = new Map<string, { size: number; seed: number }>()
        for (let round = 0; round < 150; round++) {
          const size = random.between(1, 40) * PAGE
          const name = `chunk ${round}`
          const chunk = volume.allocate({ size, name })
          chunk.write(0, pattern(size, round))
          known.set(name, { size, seed: round })
          if (random.chance(3)) {
            const [gone] = random.pick([...known])
            volume.free(volume.chunk(gone))
            known.delete(gone)
          }
          if (random.chance(8)) volume.grow(volume.info.size + random.between(2, 64) * PAGE)
          if (random.chance(10)) {
            volume.close()
            volume = Volume.open(path)
          }
        }
        account(volume)
        for (const [name, { size, seed }] of known) {
          assert.deepEqual(new Uint8Array(volume.chunk(name).bytes), pattern(size, seed), name)
        }
        volume.close()
        assert.deepEqual(Volume.check(path), [])
      }),
    ))

  it('the table grows with the chunks: more than it began with', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { granule: PAGE, maxSize: 256 * MIB })
      let volume = Volume.open(path)
      const { slots } = volume.info.layout.tables[0]!
      const wanted = 3 * slots
      for (let i = 0; i < wanted; i += 100) {
        volume.transact(() => {
          for (let j = i; j < Math.min(i + 100, wanted); j++) {
            volume.allocate({ size: PAGE, name: `${j}` })
          }
        })
      }
      assert.ok(volume.info.layout.tables.length > 1)
      volume.close()
      volume = Volume.open(path)
      assert.equal(volume.stats().chunks, wanted)
      for (let j = 0; j < wanted; j += 97) assert.ok(volume.findChunk(`${j}`))
      account(volume)
      volume.close()
    }))
})
