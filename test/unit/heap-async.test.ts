/** Transactions that share a barrier: a power cut leaves the first so many of them, each whole. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { MIB } from '../../src/base/units.js'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { Random } from '../../src/testing/random.js'
import { type Model, SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { allocateInto } from '../support/links.js'

const COUNT = 11
const SIZE = 1000
const LIMITS = { exhaustive: 64, samples: 40 }

/** A heap with a table of links, and an object at each that the transactions replace. */
const { image, holder } = (() => {
  const media = new SimulatedMedia('page', makeImage({ size: 2 * MIB }))
  const volume = openSimulated(media)
  const heap = volume.heap('h')
  const holder = heap.allocate(8 * COUNT)
  heap.bytes(holder).fill(0)
  heap.persist(holder, 8 * COUNT)
  heap.setRoot(holder)
  for (let i = 0; i < COUNT; i++) {
    const object = allocateInto(volume, heap, holder + 8 * i, SIZE)
    heap.bytes(object).fill(200)
    heap.persist(object, SIZE)
  }
  // A block that is free: each transaction takes the one that the one before it has freed.
  heap.free(heap.allocate(SIZE))
  volume.close()
  return { image: media.durable.slice(), holder }
})()

/** How many of the transactions are there; each of them must be whole, and none without those before it. */
function doneIn(state: Uint8Array, model: Model): number {
  const volume = openSimulated(new SimulatedMedia(model, state, false))
  try {
    const heap = volume.heap('h')
    const found = new Set(heap.objects())
    assert.equal(found.size, COUNT + 1)
    let done = 0
    const bytes = new Uint8Array(SIZE)
    for (let i = 0; i < COUNT; i++) {
      const object = heap.getUint64(holder + 8 * i)
      assert.ok(found.delete(object), `link ${i} leads to an object`)
      heap.copyOut(object, bytes)
      assert.ok(
        bytes.every((byte) => byte === bytes[0]),
        'no object is torn',
      )
      if (bytes[0] === 200) continue
      assert.equal(bytes[0], i)
      assert.equal(done, i, 'a later one is there and an earlier one is not')
      done = i + 1
    }
    assert.deepEqual([...found], [holder], 'no object is left that nothing leads to')
    assert.deepEqual(volume.check(), [])
    return done
  } finally {
    volume.close()
  }
}

describe('transactions that share a barrier', () => {
  for (const model of ['page', 'page-prefix'] as const) {
    it(`are whole and in order after a power cut: ${model}`, async () => {
      const media = new SimulatedMedia(model, image)
      const volume = openSimulated(media)
      const heap = volume.heap('h')
      const states: Uint8Array[] = []
      const random = new Random(1)
      const known = new Set<number>()
      const take = () =>
        forEachCrashState(media, random, LIMITS, known, (state) => states.push(state.slice()))
      media.onPoint = take
      const before = volume.stats().counters.barriers
      let resolved = 0
      const promises = Array.from({ length: COUNT }, (_, i) => {
        const link = holder + 8 * i
        return volume
          .transactAsync((tx) => {
            const old = tx.getObjectUint64(heap, link)
            const object = heap.allocate(SIZE)
            tx.writeObject(heap, object, new Uint8Array(SIZE).fill(i))
            tx.setObjectUint64(heap, link, object)
            heap.free(old)
          })
          .then(() => resolved++)
      })
      take()
      assert.equal(resolved, 0)
      await Promise.all(promises)
      media.onPoint = undefined
      assert.equal(volume.stats().counters.barriers - before, 1)
      const done = new Set(states.map((state) => doneIn(state, model)))
      assert.ok(states.length > 30 && done.has(0), `${states.length} states`)
      if (model === 'page-prefix') assert.ok(done.size > 2, 'some states have a part of them')
      assert.equal(doneIn(media.durable, model), COUNT)
      volume.close()
    })
  }
})
