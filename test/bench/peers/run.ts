/**
 * Plinth beside libpmemobj: the same work in turn, round by round, so that what disturbs the machine
 * disturbs both. Figures are medians over rounds; the ratio is the median of the rounds' ratios.
 *
 *   npm run bench:peers              text
 *   npm run bench:peers -- --json    one object a line: name, plinth, peer, peerName, ratio
 *   npm run bench:peers -- --only=tx-64B --rounds=50
 */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { append, commitCall } from '../commits.js'
import { median, quantile } from '../measure.js'
import { describeMachine } from '../report.js'
import { Scratch } from '../scratch.js'
import { CASES, type Case, PlinthWork, peerFolder } from './plinth.js'

const root = fileURLToPath(new URL('../../../../', import.meta.url))
const PEER_NAME = 'libpmemobj'

/** Goal: ratio, or for figures of plinth alone their bound. */
const GOALS: Record<Case, { ratio?: number; plinth?: number; unit: string; per: number }> = {
  'alloc-64B': { ratio: 0.5, unit: 'ns', per: 1 },
  'free-64B': { ratio: 0.6, unit: 'ns', per: 1 },
  'alloc-link-free': { ratio: 0.35, unit: 'ns', per: 1 },
  'tx-64B': { ratio: 0.4, unit: 'ns', per: 1 },
  'tx-put-116B': { ratio: 0.4, unit: 'ns', per: 1 },
  'random-free-alloc': { ratio: 0.5, unit: 'ns', per: 1 },
  'bytes-per-byte-64B': { plinth: 1.02, unit: 'bytes', per: 1000 },
  'open-1M': { plinth: 2, unit: 'ms', per: 1e6 },
}
/** So many that a round is long beside what waking up costs: each side sleeps while the other works. */
const OPERATIONS: Record<Case, number> = {
  'alloc-64B': 60_000,
  'free-64B': 60_000,
  'alloc-link-free': 30_000,
  'tx-64B': 49_152,
  'tx-put-116B': 20_000,
  'random-free-alloc': 20_000,
  'bytes-per-byte-64B': 1,
  'open-1M': 1,
}

const FLOOR_OPERATIONS = 60_000

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string', default: '21' },
  },
})
const only = values.only?.split(',')
const rounds = Number(values.rounds)

/** Compiles the peer; a reason when that cannot be done here. */
function compile(folder: string): { program: string } | { reason: string } {
  if (process.platform !== 'linux' || !fs.existsSync('/dev/shm')) {
    return { reason: 'persistent memory is stood in for by /dev/shm, which is not here' }
  }
  const program = join(folder, 'peer')
  const source = join(root, 'test/bench/peers/libpmemobj.c')
  const { status, error, stderr } = spawnSync(
    process.env.CC ?? 'cc',
    ['-O2', '-o', program, source, '-lpmemobj'],
    { encoding: 'utf8' },
  )
  if (error !== undefined) return { reason: `there is no C compiler: ${error.message}` }
  if (status === 0) return { program }
  if (stderr.includes('libpmemobj.h')) return { reason: 'libpmemobj-dev is not installed' }
  return { reason: `the peer does not compile: ${stderr}` }
}

class Peer {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  readonly #interface: Interface

  constructor(program: string, folder: string) {
    this.#child = spawn(program, [folder], { env: { ...process.env, PMEM_IS_PMEM_FORCE: '1' } })
    this.#child.stderr.pipe(process.stderr)
    this.#interface = createInterface(this.#child.stdout)
    this.#lines = this.#interface[Symbol.asyncIterator]()
  }

  async run(name: Case, operations: number): Promise<number> {
    this.#child.stdin.write(`${name} ${operations}\n`)
    const { value, done } = await this.#lines.next()
    if (done) throw new Error('the peer ended early')
    return Number(value)
  }

