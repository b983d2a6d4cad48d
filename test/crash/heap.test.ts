// The power is cut before each store, flush and fence of a heap's operations, after each other operation.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Volume } from 'plinth'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { Image } from '../../src/testing/images.js'
import { Random } from '../../src/testing/random.js'
import { type Model as CrashModel, SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import {
  compareHeap,
  EMPTY_HEAP,
  HEAP_OPERATIONS,
  type HeapModel,
  type HeapOperation,
  openHeap,
} from './heap-operations.js'

const LIMITS = { exhaustive: 8, samples: 2 }

/** A heap that has seen some use: objects of several classes, holes, an empty chunk. */
function makeAged(): { image: Uint8Array; model: HeapModel } {
  const media = new SimulatedMedia('cache-line', makeImage())
  const volume = openSimulated(media)
  openHeap(volume)
  let model = EMPTY_HEAP
  const used = ['object-publish', 'object-allocate', 'object-fill', 'object-put', 'object-publish']
  for (const name of used) {
    model = HEAP_OPERATIONS.find((each) => each.name === name)!.run(volume, model)!
  }
  volume.close()
  return { image: Image.copyOf(media.durable).bytes, model }
}

const fresh = (() => {
  const media = new SimulatedMedia('cache-line', makeImage())
  const volume = openSimulated(media)
  openHeap(volume)
  volume.close()
  return { image: Image.copyOf(media.durable).bytes, model: EMPTY_HEAP }
})()

function run(
  age: { image: Uint8Array; model: HeapModel },
  first: HeapOperation,
  last: HeapOperation,
  crashModel: CrashModel,
): number {
  const media = new SimulatedMedia(crashModel, age.image)
  const volume = openSimulated(media)
  openHeap(volume)
  const before = first.run(volume, age.model)
  if (before === undefined) {
    media.release()
    return 0
  }
  const random = new Random(1)
  const known = new Set<number>()
  const images: Image[] = []
  media.onPoint = () => {
    forEachCrashState(media, random, LIMITS, known, (image) => images.push(Image.copyOf(image)))
  }
  const after = last.run(volume, before)
  media.onPoint = undefined
  if (after !== undefined) {
    for (const image of images) verify(image.bytes, crashModel, [before, after])
    known.clear()
    forEachCrashState(media, random, LIMITS, known, (image) => verify(image, crashModel, [after]))
  }
  for (const image of images) image.giveBack()
  media.release()
  return after === undefined ? 0 : images.length
}

function verify(image: Uint8Array, crashModel: CrashModel, models: readonly HeapModel[]): void {
  const media = new SimulatedMedia(crashModel, image, false)
  const volume: Volume = openSimulated(media)
  const different = models.map((model) => compareHeap(volume, model))
  assert.ok(different.includes(undefined), different.join('\nor '))
  // Further work is possible, and gives nothing twice.
  const heap = volume.heap('lab')
  const known = new Set(heap.objects())
  for (let i = 0; i < 3; i++) {
    const pointer = heap.allocate(64 * (i + 1))
    assert.ok(!known.has(pointer))
    known.add(pointer)
  }
  for (const pointer of known) heap.free(pointer)
  assert.equal(heap.stats().objects, 0)
  volume.close()
  media.release()
}

describe('a heap after a power cut', () => {
  const aged = makeAged()
  for (const crashModel of ['cache-line', 'page', 'byte'] as const) {
    for (const [name, age] of Object.entries({ fresh, aged })) {
      it(`${crashModel}, ${name}`, () => {
        let states = 0
        for (const first of HEAP_OPERATIONS) {
          for (const last of HEAP_OPERATIONS) {
            try {
              states += run(age, first, last, crashModel)
            } catch (cause) {
              const what = `${first.name} + ${last.name}: ${(cause as Error).message}`
              throw new Error(what, { cause })
            }
          }
        }
        assert.ok(states > 200, `${states} states`)
      })
    }
  }
})
