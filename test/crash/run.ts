/**
 * The crash lab as a program: `npm run test:crash -- --seconds 600`.
 *
 *   --seconds N     budget of time                                   default 840
 *   --states N      stop after so many distinct states               default none
 *   --seed N        what the order and the samples come from         default 1
 *   --part I/N      this process does part I of N                    default all, in as many processes as cores
 *   --only NAME     one workload, age/model/operation+operation: what a failure prints
 *   --json          the counts as one line
 */
import { spawn } from 'node:child_process'
import os from 'node:os'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Counts, CrashFailure, Lab } from './lab.js'
import { findWorkload, nameOf, type Workload, workloads } from './workloads.js'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '840' },
    states: { type: 'string', default: 'Infinity' },
    seed: { type: 'string', default: '1' },
    part: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const seed = Number(values.seed)
const statesWanted = Number(values.states)

export interface Report extends Counts {
  seconds: number
  models: Record<string, number>
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
  const models: Record<string, number> = {}
  const list: Iterable<Workload | undefined> =
    values.only === undefined ? workloads(seed, part) : [findWorkload(values.only)]
  for (const workload of list) {
    if (workload === undefined) throw new Error(`there is no workload named ${values.only}`)
    if (seconds() > Number(values.seconds) || lab.counts.distinct >= statesWanted) break
    const before = lab.counts.states
    try {
      lab.run(workload.age, workload.operations, workload.crashModel)
    } catch (error) {
      if (!(error instanceof CrashFailure)) throw error
      console.error(`seed ${seed}: ${error.message}`)
      console.error(`repeat it: npm run test:crash -- --seed ${seed} --only '${nameOf(workload)}'`)
      process.exit(1)
    }
    models[workload.crashModel] = (models[workload.crashModel] ?? 0) + lab.counts.states - before
  }
  return { ...lab.counts, seconds: seconds(), models }
}

async function runAll(): Promise<Report> {
  const parts = os.availableParallelism()
  const reports = await Promise.all(
    Array.from({ length: parts }, (_, index) => runChild(`${index}/${parts}`)),
  )
  const sum = (of: (report: Report) => number) => reports.reduce((n, report) => n + of(report), 0)
  const models: Record<string, number> = {}
  for (const report of reports) {
    for (const [model, states] of Object.entries(report.models)) {
      models[model] = (models[model] ?? 0) + states
    }
  }
  return {
    workloads: sum(({ workloads: n }) => n),
    points: sum(({ points }) => points),
    states: sum(({ states }) => states),
    nested: sum(({ nested }) => nested),
    distinct: sum(({ distinct }) => distinct),
    seconds: Math.max(...reports.map(({ seconds }) => seconds)),
    models,
  }
}

function runChild(part: string): Promise<Report> {
  const own = fileURLToPath(import.meta.url)
  const states = Number.isFinite(statesWanted)
    ? Math.ceil(statesWanted / Number(part.split('/')[1]))
    : Infinity
  const args = [own, '--json', '--part', part, '--seed', String(seed)]
  args.push('--seconds', values.seconds, '--states', String(states))
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let out = ''
  child.stdout.on('data', (data) => {
    out += data
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => {
      if (code === 0) resolve(JSON.parse(out))
      else reject(new Error(`part ${part} failed`))
    })
  })
}

async function main(): Promise<void> {
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
  const { workloads: done, points, states, nested, distinct, seconds, models } = report
  console.log(`workloads ${done}, points ${points}, seed ${seed}`)
  console.log(`states recovered and compared ${states}, of them cut again in recovery ${nested}`)
  console.log(`distinct states ${distinct}, ${Math.round(distinct / seconds)} a second`)
  for (const [model, count] of Object.entries(models)) console.log(`  ${model.padEnd(12)}${count}`)
  console.log(`no failure in ${seconds.toFixed(1)} s`)
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
