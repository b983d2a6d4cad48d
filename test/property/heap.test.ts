import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Heap, PlinthError, type Transaction, type Volume } from 'plinth'
import { type Model as Medium, SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { contentsOf, HeapModel } from '../support/heap-model.js'
import { type Random, seeded } from '../support/random.js'

const NAMES = ['nodes', 'blobs']
const IMAGE = makeImage({ size: 2 ** 21, logSize: 65536 })

class Abort extends Error {}

/** Two heaps of a small volume, models of them, and random steps for both. */
class Walk {
  readonly #random: Random
  readonly #medium: Medium
  #media: SimulatedMedia
  volume: Volume
  models = [new HeapModel(), new HeapModel()]
  readonly #reserved: { at: number; pointer: number; size: number; type: number }[] = []
  readonly done: Record<string, number> = {}

  constructor(medium: Medium, random: Random) {
    this.#medium = medium
    this.#random = random
    this.#media = new SimulatedMedia(medium, IMAGE)
    this.volume = openSimulated(this.#media)
  }

  #heap(at: number): Heap {
    return this.volume.heap(NAMES[at]!)
  }

  step(): void {
    const random = this.#random
    const at = random.below(2)
    const what = random.below(100)
    if (what < 28) this.#try('allocate', () => this.#allocate(at))
    else if (what < 48) this.#try('free', () => this.#free(at))
    else if (what < 58) this.#try('reserve', () => this.#reserve(at))
    else if (what < 66) this.#try('publish', () => this.#publish())
    else if (what < 70) this.#try('cancel', () => this.#cancel())
    else if (what < 88) this.#try('transaction', () => this.#transaction())
    else if (what < 92) this.#try('store', () => this.#store(at))
    else if (what < 95) this.#try('root', () => this.#root(at))
    else if (what < 97) this.#try('empty', () => this.#empty(at))
    else if (what < 98) this.#try('checkpoint', () => this.volume.checkpoint())
    else this.#try('reopen', () => this.#reopen(random.chance(2)))
  }

  #try(what: string, body: () => void): void {
    this.done[what] = (this.done[what] ?? 0) + 1
    body()
  }

  #size(): number {
    const random = this.#random
    if (random.chance(20)) return random.between(10_000, 60_000)
    return random.chance(5) ? random.between(256, 5000) : random.between(1, 256)
  }

  /** Undefined when the volume is full, which is then what it must be. */
  #orFull<T>(body: () => T): T | undefined {
    try {
      return body()
    } catch (error) {
      if (!(error instanceof PlinthError) || error.code !== 'ERR_NO_SPACE') throw error
      this.done.full = (this.done.full ?? 0) + 1
      return undefined
    }
  }

  #checkNew(at: number, pointer: number, size: number, models = this.models): void {
    const usable = this.#heap(at).size(pointer)
    assert.ok(usable >= size, `${usable} usable bytes for ${size}`)
    for (const { objects } of models) {
      assert.ok(!objects.has(pointer), `pointer ${pointer} was given twice`)
    }
  }

  #allocate(at: number): void {
    const size = this.#size()
    const type = this.#random.chance(3) ? this.#random.below(3) : 0
    const pointer = this.#orFull(() => this.#heap(at).allocate(size, type))
    if (pointer === undefined) return
    this.#checkNew(at, pointer, size)
    this.models[at]!.objects.set(pointer, { size, type, contents: undefined })
  }

  #free(at: number): void {
    const pointer = this.models[at]!.pick(this.#random)
    if (pointer === undefined) return
    const heap = this.#heap(at)
    heap.free(pointer)
    this.models[at]!.objects.delete(pointer)
    for (const use of [() => heap.free(pointer), () => heap.size(pointer)]) {
      assert.throws(use, { code: 'ERR_BAD_POINTER' })
    }
    assert.throws(() => this.#heap(1 - at).free(pointer), { code: 'ERR_BAD_POINTER' })
  }

  #reserve(at: number): void {
    const size = this.#size()
    const type = this.#random.below(2)
    const pointer = this.#orFull(() => this.#heap(at).reserve(size, type))
    if (pointer === undefined) return
    this.#checkNew(at, pointer, size)
    for (const other of this.#reserved) assert.notEqual(other.pointer, pointer)
    this.#reserved.push({ at, pointer, size, type })
  }

  #takeReserved() {
    if (this.#reserved.length === 0) return undefined
    return this.#reserved.splice(this.#random.below(this.#reserved.length), 1)[0]!
  }

  #publish(): void {
    const taken = this.#takeReserved()
    if (taken === undefined) return
    const { at, pointer, size, type } = taken
    const seed = this.#random.below(1000)
    const heap = this.#heap(at)
    assert.throws(() => heap.free(pointer), { code: 'ERR_BAD_POINTER' })
    heap.copyIn(pointer, contentsOf(size, seed))
    heap.publish(pointer)
    this.models[at]!.objects.set(pointer, { size, type, contents: seed })
  }

  #cancel(): void {
    const taken = this.#takeReserved()
    if (taken === undefined) return
    const heap = this.#heap(taken.at)
    heap.cancel(taken.pointer)
    assert.throws(() => heap.cancel(taken.pointer), { code: 'ERR_BAD_POINTER' })
  }

  #store(at: number): void {
    const model = this.models[at]!
    const pointer = model.pick(this.#random)
    if (pointer === undefined) return
    const object = model.objects.get(pointer)!
    const seed = this.#random.below(1000)
    const bytes = contentsOf(object.size, seed)
    const heap = this.#heap(at)
    heap.copyIn(pointer, bytes)
    heap.persist(pointer, bytes.length)
    model.objects.set(pointer, { ...object, contents: seed })
  }

  #root(at: number): void {
    const pointer = this.#random.chance(4) ? 0 : (this.models[at]!.pick(this.#random) ?? 0)
    this.#heap(at).setRoot(pointer)
    this.models[at]!.root = pointer
  }

  /** Frees all objects of a heap. */
  #empty(at: number): void {
    if (!this.#random.chance(3)) return
    const heap = this.#heap(at)
    for (const pointer of [...heap.objects()]) heap.free(pointer)
    this.models[at]!.objects.clear()
    assert.equal(heap.stats().objects, 0)
  }

  #transaction(): void {
    const random = this.#random
    const models = this.models.map((model) => model.copy())
    const aborts = random.chance(3)
    const before = this.volume.stats()
    try {
      this.volume.transact((tx) => {
        for (let i = random.between(1, 8); i > 0; i--) this.#inTransaction(tx, models)
        if (aborts) throw new Abort()
      })
      this.models = models
    } catch (error) {
      if (!(error instanceof Abort)) throw error
      if (this.#reserved.length === 0) {
        assert.equal(this.volume.stats().usedBytes, before.usedBytes, 'an abort leaves nothing')
      }
    }
  }

  #inTransaction(tx: Transaction, models: HeapModel[]): void {
    const random = this.#random
    const at = random.below(2)
    const heap = this.#heapIn(at)
    const model = models[at]!
    const what = random.below(4)
    const pointer = model.pick(random)
    if (what < 2 || pointer === undefined) {
      const size = this.#size()
      const made = this.#orFull(() => heap.allocate(size))
      if (made === undefined) return
      assert.ok(!model.objects.has(made))
      // Neither is what this transaction has freed: an abort would want it back.
      assert.ok(!this.models[at]!.objects.has(made), 'freed space was given out before the commit')
      const seed = random.below(1000)
      tx.writeObject(heap, made, contentsOf(size, seed))
      model.objects.set(made, { size, type: 0, contents: seed })
    } else if (what === 2) {
      heap.free(pointer)
      assert.throws(() => heap.free(pointer), { code: 'ERR_BAD_POINTER' })
      model.objects.delete(pointer)
    } else {
      const object = model.objects.get(pointer)!
      const seed = random.below(1000)
      const bytes = contentsOf(object.size, seed)
      tx.writeObject(heap, pointer, bytes)
      assert.deepEqual(tx.readObject(heap, pointer, bytes.length), bytes)
      heap.setRoot(pointer)
      model.root = pointer
      model.objects.set(pointer, { ...object, contents: seed })
    }
  }

  /** Heaps are opened before a transaction begins. */
  #heapIn(at: number): Heap {
    return this.heaps[at]!
  }
  heaps: Heap[] = []

  #reopen(crash: boolean): void {
    if (!crash) this.volume.close()
    // Where caches are flushed at power loss, what was stored is durable: the media look for it now.
    this.#media.volatileUnits()
    const image = crash ? this.#media.durable : this.#media.visible
    this.#media = new SimulatedMedia(this.#medium, image)
    this.volume = openSimulated(this.#media)
    this.#reserved.length = 0
    this.open()
    this.check()
  }

  open(): void {
    this.heaps = NAMES.map((name) => this.volume.heap(name))
  }

  check(): void {
    for (const [at, model] of this.models.entries()) {
      const heap = this.#heap(at)
      const found = [...heap.objects()]
      assert.deepEqual(
        found,
        [...model.objects.keys()].sort((a, b) => a - b),
      )
      assert.equal(heap.root, model.root)
      let next = 0
      for (const pointer of found) {
        assert.ok(pointer >= next, 'objects overlap')
        next = pointer + heap.size(pointer)
        const { size, type, contents } = model.objects.get(pointer)!
        assert.equal(heap.type(pointer), type)
        if (contents === undefined) continue
        const bytes = contentsOf(size, contents)
        const stored = new Uint8Array(bytes.length)
        heap.copyOut(pointer, stored)
        assert.deepEqual(stored, bytes)
      }
      assert.equal(heap.stats().objects, found.length)
    }
    // A root whose object was freed is its owner's to repair.
    const dangling = this.models.filter(({ root, objects }) => root !== 0 && !objects.has(root))
    assert.deepEqual(
      this.volume.check().map(({ code }) => code),
      dangling.map(() => 'heap-root'),
    )
  }
}

