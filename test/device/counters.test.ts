/** What operations cost, counted exactly: a regression shows here without any clock. */
import assert from 'node:assert/strict'
import diagnostics from 'node:diagnostics_channel'
import { describe, it } from 'node:test'
import type { Chunk, Counters, OperationMessage, Volume } from 'plinth'
import { MIB, type Place, places, withVolume } from '../support/devices.js'

type Cost = { fences: number; barriers: number; systemCalls: number; linesFlushed: number }

function costOf(volume: Volume, call: () => void): Cost {
  const before = volume.stats().counters
  call()
  const after = volume.stats().counters
  return {
    fences: after.fences - before.fences,
    barriers: after.barriers - before.barriers,
    systemCalls: after.systemCalls - before.systemCalls,
    linesFlushed: after.linesFlushed - before.linesFlushed,
  }
}

const bytes = (length: number) => new Uint8Array(length)

interface Bench {
  readonly volume: Volume
  readonly chunk: Chunk
  readonly other: Chunk
}

// Lines of the log that a record takes, and lines of in-place locations, on cache-line granularity.
const operations: [
  name: string,
  call: (bench: Bench) => unknown,
  lines: number,
  /** On page granularity: waits, and system calls. Bytes in place and a wait for them are two. */
  page: [barriers: number, systemCalls: number],
][] = [
  ['an empty transaction', ({ volume }) => volume.transact(() => 1), 0, [0, 0]],
  [
    'one that reads',
    ({ volume, chunk }) => volume.transact((tx) => tx.read(chunk, 0, 64)),
    0,
    [0, 0],
  ],
  [
    'one word',
    ({ volume, chunk }) => volume.transact((tx) => tx.setUint64(chunk, 0, 1)),
    1,
    [1, 1],
  ],
  [
    '64 bytes',
    ({ volume, chunk }) => volume.transact((tx) => tx.write(chunk, 0, bytes(64))),
    2,
    [1, 1],
  ],
  [
    '4096 bytes',
    ({ volume, chunk }) => volume.transact((tx) => tx.write(chunk, 0, bytes(4096))),
    65,
    [1, 1],
  ],
  [
    'words in two chunks',
    ({ volume, chunk, other }) =>
      volume.transact((tx) => {
        tx.setUint64(chunk, 0, 1)
        tx.setUint64(other, 4096, 1)
      }),
    1,
    [1, 1],
  ],
  ['allocate', ({ volume }) => volume.allocate({ size: 4096, name: 'new' }), 3, [1, 1]],
  ['free', ({ volume, other }) => volume.free(other), 3, [1, 1]],
  ['publish', ({ volume }) => volume.publish(volume.reserve({ size: 4096 })), 3, [1, 1]],
  ['reserve and cancel', ({ volume }) => volume.cancel(volume.reserve({ size: 4096 })), 0, [0, 0]],
  ['persist of 8 bytes', ({ chunk }) => chunk.persist(0, 8), 1, [1, 2]],
  ['persist across lines', ({ chunk }) => chunk.persist(60, 8), 2, [1, 2]],
  ['persist of nothing', ({ chunk }) => chunk.persist(0, 0), 0, [0, 0]],
  ['write of 4096 bytes', ({ chunk }) => chunk.write(0, bytes(4096)), 64, [1, 2]],
  ['write of nothing', ({ chunk }) => chunk.write(0, bytes(0)), 0, [0, 0]],
  [
    'two flushes and a fence',
    ({ volume, chunk }) => {
      chunk.flush(0, 8)
      chunk.flush(4096, 8)
      volume.fence()
    },
    2,
    [1, 3],
  ],
]

function onBench(at: Place, body: (bench: Bench) => void): void {
  withVolume(
    at,
    (volume) => {
      const [chunk, other] = ['chunk', 'other'].map((name) =>
        volume.allocate({ size: 65_536, name, zero: true }),
      )
      for (const each of [chunk!, other!]) each.bytes[0] = 0
      volume.checkpoint()
      body({ volume, chunk: chunk!, other: other! })
    },
    { size: 8 * MIB },
  )
}

