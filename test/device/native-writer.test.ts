import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { pbkdf2 } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { constants } from 'node:os'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { native, onNative, pattern, withFileAsync } from './native-support.js'

const GIB = 1024 ** 3

function read(fd: number, position: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  readSync(fd, bytes, 0, length, position)
  return bytes
}

describe('native: writer', onNative, () => {
  it('writes all bytes and says so on the event loop', async () => {
    await withFileAsync(9 * GIB, async (fd) => {
      const addon = native()
      const writer = addon.createWriter(fd)
      const bytes = pattern(3 << 20)
      for (const [position, sync] of [
        [0, true],
        [8 * GIB + 7, false],
      ] as const) {
        const errno = await new Promise((resolve) => {
          addon.startWrite(writer, bytes, 5, bytes.length - 5, position, sync, resolve)
        })
        assert.equal(errno, 0)
        assert.equal(Buffer.compare(read(fd, position, bytes.length - 5), bytes.subarray(5)), 0)
      }
      assert.equal(addon.waitWrite(writer), 0)
      addon.closeWriter(writer)
      assert.throws(() => addon.waitWrite(writer), { code: 'ERR_OUT_OF_RANGE' })
    })
  })

  it('waits without the event loop, and delivers later, once, in order', async () => {
    await withFileAsync(1 << 20, async (fd) => {
      const addon = native()
      const writer = addon.createWriter(fd)
      const delivered: number[] = []
      for (let i = 0; i < 50; i++) {
        const bytes = new Uint8Array(4096).fill(i)
        addon.startWrite(writer, bytes, 0, 4096, i * 4096, i % 10 === 0, (errno) => {
          assert.equal(errno, 0)
          delivered.push(i)
        })
        assert.equal(addon.waitWrite(writer), 0)
        assert.equal(read(fd, i * 4096, 1)[0], i)
      }
      assert.deepEqual(delivered, [])
      addon.closeWriter(writer)
      while (delivered.length < 50) await new Promise((resolve) => setImmediate(resolve))
      await new Promise((resolve) => setTimeout(resolve, 20))
      assert.deepEqual(
        delivered,
        Array.from({ length: 50 }, (_, i) => i),
      )
    })
  })

  it('waits even when the pool is busy with something else', async () => {
    await withFileAsync(4096, async (fd) => {
      const addon = native()
      const writer = addon.createWriter(fd)
      const derive = promisify(pbkdf2)
      let finished = 0
      const busy = Array.from({ length: 8 }, async () => {
        await derive('secret', 'salt', 200_000, 64, 'sha512')
        finished++
      })
      const done = new Promise((resolve) => {
        addon.startWrite(writer, pattern(4096), 0, 4096, 0, false, resolve)
      })
      assert.equal(addon.waitWrite(writer), 0)
      assert.equal(finished, 0)
      assert.deepEqual(read(fd, 0, 4096), pattern(4096))
      assert.equal(await done, 0)
      await Promise.all(busy)
      addon.closeWriter(writer)
    })
  })

  it('gives the errno of a failed write', async () => {
    await withFileAsync(4096, async (_fd, path) => {
      const addon = native()
      const forReading = openSync(path, 'r')
      const writer = addon.createWriter(forReading)
      try {
        const done = new Promise((resolve) => {
          addon.startWrite(writer, pattern(10), 0, 10, 0, true, resolve)
        })
        assert.equal(addon.waitWrite(writer), constants.errno.EBADF)
        assert.equal(await done, constants.errno.EBADF)
        // Once delivered it is nobody's any more.
        assert.equal(addon.waitWrite(writer), 0)
      } finally {
        addon.closeWriter(writer)
        closeSync(forReading)
      }
    })
  })

  it('a next write may start from done, and the writer may close in it', async () => {
    await withFileAsync(8192, async (fd) => {
      const addon = native()
      const writer = addon.createWriter(fd)
      await new Promise<void>((resolve) => {
        addon.startWrite(writer, pattern(4096), 0, 4096, 0, false, () => {
          addon.startWrite(writer, pattern(4096), 0, 4096, 4096, false, () => {
            addon.closeWriter(writer)
            resolve()
          })
        })
      })
      assert.deepEqual(read(fd, 4096, 4096), pattern(4096))
    })
  })

  it('refuses a second write while one is under way', async () => {
    await withFileAsync(1 << 26, async (fd) => {
      const addon = native()
      const writer = addon.createWriter(fd)
      // Long enough that the pool cannot have ended it by the next line.
      const bytes = new Uint8Array(1 << 26)
      const done = new Promise((resolve) => {
        addon.startWrite(writer, bytes, 0, bytes.length, 0, false, resolve)
      })
      assert.throws(() => addon.startWrite(writer, bytes, 0, 1, 0, false, () => {}), {
        code: 'ERR_INVALID_STATE',
      })
      assert.equal(await done, 0)
      addon.closeWriter(writer)
    })
  })

  const load = new URL('../../src/native/load.js', import.meta.url).href
  const endings: [string, string, number][] = [
    ['exits', 'process.exit(0)', 0],
    ['throws in done', '', 1],
    ['ends by itself', 'globalThis.quiet = true', 0],
  ]
  for (const [what, ending, status] of endings) {
    it(`a process that ${what} with a write under way`, async () => {
      await withFileAsync(1 << 24, async (_fd, path) => {
        const program = `
          import { openSync } from 'node:fs'
          import { loadAddon } from ${JSON.stringify(load)}
          const addon = loadAddon()
          const writer = addon.createWriter(openSync(${JSON.stringify(path)}, 'r+'))
          addon.startWrite(writer, new Uint8Array(1 << 24), 0, 1 << 24, 0, true, () => {
            if (!globalThis.quiet) throw new Error('thrown in done')
          })
          ${ending}`
        const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
          encoding: 'utf8',
        })
        assert.equal(child.signal, null, child.stderr)
        assert.equal(child.status, status, child.stderr)
        if (status === 1) assert.match(child.stderr, /thrown in done/)
      })
    })
  }
})
