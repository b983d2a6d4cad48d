// The job queue of the examples: what it promises, beside a model of it, and under SIGKILL.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Chunk, type OpenOptions, Volume } from 'plinth'
import { JobQueue, type NewQueueOptions } from '../../examples/job-queue/engine.js'
import { HEADER, SLOT } from '../../examples/job-queue/layout.js'
import { SlotHeap } from '../../examples/job-queue/slot-heap.js'
import {
  decode,
  describeQueue,
  encode,
  type Operation,
  pickOperation,
  QueueModel,
  runOperation,
  seeded,
} from '../support/job-queue-model.js'

const MIB = 1024 * 1024
const memory = existsSync('/dev/shm') ? '/dev/shm' : undefined
const [folder, folderOnDisk] = [memory ?? tmpdir(), tmpdir()].map((path) =>
  mkdtempSync(join(path, 'plinth-queue-')),
) as [string, string]
after(() => {
  rmSync(folder, { recursive: true })
  rmSync(folderOnDisk, { recursive: true })
})
let files = 0

/** A volume with a queue whose time stands still; `reopen` ends both and opens them again. */
class Bench {
  readonly path: string
  readonly openOptions: OpenOptions
  time = 1_000_000
  readonly now = () => this.time
  volume: Volume
  queue: JobQueue

  constructor(
    options: Partial<NewQueueOptions> = {},
    openOptions: OpenOptions = {},
    directory = folder,
  ) {
    this.path = join(directory, `${files++}.plinth`)
    this.openOptions = openOptions
    Volume.format(this.path, { size: 4 * MIB, ...openOptions })
    this.volume = Volume.open(this.path, openOptions)
    this.queue = JobQueue.create(this.volume, { slots: 8, now: this.now, ...options })
  }

  reopen(options = {}): JobQueue {
    this.volume.close()
    this.volume = Volume.open(this.path, this.openOptions)
    this.queue = JobQueue.open(this.volume, { now: this.now, ...options })
    return this.queue
  }

  [Symbol.dispose](): void {
    this.volume.close()
    rmSync(this.path)
  }
}

const payloads = (queue: JobQueue) => [...queue.jobs()].map(({ payload }) => decode(payload))

test('first in, first out, also after a reopen at each step', () => {
  using bench = new Bench()
  const ids = ['a', 'b', 'c'].map((text) => bench.reopen().enqueue(encode(text)))
  assert.deepEqual(ids, [1, 2, 3])
  for (const text of ['a', 'b', 'c']) {
    const job = bench.reopen().lease(7, 1000)
    assert.equal(decode(job?.payload), text)
    assert.equal(job?.attempt, 1)
    assert.equal(job?.leasedUntil, bench.time + 1000)
  }
  assert.equal(bench.reopen().lease(7, 1000), undefined)
  assert.equal(bench.queue.nextExpiry, bench.time + 1000)
  assert.deepEqual(bench.queue.counts(), { free: 5, ready: 0, leased: 3, done: 0, dead: 0 })
})

test('a job that is acknowledged is gone, or keeps its result until it is removed', () => {
  using bench = new Bench()
  const [a, b] = [bench.queue.enqueue(encode('a')), bench.queue.enqueue(encode('b'))]
  bench.queue.ack(bench.queue.lease(1, 1000)!)
  bench.queue.ack(bench.queue.lease(1, 1000)!, encode('result'))
  const queue = bench.reopen()
  assert.equal(queue.job(a), undefined)
  assert.equal(decode(queue.job(b)?.result), 'result')
  assert.throws(() => queue.ack({ id: b, attempt: 1 }), { code: 'ERR_LEASE_LOST' })
  assert.throws(() => queue.ack({ id: a, attempt: 1 }), { code: 'ERR_JOB_NOT_FOUND' })
  queue.remove(b)
  assert.throws(() => queue.remove(b), { code: 'ERR_JOB_NOT_FOUND' })
  assert.deepEqual(bench.reopen().counts(), { free: 8, ready: 0, leased: 0, done: 0, dead: 0 })
  assert.equal(bench.queue.enqueue(encode('c')), 3, 'an id was used twice')
})

