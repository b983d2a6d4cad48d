/**
 * plinth's ordered map beside other embedded engines: the same work, the same durability, in turn in one run.
 *
 *   npm run bench:engines                    tables, and each goal met or not
 *   npm run bench:engines -- --json          one object a line: name, device, engine, value, unit; or engine, skipped
 *   npm run bench:engines -- --only REGEX    the cases that match, as in "shm put"
 *   npm run bench:engines -- --quick         few entries and rounds: whether it runs, not how fast
 */
import fs from 'node:fs'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { median, NS_PER } from '../measure.js'
import { describeMachine } from '../report.js'
import { Scratch } from '../scratch.js'
import type { DeviceName } from './engine.js'
import { ENGINES } from './engines.js'
import { type Figures, judge, type Verdict } from './goals.js'
import { Runner } from './runner.js'
import { TIMED, type Timed } from './work.js'

const ENTRIES = 200_000
const ENTRIES_QUICK = 2000
const DEVICES: readonly DeviceName[] = ['shm', 'disk']
/** Asked once. */
const SINGLE = {
  'bytes-per-entry': 'bytes',
  'first-scan': 'ms',
  'js-heap-per-entry': 'bytes',
} as const
type Single = keyof typeof SINGLE

interface Plan {
  readonly rounds: number
  /** Of one engine in one round: long beside what waking up costs, as it sleeps while the others work. */
  readonly operations: Readonly<Record<DeviceName, number>>
  readonly unit: 'us' | 'ms'
}

const PLANS: Readonly<Record<Timed, Plan>> = {
  put: { rounds: 15, operations: { shm: 4000, disk: 250 }, unit: 'us' },
  'batch-100': { rounds: 15, operations: { shm: 30, disk: 10 }, unit: 'us' },
  get: { rounds: 15, operations: { shm: 20_000, disk: 20_000 }, unit: 'us' },
  flood: { rounds: 9, operations: { shm: 10_000, disk: 10_000 }, unit: 'us' },
  'scan-100': { rounds: 15, operations: { shm: 250, disk: 250 }, unit: 'us' },
  open: { rounds: 9, operations: { shm: 1, disk: 1 }, unit: 'ms' },
}
const QUICK = { rounds: 2, operations: 5 }
/** The file system's number. */
const TMPFS = 0x01021994

const DURABILITY = [
  'Same for all: what is put is durable when the call returns or its promise resolves; the system was told to flush it.',
  'In /dev/shm flushing costs the others nothing: their time there is processor and system calls.',
  'All times for one: put, get, flood each entry; batch-100 each batch; scan-100 each scan; open until a read is answered;',
  'first-scan from opening until all entries were read once. Put to flood are timed after it: all engines have read what they keep in memory.',
].join('\n')

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    quick: { type: 'boolean', default: false },
  },
})
const only = new RegExp(values.only)
const cases = DEVICES.flatMap((device) =>
  [...TIMED, ...(Object.keys(SINGLE) as Single[])].map((name) => ({
    device,
    name,
    title: `${device} ${name}`,
  })),
).filter(({ title }) => only.test(title))
if (cases.length === 0) {
  console.error(
    `no case matches ${only}; there are ${TIMED.join(' ')} ${Object.keys(SINGLE).join(' ')}`,
  )
  process.exit(1)
}

const scratch = new Scratch()
const skipped = new Map<string, string>()
const verdicts: Verdict[] = []
if (!values.json) console.log(`${describeMachine()}\n\n${DURABILITY}`)
for (const device of DEVICES) {
  if (cases.some((one) => one.device === device)) await runDevice(device)
}
if (!values.json) {
  console.log()
  for (const { goal, measured, wanted, met } of verdicts) {
    console.log(
      `${goal.padEnd(54)}${measured.padStart(9)}  ${wanted.padEnd(13)}${met ? 'met' : 'NOT MET'}`,
    )
  }
  if (values.quick) console.log('\na quick run: no figure above means anything')
}

