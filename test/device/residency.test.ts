// What of a device is in memory: sparse files in a tmpfs, where a page that was written is and a hole is not.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type Chunk, Volume, type VolumeRange } from 'plinth'
import { residentBytes } from '../../src/device/residency.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { inMemory, MIB, noMmapIo, places, withVolume } from '../support/devices.js'
import { seeded } from '../support/random.js'
import { native, onNative, withFile } from './native-support.js'

const GIB = 1024 ** 3
const MEMORY = '/dev/shm'
const noTmpfs = !existsSync(MEMORY) && 'there is no tmpfs at /dev/shm'
const onTmpfs = { skip: onNative.skip || noTmpfs }

/** A sparse file in memory of which these pages were written. */
function withPages(
  bytes: number,
  pages: readonly number[],
  body: (fd: number, pageBytes: number) => void,
): void {
  const { pageBytes } = native()
  withFile(
    bytes,
    (fd) => {
      for (const page of pages) writeSync(fd, Buffer.from([1]), 0, 1, page * pageBytes)
      body(fd, pageBytes)
    },
    MEMORY,
  )
}

describe('native: resident pages', onTmpfs, () => {
  it('pages that were written are told from holes, the part of a page at the end as well', () => {
    const { pageBytes } = native()
    withPages(6 * pageBytes + 100, [1, 2, 6], (fd) => {
      const out = new Uint8Array(7).fill(9)
      native().residentPages(fd, 0, out)
      assert.deepEqual([...out], [0, 1, 1, 0, 0, 0, 1])
      native().residentPages(fd, 2 * pageBytes, out.subarray(1, 4))
      assert.deepEqual([...out], [0, 1, 0, 0, 0, 0, 1])
      const behind = () => native().residentPages(fd, pageBytes, out)
      assert.throws(behind, { code: 'ERR_OUT_OF_RANGE' })
    })
  })

  it('asking brings nothing into memory', () => {
    withPages(GIB, [], (fd, pageBytes) => {
      const out = new Uint8Array(GIB / pageBytes).fill(9)
      for (let i = 0; i < 2; i++) {
        native().residentPages(fd, 0, out)
        assert(out.every((page) => page === 0))
      }
    })
  })
})

describe('bytes in memory', onTmpfs, () => {
  const ask = (fd: number, ranges: readonly VolumeRange[]) =>
    residentBytes(fd, 'a file', native(), ranges)

  it('are those of each range, whatever pages, order and overlap', () => {
    seeded((random) => {
      const count = 60
      const pages = Array.from({ length: count }, (_, i) => i).filter(() => random.chance(2))
      const { pageBytes } = native()
      const size = count * pageBytes - 1000
      withPages(size, pages, (fd) => {
        const ranges = Array.from({ length: 200 }, () => {
          const offset = random.between(0, size)
          return { offset, size: random.between(0, Math.min(size - offset, 5 * pageBytes)) }
        })
        const plain = ranges.map((range) =>
          pages.reduce((sum, page) => {
            const from = Math.max(range.offset, page * pageBytes)
            const to = Math.min(range.offset + range.size, (page + 1) * pageBytes)
            return sum + Math.max(0, to - from)
          }, 0),
        )
        assert.deepEqual(ask(fd, ranges), plain)
      })
    })
  })

  it('of devices larger than what is asked about at once', () => {
    const { pageBytes } = native()
    const gib = GIB / pageBytes
    withPages(3.5 * GIB, [0, gib - 1, gib, 3 * gib + 7], (fd) => {
      const ranges = [
        { offset: 3 * GIB, size: 8 * pageBytes },
        { offset: 0, size: 3.5 * GIB },
        { offset: GIB - 10, size: 20 },
        { offset: GIB, size: 2 * GIB },
        { offset: 1, size: GIB },
      ]
      assert.deepEqual(ask(fd, ranges), [pageBytes, 4 * pageBytes, 20, pageBytes, 2 * pageBytes])
      assert.deepEqual(ask(fd, []), [])
    })
  })

  it('a device that ends before the range is an error with a code', () => {
    withPages(native().pageBytes, [], (fd) => {
      const range = { offset: 0, size: 1 + native().pageBytes }
      assert.throws(() => ask(fd, [range]), { code: 'ERR_DEVICE_IO' })
    })
  })
})

/** A volume in a sparse file with two chunks: `read` has bytes, `hole` has none. */
function withSparse(body: (volume: Volume, path: string) => void): void {
  inMemory((folder) => {
    const path = join(folder, 'device')
    const dense = join(folder, 'dense')
    Volume.format(dense, { size: 4 * MIB })
    {
      using volume = Volume.open(dense)
      volume.allocate({ size: MIB, name: 'read' }).write(0, new Uint8Array(300_000).fill(1))
      volume.allocate({ size: MIB, name: 'hole' })
    }
    const image = readFileSync(dense)
    const fd = openSync(path, 'wx', 0o644)
    ftruncateSync(fd, image.length)
    const { pageBytes } = native()
    for (let at = 0; at < image.length; at += pageBytes) {
      const page = image.subarray(at, at + pageBytes)
      if (page.some((byte) => byte !== 0)) writeSync(fd, page, 0, page.length, at)
    }
    closeSync(fd)
    using volume = Volume.open(path, { readOnly: true })
    body(volume, path)
  })
}