describe('a heap and its model', () => {
  const media: Medium[] = ['cache-line', 'page', 'byte']
  for (const [i, medium] of media.entries()) {
    it(`go the same way: ${medium}`, () =>
      seeded((random) => {
        const walk = new Walk(medium, random)
        walk.open()
        for (let step = 0; step < 1500; step++) {
          walk.step()
          if (step % 100 === 0) walk.check()
        }
        walk.check()
        walk.volume.close()
      }, i))
  }
})

/** What a heap says of itself, beside a walk over its objects. */
function checkStats(heap: Heap, volume: Volume, types: number): void {
  const stats = heap.stats()
  const found = [...heap.objects()]
  assert.deepEqual(
    found,
    [...found].sort((a, b) => a - b),
  )
  const byType = Array.from({ length: types }, (_, type) => [...heap.objects({ type })])
  for (const [type, pointers] of byType.entries()) {
    for (const [i, pointer] of pointers.entries()) {
      assert.equal(heap.type(pointer), type)
      assert.ok(i === 0 || pointer > pointers[i - 1]!)
    }
  }
  assert.deepEqual(
    byType.flat().sort((a, b) => a - b),
    found,
  )
  const walked = new Map<number, number>()
  let usedBytes = 0
  for (const pointer of found) {
    const size = heap.size(pointer)
    usedBytes += size
    walked.set(size, (walked.get(size) ?? 0) + 1)
  }
  assert.equal(stats.objects, found.length)
  assert.equal(stats.usedBytes, usedBytes)
  for (const { size, objects, blocks, slabs } of stats.classes) {
    assert.equal(objects, walked.get(size) ?? 0, `objects of ${size} bytes`)
    assert.ok(blocks >= objects && blocks >= slabs)
    walked.delete(size)
  }
  const large = [...walked].map(([size, count]) => size * count).reduce((a, b) => a + b, 0)
  assert.equal(stats.largeBytes, large)
  assert.equal(stats.largeObjects, stats.objects - sum(stats.classes.map((each) => each.objects)))
  assert.equal(stats.deviceBytes, volume.stats().usedBytes, 'the volume has nothing else')
  assert.equal(stats.slabChunks + stats.largeObjects, volume.stats().chunks)
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0)

