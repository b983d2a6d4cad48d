/** The two ways to map a device, at positions where 32-bit numbers end. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type Backend, Volume } from 'plinth'
import { loadMapper, type Mapper, mappingsMax, NativeMapper } from '../../src/device/mapper.js'
import { addonError, loadAddon } from '../../src/native/load.js'
import { inFolder, inMemory, MIB, noMmapIo, PAGE, tmpfsPage } from '../support/devices.js'
import { pattern } from '../support/pattern.js'

const GIB = 2 ** 30
const skips: [backend: Backend, skip: string | false][] = [
  ['native', addonError() === undefined ? false : 'the addon does not load here'],
  ['mmap-io', noMmapIo],
]
const limit = { name: 'PlinthError', code: 'ERR_BACKEND_LIMIT' }
const MARKS = [
  0,
  PAGE,
  GIB,
  2 * GIB - PAGE,
  2 * GIB,
  2 * GIB + PAGE,
  4 * GIB - PAGE,
  4 * GIB,
  4 * GIB + PAGE,
  8 * GIB,
  9 * GIB,
]

/** A sparse file beyond 9 GiB with a page of its own pattern at each mark: a few blocks of disk. */
function onLargeFile(body: (fd: number) => void): void {
  inFolder((folder) => {
    const fd = openSync(join(folder, 'large'), 'w+')
    try {
      ftruncateSync(fd, 9 * GIB + 2 * PAGE)
      for (const [i, at] of MARKS.entries()) writeSync(fd, pattern(PAGE, i + 1), 0, PAGE, at)
      body(fd)
    } finally {
      closeSync(fd)
    }
  })
}

function bytesAt(mapper: Mapper, fd: number, offset: number): Uint8Array {
  const { slot, bytes } = mapper.map(fd, offset, PAGE, 'private')
  const copy = bytes.slice()
  mapper.unmap(slot)
  return copy
}

for (const [backend, skip] of skips) {
  describe(`mapper: ${backend}`, { skip }, () => {
    it('is the one that was asked for', () => {
      assert.equal(loadMapper(backend).backend, backend)
    })

    it('maps the right bytes, or refuses', () => {
      onLargeFile((fd) => {
        const mapper = loadMapper(backend)
        for (const [i, at] of MARKS.entries()) {
          if (backend === 'native' || at < 2 * GIB) {
            assert.deepEqual(bytesAt(mapper, fd, at), pattern(PAGE, i + 1), `at ${at}`)
          } else assert.throws(() => bytesAt(mapper, fd, at), limit, `at ${at}`)
        }
      })
    })

    const refused: [what: string, offset: number, length: number][] = [
      ['2 GiB of length', 0, 2 * GIB],
      ['4 GiB of length', 0, 4 * GIB],
      ['4 GiB and a page', 0, 4 * GIB + PAGE],
      ['an offset of 4 GiB', 4 * GIB, PAGE],
      ['an offset of 8 GiB and a page', 8 * GIB + PAGE, PAGE],
      ['an offset between pages', 100, PAGE],
    ]
    if (backend === 'mmap-io') {
      for (const [what, offset, length] of refused) {
        it(`never tries ${what}`, () => {
          onLargeFile((fd) => {
            assert.throws(() => loadMapper(backend).map(fd, offset, length, 'shared'), limit)
          })
        })
      }
      it('never tries MAP_SYNC, and cannot tell pages or give them back', () => {
        onLargeFile((fd) => {
          const mapper = loadMapper(backend)
          assert.throws(() => mapper.map(fd, 0, PAGE, 'sync'), limit)
          const { slot } = mapper.map(fd, 0, PAGE, 'private')
          assert.equal(mapper.privatePages(slot, 0, 1, new Uint32Array(1)), undefined)
          assert.equal(mapper.discard(slot, 0, PAGE), false)
        })
      })
    } else {
      it('stores reach the right place through a shared mapping beyond 4 GiB', () => {
        onLargeFile((fd) => {
          const mapper = loadMapper(backend)
          const { slot, bytes } = mapper.map(fd, 8 * GIB, 2 * PAGE, 'shared')
          bytes.set(pattern(100, 77), PAGE)
          mapper.unmap(slot)
          assert.equal(bytes.length, 0)
          const read = new Uint8Array(100)
          readSync(fd, read, 0, 100, 8 * GIB + PAGE)
          assert.deepEqual(read, pattern(100, 77))
          for (const at of [PAGE, 4 * GIB + PAGE]) {
            assert.deepEqual(bytesAt(mapper, fd, at), pattern(PAGE, MARKS.indexOf(at) + 1))
          }
        })
      })

      it('one mapping across 4 GiB', () => {
        onLargeFile((fd) => {
          const mapper = loadMapper(backend)
          const { slot, bytes } = mapper.map(fd, 4 * GIB - PAGE, 2 * PAGE, 'private')
          assert.deepEqual(bytes.slice(0, PAGE), pattern(PAGE, MARKS.indexOf(4 * GIB - PAGE) + 1))
          assert.deepEqual(bytes.slice(PAGE), pattern(PAGE, MARKS.indexOf(4 * GIB) + 1))
          mapper.unmap(slot)
        })
      })

      it('MAP_SYNC is refused where there is no DAX', { skip: tmpfsPage.skip }, () => {
        inMemory((folder) => {
          const fd = openSync(join(folder, 'file'), 'w+')
          try {
            ftruncateSync(fd, PAGE)
            assert.throws(() => loadMapper(backend).map(fd, 0, PAGE, 'sync'))
          } finally {
            closeSync(fd)
          }
        })
      })

      it('private pages are told exactly, and given back', () => {
        onLargeFile((fd) => {
          const mapper = loadMapper(backend)
          const { slot, bytes } = mapper.map(fd, 0, 16 * PAGE, 'private')
          const out = new Uint32Array(16)
          assert.equal(mapper.privatePages(slot, 0, 16, out), 0)
          assert.equal(bytes[PAGE], pattern(PAGE, 2)[0], 'a load copies nothing')
          assert.equal(mapper.privatePages(slot, 0, 16, out), 0)
          for (const page of [1, 2, 9, 15]) bytes[page * PAGE + 5] = 1
          assert.equal(mapper.privatePages(slot, 0, 16, out), 4)
          assert.deepEqual([...out.subarray(0, 4)], [1, 2, 9, 15])
          assert.equal(mapper.privatePages(slot, 2, 10, out), 2)
          assert.deepEqual([...out.subarray(0, 2)], [2, 9])
          assert.equal(mapper.discard(slot, PAGE, 2 * PAGE), true)
          assert.equal(mapper.privatePages(slot, 0, 16, out), 2)
          assert.equal(bytes[PAGE + 5], pattern(PAGE, 2)[5])
          mapper.unmap(slot)
        })
      })
    }

    it('a slot that was given back is given out again', () => {
      onLargeFile((fd) => {
        const mapper = loadMapper(backend)
        const first = mapper.map(fd, 0, PAGE, 'private')
        mapper.unmap(first.slot)
        const second = mapper.map(fd, PAGE, PAGE, 'private')
        assert.equal(second.slot, first.slot)
        assert.deepEqual(second.bytes.slice(), pattern(PAGE, 2))
        mapper.unmap(second.slot)
      })
    })
  })
}

