// Builds, then runs the tests with node's own runner.
//
//   npm test                                     all
//   npm test -- unit crash/log                   only files whose path under test/ begins so
//   npm test -- not:crash not:bench              all others
//   npm test -- unit --test-name-pattern=free    options go to node
import { readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { root, run, start } from './run.mjs'

run('scripts/build.mjs')
run('scripts/build-mmap-io.mjs')

const given = process.argv.slice(2)
const options = given.filter((arg) => arg.startsWith('-'))
const paths = given.filter((arg) => !arg.startsWith('-'))
const NOT = 'not:'
const beginning = (arg) => arg.replace(/^(?:dist\/)?test\//, '')
const folders = paths.filter((arg) => !arg.startsWith(NOT)).map(beginning)
const others = paths
  .filter((arg) => arg.startsWith(NOT))
  .map((arg) => beginning(arg.slice(NOT.length)))

// Listed here, as Node 20 knows no patterns.
const files = readdirSync(join(root, 'dist/test'), { recursive: true })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => file.endsWith('.test.js'))
  .filter((file) => folders.length === 0 || folders.some((folder) => file.startsWith(folder)))
  .filter((file) => !others.some((folder) => file.startsWith(folder)))
  .sort()
if (files.length === 0) {
  console.error(`no test file under test/ is meant by: ${paths.join(' ')}`)
  process.exit(1)
}

const person = process.stdout.isTTY && !process.env.CI
process.exitCode = start(
  process.execPath,
  [
    '--test',
    `--test-concurrency=${Math.min(availableParallelism(), 4)}`,
    // Against what hangs: a machine that is busy with other work takes several times as long.
    '--test-timeout=1800000',
    `--test-reporter=${person ? 'spec' : './scripts/test-reporter.mjs'}`,
    '--test-reporter-destination=stdout',
    ...options,
    ...files.map((file) => `dist/test/${file}`),
  ],
  { stdio: 'inherit' },
)