test('an expired lease gives the job back to its old place, and is worth nothing any more', () => {
  using bench = new Bench()
  for (const text of ['a', 'b']) bench.queue.enqueue(encode(text))
  const late = bench.queue.lease(1, 100)!
  bench.time += 99
  assert.equal(bench.queue.counts().leased, 1)
  bench.time += 1
  assert.equal(bench.queue.counts().leased, 0)
  assert.throws(() => bench.queue.ack(late), { code: 'ERR_LEASE_LOST' })
  const next = bench.reopen().lease(2, 100)!
  assert.deepEqual([next.id, next.attempt], [late.id, 2])
  // The job is leased again, but not to the one who was late.
  assert.throws(() => bench.queue.fail(late), { code: 'ERR_LEASE_LOST' })
  bench.queue.ack(next)
  assert.deepEqual(payloads(bench.queue), ['b'])
})

test('leases may end with the process, and a clock that was set back does not keep them', () => {
  using bench = new Bench()
  bench.queue.enqueue(encode('a'))
  bench.queue.lease(1, 60_000)
  assert.equal(bench.reopen().lease(1, 1), undefined)
  assert.equal(bench.reopen({ endLeases: true }).lease(1, 60_000)?.attempt, 2)
  bench.time -= 10 * 365 * 86_400_000
  assert.equal(bench.reopen().lease(1, 1), undefined)
  bench.time += 86_400_000
  assert.equal(bench.queue.lease(1, 1)?.attempt, 3)
})

test('a job that fails or expires too often is a dead letter until it is retried', () => {
  using bench = new Bench({ attemptsMax: 2 })
  const id = bench.queue.enqueue(encode('a'))
  assert.equal(bench.queue.fail(bench.queue.lease(1, 100)!), 'ready')
  assert.throws(() => bench.queue.retry(id), { code: 'ERR_JOB_STATE' })
  assert.throws(() => bench.queue.remove(id), { code: 'ERR_JOB_STATE' })
  assert.equal(bench.queue.fail(bench.queue.lease(1, 100)!), 'dead')
  assert.equal(bench.queue.lease(1, 100), undefined)
  assert.equal(bench.reopen().job(id)?.state, 'dead')

  const second = bench.queue.retry(id)
  assert.equal(second % 8, id % 8, 'it stays in its slot')
  assert.equal(bench.queue.job(id), undefined)
  for (const attempt of [1, 2]) {
    assert.equal(bench.reopen().lease(1, 100)?.attempt, attempt)
    bench.time += 100
  }
  assert.equal(bench.queue.job(second)?.state, 'dead')
  assert.equal(decode([...bench.reopen().jobs('dead')][0]?.payload), 'a')
  bench.queue.remove(second)
  assert.equal(bench.reopen().counts().free, 8)
})

test('a full queue says what fills it, and takes jobs again when one is gone', () => {
  using bench = new Bench({ slots: 3 })
  for (const text of ['a', 'b', 'c']) bench.queue.enqueue(encode(text))
  bench.queue.lease(1, 100)
  assert.throws(() => bench.queue.enqueue(encode('d')), {
    code: 'ERR_QUEUE_FULL',
    message: /all 3 slots are in use: 2 ready, 1 leased, 0 done and 0 dead/,
  })
  bench.queue.ack(bench.queue.lease(1, 100)!)
  assert.equal(bench.queue.enqueue(encode('d')), 5, 'ids 3 and 4 belong to slots in use')
  assert.throws(() => bench.queue.enqueue(encode('e')), { code: 'ERR_QUEUE_FULL' })
  assert.deepEqual(payloads(bench.reopen()), ['a', 'c', 'd'])
})

