/** Raw stores that nobody has made durable: what a crash leaves of them, and what close makes of them. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { crashTest } from '../../src/testing/crash-test.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'

const PAGE = 4096

/** Stores into two pages, the first of which has a logged change; then power fails. What is left of the two stores. */
function leftOf(before: 'nothing' | 'checkpoint'): number[] {
  const media = new SimulatedMedia('page', makeImage())
  const volume = openSimulated(media)
  const chunk = volume.allocate({ size: 2 * PAGE, name: 'chunk', zero: true })
  volume.checkpoint()
  volume.transact((tx) => tx.setUint32(chunk, 0, 1))
  chunk.bytes[100] = 7
  chunk.bytes[PAGE + 100] = 7
  if (before === 'checkpoint') volume.checkpoint()
  const found = openSimulated(new SimulatedMedia('page', media.durable, false))
  const { bytes } = found.chunk('chunk')
  assert.equal(bytes[0], 1)
  return [bytes[100]!, bytes[PAGE + 100]!]
}

describe('raw stores on page granularity', () => {
  it('nothing of them is left', () => assert.deepEqual(leftOf('nothing'), [0, 0]))
  it('a checkpoint takes those along that share a page with logged bytes', () =>
    assert.deepEqual(leftOf('checkpoint'), [7, 0]))
})

describe('raw stores in many chunks', () => {
  it('are durable when the volume is closed, whichever has logged changes, and nothing else is changed', async () => {
    const names = ['first', 'logged', 'third', 'spare']
    const { points } = await crashTest<string>({
      setup: (volume) => {
        for (const name of names) volume.allocate({ size: 2 * PAGE, name, zero: true })
      },
      workload: (volume, acknowledge) => {
        const [first, logged, third] = names.map((name) => volume.chunk(name))
        volume.transact((tx) => tx.setUint32(logged!, 0, 7))
        acknowledge('logged')
        for (const chunk of [first!, logged!, third!]) chunk.bytes[PAGE + 8] = 7
        volume.reserve({ size: PAGE }).bytes[0] = 7
        volume.close()
        acknowledge('closed')
      },
      check: (volume, acknowledged) => {
        const [first, logged, third, spare] = names.map((name) => volume.chunk(name).bytes)
        if (acknowledged.includes('logged')) assert.equal(logged![0], 7)
        const raw = [first!, logged!, third!].map((bytes) => bytes[PAGE + 8])
        if (acknowledged.includes('closed')) assert.deepEqual(raw, [7, 7, 7])
        else for (const byte of raw) assert.ok(byte === 0 || byte === 7)
        const others = [first!, logged!, third!, spare!].map((bytes) =>
          bytes.findIndex((byte, at) => byte !== 0 && at !== PAGE + 8 && at > 3),
        )
        assert.deepEqual(others, [-1, -1, -1, -1])
      },
    })
    assert.ok(points > 0)
  })
})