/** PLINTH_LONG=1 goes on for a minute. */
const TURNS = process.env.PLINTH_LONG === '1' ? 3000 : 6
const STEPS = 3000
const TYPES = 3

describe('a long use', () => {
  it('leaves no space behind', () =>
    seeded((random) => {
      let media = new SimulatedMedia('cache-line', IMAGE, false)
      let volume = openSimulated(media)
      let heap = volume.heap('soak')
      const empty = volume.stats().usedBytes
      const live: number[] = []
      const size = () =>
        random.chance(50) ? 20_000 : random.between(1, random.chance(9) ? 5000 : 600)
      const takeAny = () => {
        const at = random.below(live.length)
        const pointer = live[at]!
        live[at] = live.at(-1)!
        live.pop()
        return pointer
      }
      const step = () => {
        const what = random.below(20)
        if (live.length < 600 && what < 9) {
          live.push(heap.allocate(size(), random.below(TYPES)))
        } else if (live.length < 600 && what < 11) {
          const pointer = heap.reserve(size(), random.below(TYPES))
          if (random.chance(2)) heap.cancel(pointer)
          else {
            heap.publish(pointer)
            live.push(pointer)
          }
        } else if (live.length > 0 && what < 17) {
          heap.free(takeAny())
        } else if (live.length > 0) {
          // One comes, one goes; now and then neither does.
          const old = takeAny()
          try {
            const made = volume.transact(() => {
              const pointer = heap.allocate(size(), random.below(TYPES))
              heap.free(old)
              if (random.chance(4)) throw new Abort()
              return pointer
            })
            live.push(made)
          } catch (error) {
            if (!(error instanceof Abort)) throw error
            live.push(old)
          }
        }
      }
      for (let turn = 0; turn < TURNS; turn++) {
        for (let i = 0; i < STEPS; i++) step()
        checkStats(heap, volume, TYPES)
        if (turn % 3 === 2) {
          volume.close()
          media = new SimulatedMedia('cache-line', media.visible, false)
          volume = openSimulated(media)
          heap = volume.heap('soak')
          checkStats(heap, volume, TYPES)
        }
        for (const pointer of live.splice(0)) heap.free(pointer)
        // What a cancelled reservation has left goes with the next batch.
        heap.free(heap.allocate(1))
        assert.equal(volume.stats().usedBytes, empty, `turn ${turn}: all space is back`)
        const { objects, slabChunks, classes } = heap.stats()
        assert.deepEqual(
          { objects, slabChunks, classes },
          { objects: 0, slabChunks: 1, classes: [] },
        )
        assert.deepEqual(volume.check(), [])
      }
      volume.close()
    }))
})
