/** What subscribers of `plinth:operation` are told, counted exactly. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import diagnostics from 'node:diagnostics_channel'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type {
  Chunk,
  Counters,
  Heap,
  Operation,
  OperationMessage,
  PlinthError,
  Volume,
} from 'plinth'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { MIB, places, tmpfsLine, tmpfsPage, withVolume } from '../support/devices.js'

const CHANNEL = 'plinth:operation'

/** Everything that is published until `stop`. */
function listen() {
  const messages: OperationMessage[] = []
  const hear = (message: unknown) => {
    messages.push(message as OperationMessage)
  }
  diagnostics.subscribe(CHANNEL, hear)
  return { messages, stop: () => diagnostics.unsubscribe(CHANNEL, hear) }
}

/** Everything that is published while `body` runs. */
function heard(body: () => unknown): OperationMessage[] {
  const { messages, stop } = listen()
  try {
    body()
  } finally {
    stop()
  }
  return messages
}

const COUNTS = [
  'stores',
  'linesFlushed',
  'fences',
  'barriers',
  'systemCalls',
  'bytesAppended',
  'bytesWritten',
] as const
const countsOf = (counts: Counters) => COUNTS.map((name) => counts[name])
const eventsOf = (messages: OperationMessage[]) =>
  messages.map(({ operation, event }) => `${event} of ${operation}`)
const sumOf = (messages: OperationMessage[]) =>
  COUNTS.map((name) => messages.reduce((sum, message) => sum + message[name], 0))
const bytes = (length: number) => new Uint8Array(length).fill(7)

interface Bench {
  readonly volume: Volume
  readonly chunk: Chunk
  readonly other: Chunk
  readonly heap: Heap
  /** An object of the heap that is not its slab's last. */
  readonly object: number
}

function onBench(at: typeof tmpfsLine, body: (bench: Bench) => void): void {
  withVolume(
    at,
    (volume) => {
      const chunk = volume.allocate({ size: 65_536, zero: true })
      const other = volume.allocate({ size: 4096, zero: true })
      const heap = volume.heap('heap')
      heap.allocate(64)
      const object = heap.allocate(64)
      chunk.bytes[0] = 0
      volume.checkpoint()
      body({ volume, chunk, other, heap, object })
    },
    { size: 8 * MIB },
  )
}

const RECORD = 24
const ENTRY = 8

// In the order of COUNTS. A record of page granularity is a block of 4096 bytes, with one of 24 that ends it.
const costs: [what: string, call: (bench: Bench) => unknown, line: number[], page: number[]][] = [
  [
    'commit of transact',
    ({ volume, chunk }) => volume.transact((tx) => tx.setUint64(chunk, 0, 1)),
    [1, 1, 1, 0, 0, RECORD + ENTRY + 8, 0],
    [1, 0, 1, 1, 1, RECORD + ENTRY + 8 + RECORD, 0],
  ],
  [
    'commit of transact',
    ({ volume, chunk }) => volume.transact((tx) => tx.write(chunk, 0, bytes(64))),
    [1, 2, 1, 0, 0, RECORD + ENTRY + 64, 0],
    [1, 0, 1, 1, 1, RECORD + ENTRY + 64 + RECORD, 0],
  ],
  [
    'commit of transact',
    ({ volume, chunk, other }) =>
      volume.transact((tx) => {
        tx.setUint64(chunk, 0, 1)
        tx.setUint64(other, 0, 1)
      }),
    [2, 1, 1, 0, 0, RECORD + 2 * (ENTRY + 8), 0],
    [2, 0, 1, 1, 1, RECORD + 2 * (ENTRY + 8) + RECORD, 0],
  ],
  [
    'persist of chunk.persist',
    ({ chunk }) => chunk.persist(60, 8),
    [0, 2, 1, 0, 0, 0, 0],
    [0, 0, 1, 1, 2, 0, 8],
  ],
  [
    'flush of chunk.flush',
    ({ chunk }) => chunk.flush(0, 8),
    [0, 1, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 1, 0, 8],
  ],
  [
    'persist of chunk.write',
    ({ chunk }) => chunk.write(0, bytes(4096)),
    [0, 64, 1, 0, 0, 0, 4096],
    [0, 0, 1, 1, 2, 0, 4096],
  ],
  [
    'barrier of fence',
    ({ volume }) => volume.fence(),
    [0, 0, 1, 0, 0, 0, 0],
    [0, 0, 1, 0, 0, 0, 0],
  ],
  [
    'commit of heap.allocate',
    ({ heap }) => heap.allocate(64),
    [1, 1, 1, 0, 0, RECORD + ENTRY + 8, 0],
    [1, 0, 1, 1, 1, RECORD + ENTRY + 8 + RECORD, 0],
  ],
  [
    'commit of heap.free',
    ({ heap, object }) => heap.free(object),
    [1, 1, 1, 0, 0, RECORD + ENTRY + 8, 0],
    [1, 0, 1, 1, 1, RECORD + ENTRY + 8 + RECORD, 0],
  ],
  [
    'persist of heap.persist',
    ({ heap, object }) => heap.persist(object, 8),
    [0, 1, 1, 0, 0, 0, 0],
    [0, 0, 1, 1, 2, 0, 8],
  ],
]