test('payloads and results have bounds, and what is refused changes nothing', () => {
  using bench = new Bench({ payloadBytesMax: 10 })
  assert.throws(() => bench.queue.enqueue(new Uint8Array(11)), { code: 'ERR_PAYLOAD_TOO_LARGE' })
  bench.queue.enqueue(new Uint8Array(0))
  bench.queue.enqueue(encode('0123456789'))
  assert.deepEqual(payloads(bench.queue), ['', '0123456789'])
  const lease = bench.queue.lease(1, 100)!
  assert.throws(() => bench.queue.ack(lease, new Uint8Array(65)), { code: 'ERR_RESULT_TOO_LARGE' })
  bench.queue.ack(lease, new Uint8Array(64).fill(7))
  assert.deepEqual(bench.queue.job(lease.id)?.result, new Uint8Array(64).fill(7))
  for (const wrong of [0, -1, 1.5, Number.NaN, 90_000_000]) {
    assert.throws(() => bench.queue.lease(1, wrong), RangeError)
  }
  for (const wrong of [-1, 2 ** 32, 0.5]) {
    assert.throws(() => bench.queue.lease(wrong, 1), RangeError)
  }
  for (const wrong of [0, -1, 0.5, Number.NaN]) {
    assert.throws(() => bench.queue.job(wrong), RangeError)
  }
  assert.throws(() => bench.queue.enqueue('text' as never), TypeError)
  assert.deepEqual(bench.queue.counts(), { free: 6, ready: 1, leased: 0, done: 1, dead: 0 })
})

test('two queues live on one volume, and neither is made twice', () => {
  using bench = new Bench()
  const { volume, now } = bench
  assert.throws(() => JobQueue.create(volume, { slots: 1 }), { code: 'ERR_CHUNK_EXISTS' })
  assert.throws(() => JobQueue.open(volume, { name: 'mail' }), { code: 'ERR_QUEUE_NOT_FOUND' })
  assert(!JobQueue.exists(volume, 'mail'))
  using mail = JobQueue.create(volume, { name: 'mail', slots: 2, now })
  assert(JobQueue.exists(volume, 'mail'))
  mail.enqueue(encode('m'))
  bench.queue.enqueue(encode('j'))
  assert.deepEqual([payloads(mail), payloads(bench.queue)], [['m'], ['j']])
  const chunks = volume.chunks().length
  for (const wrong of [{ slots: 0 }, { slots: 2 ** 21 }, { slots: 1, payloadBytesMax: 2 ** 16 }]) {
    assert.throws(() => JobQueue.create(volume, { name: 'wrong', ...wrong }), RangeError)
  }
  // No room: neither of its chunks is there afterwards.
  const large = { name: 'large', slots: 10_000, payloadBytesMax: 1024 }
  assert.throws(() => JobQueue.create(volume, large), { code: 'ERR_NO_SPACE' })
  assert.equal(volume.chunks().length, chunks)
})

describe('a damaged queue is refused', () => {
  const damages: [what: string, damage: (table: Chunk, volume: Volume) => void][] = [
    ['magic', (table) => table.view.setUint8(HEADER.magic, 0)],
    ['version', (table) => table.view.setUint32(HEADER.version, 2, true)],
    ['no slots', (table) => table.view.setUint32(HEADER.slots, 0, true)],
    ['more slots than the chunk has', (table) => table.view.setUint32(HEADER.slots, 2000, true)],
    [
      'cells larger than the chunk',
      (table) => table.view.setUint32(HEADER.payloadBytesMax, 9999, true),
    ],
    ['no attempts', (table) => table.view.setUint32(HEADER.attemptsMax, 0, true)],
    ['a state', (table) => table.view.setUint32(slot(1) + SLOT.state, 5, true)],
    ['an id of another slot', (table) => table.view.setUint32(slot(1) + SLOT.id, 2, true)],
    ['an id beyond numbers', (table) => table.view.setUint32(slot(1) + SLOT.id + 4, 2 ** 31, true)],
    ['a long payload', (table) => table.view.setUint32(slot(1) + SLOT.payloadBytes, 257, true)],
    ['a long result', (table) => table.view.setUint32(slot(1) + SLOT.resultBytes, 65, true)],
    ['a state without an id', (table) => table.view.setUint32(slot(0) + SLOT.state, 1, true)],
    ['a chunk is missing', (_, volume) => volume.free(volume.chunk('jobs.payloads'))],
  ]
  const slot = (number: number) => HEADER.bytes + number * SLOT.bytes
  for (const [what, damage] of damages) {
    test(what, () => {
      using bench = new Bench()
      bench.queue.enqueue(encode('a'))
      bench.queue.close()
      damage(bench.volume.chunk('jobs.table'), bench.volume)
      assert.throws(() => bench.reopen(), { code: 'ERR_QUEUE_CORRUPT' })
    })
  }
})

