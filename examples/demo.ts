// A job queue at work, killed by SIGKILL again and again, and what is left of it each time.
//
//   npm run demo                                  in a temporary file
//   npm run demo -- FILE                          in that file; made and kept when it does not exist
//   npm run demo -- /dev/loop7                    on that device, unless it holds something
//   npm run demo -- --files 500 --rounds 3        less of it
//
// There is a job for every file below node_modules: its path and size. A child process (in
// job-queue/demo-worker.ts) queues them and does them; the result of each is the file's SHA-256.
// The child writes a line into a pipe for each job that is durably queued or done, and for no
// other. This process reads the lines, kills the child at a random instant, opens the volume, which
// recovers it, and looks whether everything it was told of is there. Exit code 1 if anything is lost.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { PlinthError, Volume } from 'plinth'
import {
  type InputFile,
  isHashOf,
  listFiles,
  PAYLOAD_BYTES_MAX,
  payloadOf,
} from './job-queue/demo-files.js'
import { drawMap, formatBytes, quantile } from './job-queue/demo-print.js'
import { type JobInfo, JobQueue } from './job-queue/engine.js'

const MIB = 1024 * 1024
const LABEL = 'plinth-demo'
const WORKER = fileURLToPath(new URL('./job-queue/demo-worker.js', import.meta.url))
const INPUT = fileURLToPath(new URL('../../node_modules', import.meta.url))

/** What the child said, from all rounds. */
const queued = new Map<number, number>()
const done = new Map<number, string>()
const latencies: number[] = []
/** Jobs that were acknowledged and are not there, or not as they were acknowledged. */
const lost = new Set<number>()
/** Jobs whose hash this process has worked out itself. */
const proven = new Set<number>()

let child: ChildProcess | undefined
let folder: string | undefined
// However this ends, nothing stays behind.
process.on('exit', () => {
  child?.kill('SIGKILL')
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => process.exit(1))
}

try {
  await main()
} catch (error) {
  console.error(`demo: ${(error as Error).message}`)
  process.exitCode = 1
}

async function main(): Promise<void> {
  const started = performance.now()
  const { values, positionals } = parseArgs({
    options: { files: { type: 'string' }, rounds: { type: 'string' } },
    allowPositionals: true,
  })
  const rounds = parseCount(values.rounds ?? '6', '--rounds', 1, 100)
  const filesMax = parseCount(values.files ?? '4000', '--files', 100, 1_000_000)
  if (positionals.length > 1) throw new Error('one path is enough')
  const files = listFiles(INPUT, filesMax)
  if (files.length < 100) throw new Error(`there are too few files below ${INPUT}`)

  const path = positionals[0] ?? makeTemporary()
  format(path)
  {
    using volume = Volume.open(path)
    // A job may be under way at each of the kills; each of them counts as an attempt.
    JobQueue.create(volume, {
      slots: files.length,
      payloadBytesMax: PAYLOAD_BYTES_MAX,
      attemptsMax: rounds + 3,
    }).close()
    const { kind, size, granularity, backend } = volume.info
    const what = folder === undefined ? path : 'a temporary file'
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
    console.log(`plinth demo: a job queue that is killed ${rounds} times

  device   ${what}: ${kind}, ${formatBytes(size)}, ${granularity} granularity, ${backend} backend
  input    ${files.length} files below node_modules, ${formatBytes(bytes)}: each is to be hashed

              acknowledged       found after recovery    replayed from the log
  ended by   queued    done     queued    done    lost     records      bytes      ms`)
  }

  let commits = 0
  let barriers = 0
  let unread = 0
  for (let round = 1; ; round++) {
    // Somewhere around its share of the work. The last round is left to finish.
    const share = (round - 0.3 + 0.6 * (Math.random() - 0.5)) / (rounds + 0.5)
    const killAt = round > rounds ? Number.POSITIVE_INFINITY : 2 * files.length * share
    const run = await runWorker(path, files, killAt)
    commits += run.commits
    barriers += run.barriers
    using volume = Volume.open(path)
    unread = report(volume, files, run.isKilled)
    if (run.isKilled) continue

    latencies.sort((a, b) => a - b)
    const [median, p99] = [quantile(latencies, 0.5), quantile(latencies, 0.99)]
    console.log(`
  volume   ${drawMap(volume).join('\n           ')}
  commits  ${commits} with ${barriers} barriers; until durable: median ${median} us, p99 ${p99} us
  time     ${((performance.now() - started) / 1000).toFixed(1)} s
`)
    break
  }
  // A job of which only the result was told was queued as well.
  const told = new Set([...queued.keys(), ...done.keys()]).size
  if (lost.size > 0) {
    console.log(`${lost.size} of ${told} acknowledged jobs are LOST or wrong`)
    process.exitCode = 1
    return
  }
  // The child may die between a commit and the line that tells of it: then there is more than we know.
  console.log(`every one of ${told} acknowledged jobs is there: 0 lost
all of ${done.size} acknowledged results are there, ${proven.size} compared with a hash made here`)
  if (unread > 0) console.log(`(${unread} files could not be read: their jobs are dead letters)`)
}