describe('cost of one operation', () => {
  for (const at of [tmpfsLine, tmpfsPage]) {
    describe(at.name, { skip: at.skip }, () => {
      for (const [what, call, line, page] of costs) {
        it(`${what}: ${call}`.replace(/\s+/g, ' '), () => {
          onBench(at, (bench) => {
            const messages = heard(() => call(bench))
            assert.deepEqual(eventsOf(messages), [what])
            const { info } = bench.volume
            const { path, uuid, durationNs, error } = messages[0]!
            assert.deepEqual([path, uuid, error], [info.path, info.uuid, undefined])
            assert(Number.isInteger(durationNs) && durationNs > 0)
            const wanted = at === tmpfsPage ? page : line
            assert.deepEqual(countsOf(messages[0]!), wanted)
          })
        })
      }

      it('a checkpoint: in-place locations and two checkpoint headers', () => {
        onBench(at, ({ volume, chunk }) => {
          volume.transact((tx) => tx.setUint64(chunk, 0, 1))
          const messages = heard(() => volume.checkpoint())
          assert.deepEqual(eventsOf(messages), ['checkpoint of checkpoint'])
          const { fences, linesFlushed, barriers } = messages[0]!
          assert.equal(fences, 3)
          if (at === tmpfsPage) assert.equal(barriers, 3)
          else assert(linesFlushed >= 3)
        })
      })

      it('a checkpoint within a commit is told before it, and what one has cost the other has not', () => {
        onBench(at, ({ volume, chunk }) => {
          const { checkpoints } = volume.stats()
          const messages = heard(() => {
            while (volume.stats().checkpoints === checkpoints) {
              volume.transact((tx) => tx.write(chunk, 0, bytes(32_768)))
            }
          })
          const last = messages.splice(-2)
          assert(messages.length > 0)
          for (const message of messages) {
            assert.deepEqual([...eventsOf([message]), message.fences], ['commit of transact', 1])
          }
          assert.deepEqual(eventsOf(last), ['checkpoint of transact', 'commit of transact'])
          assert.deepEqual(
            last.map(({ fences }) => fences),
            [3, 1],
          )
          assert.deepEqual(countsOf(last[1]!), countsOf(messages[0]!))
        })
      })
    })
  }
})

for (const at of places) {
  describe(`what all events cost: ${at.name}`, { skip: at.skip }, () => {
    it('is what the volume has counted since it was opened', async () => {
      const { messages, stop } = listen()
      try {
        await withVolume(
          at,
          async (volume) => {
            const opened = messages.findLastIndex(({ event }) => event === 'recovery')
            messages.splice(0, opened)
            await useAll(volume)
            const { counters, checkpoints } = volume.stats()
            assert.deepEqual(sumOf(messages), countsOf(counters))
            const told = messages.filter(({ event }) => event === 'checkpoint')
            assert.equal(told.length, checkpoints)
            const operations = new Set(messages.map(({ operation }) => operation))
            // Of page granularity `check` waits for the commit before it.
            if (at.granularity === 'page') assert(operations.delete('check'))
            assert.deepEqual([...operations].sort(), TOLD)
            messages.length = 0
          },
          { size: 8 * MIB },
        )
        assert.deepEqual(eventsOf(messages).at(-1), 'checkpoint of close')
      } finally {
        stop()
      }
    })
  })
}

