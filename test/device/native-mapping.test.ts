import assert from 'node:assert/strict'
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { describe, it } from 'node:test'
import { MAP } from '../../src/native/addon.js'
import { directories, native, onNative, pattern, withFile, withMapping } from './native-support.js'

const GIB = 1024 ** 3
const PAGE = 4096

describe('native: mappings', onNative, () => {
  it('positions beyond 32 bits are exact', () => {
    withFile(9 * GIB, (fd) => {
      const addon = native()
      // A backend that truncates to 32 bits shows the bytes of position 0 at 4 and at 8 GiB.
      for (const gib of [0, 2, 4, 8]) writeSync(fd, Buffer.from([gib + 1]), 0, 1, gib * GIB)
      for (const gib of [0, 2, 4, 8]) {
        const slot = addon.map(fd, gib * GIB, 16 * PAGE, 0)
        const bytes = new Uint8Array(addon.buffer(slot))
        assert.equal(bytes[0], gib + 1)
        bytes[1] = 100 + gib
        addon.flush(slot, 1, 1)
        addon.fence()
        addon.unmap(slot)
        const read = Buffer.alloc(1)
        readSync(fd, read, 0, 1, gib * GIB + 1)
        assert.equal(read[0], 100 + gib)
      }
    })
  })

  it('4 GiB is the longest mapping, and all of it is reached', () => {
    withFile(9 * GIB, (fd) => {
      const addon = native()
      writeSync(fd, Buffer.from([42]), 0, 1, 5 * GIB - 1)
      const slot = addon.map(fd, GIB, 4 * GIB, MAP.READ_ONLY)
      try {
        const buffer = addon.buffer(slot)
        assert.equal(buffer.byteLength, 4 * GIB)
        assert.equal(new Uint8Array(buffer, 4 * GIB - 1)[0], 42)
        addon.flush(slot, 4 * GIB - 64, 64)
      } finally {
        addon.unmap(slot)
      }
    })
  })

  it('detach empties the views and keeps the mapping', () => {
    withMapping(PAGE, (slot, memory) => {
      const addon = native()
      const tail = new DataView(memory.buffer, 4000)
      memory[0] = 9
      addon.detach(slot)
      assert.equal(memory.length, 0)
      assert.equal(memory[0], undefined)
      assert.throws(() => tail.getUint8(0), TypeError)
      addon.detach(slot)
      addon.flush(slot, 0, PAGE)
      addon.fence()
      assert.equal(new Uint8Array(addon.buffer(slot))[0], 9)
    })
  })

  it('unmap detaches, and the slot is refused and then used again', () => {
    withFile(4 * PAGE, (fd) => {
      const addon = native()
      const slot = addon.map(fd, 0, PAGE, 0)
      const bytes = new Uint8Array(addon.buffer(slot))
      addon.unmap(slot)
      assert.equal(bytes.length, 0)
      for (const use of [
        () => addon.unmap(slot),
        () => addon.buffer(slot),
        () => addon.detach(slot),
        () => addon.flush(slot, 0, 0),
        () => addon.persistUnits(Uint32Array.of(slot, 0), 1, 12),
        () => addon.copyPersist(slot, 0, bytes),
      ]) {
        assert.throws(use, { code: 'ERR_OUT_OF_RANGE' })
      }
      const again = addon.map(fd, PAGE, PAGE, 0)
      assert.equal(again, slot)
      addon.unmap(again)
    })
  })

  it('many slots', () => {
    withFile(100 * PAGE, (fd) => {
      const addon = native()
      const slots = Array.from({ length: 100 }, (_, i) => addon.map(fd, i * PAGE, PAGE, 0))
      assert.equal(new Set(slots).size, 100)
      slots.forEach((slot, i) => {
        new Uint8Array(addon.buffer(slot))[0] = i
      })
      slots.forEach((slot) => {
        addon.unmap(slot)
      })
      const first = Buffer.alloc(1)
      for (const i of [0, 50, 99]) {
        readSync(fd, first, 0, 1, i * PAGE)
        assert.equal(first[0], i)
      }
    })
  })

  it('a buffer that was moved away stays readable after unmap', (t) => {
    const transfer: unknown = Reflect.get(ArrayBuffer.prototype, 'transfer')
    if (typeof transfer !== 'function') return t.skip('ArrayBuffer.prototype.transfer is younger')
    // Found in review: transfer() leaves a second ArrayBuffer on the address, and an unmap made
    // the next load from it a segmentation fault.
    withFile(PAGE, (fd) => {
      const addon = native()
      const slot = addon.map(fd, 0, PAGE, 0)
      const moved = new Uint8Array(transfer.call(addon.buffer(slot)) as ArrayBuffer)
      moved[0] = 1
      addon.unmap(slot)
      moved[0] = 2
      assert.equal(moved[1], 0)
    })
  })

  it('private stores stay in the process; pages tell; discard gives them back', () => {
    for (const directory of directories) {
      withFile(
        8 * PAGE,
        (fd) => {
          const addon = native()
          writeSync(fd, pattern(8 * PAGE))
          const slot = addon.map(fd, 0, 8 * PAGE, MAP.PRIVATE)
          try {
            const bytes = new Uint8Array(addon.buffer(slot))
            const pages = new Uint32Array(8)
            const dirty = (from = 0, count = 8 - from, out = pages) =>
              Array.from(out.subarray(0, addon.privatePages(slot, from, count, out)))
            assert.deepEqual(dirty(), [], directory)
            // Loading maps the page of the file, which is not ours.
            assert.equal(bytes[2 * PAGE], pattern(8 * PAGE)[2 * PAGE])
            assert.equal(bytes[3 * PAGE], pattern(8 * PAGE)[3 * PAGE])
            assert.deepEqual(dirty(), [], directory)
            const before = bytes[3 * PAGE]!
            for (const page of [1, 3, 7]) bytes[page * PAGE] = ~bytes[page * PAGE]!
            assert.deepEqual(dirty(), [1, 3, 7], directory)
            assert.deepEqual(dirty(2, 5), [3])
            const one = new Uint32Array(1)
            assert.deepEqual(dirty(0, 8, one), [1])
            assert.deepEqual(dirty(2, 6, one), [3])
            const read = Buffer.alloc(1)
            readSync(fd, read, 0, 1, 3 * PAGE)
            assert.equal(read[0], before)
            addon.discard(slot, 3 * PAGE, PAGE)
            assert.equal(bytes[3 * PAGE], before)
            assert.deepEqual(dirty(), [1, 7])
          } finally {
            addon.unmap(slot)
          }
        },
        directory,
      )
    }
  })

  it('a shared mapping has no private pages', () => {
    withMapping(2 * PAGE, (slot, memory) => {
      memory.fill(1)
      assert.equal(native().privatePages(slot, 0, 2, new Uint32Array(2)), 0)
    })
  })

  it('a lock is held by one descriptor', () => {
    withFile(PAGE, (fd, path) => {
      const addon = native()
      const other = openSync(path, 'r+')
      try {
        assert.equal(addon.lock(fd, true), true)
        assert.equal(addon.lock(fd, true), true)
        assert.equal(addon.lock(other, true), false)
        assert.equal(addon.lock(other, false), false)
        assert.equal(addon.lock(fd, false), true)
        assert.equal(addon.lock(other, false), true)
        assert.equal(addon.lock(other, true), false)
      } finally {
        closeSync(other)
      }
      assert.equal(addon.lock(fd, true), true)
    })
  })

  it('a lock lives as long as a mapping of its descriptor', () => {
    withFile(PAGE, (fd, path) => {
      const addon = native()
      const owner = openSync(path, 'r+')
      assert.equal(addon.lock(owner, true), true)
      const slot = addon.map(owner, 0, PAGE, 0)
      closeSync(owner)
      assert.equal(addon.lock(fd, true), false)
      addon.unmap(slot)
      assert.equal(addon.lock(fd, true), true)
    })
  })

  it('allocate backs a sparse file', () => {
    withFile(64 * PAGE, (fd) => {
      native().allocate(fd, 0, 64 * PAGE)
      assert.ok(fstatSync(fd).blocks * 512 >= 64 * PAGE)
    })
  })

  it('an aligned buffer is zero, and direct I/O takes it', (t) => {
    const addon = native()
    for (const [bytes, alignment] of [
      [1, 1],
      [100, 64],
      [4096, 4096],
      [10_000, 2 ** 21],
    ] as const) {
      const buffer = addon.alignedBuffer(bytes, alignment)
      assert.equal(buffer.byteLength, bytes)
      assert.ok(new Uint8Array(buffer).every((byte) => byte === 0))
    }
    withFile(PAGE, (fd, path) => {
      let direct: number
      try {
        direct = openSync(path, constants.O_RDWR | constants.O_DIRECT)
      } catch {
        return t.skip('no direct I/O in the temporary directory')
      }
      try {
        const bytes = new Uint8Array(addon.alignedBuffer(PAGE, PAGE))
        bytes.set(pattern(PAGE))
        assert.equal(writeSync(direct, bytes, 0, PAGE, 0), PAGE)
      } finally {
        closeSync(direct)
      }
      const read = new Uint8Array(PAGE)
      readSync(fd, read, 0, PAGE, 0)
      assert.deepEqual(read, pattern(PAGE))
    })
  })
})
