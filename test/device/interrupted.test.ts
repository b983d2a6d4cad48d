/**
 * What ends in the middle: a format whose process is killed at each of its barriers, and a file that is cut
 * while its volume is open.
 *
 * The close of a volume whose file had been cut stored its checkpoint header behind the new end: SIGBUS. Where a chunk was
 * stored to, the write of that made the file as long as before, with zeros for what was lost.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { PlinthError, Volume } from 'plinth'
import { inFolder, MIB, tmpfsPage } from '../support/devices.js'

/** Runs a program with `Volume`, `fs` and `path` in a process of its own. */
function inProcess(path: string, program: string) {
  const prelude = `
    import fs from 'node:fs'
    import { Volume } from 'plinth'
    const path = ${JSON.stringify(path)}\n`
  const { stdout, signal, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', prelude + program],
    { encoding: 'utf8', cwd: import.meta.dirname },
  )
  return { stdout: stdout.trim(), signal, stderr }
}

/** What is at a path after a format that did not end. */
function stateOf(path: string): 'old' | 'none' | 'new' {
  try {
    const volume = Volume.open(path)
    const { label } = volume.info
    volume.close()
    assert.deepEqual(Volume.check(path), [])
    return label as 'old' | 'new'
  } catch (error) {
    if (!(error instanceof PlinthError) || error.code !== 'ERR_NOT_A_VOLUME') throw error
    return 'none'
  }
}

describe('a format that is interrupted', () => {
  for (const signal of ['SIGKILL', 'SIGINT']) {
    it(`${signal} at each barrier: the old volume, none, or the new one, in this order`, () => {
      inFolder((folder) => {
        const path = join(folder, 'volume')
        const states: string[] = []
        for (let barrier = 1; ; barrier++) {
          Volume.format(path, { size: MIB, label: 'old', force: true })
          const run = inProcess(
            path,
            `
            const { fdatasyncSync } = fs
            let left = ${barrier}
            fs.fdatasyncSync = (fd) => {
              if (--left === 0) process.kill(process.pid, '${signal}')
              fdatasyncSync(fd)
            }
            Volume.format(path, { label: 'new', force: true })
            console.log('formatted')`,
          )
          states.push(stateOf(path))
          if (run.stdout === 'formatted') break
          assert.equal(run.signal, signal, run.stderr)
          // It can be done again, whatever is left.
          Volume.format(path, { label: 'new', force: true })
          assert.equal(stateOf(path), 'new')
        }
        assert.ok(states.includes('none'))
        assert.equal(states.at(-1), 'new')
        const order = ['old', 'none', 'new']
        assert.deepEqual(
          states,
          states.toSorted((a, b) => order.indexOf(a) - order.indexOf(b)),
        )
      })
    })
  }
})

describe('a file that is cut while its volume is open', { skip: tmpfsPage.skip }, () => {
  for (const stored of [false, true]) {
    it(`is told of, and stays as it was cut, ${stored ? 'with' : 'without'} stores to a chunk`, () => {
      inFolder((folder) => {
        const path = join(folder, 'volume')
        const { stdout, signal, stderr } = inProcess(
          path,
          `
          const codeOf = (call) => {
            try {
              call()
              return 'nothing'
            } catch ({ code, cause }) {
              return cause ? code + ' ' + cause.code : code
            }
          }
          Volume.format(path, { size: ${8 * MIB} })
          const volume = Volume.open(path)
          const [first, last] = ['first', 'last'].map((name) =>
            volume.allocate({ size: ${3 * MIB}, name }))
          volume.transact((tx) => tx.setUint32(first, 0, 1))
          if (${stored}) first.bytes[${2 * MIB}] = 1
          fs.truncateSync(path, ${5 * MIB})
          console.log(codeOf(() => last.bytes).split(' ')[0])
          console.log(codeOf(() => volume.checkpoint()))
          console.log(codeOf(() => volume.close()))
          console.log(codeOf(() => Volume.open(path)))`,
        )
        assert.deepEqual([signal, stderr], [null, ''])
        const failed = 'ERR_VOLUME_FAILED ERR_DEVICE_TRUNCATED'
        const truncated = 'ERR_DEVICE_TRUNCATED'
        assert.deepEqual(stdout.split('\n'), [truncated, failed, failed, truncated])
        assert.equal(statSync(path).size, 5 * MIB)
      })
    })
  }

  it('close alone tells of it', () => {
    inFolder((folder) => {
      const path = join(folder, 'volume')
      const { stdout, signal } = inProcess(
        path,
        `
        Volume.format(path, { size: ${8 * MIB} })
        const volume = Volume.open(path)
        volume.allocate({ size: ${3 * MIB} }).bytes[${3 * MIB - 1}] = 1
        fs.truncateSync(path, ${MIB})
        try { volume.close() } catch (error) { console.log(error.code, error.cause.code) }`,
      )
      assert.equal(signal, null)
      assert.equal(stdout, 'ERR_VOLUME_FAILED ERR_DEVICE_TRUNCATED')
      assert.equal(statSync(path).size, MIB)
    })
  })
})