/** Of what `useAll` calls all that reaches the device. */
const TOLD: Operation[] = [
  'allocate',
  'checkpoint',
  'chunk.close',
  'chunk.flush',
  'chunk.persist',
  'chunk.write',
  'fence',
  'free',
  'heap.allocate',
  'heap.free',
  'heap.open',
  'heap.persist',
  'heap.publish',
  'heap.reserve',
  'heap.setRoot',
  'open',
  'publish',
  'rename',
  'reserve',
  'transact',
  'transactAsync',
]

/** Calls everything that messages tell of, but for `close`. */
async function useAll(volume: Volume): Promise<void> {
  const chunk = volume.allocate({ size: 65_536, name: 'chunk', zero: true })
  volume.transact((tx) => tx.setUint64(chunk, 0, 1))
  chunk.persist(0, 8)
  chunk.write(4096, bytes(10_000))
  chunk.flush(0, 100)
  volume.fence()
  await Promise.all(
    Array.from({ length: 50 }, (_, i) => volume.transactAsync((tx) => tx.setUint32(chunk, i, i))),
  )
  const pending = volume.transactAsync((tx) => tx.setUint32(chunk, 0, 7))
  volume.transact((tx) => tx.setUint32(chunk, 4, 7))
  await pending
  const unsettled = volume.transactAsync((tx) => tx.setUint32(chunk, 8, 7))
  assert.deepEqual(volume.check(), [])
  await unsettled
  volume.publish(volume.reserve({ size: 4096, zero: true }))
  volume.cancel(volume.reserve({ size: 4096 }))
  const heap = volume.heap('heap')
  const holder = heap.allocate(64)
  heap.setUint64(holder, 0)
  heap.persist(holder, 8)
  const named = volume.allocate({ size: 4096 })
  volume.rename(named, 'named')
  volume.free(named)
  heap.setRoot(holder)
  heap.publish(heap.reserve(5000))
  heap.publish(heap.reserve(100))
  heap.cancel(heap.reserve(100))
  heap.setRoot(0)
  heap.free(holder)
  chunk.close()
  volume.free(volume.chunk('chunk'))
  volume.checkpoint()
}

const skip = tmpfsPage.skip || tmpfsLine.skip

