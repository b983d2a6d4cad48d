/**
 * The benchmarks.
 *
 *   npm run bench                    a table, and each goal met or not
 *   npm run bench -- --json          one object a line: name, unit, median, p99, samples
 *   npm run bench -- --only REGEX    the cases whose name matches
 *   npm run bench -- --quick         a few rounds of each: whether they run, not how fast
 */
import { parseArgs } from 'node:util'
import { addonError, loadAddon } from '../../src/native/load.js'
import { chunks } from './chunks.js'
import { commits } from './commits.js'
import { copies } from './copies.js'
import { disk } from './disk.js'
import { judge } from './goals.js'
import type { Plan, Result } from './measure.js'
import { opening } from './opening.js'
import { describeMachine, jsonLine, LEGEND, textGoals, textHeader, textRow } from './report.js'
import { Scratch } from './scratch.js'
import type { Bench } from './suite.js'

/**
 * The shortest operations first: compiled code that has seen one kind of media only is what a
 * program with one volume runs, and the disk is another kind.
 */
const SUITES = [commits, chunks, copies, opening, disk]
const QUICK: Plan = { rounds: 5, warmup: 1 }

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    quick: { type: 'boolean', default: false },
  },
})
if (loadAddon() === undefined) {
  console.error(`the native addon does not load: ${addonError()?.message}`)
  process.exit(1)
}
const only = new RegExp(values.only)
const wants = (name: string) => only.test(name)
const suites = SUITES.filter(({ names }) => names.some(wants))
if (suites.length === 0) {
  console.error(`no benchmark's name matches ${only}; there are:`)
  for (const { names } of SUITES) for (const name of names) console.error(`  ${name}`)
  process.exit(1)
}

const results = new Map<string, Result>()
const counts = new Map<string, number>()
const bench: Bench = {
  quick: values.quick,
  scratch: new Scratch(),
  wants,
  plan: (full) => (values.quick ? QUICK : full),
  report(result) {
    results.set(result.name, result)
    console.log(values.json ? jsonLine(result) : textRow(result))
  },
  count: (name, value) => counts.set(name, value),
}

if (!values.json) console.log(`${describeMachine()}\n\n${textHeader()}`)
for (const suite of suites) await suite.run(bench)

const verdicts = judge({
  result: (name) => results.get(name),
  count: (name) => counts.get(name),
})
if (!values.json) {
  console.log(`\n${LEGEND}`)
  if (verdicts.length > 0) console.log(`\n${textGoals(verdicts)}`)
  if (values.quick) console.log('\na quick run: no figure above means anything')
}
