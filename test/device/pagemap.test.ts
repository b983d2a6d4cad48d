/**
 * Which pages a process has copied is read from /proc/self/pagemap. It was opened when the first chunk
 * was closed: after the privileges were dropped, or without /proc, closing threw the system's error and
 * the stores were lost.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { inFolder, MIB } from '../support/devices.js'

const NOBODY = 65534
const noRoot = process.getuid?.() !== 0 && 'it takes root to stop being root'

const drop = `process.setgroups([]); process.setgid(${NOBODY}); process.setuid(${NOBODY})`
const fill = `
  const fds = []
  try { for (;;) fds.push(openSync('/dev/null')) } catch {}
  const release = () => fds.forEach(closeSync)`

/** In a process of its own: stores to a chunk, and closes it. */
const program = (path: string, before: string, after: string, end: string) => `
  import { closeSync, openSync } from 'node:fs'
  import { Volume } from 'plinth'
  ${before}
  const volume = Volume.open(${JSON.stringify(path)})
  const chunk = volume.allocate({ size: 65536, name: 'c', zero: true })
  ${after}
  chunk.bytes[5] = 42
  chunk.bytes[40000] = 43
  volume.transact((tx) => tx.setUint32(chunk, 8192, 7))
  chunk.close()
  const again = volume.chunk('c')
  again.bytes[6] = 44
  volume.close()
  ${end}
  console.log('closed')`

const cases: [what: string, before: string, after: string, end: string, shell: string][] = [
  ['privileges that were dropped before it was opened', drop, '', '', ''],
  ['privileges that were dropped after it was opened', '', drop, '', ''],
  ['no descriptor that is free', '', fill, 'release()', 'ulimit -n 256;'],
  ['no /proc', '', '', '', 'mount -t tmpfs none /proc;'],
]

describe('stores are found, and closing makes them durable, with', { skip: noRoot }, () => {
  for (const [what, before, after, end, shell] of cases) {
    it(what, () => {
      inFolder((folder) => {
        const path = join(folder, 'device')
        Volume.format(path, { size: MIB })
        chmodSync(folder, 0o755)
        chownSync(path, NOBODY, NOBODY)
        const { stdout, stderr } = spawnSync(
          'unshare',
          [
            '-m',
            'bash',
            '-c',
            `${shell} exec ${process.execPath} --input-type=module -e "$PROGRAM"`,
          ],
          { env: { ...process.env, PROGRAM: program(path, before, after, end) }, encoding: 'utf8' },
        )
        assert.equal(stdout, 'closed\n', stderr)
        const volume = Volume.open(path)
        assert.equal(volume.recovery.clean, true)
        const { bytes } = volume.chunk('c')
        assert.deepEqual([bytes[5], bytes[6], bytes[8192], bytes[40000]], [42, 44, 7, 43])
        volume.close()
      })
    })
  }
})