for (const at of places) {
  describe(`cost: ${at.name}`, { skip: at.skip }, () => {
    for (const [name, call, lines, [barriers, systemCalls]] of operations) {
      it(name, () => {
        onBench(at, (bench) => {
          const cost = costOf(bench.volume, () => call(bench))
          const nothing = lines === 0
          if (at.granularity === 'page') {
            // A fence with nothing before it is free of charge, so it is not counted here.
            assert.deepEqual(
              { ...cost, fences: 0 },
              { fences: 0, barriers, systemCalls, linesFlushed: 0 },
            )
          } else {
            assert.deepEqual(
              { ...cost, fences: nothing ? 0 : cost.fences },
              {
                fences: nothing ? 0 : 1,
                barriers: 0,
                systemCalls: 0,
                linesFlushed: linesOf(at, cost, lines),
              },
            )
          }
        })
      })
    }

    it('close of a volume: all chunks share one fence', () => {
      const count = 20
      const messages: OperationMessage[] = []
      const listen = (message: unknown) => void messages.push(message as OperationMessage)
      withVolume(
        at,
        (volume) => {
          const chunks = Array.from({ length: count }, (_, i) =>
            volume.allocate({ size: 4096, name: `${i}`, zero: true }),
          )
          volume.checkpoint()
          for (const [i, chunk] of chunks.entries()) chunk.bytes[i] = 1
          diagnostics.subscribe('plinth:operation', listen)
          try {
            volume.close()
          } finally {
            diagnostics.unsubscribe('plinth:operation', listen)
          }
        },
        { size: 8 * MIB },
      )
      assert(messages.every(({ operation }) => operation === 'close'))
      const sum = (name: keyof Counters) =>
        messages.reduce((sum, message) => sum + message[name], 0)
      const [barriers, systemCalls] = [sum('barriers'), sum('systemCalls')]
      const linesFlushed = sum('linesFlushed')
      // And one for each checkpoint header.
      assert.equal(sum('fences'), 1 + 2)
      const lines = at.granularity === 'cache-line' ? count * 64 + 2 : 0
      assert.deepEqual(
        { barriers, systemCalls, linesFlushed },
        at.granularity === 'page'
          ? { barriers: 3, systemCalls: count + 1 + 2 * 2, linesFlushed: 0 }
          : { barriers: 0, systemCalls: 0, linesFlushed: lines },
      )
    })

    it('1000 transactions one after the other', () => {
      onBench(at, ({ volume, chunk }) => {
        const before = volume.stats().checkpoints
        const cost = costOf(volume, () => {
          for (let i = 0; i < 1000; i++) volume.transact((tx) => tx.setUint32(chunk, 0, i))
        })
        const checkpoints = volume.stats().checkpoints - before
        if (at.granularity === 'page') {
          // A checkpoint costs in-place locations and each checkpoint header; the end of the ring a write of its own.
          assert.ok(checkpoints > 0)
          const laps = cost.barriers - 1000 - 3 * checkpoints
          assert.ok(laps >= 0 && laps <= (1000 * 4096) / volume.stats().logBytes, `${laps} laps`)
        } else {
          assert.deepEqual([checkpoints, cost.fences, cost.systemCalls], [0, 1000, 0])
        }
      })
    })

    it('1000 transactions at once share barriers', async () => {
      await withVolume(
        at,
        async (volume) => {
          const chunk = volume.allocate({ size: 4096, zero: true })
          volume.checkpoint()
          const before = volume.stats().counters
          await Promise.all(
            Array.from({ length: 1000 }, (_, i) =>
              volume.transactAsync((tx) => tx.setUint32(chunk, 4 * i, i)),
            ),
          )
          const after = volume.stats().counters
          const barriers = after.barriers - before.barriers
          if (at.granularity === 'page') {
            assert.ok(barriers >= 1 && barriers <= 40, `${barriers} barriers`)
          } else {
            assert.deepEqual(
              [barriers, after.systemCalls, after.fences - before.fences],
              [0, 0, 1000],
            )
          }
        },
        { size: 8 * MIB },
      )
    })

    it('transactions that come while a barrier is under way share the next', async () => {
      await withVolume(
        at,
        async (volume) => {
          const chunk = volume.allocate({ size: 4096, zero: true })
          volume.checkpoint()
          const before = volume.stats().counters.barriers
          const waves = 10
          let last = Promise.resolve()
          for (let wave = 0; wave < waves; wave++) {
            const all = Array.from({ length: 20 }, (_, i) =>
              volume.transactAsync((tx) => tx.setUint32(chunk, 4 * i, wave)),
            )
            last = Promise.all(all).then(() => {})
            // The first of a wave is under way by the next turn.
            await new Promise((resolve) => setImmediate(resolve))
          }
          await last
          const barriers = volume.stats().counters.barriers - before
          if (at.granularity === 'page') assert.ok(barriers <= waves, `${barriers} barriers`)
          else assert.equal(barriers, 0)
          assert.ok(new Uint32Array(chunk.bytes.slice(0, 80).buffer).every((word) => word === 9))
        },
        { size: 8 * MIB },
      )
    })
  })
}

/** On byte granularity nothing has to be flushed; `write` counts what its copy has flushed. */
function linesOf(at: Place, cost: Cost, lines: number): number {
  return at.granularity === 'byte' ? cost.linesFlushed : lines
}
