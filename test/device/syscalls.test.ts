/**
 * On byte-addressable devices the kernel is not asked: between two marks in a trace of the main
 * thread, commits and checkpoints make no system call. Counted is every call of that thread but
 * those in which V8 manages its own memory and threads (`V8` below, and mmap of anonymous memory);
 * none of these can reach a device: they name no descriptor, and msync is not among them.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Volume } from 'plinth'
import { inMemory, MIB, pmemPlaces, tmpfsLine } from '../support/devices.js'

const COMMITS = 100_000
const SIZE = 16 * MIB
const child = fileURLToPath(new URL('../support/syscalls-child.js', import.meta.url))
/**
 * Its heaps and the locks between its threads: the garbage collector and the compiler. getpid comes
 * with the random addresses of its memory: OpenSSL, which it asks, looks whether the process forked.
 * clock_gettime is one where the kernel cannot give the time without a call, as in an emulator.
 */
const V8 = [
  'madvise',
  'munmap',
  'mprotect',
  'brk',
  'futex',
  'sched_yield',
  'getpid',
  'clock_gettime',
]

const line = pmemPlaces.find(({ granularity }) => granularity !== 'page') ?? tmpfsLine

function whyNot(): string | false {
  if (line.skip !== false) return line.skip
  const { error, status } = spawnSync('strace', ['-o', '/dev/null', process.execPath, '--version'])
  if (error !== undefined) return 'strace is not installed'
  return status !== 0 && 'strace may not trace here'
}

describe('system calls', () => {
  it(`none in ${COMMITS} commits on ${line.name}`, { skip: whyNot() }, (t) => {
    inMemory((folder) =>
      line.with(SIZE, (path) => {
        const trace = join(folder, 'trace')
        Volume.format(path, { size: SIZE, ...line.options })
        const { status, stdout, stderr } = spawnSync(
          'strace',
          [
            ...['-f', '-qq', '-o', trace, process.execPath],
            ...[child, path, String(COMMITS), JSON.stringify(line.options)],
          ],
          { encoding: 'utf8' },
        )
        assert.equal(status, 0, stderr)
        const { fences, checkpoints } = JSON.parse(stdout) as {
          fences: number
          checkpoints: number
        }
        assert.ok(checkpoints > 0, 'checkpoints were among it')
        // A checkpoint: in-place locations and two checkpoint headers; the end of the ring its skip record.
        assert.ok(fences >= COMMITS && fences <= COMMITS + 4 * checkpoints, `${fences} fences`)

        const lines = readFileSync(trace, 'utf8').split('\n')
        const begin = lines.findIndex((line) => line.includes('mark: begin'))
        const end = lines.findIndex((line) => line.includes('mark: end'))
        assert.ok(begin !== -1 && end > begin, 'both marks are in the trace')
        const main = lines[begin]!.split(/\s+/)[0]!
        const calls = lines
          .slice(begin + 1, end)
          .filter((line) => line.startsWith(`${main} `) && !/ mmap\(.*MAP_ANONYMOUS/.test(line))
          // A call that another thread's came between ends on a line of its own; its beginning counts.
          .flatMap((line) => /^\d+\s+(\w+)/.exec(line)?.[1] ?? [])
        const others = calls.filter((call) => !V8.includes(call))
        assert.deepEqual(others, [])
        t.diagnostic(
          `${calls.length} calls of V8 for its own memory: ${[...new Set(calls)].join(' ')}`,
        )
      }),
    )
  })
})