describe('volume: bytes in memory', onTmpfs, () => {
  it('of chunks, areas and any other range', () => {
    withSparse((volume) => {
      const { pageBytes } = native()
      const written = Math.ceil(300_000 / pageBytes) * pageBytes
      assert.deepEqual(volume.residentBytes(volume.chunks()), [written, 0])
      const { offset } = volume.chunks()[0]!
      const ranges = [
        { offset: offset + 100, size: 1000 },
        { offset: offset + written - 10, size: 100 },
        { offset, size: 0 },
        { offset: volume.info.size, size: 0 },
      ]
      assert.deepEqual(volume.residentBytes(ranges), [1000, 10, 0, 0])
      // Opening has read both superblocks.
      const superblocks = volume.stats().areas.filter(({ name }) => name === 'superblock')
      assert.deepEqual(volume.residentBytes(superblocks), [4096, 4096])
      const [all = 0] = volume.residentBytes([{ offset: 0, size: volume.info.size }])!
      assert(all >= written + 8192 && all <= volume.info.size - MIB, `${all}`)
    })
  })

  it('wrong ranges, and a volume that is closed', () => {
    withSparse((volume) => {
      const ask = (ranges: unknown) => () => volume.residentBytes(ranges as VolumeRange[])
      const { size } = volume.info
      const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }
      for (const wrong of [undefined, {}, 'all', [1], [null], [{ offset: 0 }], [{ size: 1 }]])
        assert.throws(ask(wrong), type)
      const range = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }
      for (const [offset, length] of [
        [-1, 1],
        [0.5, 1],
        [0, size + 1],
        [size, 1],
        [0, -1],
      ])
        assert.throws(ask([{ offset, size: length }]), range)
      volume.close()
      assert.throws(ask([]), { code: 'ERR_VOLUME_CLOSED' })
    })
  })

  it('unknown for media in memory', () => {
    using volume = openSimulated(new SimulatedMedia('cache-line', makeImage()))
    assert.equal(volume.residentBytes([{ offset: 0, size: 4096 }]), undefined)
  })

  it('unknown with the backend mmap-io', { skip: noMmapIo }, () => {
    withSparse((_, path) => {
      using volume = Volume.open(path, { readOnly: true, backend: 'mmap-io' })
      assert.equal(volume.residentBytes([{ offset: 0, size: 4096 }]), undefined)
    })
  })

  const notRoot = process.getuid?.() !== 0 && 'becoming somebody else needs root'
  it('unknown to who may only read: the kernel says that all pages are there', {
    skip: notRoot,
  }, () => {
    withSparse((_, path) => {
      chmodSync(join(path, '..'), 0o755)
      const program = `
        import { Volume } from ${JSON.stringify(import.meta.resolve('plinth'))}
        const volume = Volume.open(${JSON.stringify(path)}, { readOnly: true })
        console.log(JSON.stringify([volume.residentBytes(volume.chunks()) ?? null, volume.info.size]))`
      const asNobody = () => {
        const { stdout, stderr } = spawnSync(
          process.execPath,
          ['--input-type=module', '-e', program],
          { uid: 65534, gid: 65534, encoding: 'utf8' },
        )
        assert.equal(stderr, '')
        return JSON.parse(stdout)[0]
      }
      assert.equal(asNobody(), null)
      // Who may write it is told, whoever owns it.
      chmodSync(path, 0o666)
      assert.equal(asNobody()?.[1], 0)
    })
  })
})

for (const at of places) {
  describe(`volume, bytes in memory: ${at.name}`, { skip: at.skip }, () => {
    it('what was read is in the page cache, where there is one', () => {
      withVolume(at, (volume) => {
        const chunk: Chunk = volume.allocate({ size: 100_000, name: 'c' })
        chunk.write(0, new Uint8Array(chunk.size).fill(1))
        volume.close()
        using again = Volume.open(volume.info.path, { ...at.options, readOnly: true })
        assert(again.chunk('c').bytes.every((byte) => byte === 1))
        const { kind, backend } = again.info
        const hasCache = kind !== 'dax' && kind !== 'fsdax' && backend === 'native'
        const expected = hasCache ? [again.chunks()[0]!.size] : undefined
        assert.deepEqual(again.residentBytes(again.chunks()), expected)
        if (kind !== 'fsdax') return
        const fd = openSync(again.info.path, 'r')
        const ask = () => native().residentPages(fd, 0, new Uint8Array(1))
        assert.throws(ask, { code: 'EOPNOTSUPP' })
        closeSync(fd)
      })
    })
  })
}
