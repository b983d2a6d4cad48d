// Builds, then runs the benchmark beside libpmemobj. It is skipped, with the reason, where libpmemobj-dev is not installed.
import { run, start } from './run.mjs'

run('scripts/build.mjs')
process.exitCode = start(
  process.execPath,
  ['dist/test/bench/peers/run.js', ...process.argv.slice(2)],
  {
    stdio: 'inherit',
  },
)