test('a closed queue and a closed volume say so', () => {
  using bench = new Bench()
  const id = bench.queue.enqueue(encode('a'))
  bench.queue.close()
  assert.throws(() => bench.queue.enqueue(encode('b')), { code: 'ERR_CHUNK_CLOSED' })
  assert.throws(() => bench.queue.job(id), { code: 'ERR_CHUNK_CLOSED' })
  bench.reopen()
  bench.volume.close()
  assert.throws(() => bench.queue.enqueue(encode('b')), { code: 'ERR_VOLUME_CLOSED' })
  assert.throws(() => bench.queue.job(id), { code: 'ERR_CHUNK_CLOSED' })
})

test('those who wait together share a barrier', async () => {
  using bench = new Bench({ slots: 64 })
  const { queue, volume } = bench
  const before = volume.stats().counters.barriers
  const adding = Array.from({ length: 50 }, (_, i) => queue.enqueueAsync(encode(`${i}`)))
  // What is not durable yet can be leased and done: that can only be durable later.
  const leasing = [queue.leaseAsync(1, 100), queue.leaseAsync(1, 100)]
  const failing = queue.failAsync({ id: 2, attempt: 1 })
  const refused = assert.rejects(queue.ackAsync({ id: 2, attempt: 1 }), { code: 'ERR_LEASE_LOST' })
  const doing = queue.ackAsync({ id: 1, attempt: 1 }, encode('done'))
  assert.equal(queue.counts().done, 1)
  const ids = await Promise.all(adding)
  assert.deepEqual(
    ids,
    Array.from({ length: 50 }, (_, i) => i + 1),
  )
  assert.deepEqual(
    (await Promise.all(leasing)).map((job) => job?.id),
    [1, 2],
  )
  assert.equal(await failing, 'ready')
  await Promise.all([doing, refused])
  assert.equal(volume.stats().counters.barriers - before, 1)
  await assert.rejects(queue.enqueueAsync(new Uint8Array(1000)), { code: 'ERR_PAYLOAD_TOO_LARGE' })
  assert.deepEqual(bench.reopen().counts(), { free: 14, ready: 49, leased: 0, done: 1, dead: 0 })
})

test('the heap gives slots in order of their keys', () => {
  const random = seeded(1)
  const heap = new SlotHeap(100)
  const keys = new Map<number, number>()
  for (let step = 0; step < 20_000; step++) {
    const slot = Math.floor(random() * 100)
    assert.equal(heap.has(slot), keys.has(slot))
    if (keys.has(slot)) {
      heap.remove(slot)
      keys.delete(slot)
    } else {
      keys.set(slot, Math.floor(random() * 1000))
      heap.add(slot, keys.get(slot)!)
    }
    assert.equal(heap.size, keys.size)
    if (keys.size === 0) assert.equal(heap.first, -1)
    else assert.equal(heap.keyOf(heap.first), Math.min(...keys.values()))
  }
})

