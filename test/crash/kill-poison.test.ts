/**
 * A barrier that fails leaves it unknown what the device has kept. The volume says so to every later
 * call, and the next open finds out: all that was acknowledged, and each other change whole or not at all.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { describe, it, mock } from 'node:test'
import { type Chunk, Volume } from 'plinth'
import { type Place, places, withVolume } from '../support/devices.js'
import { pattern } from '../support/pattern.js'

const failed = { name: 'PlinthError', code: 'ERR_VOLUME_FAILED' }
const input = Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })

/** Runs `body` while a call of the file system fails. */
function whileFailing<T>(call: 'writeSync' | 'fdatasyncSync', body: () => T): T {
  const { mock: failing } = mock.method(fs, call, () => {
    throw input
  })
  try {
    return body()
  } finally {
    failing.restore()
  }
}

interface Bench {
  readonly volume: Volume
  readonly chunk: Chunk
  readonly other: Chunk
}

/** What fails, the call in which it does, and whether its change may be there afterwards. */
const failures: [
  what: string,
  call: 'writeSync' | 'fdatasyncSync',
  work: (bench: Bench) => unknown,
][] = [
  [
    'transact',
    'writeSync',
    ({ volume, chunk }) => volume.transact((tx) => tx.setUint32(chunk, 0, 2)),
  ],
  ['allocate', 'writeSync', ({ volume }) => volume.allocate({ size: 4096, name: 'new' })],
  ['free', 'writeSync', ({ volume, other }) => volume.free(other)],
  ['persist, at the write', 'writeSync', ({ other }) => other.persist(0, 100)],
  ['persist, at the barrier', 'fdatasyncSync', ({ other }) => other.persist(0, 100)],
  ['flush', 'writeSync', ({ other }) => other.flush(0, 100)],
  ['write, at the barrier', 'fdatasyncSync', ({ other }) => other.write(0, pattern(5000, 3))],
  [
    'fence',
    'fdatasyncSync',
    ({ volume, other }) => {
      other.flush(0, 1)
      volume.fence()
    },
  ],
  ['checkpoint, at in-place locations', 'writeSync', ({ volume }) => volume.checkpoint()],
  ['checkpoint, at the barrier', 'fdatasyncSync', ({ volume }) => volume.checkpoint()],
  ['close of a chunk', 'fdatasyncSync', ({ chunk }) => chunk.close()],
]

const calls: [name: string, call: (bench: Bench) => unknown][] = [
  ['transact', ({ volume }) => volume.transact(() => 0)],
  ['allocate', ({ volume }) => volume.allocate({ size: 1 })],
  ['reserve', ({ volume }) => volume.reserve({ size: 1 })],
  ['free', ({ volume, other }) => volume.free(other)],
  ['persist', ({ chunk }) => chunk.persist(0, 1)],
  ['flush', ({ chunk }) => chunk.flush(0, 1)],
  ['write', ({ chunk }) => chunk.write(0, pattern(1))],
  ['fence', ({ volume }) => volume.fence()],
  ['checkpoint', ({ volume }) => volume.checkpoint()],
  ['stats', ({ volume }) => volume.stats()],
  ['chunks', ({ volume }) => volume.chunks()],
  ['chunk', ({ volume }) => volume.chunk('chunk')],
  ['findChunk', ({ volume }) => volume.findChunk('chunk')],
]

/** A volume with something acknowledged in its log; opened again after `body`. */
async function onBench(
  at: Place,
  body: (bench: Bench) => unknown,
  check: (volume: Volume) => void,
) {
  await withVolume(at, async (volume, path) => {
    const [chunk, other] = ['chunk', 'other'].map((name) =>
      volume.allocate({ size: 8192, name, zero: true }),
    )
    volume.checkpoint()
    volume.transact((tx) => {
      tx.setUint32(chunk!, 0, 1)
      tx.write(chunk!, 4096, pattern(100, 1))
    })
    other!.bytes.set(pattern(100, 2))
    chunk!.bytes[100] = 1
    await body({ volume, chunk: chunk!, other: other! })
    if (volume.isOpen) assert.throws(() => volume.close(), failed)
    volume.close()
    const again = Volume.open(path, at.options)
    try {
      assert.equal(again.recovery.clean, false)
      assert.deepEqual(again.chunk('chunk').bytes.slice(4096, 4196), pattern(100, 1))
      check(again)
      again.transact((tx) => tx.setUint32(again.chunk('chunk'), 0, 3))
    } finally {
      again.close()
    }
  })
}

