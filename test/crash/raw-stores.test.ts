/** Raw stores on page granularity that nobody has made durable: what a crash leaves of them. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
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
