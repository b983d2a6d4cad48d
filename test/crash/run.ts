/**
 * The crash lab as a program: `npm run test:crash -- --seconds 600`.
 *
 *   --seconds N     budget of time                                   default 840
 *   --states N      stop after so many distinct states               default none
 *   --seed N        what the order and the samples come from         default 1
 *   --part I/N      this process does part I of N                    default all, in as many processes as cores
 *   --only NAME     one workload, age/model/operation+operation: what a failure prints
 *   --break CHECK   loads the library without a check of without.ts, to see the lab fail
 *   --json          the counts as one line
 */
import { type ChildProcess, spawn } from 'node:child_process'
import os from 'node:os'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Counts, CrashFailure, Lab } from './lab.js'
import { importWithout } from './without.js'
import {
  CORE_AGES,
  CORE_OPERATIONS,
  findWorkload,
  nameOf,
  type Planned,
  workloads,
} from './workloads.js'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '840' },
    states: { type: 'string', default: 'Infinity' },
    seed: { type: 'string', default: '1' },
    part: { type: 'string' },
    only: { type: 'string' },
    break: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const seed = Number(values.seed)
const statesWanted = Number(values.states)
/** What a failure needs to happen again, beside its name. */
const settings = [
  '--seed',
  String(seed),
  ...(values.break === undefined ? [] : ['--break', values.break]),
]

/** What was counted, under a name. */
type Tally = Record<string, number>

export interface Report extends Counts {
  seconds: number
  /** States of each crash model. */
  models: Tally
  /** Points in an operation on a volume: `tx-write on fragmented`. */
  cuts: Tally
  /** Sequences tried and not possible, for each length. */
  stages: Tally
  /** How many there are of those begun. */
  ofStages: Tally
}

function add(tally: Tally, name: string, count: number): void {
  tally[name] = (tally[name] ?? 0) + count
}

function runPart(part: { index: number; of: number }): Report {
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  const lab = new Lab({
    seed,
    limits: { exhaustive: 64, samples: 24 },
    nestOneIn: 24,
    probeOneIn: 8,
  })
  const models: Tally = {}
  const cuts: Tally = {}
  const stages: Tally = {}
  const ofStages: Tally = {}
  for (const workload of values.only === undefined ? workloads(seed, part) : only(values.only)) {
    if (seconds() > Number(values.seconds) || lab.counts.distinct >= statesWanted) break
    const { states, points } = lab.counts
    try {
      lab.run(workload.age, workload.operations, workload.crashModel)
    } catch (error) {
      if (!(error instanceof CrashFailure)) throw error
      console.error(`seed ${seed}: ${error.message}`)
      console.error(
        `repeat it: npm run test:crash -- ${settings.join(' ')} --only '${nameOf(workload)}'`,
      )
      process.exit(1)
    }
    const { age, operations, crashModel, stage, ofStage } = workload
    add(models, crashModel, lab.counts.states - states)
    add(cuts, `${operations.at(-1)!.name} on ${age.name}`, lab.counts.points - points)
    add(stages, stage, 1)
    ofStages[stage] = ofStage
  }
  return { ...lab.counts, seconds: seconds(), models, cuts, stages, ofStages }
}

function only(name: string): Planned[] {
  const workload = findWorkload(name)
  if (workload === undefined) throw new Error(`there is no workload named ${name}`)
  return [{ ...workload, stage: 'one workload', ofStage: 1 }]
}