describe('beside the model', () => {
  const seeds = process.env.TEST_SEED ? [Number(process.env.TEST_SEED)] : [1, 2, 3, 4]
  for (const seed of seeds) {
    for (const granularity of ['page', 'cache-line'] as const) {
      const skip = granularity === 'page' || memory ? false : 'no tmpfs to force it on'
      test(`seed ${seed}, ${granularity}`, { skip }, () => {
        const random = seeded(seed)
        const options = { slots: 5 + Math.floor(random() * 30), attemptsMax: 3 }
        using bench = new Bench(options, { granularity })
        const model = new QueueModel({ ...options, now: bench.time })
        const driven = {
          queue: bench.queue,
          leases: [],
          tick(ms: number) {
            bench.time += ms
          },
        }
        for (let step = 0; step < 2500; step++) {
          const operation = pickOperation(random, driven)
          const { text } = runOperation(driven, operation)
          const where = `step ${step} of TEST_SEED=${seed}: ${JSON.stringify(operation)}`
          assert.equal(text, model.apply(operation).text, where)
          if (random() < 0.02) driven.queue = bench.reopen()
          if (random() < 0.1) assert.deepEqual(describeQueue(driven.queue), model.describe(), where)
        }
        assert.deepEqual(describeQueue(driven.queue), model.describe())
      })
    }
  }
})

// A child works until it is killed. What it was told of is there, nothing is there in part, and
// nothing without what came before it: the queue is the model after some of the operations, all that
// were acknowledged among them.
describe('killed at any instant', () => {
  const victim = fileURLToPath(new URL('../support/job-queue-victim.js', import.meta.url))

  async function run(path: string, seed: number, now: number, how: string, lines: number) {
    const child = spawn(process.execPath, [victim, path, `${seed}`, `${now}`, how], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const ended = once(child, 'exit')
    let text = ''
    for await (const part of child.stdout.setEncoding('utf8')) {
      text += part
      if (text.length > lines * 50) child.kill('SIGKILL')
    }
    const [, signal] = await ended
    assert.equal(signal, 'SIGKILL', 'the child ended by itself')
    const operations: Operation[] = []
    let acknowledged = 0
    for (const line of text.split('\n').slice(0, -1)) {
      if (line.startsWith('?')) operations.push(JSON.parse(line.slice(2)))
      else acknowledged = Math.max(acknowledged, Number(line.slice(2)) + 1)
    }
    return { operations, acknowledged }
  }

  for (const how of ['alone', 'group']) {
    test(`10 rounds, committing ${how === 'alone' ? 'one at a time' : 'in groups'}`, async () => {
      const options = { slots: 48, attemptsMax: 3 }
      // On a disk, where a commit takes a while and is what the kill most often meets.
      const bench = new Bench(options, {}, folderOnDisk)
      let model = new QueueModel({ ...options, now: bench.time })
      let replayed = 0
      for (let round = 0; round < 10; round++) {
        bench.volume.close()
        const seed = (Number(process.env.TEST_SEED ?? 1) * 1000 + round) * 2 + how.length
        const random = seeded(seed)
        const lines = 20 + random() * 600
        const { operations, acknowledged } = await run(bench.path, seed, model.now, how, lines)
        for (const operation of operations.slice(0, acknowledged)) model.apply(operation)
        let found: QueueModel | undefined
        bench.volume = Volume.open(bench.path)
        replayed += bench.volume.recovery.recordsReplayed
        for (let next = acknowledged; found === undefined; next++) {
          const queue = JobQueue.open(bench.volume, { now: () => model.now })
          const described = describeQueue(queue)
          queue.close()
          if (described.join() === model.describe().join()) {
            found = model
          } else {
            const operation = operations[next]
            if (operation === undefined) {
              assert.deepEqual(described, model.describe(), `round ${round}, seed ${seed}`)
            } else {
              model.apply(operation)
            }
          }
        }
        model = found
        bench.queue = JobQueue.open(bench.volume, { now: bench.now })
      }
      assert(replayed > 0, 'no recovery had anything to do')
      bench[Symbol.dispose]()
    })
  }
})
