/** A power cut while a volume is taken off its device: it is there as it was, or there is none. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PlinthError } from 'plinth'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { Random } from '../../src/testing/random.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { wipeVolume } from '../../src/volume/wipe.js'
import { readableOf } from '../support/damage.js'

/** Whether a volume with its chunk is there; with any other error this throws. */
function holdsVolume(model: SimulatedMedia['model'], image: Uint8Array): boolean {
  const media = new SimulatedMedia(model, image, false)
  try {
    return openSimulated(media).findChunk('a') !== undefined
  } catch (error) {
    if (error instanceof PlinthError && error.code === 'ERR_NOT_A_VOLUME') return false
    throw error
  } finally {
    media.release()
  }
}

for (const model of ['cache-line', 'page', 'byte'] as const) {
  test(`a power cut while a volume is wiped, ${model}`, () => {
    const making = new SimulatedMedia(model, makeImage())
    const volume = openSimulated(making)
    volume.allocate({ size: 4096, name: 'a' })
    volume.close()
    const media = new SimulatedMedia(model, making.durable.slice())
    const seen = new Set<number>()
    const found = new Set<boolean>()
    media.onPoint = () =>
      forEachCrashState(media, new Random(1), { exhaustive: 64, samples: 16 }, seen, (image) => {
        found.add(holdsVolume(model, image))
      })
    const device = {
      sizeBytes: media.sizeBytes,
      read: (at: number, n: number) => media.read(at, n),
    }
    assert.ok(wipeVolume({ device, alignBytes: 4096, openMedia: () => media }))
    assert.deepEqual([...found].sort(), [false, true], 'both were seen')
    assert.equal(holdsVolume(model, media.durable.slice()), false)
    const wiped = readableOf(media.durable.slice())
    assert.equal(
      wipeVolume({ device: wiped, alignBytes: 4096, openMedia: () => assert.fail() }),
      false,
    )
  })
}