async function runAll(): Promise<Report> {
  const parts = os.availableParallelism()
  const children = Array.from({ length: parts }, (_, index) => startPart(`${index}/${parts}`))
  let reports: Report[]
  try {
    reports = await Promise.all(children.map(reportOf))
  } catch (error) {
    for (const child of children) child.kill()
    throw error
  }
  const sum = (of: (report: Report) => number) => reports.reduce((n, report) => n + of(report), 0)
  const together = (of: (report: Report) => Tally) => {
    const all: Tally = {}
    for (const report of reports) {
      for (const [name, count] of Object.entries(of(report))) add(all, name, count)
    }
    return all
  }
  return {
    workloads: sum(({ workloads: n }) => n),
    points: sum(({ points }) => points),
    states: sum(({ states }) => states),
    nested: sum(({ nested }) => nested),
    distinct: sum(({ distinct }) => distinct),
    seconds: Math.max(...reports.map(({ seconds }) => seconds)),
    models: together(({ models }) => models),
    cuts: together(({ cuts }) => cuts),
    stages: together(({ stages }) => stages),
    ofStages: together(({ ofStages }) => ofStages),
  }
}

function startPart(part: string): ChildProcess {
  const own = fileURLToPath(import.meta.url)
  const states = Number.isFinite(statesWanted)
    ? Math.ceil(statesWanted / Number(part.split('/')[1]))
    : Infinity
  // What a state allocates lives as long as the state: a larger nursery is collected less often.
  const args = ['--max-semi-space-size=32', own, '--json', '--part', part, ...settings]
  args.push('--seconds', values.seconds, '--states', String(states))
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
}

function reportOf(child: ChildProcess): Promise<Report> {
  let out = ''
  child.stdout!.on('data', (data) => {
    out += data
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => {
      if (code === 0) resolve(JSON.parse(out))
      else reject(new Error('the lab found a failure'))
    })
  })
}

async function main(): Promise<void> {
  const own = new URL(import.meta.url)
  if (values.break !== undefined && own.search === '') {
    await importWithout(values.break, own)
    return
  }
  let report: Report
  if (values.only !== undefined) report = runPart({ index: 0, of: 1 })
  else if (values.part !== undefined) {
    const [index, of] = values.part.split('/').map(Number)
    report = runPart({ index: index!, of: of! })
  } else report = await runAll()
  if (values.json) {
    console.log(JSON.stringify(report))
    return
  }
  print(report)
}

function print(report: Report): void {
  const { workloads: done, points, states, nested, distinct, seconds, models } = report
  printCuts(report.cuts)
  for (const [stage, count] of Object.entries(report.stages)) {
    console.log(`sequences of ${stage.padEnd(18)}${count} of ${report.ofStages[stage]}`)
  }
  console.log(`workloads ${done} (the others are not possible), points ${points}, seed ${seed}`)
  console.log(`states recovered and compared ${states}, of them cut again in recovery ${nested}`)
  console.log(`distinct states ${distinct}, ${Math.round(distinct / seconds)} a second`)
  for (const [model, count] of Object.entries(models)) console.log(`  ${model.padEnd(12)}${count}`)
  console.log(`no failure in ${seconds.toFixed(1)} s`)
  const missed = missedOf(report)
  if (missed.length === 0) return
  console.error(`never cut: ${missed.join(', ')}`)
  process.exitCode = 1
}

/** Once every sequence of two was tried, every operation of the core was cut on every volume of the core. */
function missedOf({ stages, ofStages, cuts }: Report): string[] {
  if (stages.two === undefined || stages.two < ofStages.two!) return []
  return CORE_OPERATIONS.flatMap((operation) =>
    CORE_AGES.map((age) => `${operation} on ${age}`).filter((place) => !cuts[place]),
  )
}

/** Points at which each operation was cut, on each volume. */
function printCuts(cuts: Tally): void {
  const places = Object.keys(cuts).map((name) => name.split(' on '))
  const ages = [...new Set(places.map(([, age]) => age!))].sort()
  const operations = [...new Set(places.map(([operation]) => operation!))].sort()
  console.log(['points'.padEnd(20), ...ages.map((age) => age.padStart(17))].join(''))
  for (const operation of operations) {
    const row = ages.map((age) => String(cuts[`${operation} on ${age}`] ?? 0).padStart(17))
    console.log(operation.padEnd(20) + row.join(''))
  }
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