function parseCount(text: string, what: string, min: number, max: number): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= min && value <= max) return value
  throw new Error(`${what} is a whole number from ${min} to ${max}`)
}

function makeTemporary(): string {
  folder = mkdtempSync(join(tmpdir(), 'plinth-demo-'))
  return join(folder, 'demo.plinth')
}

/** Only what is empty or an earlier demo is formatted. */
function format(path: string): void {
  if (!existsSync(path)) {
    const size = folder === undefined ? 64 * MIB : 16 * MIB
    Volume.format(path, { size, label: LABEL })
    return
  }
  try {
    Volume.format(path, { label: LABEL })
  } catch (error) {
    const isInUse = error instanceof PlinthError && error.code === 'ERR_DEVICE_IN_USE'
    if (!isInUse) throw error
    if (labelOf(path) !== LABEL) {
      const [holds] = error.message.split(';')
      throw new Error(`${holds}; the demo overwrites nothing but an earlier demo`)
    }
    Volume.format(path, { label: LABEL, force: true })
  }
}

function labelOf(path: string): string | undefined {
  try {
    using volume = Volume.open(path, { readOnly: true })
    return volume.info.label
  } catch {
    return undefined
  }
}

interface Run {
  readonly isKilled: boolean
  readonly commits: number
  readonly barriers: number
}

/** Lets a child work until that many acknowledgements have come in all; then it is killed. */
async function runWorker(path: string, files: InputFile[], killAt: number): Promise<Run> {
  const worker = spawn(process.execPath, [WORKER, path, INPUT], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  child = worker
  const ended = once(worker, 'exit')
  worker.stdin.end(JSON.stringify(files))
  let isKilled = false
  let commits = 0
  let barriers = 0
  let rest = ''
  for await (const text of worker.stdout.setEncoding('utf8')) {
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    for (const line of lines) {
      const [kind, id, what, ...numbers] = line.split(' ')
      const [firstUs, secondUs, commitsNow, barriersNow] = numbers.map(Number)
      latencies.push(firstUs!)
      if (kind === 'q') {
        queued.set(Number(id), Number(what))
      } else {
        done.set(Number(id), what!)
        latencies.push(secondUs!)
        commits = commitsNow!
        barriers = barriersNow!
      }
    }
    if (!isKilled && queued.size + done.size >= killAt) {
      isKilled = true
      setTimeout(() => worker.kill('SIGKILL'), 5 * Math.random())
    }
  }
  // Only then is its lock on the volume gone.
  const [code, signal] = await ended
  child = undefined
  if (signal !== 'SIGKILL' && code !== 0) throw new Error(`the worker ended with code ${code}`)
  return { isKilled: signal === 'SIGKILL', commits, barriers }
}

/**
 * Compares what is there with what was acknowledged, and prints the line of the round.
 * @returns how many jobs are dead letters
 */
function report(volume: Volume, files: InputFile[], isKilled: boolean): number {
  using queue = JobQueue.open(volume)
  const jobs = new Map<number, JobInfo>()
  let index = 0
  for (const job of queue.jobs()) {
    jobs.set(job.id, job)
    // No commit is durable before an earlier one: what is there is a beginning of the list.
    const file = files[index++]
    if (file === undefined || Buffer.compare(job.payload, payloadOf(file)) !== 0) lost.add(job.id)
    const hash = done.get(job.id)
    if (file === undefined || hash === undefined || proven.has(job.id)) continue
    // The file as this process reads it, once.
    if (isHashOf(INPUT, file, hash)) proven.add(job.id)
    else lost.add(job.id)
  }
  for (const [id, index] of queued) {
    const { payload = new Uint8Array() } = jobs.get(id) ?? {}
    if (Buffer.compare(payload, payloadOf(files[index]!)) !== 0) lost.add(id)
  }
  for (const [id, hash] of done) {
    const { result = new Uint8Array() } = jobs.get(id) ?? {}
    if (Buffer.from(result).toString('hex') !== hash) lost.add(id)
  }
  const counts = queue.counts()
  const { recordsReplayed, bytesReplayed, durationMs } = volume.recovery
  const columns: [string | number, number][] = [
    [queued.size, 8],
    [done.size, 8],
    [jobs.size, 11],
    [counts.done, 8],
    [lost.size, 8],
    [recordsReplayed, 12],
    [formatBytes(bytesReplayed), 11],
    [durationMs.toFixed(1), 8],
  ]
  const line = columns.map(([value, width]) => `${value}`.padStart(width)).join('')
  console.log(`  ${(isKilled ? 'SIGKILL' : 'itself').padEnd(9)}${line}`)
  return counts.dead
}
