import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readSync } from 'node:fs'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { native, onNative, withFileAsync } from './native-support.js'

const load = new URL('../../src/native/load.js', import.meta.url).href
const PAGE = 4096

/** Maps its page of the file and does everything with it, until told to stop, or for ever. */
const program = `
  const { parentPort, workerData } = require('node:worker_threads')
  import(workerData.load).then(({ loadAddon }) => {
    const addon = loadAddon()
    const { fd, index, rounds } = workerData
    const slot = addon.map(fd, index * 4096, 4096, 0)
    const words = new Uint32Array(addon.buffer(slot))
    const staging = addon.alignedBuffer(3 * 4096, 4096)
    const mailbox = new Uint32Array(staging, 4096, 8)
    const commit = addon.bindCommit(staging, mailbox, new Uint32Array(staging, 8192))
    const writer = addon.createWriter(fd)
    mailbox.set([slot, 1024, 128, 0, 0, 0])
    for (let round = 0; round < rounds; round++) {
      words[0] = round + 1
      addon.flush(slot, 0, 4)
      addon.fence()
      commit()
      addon.copyPersist(slot, 2048, new Uint8Array(100).fill(index + 1))
      if (round % 16 === 0) {
        // The last write is under way until here, and so perhaps when the thread ends.
        addon.waitWrite(writer)
        addon.startWrite(writer, new Uint8Array(512), 0, 512, (index + 8) * 4096, true, () => {})
        const extra = addon.map(fd, 0, 4096, 0)
        addon.buffer(extra)
        if (round > 100) addon.unmap(extra)
      }
      if (round === 100) parentPort.postMessage('under way')
    }
    parentPort.postMessage('done')
    // Ends with a mapping, a writer and deliveries outstanding.
  })`

function start(fd: number, index: number, rounds: number): Worker {
  return new Worker(program, { eval: true, workerData: { load, fd, index, rounds } })
}

async function message(worker: Worker, expected: string): Promise<void> {
  for (;;) {
    const [text] = (await once(worker, 'message')) as [string]
    if (text === expected) return
  }
}

describe('native: threads', onNative, () => {
  it('four workers use it side by side, and the main thread with them', async () => {
    await withFileAsync(16 * PAGE, async (fd) => {
      const addon = native()
      const slot = addon.map(fd, 0, 16 * PAGE, 0)
      try {
        const memory = new Uint32Array(addon.buffer(slot))
        const workers = [0, 1, 2, 3].map((index) => start(fd, index, 2000))
        await Promise.all(
          workers.map(async (worker) => {
            const exit = once(worker, 'exit')
            await message(worker, 'done')
            const [code] = await exit
            assert.equal(code, 0)
          }),
        )
        for (const index of [0, 1, 2, 3]) {
          assert.equal(memory[(index * PAGE) / 4], 2000)
          const read = Buffer.alloc(1)
          readSync(fd, read, 0, 1, index * PAGE + 2048)
          assert.equal(read[0], index + 1)
        }
      } finally {
        addon.unmap(slot)
      }
    })
  })

  it('workers are terminated in mid-use', async () => {
    await withFileAsync(16 * PAGE, async (fd) => {
      for (let repeat = 0; repeat < 3; repeat++) {
        const workers = [0, 1, 2, 3].map((index) => start(fd, index, Number.MAX_SAFE_INTEGER))
        await Promise.all(
          workers.map(async (worker) => {
            await message(worker, 'under way')
            await worker.terminate()
          }),
        )
      }
      // The descriptor, and this thread's own use, are untouched.
      const addon = native()
      const slot = addon.map(fd, 0, PAGE, 0)
      addon.flush(slot, 0, PAGE)
      addon.fence()
      addon.unmap(slot)
    })
  })

  it('a worker that ends leaves a write under way to finish', async () => {
    await withFileAsync(1 << 24, async (fd) => {
      const worker = new Worker(
        `const { workerData } = require('node:worker_threads')
        import(workerData.load).then(({ loadAddon }) => {
          const addon = loadAddon()
          const writer = addon.createWriter(workerData.fd)
          addon.startWrite(writer, new Uint8Array(1 << 24).fill(9), 0, 1 << 24, 0, true, () => {})
          process.exit(0)
        })`,
        { eval: true, workerData: { load, fd } },
      )
      const [code] = await once(worker, 'exit')
      assert.equal(code, 0)
      const read = Buffer.alloc(1)
      readSync(fd, read, 0, 1, (1 << 24) - 1)
      assert.equal(read[0], 9)
    })
  })

  // All of them stayed: twelve workers with half a GiB each took six.
  for (const how of ['terminated', 'that exits', 'that returns']) {
    it(`a worker ${how} gives its mappings back`, async () => {
      await withFileAsync(64 * PAGE, async (fd) => {
        const before = native().mappingCount()
        const worker = new Worker(
          `const { parentPort, workerData } = require('node:worker_threads')
          import(workerData.load).then(({ loadAddon }) => {
            const addon = loadAddon()
            for (let page = 0; page < 16; page++) {
              const slot = addon.map(workerData.fd, page * 4096, 4096, page % 2)
              if (page < 8) addon.buffer(slot)
              if (page < 4) addon.detach(slot)
              if (page < 2) addon.buffer(slot)
            }
            parentPort.postMessage('mapped')
            if (workerData.how === 'that exits') process.exit(0)
            if (workerData.how === 'terminated') setInterval(() => {}, 1000)
          })`,
          { eval: true, workerData: { load, fd, how } },
        )
        const exit = once(worker, 'exit')
        await message(worker, 'mapped')
        if (how === 'terminated') await worker.terminate()
        await exit
        assert.equal(native().mappingCount(), before)
      })
    })
  }
})