describe('messages', { skip }, () => {
  it('end with the subscription', () => {
    onBench(tmpfsLine, ({ volume, chunk }) => {
      const messages = heard(() => chunk.persist(0, 8))
      assert.equal(diagnostics.hasSubscribers(CHANNEL), false)
      volume.transact((tx) => tx.setUint64(chunk, 0, 1))
      chunk.persist(0, 8)
      assert.deepEqual(eventsOf(messages), ['persist of chunk.persist'])
    })
  })

  it('tell only of what reaches the device', () => {
    onBench(tmpfsLine, ({ volume, heap }) => {
      const messages = heard(() => {
        volume.transact(() => 1)
        volume.cancel(volume.reserve({ size: 4096 }))
        heap.cancel(heap.reserve(64))
        assert.throws(() => volume.allocate({ size: 2 ** 30 }), { code: 'ERR_NO_SPACE' })
        assert.deepEqual(volume.check(), [])
      })
      assert.deepEqual(messages, [])
    })
  })

  it('of a transaction have its name and come when it has ended', () => {
    onBench(tmpfsLine, ({ volume, chunk }) => {
      const { messages, stop } = listen()
      volume.transact((tx) => {
        tx.setUint64(chunk, 0, 1)
        chunk.persist(8192, 8)
        volume.allocate({ size: 4096, zero: true })
        assert.deepEqual(messages, [])
      })
      stop()
      assert.deepEqual(
        messages.map(({ event, operation, fences }) => [event, operation, fences]),
        [
          ['persist', 'transact', 1],
          ['persist', 'transact', 1],
          ['commit', 'transact', 1],
        ],
      )
    })
  })

  it('of one that is rolled back come when it is', () => {
    onBench(tmpfsLine, ({ volume, chunk }) => {
      const { messages, stop } = listen()
      assert.throws(() =>
        volume.transact(() => {
          chunk.persist(0, 8)
          throw new Error('wrong')
        }),
      )
      stop()
      chunk.persist(0, 8)
      assert.deepEqual(eventsOf(messages), ['persist of transact'])
    })
  })

  it('tell of each volume by itself', () => {
    onBench(tmpfsLine, ({ volume, chunk }) =>
      onBench(tmpfsPage, (bench) => {
        const messages = heard(() =>
          volume.transact((tx) => {
            tx.setUint64(chunk, 0, 1)
            bench.chunk.persist(0, 8)
          }),
        )
        assert.deepEqual(
          messages.map(({ event, operation, path, fences, barriers }) => [
            `${event} of ${operation}`,
            path,
            fences,
            barriers,
          ]),
          [
            ['persist of chunk.persist', bench.volume.info.path, 1, 1],
            ['commit of transact', volume.info.path, 1, 0],
          ],
        )
      }),
    )
  })

  it('of asynchronous commits: each as it is appended, then the barrier that they share', async () => {
    await withVolume(tmpfsPage, async (volume) => {
      const chunk = volume.allocate({ size: 4096, zero: true })
      const { messages, stop } = listen()
      const commits = [1, 2, 3].map((n) => volume.transactAsync((tx) => tx.setUint32(chunk, 0, n)))
      const appended = messages.length
      await Promise.all(commits)
      stop()
      assert.equal(appended, 3)
      assert.deepEqual(
        messages.map(({ event, stores, barriers }) => [event, stores, barriers]),
        [
          ['append', 1, 0],
          ['append', 1, 0],
          ['append', 1, 0],
          ['barrier', 0, 1],
        ],
      )
      assert(messages.every(({ operation }) => operation === 'transactAsync'))
    })
  })

  it('count a barrier once, whatever is done while it is under way', async () => {
    await withVolume(tmpfsPage, async (volume) => {
      const chunk = volume.allocate({ size: 65_536, zero: true })
      const { messages, stop } = listen()
      const before = volume.stats().counters
      const durable = volume.transactAsync((tx) => tx.setUint32(chunk, 0, 1))
      // The barrier begins in a microtask.
      await undefined
      chunk.persist(8192, 8)
      await durable
      stop()
      assert.deepEqual(eventsOf(messages).sort(), [
        'append of transactAsync',
        'barrier of chunk.persist',
        'barrier of transactAsync',
        'persist of chunk.persist',
      ])
      const after = countsOf(volume.stats().counters)
      assert.deepEqual(
        sumOf(messages),
        countsOf(before).map((count, i) => after[i]! - count),
      )
    })
  })

  it('tell of a failure at once, and of nothing behind it', () => {
    const media = new SimulatedMedia('page', makeImage())
    const volume = openSimulated(media)
    const chunk = volume.allocate({ size: 4096 })
    const { messages, stop } = listen()
    media.judge = (kind) => (kind === 'fence' ? 'fail' : 'go')
    const failed = { code: 'ERR_VOLUME_FAILED' }
    assert.throws(() => volume.transact((tx) => tx.setUint32(chunk, 0, 1)), failed)
    assert.throws(() => chunk.persist(0, 8), failed)
    assert.throws(() => volume.close(), failed)
    stop()
    assert.deepEqual(eventsOf(messages), ['failure of transact'])
    assert.equal((messages[0]!.error as PlinthError).code, 'ERR_VOLUME_FAILED')
  })

  it('come when the operation is complete, and refuse what a subscriber calls of the volume', () => {
    onBench(tmpfsLine, ({ volume, chunk, other, heap, object }) => {
      const codes = new Map<string, unknown>()
      const seen: unknown[] = []
      const calls: Record<string, () => unknown> = {
        chunks: () => volume.chunks(),
        stats: () => volume.stats(),
        transact: () => volume.transact((tx) => tx.setUint32(chunk, 0, 7)),
        allocate: () => volume.allocate({ size: 4096 }),
        checkpoint: () => volume.checkpoint(),
        heap: () => volume.heap('another'),
        'heap.free': () => heap.free(object),
        'heap.copyIn': () => heap.copyIn(object, bytes(8)),
        'chunk.write': () => chunk.write(0, bytes(8)),
        'chunk.close': () => chunk.close(),
        close: () => volume.close(),
      }
      const use = (message: unknown) => {
        seen.push((message as OperationMessage).operation)
        for (const [name, call] of Object.entries(calls)) {
          try {
            call()
            codes.set(name, 'was done')
          } catch (error) {
            codes.set(name, (error as PlinthError).code)
          }
        }
      }
      const before = volume.stats()
      diagnostics.subscribe(CHANNEL, use)
      try {
        volume.free(other)
        assert.throws(() =>
          volume.transact(() => {
            volume.allocate({ size: 4096, zero: true })
            throw new Error('wrong')
          }),
        )
      } finally {
        diagnostics.unsubscribe(CHANNEL, use)
      }
      assert.deepEqual(seen, ['free', 'transact'])
      for (const name of Object.keys(calls)) assert.equal(codes.get(name), 'ERR_REENTRANT', name)
      assert.equal(volume.stats().chunks, before.chunks - 1)
      assert.deepEqual(volume.check(), [])
    })
  })

  it('are their own: what one subscriber does to one, no operation sees', () => {
    onBench(tmpfsLine, ({ volume, chunk }) => {
      const spoil = (message: unknown) => {
        for (const name of Object.keys(message as object)) Reflect.set(message as object, name, -1)
      }
      diagnostics.subscribe(CHANNEL, spoil)
      volume.transact((tx) => tx.setUint64(chunk, 0, 1))
      diagnostics.unsubscribe(CHANNEL, spoil)
      const [message] = heard(() => volume.transact((tx) => tx.setUint64(chunk, 0, 2)))
      assert.deepEqual(countsOf(message!), [1, 1, 1, 0, 0, RECORD + ENTRY + 8, 0])
      assert.equal(message!.path, volume.info.path)
    })
  })
})

