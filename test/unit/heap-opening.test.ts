/** What opening a heap reads does not grow with the number of its objects. */
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import type { Volume } from 'plinth'
import { KIB, MIB } from '../../src/base/units.js'
import { SlabChunk } from '../../src/heap/slab-chunk.js'
import { SlabHeap } from '../../src/heap/slab-heap.js'
import {
  CHUNK_SLOT,
  chunkSlotSeed,
  decodeChunkSlot,
  encodeChunkSlot,
} from '../../src/layout/chunk-slot.js'
import { planGeometry, slotPlaces } from '../../src/layout/geometry.js'
import { volumeSeed } from '../../src/layout/superblock.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'

const EMPTY = makeImage({ size: 16 * MIB, granule: 128 * KIB })

/** A closed volume whose heap has so many objects of 64 bytes; the root is the first of them. */
function makeFilled(objects: number): Uint8Array {
  const media = new SimulatedMedia('cache-line', EMPTY, false)
  const volume = openSimulated(media)
  const heap = volume.heap('h')
  heap.setRoot(heap.allocate(64))
  for (let made = 1; made < objects; ) {
    volume.transact(() => {
      for (let i = 0; i < 200 && made < objects; i++, made++) heap.allocate(64)
    })
  }
  volume.close()
  return media.visible
}

/** How many chunks are mapped, their heads and the bitmaps of their slabs read, by each step. */
function costsOf(t: TestContext, image: Uint8Array) {
  const media = new SimulatedMedia('cache-line', image, false)
  const counted = [
    t.mock.method(media, 'map'),
    t.mock.method(SlabHeap.prototype, 'load'),
    t.mock.method(SlabChunk.prototype, 'build'),
  ]
  const cost = <T>(step: () => T): [result: T, maps: number, heads: number, bitmaps: number] => {
    for (const { mock } of counted) mock.resetCalls()
    const result = step()
    const [maps, heads, bitmaps] = counted.map(({ mock }) => mock.callCount())
    return [result, maps!, heads!, bitmaps!]
  }
  const [volume, ...opened] = cost<Volume>(() => openSimulated(media))
  const [heap, ...found] = cost(() => volume.heap('h'))
  const [, ...read] = cost(() => heap.getUint32(heap.root))
  const [, ...freed] = cost(() => heap.free(heap.root))
  const [, ...allocated] = cost(() => heap.allocate(64))
  const { objects, slabChunks } = heap.stats()
  volume.close()
  t.mock.restoreAll()
  return { objects, slabChunks, steps: { opened, found, read, freed, allocated } }
}

/** The same with a name that no chunk of a heap has, for the first of a type; the checksums are right. */
function misname(image: Uint8Array): Uint8Array {
  const geometry = planGeometry({
    sizeBytes: image.length,
    granuleBytes: 128 * KIB,
    alignBytes: 4096,
  })
  const forged = image.slice()
  const seed = volumeSeed(image.subarray(32, 48))
  for (let slot = 0; slot < geometry.slots; slot++) {
    const slotSeed = chunkSlotSeed(seed, slot)
    const places = slotPlaces(geometry, slot)
    const values = decodeChunkSlot(forged, places[0], slotSeed)
    if (typeof values !== 'object' || !Buffer.from(values.name).toString().startsWith('slab:'))
      continue
    values.name[2] = 'c'.charCodeAt(0)
    for (const its of places) {
      encodeChunkSlot(values, slotSeed, forged.subarray(its, its + CHUNK_SLOT.bytes))
    }
    return forged
  }
  throw new Error('no slab chunk')
}

describe('opening a heap', () => {
  // A heap was made where none could be opened, took objects, and was out of reach with the next opening.
  it('none is made where none can be opened', () => {
    const media = new SimulatedMedia('cache-line', misname(makeFilled(100_000)), false)
    const volume = openSimulated(media)
    const { chunks } = volume.stats()
    for (const name of ['new', 'h', 'new']) {
      assert.throws(() => volume.heap(name), { code: 'ERR_VOLUME_CORRUPT' })
    }
    assert.equal(volume.stats().chunks, chunks)
    volume.close()
  })

  it('reads as much with 100 000 objects as with 1 000', (t) => {
    const few = costsOf(t, makeFilled(1000))
    const many = costsOf(t, makeFilled(100_000))
    assert.deepEqual([few.objects, many.objects], [1000, 100_000])
    assert.ok(many.slabChunks > 4 * few.slabChunks)
    assert.deepEqual(many.steps, few.steps)
    assert.deepEqual(many.steps.found, [1, 0, 0], 'the root chunk is mapped for its header')
    assert.deepEqual(many.steps.read, [0, 1, 1], 'its head and the bitmap of one slab are read')
    assert.deepEqual(many.steps.allocated, [0, 0, 0], 'there is room in it')
  })
})
