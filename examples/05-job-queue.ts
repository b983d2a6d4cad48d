// A small database engine on plinth: the job queue in job-queue/, which is worth reading, at work.
// `npm run demo` kills it again and again.
//
//   node dist/examples/05-job-queue.js
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Volume } from 'plinth'
import { JobQueue } from './job-queue/engine.js'
import { QueueError } from './job-queue/errors.js'

const encode = (text: string) => new TextEncoder().encode(text)
const decode = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes)
const show = (queue: JobQueue) => {
  const { ready, leased, done, dead } = queue.counts()
  return `${ready} ready, ${leased} leased, ${done} done, ${dead} dead`
}

/** A clock that we move, so that nobody has to wait here. Without it the queue takes Date.now. */
let time = Date.now()
const now = () => time

const folder = mkdtempSync(join(tmpdir(), 'plinth-jobs-'))
try {
  const path = join(folder, 'jobs.plinth')
  Volume.format(path, { size: 16 * 1024 * 1024 })
  {
    using volume = Volume.open(path)
    const queue = JobQueue.create(volume, { slots: 8, attemptsMax: 2, now })

    // Durable when it returns.
    for (const city of ['Lima', 'Oslo', 'Pune']) queue.enqueue(encode(city))
    console.log(`three jobs: ${show(queue)}`)

    // First in, first out. Worker 1 does its job, worker 2 cannot, worker 3 is never heard of again.
    const lima = queue.lease(1, 1000)!
    const oslo = queue.lease(2, 1000)!
    const pune = queue.lease(3, 1000)!
    queue.ack(lima, encode('sunny'))
    console.log(`Oslo failed, it is ${queue.fail(oslo)}: ${show(queue)}`)
    time += 1000
    console.log(`a second later: ${show(queue)}`)

    // Its lease is over, and somebody else may have the job by now.
    try {
      queue.ack(pune, encode('late'))
    } catch (error) {
      console.log(`worker 3 after all: ${(error as QueueError).code}`)
    }
  }

  using volume = Volume.open(path)
  using queue = JobQueue.open(volume, { now })
  console.log(`opened again: ${show(queue)}`)

  // The second and last attempt at both.
  queue.ack(queue.lease(1, 1000)!, encode('snow'))
  console.log(`Pune failed again, it is ${queue.fail(queue.lease(1, 1000)!)}: ${show(queue)}`)
  for (const { id, state, attempts, payload, result } of queue.jobs()) {
    const outcome = result === undefined ? state : `${state}: ${decode(result)}`
    console.log(`  job ${id}  ${decode(payload)}  ${attempts} attempts  ${outcome}`)
  }

  // Many at a time wait together: five transactions, one barrier.
  const { barriers } = volume.stats().counters
  await Promise.all(
    ['Bonn', 'Kyiv', 'Nice', 'Rome', 'Suva'].map((c) => queue.enqueueAsync(encode(c))),
  )
  console.log(`five more: ${volume.stats().counters.barriers - barriers} barrier, ${show(queue)}`)
  try {
    queue.enqueue(encode('Turin'))
  } catch (error) {
    if (!(error instanceof QueueError)) throw error
    console.log(`one too many: ${error.code}: ${error.message}`)
  }
} finally {
  rmSync(folder, { recursive: true })
}