async function runDevice(device: DeviceName): Promise<void> {
  const runners = await startAll(device)
  if (!values.json) {
    console.log(`\n${device}${device === 'disk' ? whatDisk() : ''}`)
    for (const { name, settings } of runners) console.log(`  ${name}: ${settings}`)
    console.log(
      row(
        '',
        '',
        runners.map(({ name }) => name),
      ),
    )
  }
  const wants = (name: string) => cases.some((one) => one.device === device && one.name === name)
  for (const runner of runners) {
    await runner.call({ do: 'load', entries: values.quick ? ENTRIES_QUICK : ENTRIES })
  }
  const ask = async (name: Single) => {
    if (wants(name)) report(device, name, SINGLE[name], await askAll(runners, name))
  }
  await ask('bytes-per-entry')
  await ask('first-scan')
  for (const name of TIMED) {
    if (wants(name)) report(device, name, PLANS[name].unit, await timeAll(runners, device, name))
  }
  await ask('js-heap-per-entry')
  for (const runner of runners) await runner.call({ do: 'verify' })
  for (const runner of runners) await runner.end()
}

async function startAll(device: DeviceName): Promise<Runner[]> {
  const runners: Runner[] = []
  for (const name of Object.keys(ENGINES)) {
    if (skipped.has(name)) continue
    const folder = device === 'shm' ? scratch.memoryPath() : scratch.diskPath()
    const started = await Runner.start(name, device, folder)
    if (started instanceof Runner) runners.push(started)
    else skip(name, started.reason)
  }
  return runners
}

function skip(engine: string, reason: string): void {
  skipped.set(engine, reason)
  console.log(
    values.json
      ? JSON.stringify({ engine, skipped: reason })
      : `\n${engine} is left out: ${reason}`,
  )
}

/** In turn, another one first in each round. */
async function timeAll(
  runners: readonly Runner[],
  device: DeviceName,
  name: Timed,
): Promise<Figures> {
  const plan = PLANS[name]
  const rounds = values.quick ? QUICK.rounds : plan.rounds
  const full = plan.operations[device]
  const operations = values.quick ? Math.min(QUICK.operations, full) : full
  const samples = runners.map(() => new Float64Array(rounds))
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < runners.length; i++) {
      const index = (i + round) % runners.length
      const ns = await runners[index]!.call({ do: 'time', name, operations })
      samples[index]![round] = ns / NS_PER[plan.unit]
    }
  }
  return new Map(runners.map(({ name }, i) => [name, samples[i]!]))
}

async function askAll(runners: readonly Runner[], what: Single): Promise<Figures> {
  const figures = new Map<string, Float64Array>()
  for (const runner of runners) {
    figures.set(runner.name, Float64Array.of(await runner.call({ do: what })))
  }
  return figures
}

function report(device: DeviceName, name: string, unit: string, figures: Figures): void {
  verdicts.push(...judge(device, name, figures))
  if (!values.json) {
    console.log(row(name, unit, [...figures.values()].map(show)))
    return
  }
  for (const [engine, samples] of figures) {
    const value = Number(median(samples).toPrecision(6))
    console.log(JSON.stringify({ name, device, engine, value, unit }))
  }
}

/** The median; beside it the mean, which has what happens in few rounds. */
function show(samples: Float64Array): string {
  const middle = figure(median(samples))
  if (samples.length === 1) return middle
  return `${middle} (${figure(samples.reduce((sum, each) => sum + each) / samples.length)})`
}

function figure(value: number): string {
  return value.toFixed(value < 100 ? 2 : 1)
}

function row(name: string, unit: string, columns: readonly string[]): string {
  return `  ${name.padEnd(18)}${unit.padEnd(6)}${columns.map((one) => one.padStart(19)).join('')}`
}

/** Where the temporary directory is no disk, the figures are not a disk's. */
function whatDisk(): string {
  return fs.statfsSync(os.tmpdir()).type === TMPFS
    ? ' (the temporary directory is in memory: these figures say nothing about a disk)'
    : ''
}
