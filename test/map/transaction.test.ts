// Maps in transactions of the volume, together with chunks, objects and a structure of the user's own: after each end,
// good or bad, memory says what the device says, and both what a plain model says.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Chunk, Heap, Participant, PlinthError, Transaction, Volume } from 'plinth'
import { type MapOperation, OrderedMap } from 'plinth/map'
import { type Model as Medium, SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import {
  assertBytes,
  assertRange,
  assertSame,
  auditMap,
  bytesOf,
  MapModel,
} from '../support/map-model.js'
import { type Random, seeded } from '../support/random.js'

const ROUNDS = process.env.PLINTH_LONG === '1' ? 3000 : 150
const MIB = 2 ** 20
const COUNTS_BYTES = 4096

/** A sum that is kept in memory beside the device, as an engine keeps its indexes. */
class Sum implements Participant {
  value = 0
  ends = 0
  #before = 0

  begin(tx: Transaction): void {
    tx.join(this)
    this.#before = this.value
  }

  committed(): void {
    this.ends++
  }

  rolledBack(): void {
    this.value = this.#before
    this.ends++
  }

  mark(): unknown {
    return this.value
  }

  rollbackTo(mark: unknown): void {
    this.value = mark as number
  }
}

class Abort extends Error {}

interface State {
  readonly maps: readonly [MapModel, MapModel]
  readonly words: number[]
  /** By pointer: what is in the object. */
  readonly objects: Map<number, number>
  readonly names: Set<string>
  sum: number
}

const copyOf = ({ maps, words, objects, names, sum }: State): State => ({
  maps: [maps[0].copy(), maps[1].copy()],
  words: [...words],
  objects: new Map(objects),
  names: new Set(names),
  sum,
})

class World {
  readonly #random: Random
  readonly #medium: Medium
  #media: SimulatedMedia
  volume: Volume
  maps!: readonly [OrderedMap, OrderedMap]
  heap!: Heap
  counts!: Chunk
  sum = new Sum()
  state: State
  readonly done = new Map<string, number>()

  constructor(medium: Medium, random: Random) {
    this.#random = random
    this.#medium = medium
    this.#media = new SimulatedMedia(medium, makeImage({ size: 2 * MIB, logSize: 64 * 1024 }))
    this.volume = openSimulated(this.#media)
    this.volume.allocate({ size: COUNTS_BYTES, name: 'counts', zero: true })
    this.state = {
      maps: [new MapModel(), new MapModel()],
      words: new Array(COUNTS_BYTES / 8).fill(0),
      objects: new Map(),
      names: new Set(),
      sum: 0,
    }
    this.#open()
  }

  #open(): void {
    this.maps = [
      OrderedMap.open(this.volume, 'a'),
      OrderedMap.open(this.volume, 'b', { cacheBytes: 0 }),
    ]
    this.heap = this.volume.heap('objects')
    this.counts = this.volume.chunk('counts')
  }

  count(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1)
  }

  /** One transaction, of this many operations. */
  transact(operations: number): void {
    const random = this.#random
    const next = copyOf(this.state)
    const end = random.pick(['commit', 'commit', 'commit', 'abort'])
    const holdsCursor = random.chance(6)
    let cursor: ReturnType<OrderedMap['cursor']> | undefined
    try {
      this.volume.transact((tx) => {
        this.sum.begin(tx)
        for (let i = 0; i < operations; i++) this.#operate(tx, next)
        if (holdsCursor) cursor = this.maps[0].cursor()
        if (random.chance(3)) this.#read(tx, next)
        if (end === 'abort') throw new Abort()
      })
      this.state = next
    } catch (error) {
      if (!(error instanceof Abort)) throw error
    }
    this.count(end)
    if (cursor !== undefined) this.#follow(cursor, end === 'commit')
  }

  /** A cursor that began in the transaction has what that has committed, or is refused. */
  #follow(cursor: ReturnType<OrderedMap['cursor']>, isCommitted: boolean): void {
    try {
      let count = 0
      while (cursor.next()) count++
      // It began before the map had a change of this transaction, or that was committed.
      assert.equal(count, this.state.maps[0].size)
    } catch (error) {
      assert.equal((error as PlinthError).code, 'ERR_TX_ENDED')
      assert.ok(!isCommitted)
      this.count('lost cursor')
    }
    cursor.close()
  }

  #operate(tx: Transaction, next: State): void {
    const random = this.#random
    if (!random.chance(8)) {
      this.#attempt(() => this.#change(tx, next), next)
      return
    }
    // Several changes that are dropped together, while the transaction goes on.
    const dropped = copyOf(next)
    const { value } = this.sum
    assert.throws(
      () =>
        tx.savepoint(() => {
          for (let i = random.between(1, 8); i > 0; i--)
            this.#attempt(() => this.#change(tx, dropped), dropped)
          throw new Abort()
        }),
      Abort,
    )
    assert.equal(this.sum.value, value)
    this.count('savepoint')
  }

  /** A change that is refused has changed nothing: `model` stays as it is. */
  #attempt(change: () => void, model: State): void {
    const before = copyOf(model)
    try {
      change()
    } catch (error) {
      const { code } = error as PlinthError
      if (code !== 'ERR_NO_SPACE' && code !== 'ERR_TX_TOO_LARGE') throw error
      this.count(code)
      Object.assign(model, before)
    }
  }

  #change(tx: Transaction, next: State): void {
    const random = this.#random
    const which = random.below(2)
    const map = this.maps[which]!
    const model = next.maps[which]!
    const key = this.#key()
    const what = random.below(12)
    if (what < 4) {
      const value = this.#value()
      map.put(bytesOf(key), value)
      model.put(key, value)
    } else if (what < 6) {
      assert.equal(map.delete(bytesOf(key)), model.delete(key))
    } else if (what < 7) {
      const operations: MapOperation[] = []
      for (let i = random.between(1, random.chance(4) ? 200 : 20); i > 0; i--) {
        const one = bytesOf(this.#key())
        operations.push(
          random.chance(3)
            ? { type: 'delete', key: one }
            : { type: 'put', key: one, value: this.#value() },
        )
      }
      map.batch(operations)
      model.apply(operations)
    } else if (what < 8) {
      const range = { gte: bytesOf(key), limit: random.between(1, 30) }
      const keys = model.range(range)
      // It deletes some at a time: what a refusal leaves is its to say.
      tx.savepoint(() => assert.equal(map.clear(range), keys.length))
      for (const each of keys) model.delete(each)
    } else if (what < 9) {
      const at = random.below(next.words.length)
      const word = random.next()
      tx.setUint64(this.counts, at * 8, word)
      next.words[at] = word
      this.sum.value += word
      next.sum += word
    } else if (what < 11) {
      const freed = [...next.objects.keys()][random.below(next.objects.size || 1)]
      if (freed !== undefined && random.chance(2)) {
        this.heap.free(freed)
        next.objects.delete(freed)
      } else {
        tx.savepoint(() => {
          const pointer = this.heap.allocate(random.pick([16, 100, 3000, 20_000]))
          const word = random.next()
          tx.setObjectUint64(this.heap, pointer, word)
          next.objects.set(pointer, word)
        })
      }
    } else {
      const name = random.pick(['x', 'y', 'z'])
      if (next.names.has(name)) this.volume.free(this.volume.chunk(name))
      else this.volume.allocate({ size: 4096, name })
      if (!next.names.delete(name)) next.names.add(name)
    }
  }

  /** What the transaction sees. */
  #read(tx: Transaction, next: State): void {
    const random = this.#random
    for (const which of [0, 1] as const) {
      const map = this.maps[which]
      const model = next.maps[which]
      if (random.chance(2)) assertSame(map, model, 'within the transaction')
      assertRange(map, model, { lt: bytesOf(this.#key()), reverse: random.chance(2), limit: 9 })
      for (let i = 0; i < 10; i++) {
        const key = this.#key()
        assertBytes(map.get(bytesOf(key)), model.get(key), key)
        assert.equal(map.has(bytesOf(key)), model.get(key) !== undefined)
      }
    }
    for (const [at, word] of next.words.entries())
      assert.equal(tx.getUint64(this.counts, at * 8), word)
    for (const [pointer, word] of next.objects) {
      assert.equal(tx.getObjectUint64(this.heap, pointer), word)
    }
    for (const name of ['x', 'y', 'z']) {
      assert.equal(this.volume.findChunk(name) !== undefined, next.names.has(name))
    }
  }

  #key(): string {
    const random = this.#random
    const number = String(random.below(400)).padStart(3, '0')
    return random.chance(10) ? `${'long'.repeat(30)}${number}` : `k${number}`
  }

  #value(): Uint8Array {
    return this.#random.bytes(
      this.#random.pick([0, 8, 60, 60, 100, 700, this.#random.chance(6) ? 5000 : 9]),
    )
  }

  /** Memory against the model, and the device against memory. */
  verify(): void {
    const { maps, words, objects, names, sum } = this.state
    for (const which of [0, 1] as const) assertSame(this.maps[which], maps[which])
    assert.deepEqual(
      [auditMap(this.volume, 'a').entries, auditMap(this.volume, 'b').entries],
      maps.map(({ size }) => size),
    )
    assert.deepEqual(
      [...this.heap.objects()],
      [...objects.keys()].sort((a, b) => a - b),
    )
    for (const [pointer, word] of objects) assert.equal(this.heap.getUint64(pointer), word)
    for (const [at, word] of words.entries()) {
      assert.equal(
        this.counts.view.getUint32(at * 8, true) +
          this.counts.view.getUint32(at * 8 + 4, true) * 2 ** 32,
        word,
      )
    }
    for (const name of ['x', 'y', 'z'])
      assert.equal(this.volume.findChunk(name) !== undefined, names.has(name))
    assert.equal(this.sum.value, sum)
    assert.deepEqual(this.volume.check(), [])
  }

  /** The power is cut after the last commit. */
  crash(): void {
    this.#media = new SimulatedMedia(this.#medium, this.#media.durable.slice())
    this.volume = openSimulated(this.#media)
    this.#open()
  }
}