describe('mapper: what the kernel limits', { skip: skips[0]![1] }, () => {
  it('three quarters of vm.max_map_count are used', () => {
    assert.equal(mappingsMax(65530), 49147)
    assert.equal(mappingsMax(2 ** 20), 786432)
  })

  it('one mapping too many is refused, and one that is given back makes room', () => {
    // 49147 files would take long: the mappings there are count, and the limit is one more.
    onLargeFile((fd) => {
      const addon = loadAddon()!
      const before = addon.mappingCount()
      const mapper = new NativeMapper(addon, before + 2)
      const first = mapper.map(fd, 0, PAGE, 'private')
      mapper.map(fd, PAGE, PAGE, 'private')
      assert.equal(addon.mappingCount(), before + 2)
      const refused = { name: 'PlinthError', code: 'ERR_MAPPING_LIMIT', message: /max_map_count/ }
      assert.throws(() => mapper.map(fd, GIB, PAGE, 'private'), refused)
      mapper.unmap(first.slot)
      const again = mapper.map(fd, GIB, PAGE, 'private')
      assert.equal(again.slot, first.slot)
      mapper.unmap(again.slot)
    })
  })

  // A sanitizer takes 16 TiB of it for itself.
  const noLimit = process.env.ASAN_OPTIONS !== undefined && 'the address space is not limited here'
  it('an address space that is full has the same code', { skip: noLimit }, () => {
    inFolder((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: 2100 * MIB })
      const script = `
        const { Volume } = await import('plinth')
        const volume = Volume.open(${JSON.stringify(path)})
        const chunk = volume.allocate({ size: ${2000 * MIB} })
        try { chunk.bytes } catch (error) { console.log(error.code, error.cause.code) }
        volume.close()`
      const { stdout } = spawnSync(
        'bash',
        // What node has by itself, and no room for another 2000 MiB.
        ['-c', `ulimit -v 2500000; exec ${process.execPath} --input-type=module -e "$SCRIPT"`],
        { env: { ...process.env, SCRIPT: script }, encoding: 'utf8' },
      )
      assert.equal(stdout, 'ERR_MAPPING_LIMIT ENOMEM\n')
    })
  })

  it('a device that became shorter is told of', () => {
    onLargeFile((fd) => {
      ftruncateSync(fd, MIB)
      const truncated = { name: 'PlinthError', code: 'ERR_DEVICE_TRUNCATED' }
      assert.throws(() => loadMapper('native').map(fd, GIB, PAGE, 'private'), truncated)
    })
  })
})

describe('mapper: which', () => {
  it('without a wish it is the addon, where it loads', { skip: skips[0]![1] }, () => {
    assert.equal(loadMapper(undefined).backend, 'native')
  })

  it('mmap-io and a granularity that needs write-back: refused by format and open', {
    skip: noMmapIo || tmpfsPage.skip,
  }, () => {
    tmpfsPage.with(MIB, (path) => {
      const options = { backend: 'mmap-io', granularity: 'cache-line' } as const
      assert.throws(() => Volume.format(path, { size: MIB, ...options }), limit)
      Volume.format(path, { size: MIB })
      assert.throws(() => Volume.open(path, options), limit)
    })
  })
})
