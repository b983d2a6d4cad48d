/**
 * Runs random operations on a job queue until it is killed, and says so on its standard output:
 *
 *   ? OPERATION     before each one, in order
 *   ! NUMBER        after the one with this number, counted from 0, was durable
 *
 * Arguments: path of the volume, seed, time, 'alone' or 'group' for how it commits.
 */
import { writeSync } from 'node:fs'
import { Volume } from 'plinth'
import { JobQueue } from '../../examples/job-queue/engine.js'
import {
  type Driven,
  pickOperation,
  runOperation,
  runOperationAsync,
  seeded,
} from './job-queue-model.js'

const [path, seed, now, how] = process.argv.slice(2)
const random = seeded(Number(seed))
const volume = Volume.open(path!)
let time = Number(now)
const queue = JobQueue.open(volume, { now: () => time })
const driven: Driven = {
  queue,
  leases: [],
  tick(ms) {
    time += ms
  },
}
for (const { id, attempts } of queue.jobs('leased')) driven.leases.push({ id, attempt: attempts })

for (let number = 0; ; ) {
  if (how === 'alone') {
    const operation = pickOperation(random, driven)
    writeSync(1, `? ${JSON.stringify(operation)}\n`)
    if (runOperation(driven, operation).changes) writeSync(1, `! ${number}\n`)
    number++
    continue
  }
  const group: Promise<void>[] = []
  const size = 1 + Math.floor(random() * 8)
  for (let i = 0; i < size; i++) {
    const operation = pickOperation(random, driven)
    writeSync(1, `? ${JSON.stringify(operation)}\n`)
    const its = number++
    group.push(
      runOperationAsync(driven, operation).then(({ changes }) => {
        if (changes) writeSync(1, `! ${its}\n`)
      }),
    )
  }
  await Promise.all(group)
}
