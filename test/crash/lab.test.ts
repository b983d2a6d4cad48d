/** The lab in the normal run: at least so many different states, in as many processes as there are cores. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { SCENARIOS } from './scenarios.js'

const STATES = 200_000

test(`the lab explores ${STATES} crash states and finds nothing wrong`, {
  timeout: 900_000,
}, (t) => {
  const run = fileURLToPath(new URL('run.js', import.meta.url))
  const seed = process.env.TEST_SEED ?? '1'
  const args = [run, '--json', '--states', String(STATES), '--seed', seed]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  const report = JSON.parse(stdout)
  t.diagnostic(
    `${report.distinct} distinct states at ${report.points} points of ${report.workloads} workloads, ` +
      `${report.nested} cut again in recovery, in ${report.seconds.toFixed(0)} s`,
  )
  assert.ok(report.distinct >= STATES, `${report.distinct} states`)
  for (const model of ['cache-line', 'page', 'byte']) assert.ok(report.models[model] > 0, model)
})

for (const { name, run } of SCENARIOS) {
  test(name, () => run(() => 'go'))
}
