/** One binary for every processor: which instruction writes a line back is asked when it is loaded. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { loadAddon } from '../../src/native/load.js'
import { MIB } from '../support/devices.js'
import { none, target } from './targets.js'

const INSTRUCTIONS = ['clwb', 'clflushopt', 'clflush']

describe('processor', { skip: none || (process.arch !== 'x64' && 'this is not x86-64') }, () => {
  it('the best write-back instruction that it has is chosen, and works on device-dax', (t) => {
    const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))![1]!.split(' ')
    const expected = INSTRUCTIONS.find((each) => flags.includes(each))
    assert.equal(loadAddon()?.flushInstruction, expected)
    t.diagnostic(`${expected}`)
    const at = target('devdax')
    if (at === undefined) return t.skip('there is no device-dax')
    at.with(MIB, (path) => {
      Volume.format(path, { force: true })
      const volume = Volume.open(path, { granularity: 'cache-line' })
      const chunk = volume.allocate({ size: 65_536, name: 'c', zero: true })
      // Ordinary stores, streams, a commit and a checkpoint: an instruction that is missing ends the process.
      chunk.write(0, new Uint8Array(60_000).fill(3))
      volume.transact((tx) => tx.setUint32(chunk, 60_000, 5))
      volume.checkpoint()
      volume.close()
      const again = Volume.open(path)
      assert.equal(again.chunk('c').view.getUint32(60_000, true), 5)
      again.close()
    })
  })
})
