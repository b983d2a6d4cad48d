// The crash lab tries the job queue at every instant at which the power can fail, and then an engine
// with a mistake in it: a missing persist.
//
//   node dist/examples/06-crash-test.js
import type { Volume } from 'plinth'
import { crashTest } from 'plinth/testing'
import { JobQueue } from './job-queue/engine.js'

const payload = (n: number) => new TextEncoder().encode(`job ${n}`)

/** What the queue has told its client: a job was taken in, or is done. */
type Answer = { readonly did: 'enqueue' | 'ack'; readonly id: number }

const report = await crashTest<Answer>({
  setup(volume) {
    using _queue = JobQueue.create(volume, { slots: 8 })
  },
  workload(volume, acknowledge) {
    using queue = JobQueue.open(volume)
    for (let n = 0; n < 4; n++) acknowledge({ did: 'enqueue', id: queue.enqueue(payload(n)) })
    const job = queue.lease(1, 60_000)!
    queue.ack(job, payload(100))
    acknowledge({ did: 'ack', id: job.id })
  },
  check(volume, acknowledged) {
    using queue = JobQueue.open(volume)
    for (const { did, id } of acknowledged) {
      const job = queue.job(id)
      if (job === undefined) throw new Error(`job ${id} is lost`)
      if (did === 'ack' && job.state !== 'done') throw new Error(`job ${id} is ${job.state}`)
    }
  },
})
console.log(`the job queue: ${report.states} crash states at ${report.points} points, all right`)
for (const { model, chunk, offset, length } of report.unflushed) {
  console.log(`stored and never flushed (${model}): ${length} bytes at ${offset} of '${chunk}'`)
}

/** Appends numbers to a chunk; the first word counts them. */
function append(volume: Volume, value: number): void {
  const chunk = volume.chunk('numbers')
  const count = chunk.view.getUint32(0, true)
  const at = 64 * (count + 1)
  chunk.view.setUint32(at, value, true)
  // Here is the mistake: chunk.persist(at, 4) is missing, so the count may be durable before the number.
  chunk.view.setUint32(0, count + 1, true)
  chunk.persist(0, 4)
}

try {
  await crashTest<number>({
    setup: (volume) => volume.allocate({ size: 4096, name: 'numbers', zero: true }),
    workload(volume, acknowledge) {
      for (let value = 1; value <= 3; value++) {
        append(volume, value)
        acknowledge(value)
      }
    },
    check(volume, acknowledged) {
      const { view } = volume.chunk('numbers')
      const count = view.getUint32(0, true)
      if (count < acknowledged.length)
        throw new Error(`${count} of ${acknowledged.length} are there`)
      for (let n = 1; n <= count; n++) {
        const value = view.getUint32(64 * n, true)
        if (value !== n) throw new Error(`number ${n} is ${value}`)
      }
    },
  })
  console.log('the wrong engine: nothing found')
} catch (error) {
  console.log(`the wrong engine: ${(error as Error).message}`)
}
