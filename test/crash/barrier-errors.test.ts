/** The device reports an error at each barrier of each operation: the volume fails, and reopening finds before or after. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { PlinthError } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { Random } from '../../src/testing/random.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { type Age, makeAges } from './lab.js'
import { OPERATIONS, tryOperation } from './operations.js'
import { compare, type Loose, type Model, type Operation } from './world.js'

const LIMITS = { exhaustive: 16, samples: 4 }
const FENCES_MAX = 40

/** Fails the fence of this number; false when the operation has not so many. */
function failAt(age: Age, operation: Operation, number: number): boolean {
  const wanted = statesOf(age, operation)
  if (wanted === undefined) return false
  const media = new SimulatedMedia('page', age.image)
  const volume = openSimulated(media)
  age.warmUp(volume)
  let fences = 0
  media.judge = (kind) => (kind === 'fence' && fences++ === number ? 'fail' : 'go')
  let failure: unknown
  let after: Model | undefined
  try {
    after = operation.run(volume, age.model)
  } catch (error) {
    failure = error
  }
  if (fences <= number) return false
  media.judge = undefined
  assert.equal((failure as { code?: string } | undefined)?.code, 'ERR_VOLUME_FAILED')
  assert.equal(after, undefined)
  // Every later call says so, until it is opened again; a volume that was being closed is closed.
  const code = operation.name === 'close' ? 'ERR_VOLUME_CLOSED' : 'ERR_VOLUME_FAILED'
  for (const call of [
    () => volume.chunks(),
    () => volume.stats(),
    () => volume.checkpoint(),
    () => volume.allocate({ size: 1 }),
    () => volume.transact(() => {}),
  ]) {
    assert.throws(call, { code })
  }
  forEachCrashState(media, new Random(1), LIMITS, new Set(), (image) => {
    const reopened = openSimulated(new SimulatedMedia('page', image, false))
    const differences = wanted.map(([model, loose]) => compare(reopened, model, loose))
    assert.ok(differences.includes(undefined), differences.join(' / '))
  })
  // It is closed, and says that not all of it is durable. The second time it is only closed.
  if (operation.name !== 'close') assert.throws(() => volume.close(), { code })
  volume.close()
  return true
}

/** Undefined when the operation is not possible there. */
function statesOf(age: Age, operation: Operation): [Model, readonly Loose[]][] | undefined {
  const volume = openSimulated(new SimulatedMedia('page', age.image, false))
  age.warmUp(volume)
  const after = tryOperation(operation, volume, age.model)
  if (after === undefined) return undefined
  const states: [Model, readonly Loose[]][] = [
    [age.model, operation.loose?.(age.model) ?? []],
    [after, []],
  ]
  if (operation.middle) states.push([operation.middle(age.model), []])
  return states
}

/** With what the device has said as its cause. */
function failed(error: unknown): boolean {
  const { code, cause } = error as PlinthError
  assert.equal(code, 'ERR_VOLUME_FAILED')
  assert.match(String(cause), /EIO/)
  return true
}

describe('a volume that has failed', () => {
  for (const medium of ['cache-line', 'page'] as const) {
    it(`refuses every read but those of views, and closes: ${medium}`, () => {
      const media = new SimulatedMedia(medium, makeImage(), false)
      const volume = openSimulated(media)
      const chunk = volume.allocate({ size: 4096, zero: true })
      const reserved = volume.reserve({ size: 4096 })
      const heap = volume.heap('heap')
      const object = heap.allocate(64)
      heap.setUint32(object, 7)
      const reader = heap.reader()
      reader.at(object)
      const { bytes } = chunk
      const map = OrderedMap.open(volume, 'map')
      map.put(Uint8Array.of(1), new Uint8Array(100))
      const snapshot = map.snapshot()
      const [cursor, fresh] = [map.cursor(), snapshot.cursor()]
      cursor.next()
      media.judge = (kind) => (kind === 'fence' ? 'fail' : 'go')
      assert.throws(() => volume.transact((tx) => tx.setUint32(chunk, 0, 1)), failed)
      media.judge = undefined
      const reads: Record<string, () => unknown> = {
        'chunk.bytes': () => chunk.bytes,
        'chunk.view': () => chunk.view,
        'bytes of a reservation': () => reserved.bytes,
        findChunk: () => volume.findChunk(chunk.id),
        'heap.getUint32': () => heap.getUint32(object),
        'heap.getUint64': () => heap.getUint64(object),
        'heap.copyOut': () => heap.copyOut(object, new Uint8Array(8)),
        'heap.bytes': () => heap.bytes(object),
        'heap.size': () => heap.size(object),
        'heap.has': () => heap.has(object),
        'heap.root': () => heap.root,
        'heap.objects': () => heap.objects().next(),
        'heap.stats': () => heap.stats(),
        'reader.getUint32': () => reader.getUint32(0),
        'reader.copy': () => reader.copy(0, 8),
        'reader.compare': () => reader.compare(0, 1, Uint8Array.of(7)),
        'reader.at': () => reader.at(object),
        'map.get': () => map.get(Uint8Array.of(1)),
        'snapshot.get': () => snapshot.get(Uint8Array.of(1)),
        'snapshot.cursor': () => snapshot.cursor(),
        'cursor.key': () => cursor.key,
        'cursor.value': () => cursor.value,
        'cursor.next': () => cursor.next(),
        'cursor.seek': () => fresh.seek(Uint8Array.of(1)),
      }
      for (const [name, read] of Object.entries(reads)) assert.throws(read, failed, name)
      assert.equal(bytes[100], 0)
      cursor.close()
      fresh.close()
      snapshot.close()
      assert.throws(() => volume.close(), failed)
      assert.equal(volume.isOpen, false)
      volume.close()
    })
  }

  it('of which nobody has heard: close is the first to say so', async () => {
    const media = new SimulatedMedia('page', makeImage(), false)
    const volume = openSimulated(media)
    const map = OrderedMap.open(volume, 'map')
    media.judge = (kind) => (kind === 'fence' ? 'fail' : 'go')
    const relaxed = map.putAsync(Uint8Array.of(1), Uint8Array.of(1))
    const heard = assert.rejects(relaxed, { code: 'ERR_VOLUME_FAILED' })
    assert.throws(() => volume.close(), failed)
    await heard
  })
})

describe('a barrier fails', () => {
  for (const age of makeAges()) {
    it(age.name, () => {
      let failed = 0
      for (const operation of OPERATIONS) {
        for (let number = 0; number < FENCES_MAX && failAt(age, operation, number); number++)
          failed++
      }
      assert.ok(failed >= 10, `${failed} failures`)
    })
  }
})
