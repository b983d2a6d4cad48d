/**
 * The process that the demo kills: a producer that puts files into the queue, and workers that take
 * them out, hash them and store the hash as the result.
 *
 * It says on its standard output what is durable, after the promise for it has resolved:
 *
 *   q ID INDEX US                           file INDEX is queued as job ID; the commit took US
 *   d ID HASH US US COMMITS BARRIERS        job ID is done; its lease and its result took so long;
 *                                           so many commits shared so many barriers until now
 */
import { webcrypto } from 'node:crypto'
import { readFileSync, writeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { Volume } from 'plinth'
import { type InputFile, pathOf, payloadOf } from './demo-files.js'
import { JobQueue } from './engine.js'

const WORKERS = 8
const LEASE_MS = 60_000
/** The producer goes ahead of the workers by so much, and adds so many at a time. */
const AHEAD = 48
const BATCH = 12

const [path, folder] = process.argv.slice(2)
const files: InputFile[] = JSON.parse(readFileSync(0, 'utf8'))
using volume = Volume.open(path!)
// The workers of the process before this one are dead, and with them their leases.
using queue = JobQueue.open(volume, { endLeases: true })
const barriersAtStart = volume.stats().counters.barriers
let commits = 0

// Files are queued in order, and no commit is durable before an earlier one: what is there is a
// beginning of the list, and the rest is still to be queued.
const { ready, leased, done, dead } = queue.counts()
let next = ready + leased + done + dead
let waiting = ready

await Promise.all([produce(), ...Array.from({ length: WORKERS }, (_, i) => work(i + 1))])

async function produce(): Promise<void> {
  while (next < files.length) {
    if (waiting >= AHEAD) {
      await sleep(1)
      continue
    }
    const batch: Promise<void>[] = []
    while (batch.length < BATCH && next < files.length) batch.push(add(next++))
    await Promise.all(batch)
  }
}

async function add(index: number): Promise<void> {
  waiting++
  const start = performance.now()
  const id = await queue.enqueueAsync(payloadOf(files[index]!))
  commits++
  // Not console.log: the line is in the pipe when this returns, and outlives the process there.
  writeSync(1, `q ${id} ${index} ${microseconds(start)}\n`)
}

async function work(worker: number): Promise<void> {
  for (;;) {
    const start = performance.now()
    const job = await queue.leaseAsync(worker, LEASE_MS)
    if (job === undefined) {
      const { ready, leased } = queue.counts()
      if (next >= files.length && ready + leased === 0) return
      await sleep(1)
      continue
    }
    const leaseUs = microseconds(start)
    waiting--
    commits++
    let hash: Uint8Array
    try {
      const contents = await readFile(join(folder!, pathOf(job.payload)))
      // In a thread of its own: what keeps the event loop busy would show as slow commits.
      hash = new Uint8Array(await webcrypto.subtle.digest('SHA-256', contents))
    } catch {
      await queue.failAsync(job)
      continue
    }
    const acknowledge = performance.now()
    await queue.ackAsync(job, hash)
    commits++
    const ackUs = microseconds(acknowledge)
    const barriers = volume.stats().counters.barriers - barriersAtStart
    const hex = Buffer.from(hash).toString('hex')
    writeSync(1, `d ${job.id} ${hex} ${leaseUs} ${ackUs} ${commits} ${barriers}\n`)
  }
}

function microseconds(since: number): number {
  return Math.round((performance.now() - since) * 1000)
}
