/** The lab in the normal run: at least so many different states, in as many processes as there are cores. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { MODELS } from '../../src/testing/crash-test.js'
import { SCENARIOS } from './scenarios.js'

const STATES = 200_000

function runLab(args: readonly string[]) {
  const run = fileURLToPath(new URL('run.js', import.meta.url))
  return spawnSync(process.execPath, [run, ...args], { encoding: 'utf8' })
}

test(`the lab explores ${STATES} crash states and finds nothing wrong`, (t) => {
  const seed = process.env.TEST_SEED ?? '1'
  const { status, stdout, stderr } = runLab([
    ...['--json', '--seconds', 'Infinity', '--states', String(STATES), '--seed', seed],
  ])
  assert.equal(status, 0, stderr)
  const report = JSON.parse(stdout)
  t.diagnostic(
    `${report.distinct} distinct states at ${report.points} points of ${report.workloads} workloads, ` +
      `${report.nested} cut again in recovery, in ${report.seconds.toFixed(0)} s`,
  )
  assert.ok(report.distinct >= STATES, `${report.distinct} states`)
  for (const model of MODELS) assert.ok(report.models[model] > 0, model)
})

for (const { name, run } of SCENARIOS) {
  test(name, () => run(() => 'go'))
}

test('a failure prints the command that repeats it', () => {
  const broken = ['--break', 'durableBeforeInPlace', '--only', 'two-chunks/page/async-checkpoint']
  const first = runLab(broken)
  assert.equal(first.status, 1)
  const [, command] = /npm run test:crash -- (.*)/.exec(first.stderr)!
  const again = runLab(command!.split(' ').map((arg) => arg.replace(/^'(.*)'$/, '$1')))
  assert.equal(again.status, 1)
  assert.equal(again.stderr, first.stderr)
})
