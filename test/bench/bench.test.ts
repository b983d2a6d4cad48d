// The benchmarks run, name what they promise and say no nonsense. How fast is never asked here.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { onNative } from '../device/native-support.js'

const program = fileURLToPath(new URL('./run.js', import.meta.url))

const NAMES = [
  'syscall-noop',
  'native-call',
  'append-64B',
  'persist-line',
  'barrier-page',
  'commit-64B',
  'commit-64B-closure',
  'commit-64B-random',
  'commit-16x64B',
  'commit-64B-bare',
  'commit-64B-unheard',
  'commit-64B-heard',
  'commit-64B-page',
  'commit-async-1000',
  'chunk-alloc-free-1GiB',
  'chunk-alloc-free-1TiB',
  'open-clean',
  'recover-16MiB',
  'recover-16MiB-random',
  'chunk-write-1MiB',
  'copy-nt-1MiB',
  'memory-copy-1MiB',
]

function bench(...args: string[]) {
  const child = spawnSync(process.execPath, [program, '--quick', ...args], { encoding: 'utf8' })
  assert.deepEqual(leftovers(child.pid), [])
  return {
    status: child.status,
    lines: child.stdout.split('\n').slice(0, -1),
    stderr: child.stderr,
  }
}

function leftovers(pid: number): string[] {
  return [tmpdir(), '/dev/shm'].flatMap((folder) =>
    readdirSync(folder).filter((name) => name.startsWith(`plinth-bench-${pid}-`)),
  )
}

describe('npm run bench', onNative, () => {
  test('--json says one object a line, with every name and figures that can be', () => {
    const { status, lines, stderr } = bench('--json')
    assert.equal(status, 0, stderr)
    const results = lines.map((line) => JSON.parse(line))
    for (const result of results) {
      assert.deepEqual(Object.keys(result), ['name', 'unit', 'median', 'p99', 'samples'])
      assert(['ns', 'us', 'ms'].includes(result.unit), `${result.name}: unit ${result.unit}`)
      assert(result.median > 0 && result.p99 >= result.median, `${result.name}: ${result.median}`)
      assert(Number.isInteger(result.samples) && result.samples > 0, result.name)
    }
    const names = results.map(({ name }) => name)
    assert.deepEqual(
      NAMES.filter((name) => !names.includes(name)),
      [],
    )
    assert.equal(new Set(names).size, names.length)
  })

  test('--only runs what matches, and the goals that this suffices for', () => {
    const { status, lines, stderr } = bench('--only', '^(append|commit)-64B$')
    assert.equal(status, 0, stderr)
    assert.match(lines[0]!, /Node v.*\| flush .*\| load /)
    const names = lines.map((line) => line.split(' ')[0]!)
    assert.deepEqual(
      names.filter((name) => NAMES.includes(name)),
      ['append-64B', 'commit-64B', 'commit-64B'],
      'two rows, and one goal that begins with the name',
    )
    assert.match(lines.join('\n'), /commit-64B \/ append-64B .*(?:met|NOT MET)/)
  })

  test('a name that is not there is an error that lists those that are', () => {
    const { status, lines, stderr } = bench('--only', 'no-such-case')
    assert.equal(status, 1)
    assert.deepEqual(lines, [])
    for (const name of NAMES) assert(stderr.includes(name), name)
  })

  test('a run that is interrupted leaves no files', async () => {
    const child = spawn(process.execPath, [program, '--only', 'commit-64B'])
    const exit = once(child, 'exit')
    // The header comes right before the first files are made.
    await once(child.stdout, 'data')
    child.kill('SIGTERM')
    assert.deepEqual(await exit, [143, null])
    assert.deepEqual(leftovers(child.pid!), [])
  })
})
