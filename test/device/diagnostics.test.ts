/** What subscribers of `plinth:operation` are told, counted exactly. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import diagnostics from 'node:diagnostics_channel'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Chunk, Counters, Heap, OperationMessage, PlinthError, Volume } from 'plinth'
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
const operationsOf = (messages: OperationMessage[]) => messages.map(({ operation }) => operation)
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
const costs: [
  operation: string,
  call: (bench: Bench) => unknown,
  line: number[],
  page: number[],
][] = [
  ['transact', ({ volume }) => volume.transact(() => 1), [0, 0, 0, 0, 0, 0, 0], []],
  [
    'transact',
    ({ volume, chunk }) => volume.transact((tx) => tx.setUint64(chunk, 0, 1)),
    [1, 1, 1, 0, 0, RECORD + ENTRY + 8, 0],
    [1, 0, 1, 1, 1, RECORD + ENTRY + 8 + RECORD, 0],
  ],
  [
    'transact',
    ({ volume, chunk }) => volume.transact((tx) => tx.write(chunk, 0, bytes(64))),
    [1, 2, 1, 0, 0, RECORD + ENTRY + 64, 0],
    [1, 0, 1, 1, 1, RECORD + ENTRY + 64 + RECORD, 0],
  ],
  [
    'transact',
    ({ volume, chunk, other }) =>
      volume.transact((tx) => {
        tx.setUint64(chunk, 0, 1)
        tx.setUint64(other, 0, 1)
      }),
    [2, 1, 1, 0, 0, RECORD + 2 * (ENTRY + 8), 0],
    [2, 0, 1, 1, 1, RECORD + 2 * (ENTRY + 8) + RECORD, 0],
  ],
  [
    'chunk.persist',
    ({ chunk }) => chunk.persist(60, 8),
    [0, 2, 1, 0, 0, 0, 0],
    [0, 0, 1, 1, 2, 0, 8],
  ],
  ['chunk.flush', ({ chunk }) => chunk.flush(0, 8), [0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 8]],
  [
    'chunk.write',
    ({ chunk }) => chunk.write(0, bytes(4096)),
    [0, 64, 1, 0, 0, 0, 4096],
    [0, 0, 1, 1, 2, 0, 4096],
  ],
  ['fence', ({ volume }) => volume.fence(), [0, 0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]],
  [
    'heap.allocate',
    ({ heap }) => heap.allocate(64),
    [1, 1, 1, 0, 0, RECORD + ENTRY + 8, 0],
    [1, 0, 1, 1, 1, RECORD + ENTRY + 8 + RECORD, 0],
  ],
  [
    'heap.free',
    ({ heap, object }) => heap.free(object),
    [1, 1, 1, 0, 0, RECORD + ENTRY + 8, 0],
    [1, 0, 1, 1, 1, RECORD + ENTRY + 8 + RECORD, 0],
  ],
  [
    'heap.persist',
    ({ heap, object }) => heap.persist(object, 8),
    [0, 1, 1, 0, 0, 0, 0],
    [0, 0, 1, 1, 2, 0, 8],
  ],
]

describe('cost of one operation', () => {
  for (const at of [tmpfsLine, tmpfsPage]) {
    describe(at.name, { skip: at.skip }, () => {
      for (const [operation, call, line, page] of costs) {
        it(`${operation}: ${call}`.replace(/\s+/g, ' '), () => {
          onBench(at, (bench) => {
            const messages = heard(() => call(bench))
            assert.deepEqual(operationsOf(messages), [operation])
            const { info } = bench.volume
            const { path, uuid, durationNs, checkpoints, error } = messages[0]!
            assert.deepEqual([path, uuid, checkpoints, error], [info.path, info.uuid, 0, undefined])
            assert(Number.isInteger(durationNs) && durationNs > 0)
            const wanted = at === tmpfsPage && page.length > 0 ? page : line
            assert.deepEqual(countsOf(messages[0]!), wanted)
          })
        })
      }

      it('a checkpoint: home places and two anchors', () => {
        onBench(at, ({ volume, chunk }) => {
          volume.transact((tx) => tx.setUint64(chunk, 0, 1))
          const [message] = heard(() => volume.checkpoint())
          const { checkpoints, fences, linesFlushed, barriers } = message!
          assert.deepEqual([checkpoints, fences], [1, 3])
          if (at === tmpfsPage) assert.equal(barriers, 3)
          else assert(linesFlushed >= 3)
        })
      })

      it('a checkpoint within a commit is part of it', () => {
        onBench(at, ({ volume, chunk }) => {
          const { checkpoints } = volume.stats()
          const messages = heard(() => {
            while (volume.stats().checkpoints === checkpoints) {
              volume.transact((tx) => tx.write(chunk, 0, bytes(32_768)))
            }
          })
          const last = messages.pop()!
          assert(messages.length > 0 && messages.every((message) => message.checkpoints === 0))
          assert.deepEqual([last.operation, last.checkpoints], ['transact', 1])
          assert(last.fences > messages[0]!.fences)
        })
      })
    })
  }
})

for (const at of places) {
  describe(`what all operations cost: ${at.name}`, { skip: at.skip }, () => {
    it('is what the volume has counted', async () => {
      const { messages, stop } = listen()
      try {
        await withVolume(
          at,
          async (volume) => {
            messages.length = 0
            const before = volume.stats()
            await useAll(volume)
            const after = volume.stats()
            for (const name of COUNTS) {
              const sum = messages.reduce((sum, message) => sum + message[name], 0)
              assert.equal(sum, after.counters[name] - before.counters[name], name)
            }
            const checkpoints = messages.reduce((sum, message) => sum + message.checkpoints, 0)
            assert.equal(checkpoints, after.checkpoints - before.checkpoints)
            messages.length = 0
          },
          { size: 8 * MIB },
        )
        assert.deepEqual(operationsOf(messages), ['close'])
      } finally {
        stop()
      }
    })
  })
}

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
      assert.deepEqual(operationsOf(messages), ['chunk.persist'])
    })
  })

  it('come once for what an operation calls', () => {
    onBench(tmpfsLine, ({ volume, chunk }) => {
      const messages = heard(() =>
        volume.transact((tx) => {
          tx.setUint64(chunk, 0, 1)
          chunk.persist(8192, 8)
        }),
      )
      assert.deepEqual(
        messages.map(({ operation, fences, linesFlushed }) => [operation, fences, linesFlushed]),
        [['transact', 2, 2]],
      )
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
          messages.map(({ operation, path, fences, barriers }) => [
            operation,
            path,
            fences,
            barriers,
          ]),
          [
            ['chunk.persist', bench.volume.info.path, 1, 1],
            ['transact', volume.info.path, 1, 0],
          ],
        )
      }),
    )
  })

  it('tell of failures, which are thrown all the same', async () => {
    const { messages, stop } = listen()
    await withVolume(tmpfsPage, async (volume) => {
      messages.length = 0
      const wrong = new Error('wrong')
      const fail = () => {
        throw wrong
      }
      assert.throws(() => volume.transact(fail), wrong)
      await assert.rejects(volume.transactAsync(fail), wrong)
      assert.throws(() => volume.allocate({ size: 2 ** 30 }), { code: 'ERR_NO_SPACE' })
      stop()
      assert.deepEqual(
        messages.map(({ operation, error }) => [operation, (error as Error).message.slice(0, 11)]),
        [
          ['transact', 'wrong'],
          ['transactAsync', 'wrong'],
          ['allocate', 'no free run'],
        ],
      )
      for (const message of messages) assert.deepEqual(countsOf(message), [0, 0, 0, 0, 0, 0, 0])
    }).finally(stop)
  })

  it('of asynchronous commits come when they are durable, after that of their barrier', async () => {
    await withVolume(tmpfsPage, async (volume) => {
      const chunk = volume.allocate({ size: 4096, zero: true })
      const { messages, stop } = listen()
      const commits = [1, 2, 3].map((n) => volume.transactAsync((tx) => tx.setUint32(chunk, 0, n)))
      assert.deepEqual(messages, [])
      await Promise.all(commits)
      stop()
      assert.deepEqual(
        messages.map(({ operation, stores, barriers }) => [operation, stores, barriers]),
        [
          ['barrier', 0, 1],
          ['transactAsync', 1, 0],
          ['transactAsync', 1, 0],
          ['transactAsync', 1, 0],
        ],
      )
    })
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
            volume.allocate({ size: 4096 })
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
  diagnostics.subscribe('plinth:operation', ({ operation, error }) => {
    if (operation === 'transact') throw new Error('of the subscriber')
    if (operation === 'transactAsync') console.log('told', error.message)
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
        'told of the transaction',
        'uncaughtException of the subscriber',
        'unhandledRejection of the transaction',
      ])
    })
  })
})