for (const medium of ['cache-line', 'page'] as const) {
  describe(`a transaction over two maps, a chunk, objects and a participant, ${medium}`, () => {
    for (const [name, operations] of [
      ['a few changes', 6],
      ['more than the log takes', 400],
    ] as const) {
      it(name, (t) => {
        seeded((random) => {
          const world = new World(medium, random)
          const rounds = Math.max(12, Math.ceil((ROUNDS * 6) / operations))
          for (let round = 1; round <= rounds; round++) {
            world.transact(random.between(1, operations))
            if (round % 5 === 0 || operations > 100) world.verify()
            if (round % 20 === 0) {
              world.crash()
              world.verify()
            }
          }
          assert.ok(world.done.get('commit')! > 0)
          t.diagnostic(JSON.stringify(Object.fromEntries(world.done)))
        }, operations)
      })
    }
  })
}

describe('a put of two maps and a word of a chunk', () => {
  for (const medium of ['cache-line', 'page'] as const) {
    it(`one fence or barrier, ${medium}`, () => {
      const volume = openSimulated(new SimulatedMedia(medium, makeImage()))
      const users = OrderedMap.open(volume, 'users')
      const byMail = OrderedMap.open(volume, 'by mail')
      const counts = volume.allocate({ size: 4096, zero: true })
      const key = bytesOf('1')
      const mail = bytesOf('somebody@example.org')
      const unit = medium === 'page' ? 'barriers' : 'fences'
      const put = () =>
        volume.transact((tx) => {
          users.put(key, mail)
          byMail.put(mail, key)
          tx.setUint32(counts, 0, 1)
        })
      put()
      const before = volume.stats().counters[unit]
      put()
      assert.equal(volume.stats().counters[unit] - before, 1)
    })
  }
})