/** A program that prints what it hears of `uncaughtException` and `unhandledRejection`. */
const program = (path: string) => `
  import diagnostics from 'node:diagnostics_channel'
  import { Volume } from 'plinth'
  process.on('uncaughtException', (error, origin) => console.log(origin, error.message))
  diagnostics.subscribe('plinth:operation', ({ operation }) => {
    if (operation === 'transact') throw new Error('of the subscriber')
  })
  Volume.format('${path}', { size: 1 << 20 })
  const volume = Volume.open('${path}')
  const chunk = volume.allocate({ size: 4096, zero: true })
  console.log(volume.transact((tx) => { tx.setUint32(chunk, 0, 1); return 'committed' }))
  console.log(chunk.view.getUint32(0, true), volume.check().length)
  volume.transactAsync(() => { throw new Error('of the transaction') })
  setImmediate(() => volume.close())
`

describe('errors that nobody handles', { skip }, () => {
  it("a subscriber's breaks no operation, and a rejection stays unhandled", () => {
    tmpfsPage.with(MIB, (path) => {
      const cwd = fileURLToPath(new URL('../../../', import.meta.url))
      const args = ['--input-type=module', '--eval', program(path)]
      const { stdout, stderr } = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' })
      assert.equal(stderr, '')
      assert.deepEqual(stdout.split('\n').slice(0, -1).sort(), [
        '1 0',
        'committed',
        'uncaughtException of the subscriber',
        'unhandledRejection of the transaction',
      ])
    })
  })
})