async function allFail(bench: Bench): Promise<void> {
  for (const [name, call] of calls) assert.throws(() => call(bench), failed, name)
  await assert.rejects(
    bench.volume.transactAsync(() => 0),
    failed,
  )
}

const paged = places.filter(({ granularity, isFile }) => granularity === 'page' && isFile)
for (const at of paged) {
  describe(`a barrier that fails: ${at.name}`, { skip: at.skip }, () => {
    for (const [what, call, work] of failures) {
      it(what, async () => {
        await onBench(
          at,
          async (bench) => {
            assert.throws(
              () => whileFailing(call, () => work(bench)),
              (error: Error & { code?: string }) =>
                error.code === failed.code && (error.cause as Error).message === input.message,
            )
            await allFail(bench)
          },
          (volume) => {
            const word = volume.chunk('chunk').view.getUint32(0, true)
            assert.ok(word === 1 || (what === 'transact' && word === 2), `word ${word}`)
            const names = volume.chunks().map(({ name }) => name)
            const expected = ['chunk', 'other']
            if (what === 'allocate' && names.includes('new')) expected.push('new')
            if (what === 'free' && !names.includes('other')) expected.pop()
            assert.deepEqual(names, expected)
          },
        )
      })
    }

    it('close: it says so, and the device is free for recovery', async () => {
      await onBench(
        at,
        ({ volume }) => {
          assert.throws(() => whileFailing('fdatasyncSync', () => volume.close()), failed)
          assert.throws(() => volume.transact(() => 0), { code: 'ERR_VOLUME_CLOSED' })
        },
        (volume) => assert.equal(volume.chunk('chunk').view.getUint32(0, true), 1),
      )
    })

    it('a failure in a synchronous transaction rejects those that wait', async () => {
      await onBench(
        at,
        async (bench) => {
          const { volume, chunk } = bench
          const waiting = [1, 2, 3].map((i) =>
            volume.transactAsync((tx) => tx.setUint32(chunk, 4 * i, i)),
          )
          const outcomes = Promise.allSettled(waiting)
          assert.throws(
            () =>
              whileFailing('writeSync', () => volume.transact((tx) => tx.setUint32(chunk, 0, 2))),
            failed,
          )
          for (const { status, ...rest } of await outcomes) {
            assert.equal(status, 'rejected')
            assert.equal((rest as { reason: { code: string } }).reason.code, failed.code)
          }
          await allFail(bench)
        },
        (volume) => assert.equal(volume.chunk('chunk').view.getUint32(0, true), 1),
      )
    })

    const noLimits = spawnSync('prlimit', ['--version']).error !== undefined
    it('a write off the event loop that fails rejects all that wait', {
      skip: noLimits && 'prlimit is not installed',
    }, async () => {
      // The system refuses writes behind a file's first page, as a full or broken device would.
      const limit = (bytes: string) =>
        execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`])
      await onBench(
        at,
        async (bench) => {
          const { volume, chunk } = bench
          const first = volume.transactAsync((tx) => tx.setUint32(chunk, 0, 1))
          await first
          limit('4096')
          try {
            const waiting = [1, 2, 3].map((i) =>
              volume.transactAsync((tx) => tx.setUint32(chunk, 4 * i, i)),
            )
            // The barrier of the first three is under way; this one waits for the next.
            await new Promise((resolve) => setImmediate(resolve))
            waiting.push(volume.transactAsync((tx) => tx.setUint32(chunk, 0, 9)))
            for (const outcome of await Promise.allSettled(waiting)) {
              assert.equal(outcome.status, 'rejected')
              assert.equal((outcome as PromiseRejectedResult).reason.code, failed.code)
            }
          } finally {
            limit('unlimited')
          }
          await allFail(bench)
        },
        (volume) => {
          const words = new Uint32Array(volume.chunk('chunk').bytes.slice(0, 16).buffer)
          assert.deepEqual([...words], [1, 0, 0, 0])
        },
      )
    })
  })
}
