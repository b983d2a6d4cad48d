/**
 * A chunk table with one copy in bad blocks: power is cut at every flush and fence of a life of chunks,
 * and what is opened then is the state before or after, while nothing was ever stored in the bad copy.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Volume } from 'plinth'
import { planGeometry } from '../../src/layout/geometry.js'
import { BadBlocks } from '../../src/media/bad-blocks.js'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { MODELS } from '../../src/testing/crash-test.js'
import { Random } from '../../src/testing/random.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { placesOf } from '../support/places.js'

const geometry = planGeometry({
  sizeBytes: 2 ** 20,
  alignBytes: 4096,
})
const { sizeBytes } = geometry
const { tableAt, tableCopyAt, tableBytes } = placesOf(geometry)
const LIMITS = { exhaustive: 64, samples: 16 }

const life: [what: string, step: (volume: Volume) => unknown][] = [
  ['allocate', (volume) => volume.allocate({ size: 4096, name: 'a' })],
  ['allocate another', (volume) => volume.allocate({ size: 8192, name: 'b' })],
  ['checkpoint', (volume) => volume.checkpoint()],
  ['rename', (volume) => volume.transact(() => volume.rename(volume.chunk('a'), 'c'))],
  ['free', (volume) => volume.free(volume.chunk('b'))],
  ['checkpoint again', (volume) => volume.checkpoint()],
  [
    'all at once',
    (volume) =>
      volume.transact(() => {
        volume.free(volume.chunk('c'))
        for (const name of ['d', 'e']) volume.allocate({ size: 4096, name })
      }),
  ],
  ['close', (volume) => volume.close()],
]

const namesOf = (volume: Volume): string =>
  volume
    .chunks()
    .map(({ name }) => name)
    .join()

describe('a chunk table of which one copy is bad', () => {
  for (const [copy, at] of [tableAt, tableCopyAt].entries()) {
    for (const model of MODELS) {
      it(`copy ${copy}, ${model}`, () => {
        const badBlocks = new BadBlocks([{ offset: at, length: tableBytes }])
        const image = makeImage()
        image.fill(0xee, at, at + tableBytes)
        const media = new SimulatedMedia(model, image)
        media.badBlocks = badBlocks
        const volume = openSimulated(media)
        let states = 0
        for (const [what, step] of life) {
          const before = namesOf(volume)
          const found = new Set<string>()
          const seen = new Set<number>()
          const cut = () => {
            forEachCrashState(media, new Random(1, states), LIMITS, seen, (state) => {
              states++
              assert.ok(
                state.subarray(at, at + tableBytes).every((byte) => byte === 0xee),
                `${what}: stored in the bad copy`,
              )
              const after = new SimulatedMedia(model, state, false)
              after.badBlocks = badBlocks
              const opened = openSimulated(after)
              found.add(namesOf(opened))
              after.release()
            })
          }
          media.onPoint = cut
          step(volume)
          media.onPoint = undefined
          const done = what === 'close' ? before : namesOf(volume)
          for (const names of found) assert.ok([before, done].includes(names), `${what}: ${names}`)
        }
        assert.ok(states > 20, `${states} states`)
        assert.equal(media.sizeBytes, sizeBytes)
      })
    }
  }
})