  async end(): Promise<void> {
    this.#child.stdin.end()
    if (this.#child.exitCode === null) await once(this.#child, 'exit')
  }
}

const machine = describeMachine()
const scratch = new Scratch()
const folder = peerFolder(scratch)
const compiled = compile(folder)
if ('reason' in compiled) {
  console.log(
    values.json ? JSON.stringify({ skipped: compiled.reason }) : `skipped: ${compiled.reason}`,
  )
  process.exit(0)
}
const peer = new Peer(compiled.program, folder)
const plinth = new PlinthWork(scratch)
const names = CASES.filter((name) => only === undefined || only.includes(name))
const samples = new Map(
  names.map((name) => [name, { plinth: new Float64Array(rounds), peer: new Float64Array(rounds) }]),
)
/** What one record costs whatever it is for, in the same rounds: no operation above can be faster. */
const floors =
  only === undefined ? [append(scratch, 'append-64B'), commitCall(scratch, 'commit-call-64B')] : []
const floorSamples = floors.map(() => new Float64Array(rounds))
const WARMUP = 3
for (let round = -WARMUP; round < rounds; round++) {
  for (const [i, { run }] of floors.entries()) {
    const started = performance.now()
    run(FLOOR_OPERATIONS)
    const elapsed = performance.now() - started
    if (round >= 0) floorSamples[i]![round] = (elapsed * 1e6) / FLOOR_OPERATIONS
  }
  for (const name of names) {
    // Its rounds are long and few do.
    const rare = name === 'open-1M' || name === 'bytes-per-byte-64B'
    const of = samples.get(name)!
    if (name === 'bytes-per-byte-64B' && round > -WARMUP) {
      if (round < 0) continue
      of.plinth[round] = plinth.run(name, 1)
      of.peer[round] = of.peer[0]!
      if (round > 0) continue
    }
    if (rare && round < 0 && name === 'bytes-per-byte-64B') continue
    const operations = OPERATIONS[name]
    // In turn first and second.
    const first = round % 2 === 0
    let own = first ? plinth.run(name, operations) : 0
    const other = await peer.run(name, operations)
    if (!first) own = plinth.run(name, operations)
    if (round < 0) continue
    of.plinth[round] = own
    of.peer[round] = other
  }
}
if (!values.json) {
  console.log(machine)
  console.log(
    `${'name'.padEnd(20)}${'plinth'.padStart(12)}${'quartile'.padStart(12)}${PEER_NAME.padStart(12)}${'ratio'.padStart(8)}  goal`,
  )
}
for (const name of names) {
  const of = samples.get(name)!
  const { ratio: goal, plinth: bound, unit, per } = GOALS[name]
  const own = median(of.plinth) / per
  const other = (name === 'bytes-per-byte-64B' ? of.peer[0]! : median(of.peer)) / per
  const ratio =
    name === 'bytes-per-byte-64B'
      ? own / other
      : median(of.plinth.map((value, i) => value / of.peer[i]!))
  if (values.json) {
    console.log(
      JSON.stringify({ name, plinth: own, peer: other, peerName: PEER_NAME, ratio, unit }),
    )
  } else {
    const met = goal !== undefined ? ratio <= goal : own <= bound!
    const wanted = goal !== undefined ? `ratio <= ${goal}` : `plinth <= ${bound} ${unit}`
    const show = (value: number) => (value < 100 ? value.toFixed(3) : value.toFixed(1)).padStart(12)
    const quarter = quantile(of.plinth, 0.25) / per
    console.log(
      `${name.padEnd(20)}${show(own)}${show(quarter)}${show(other)}${ratio.toFixed(2).padStart(8)}  ${wanted} ${met ? 'met' : 'NOT MET'}`,
    )
  }
}
for (const [i, { name, note }] of floors.entries()) {
  const own = median(floorSamples[i]!)
  console.log(
    values.json
      ? JSON.stringify({ name, plinth: own, unit: 'ns' })
      : `${name.padEnd(20)}${own.toFixed(1).padStart(12)}${quantile(floorSamples[i]!, 0.25).toFixed(1).padStart(12)}${' '.repeat(20)}  ${note!()}`,
  )
}
// A checkpoint leaves some; few pairs mostly run without one, many with their share.
for (const [name, what, pairs] of [
  ['garbage-per-pair', 'allocate + free', 500],
  ['garbage-with-checkpoints', 'the same with their share of checkpoints', 40_000],
] as const) {
  const garbage = plinth.garbage(pairs)
  console.log(
    values.json
      ? JSON.stringify({ name, plinth: garbage, unit: 'bytes' })
      : `garbage of ${what} on the JavaScript heap: ${garbage.toFixed(4)} bytes`,
  )
}
for (const floor of floors) floor.close!()
plinth.close()
await peer.end()
