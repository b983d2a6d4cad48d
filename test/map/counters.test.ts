// Exact figures: fences and barriers of each operation, space of an entry, and that all of it comes back.
//
// PLINTH_LONG=1 runs ten times as many rounds.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Chunk, Heap, Volume } from 'plinth'
import { type MapOperation, OrderedMap } from 'plinth/map'
import { makeImage, openSimulated, SimulatedMedia } from 'plinth/testing'
import { MIB, tmpfsLine, tmpfsPage, withVolume } from '../support/devices.js'
import { assertSame, auditMap, bytesOf, MapModel } from '../support/map-model.js'
import { type Random, seeded } from '../support/random.js'

const ROUNDS = process.env.PLINTH_LONG === '1' ? 200 : 20

/**
 * A call costs so many fences on memory, barriers on disks. Where the heap takes another chunk, which is rare, its
 * bitmaps are zeroed before the record, and logged changes of who had that space are durable in place before that.
 */
function assertCost(volume: Volume, wanted: number, call: () => void): void {
  const name = volume.info.granularity === 'page' ? 'barriers' : 'fences'
  const before = volume.stats()
  call()
  const after = volume.stats()
  if (after.chunks > before.chunks) return
  assert.equal(after.checkpoints, before.checkpoints, 'no checkpoint comes between')
  assert.equal(after.counters[name] - before.counters[name], wanted)
}

const entry = (n: number, bytes = 20) => ({
  key: bytesOf(`key ${String(n).padStart(6, '0')}`),
  value: Buffer.alloc(bytes, n),
})

for (const place of [tmpfsLine, tmpfsPage]) {
  const isPaged = place.granularity === 'page'
  // A barrier takes a block of the log, and its end costs one more.
  const many = isPaged ? 80 : 1000
  describe(`one ${isPaged ? 'barrier' : 'fence'} a change, ${place.name}`, {
    skip: place.skip,
  }, () => {
    const withMap =
      (body: (map: OrderedMap, volume: Volume) => void | Promise<void>) => (): Promise<void> =>
        withVolume(place, async (volume) => body(OrderedMap.open(volume, 'map'), volume), {
          size: 64 * MIB,
        })

    it(
      'put, put over, delete, batch',
      withMap((map, volume) => {
        const cost = (wanted: number, call: () => void) => assertCost(volume, wanted, call)
        // Splits and new slabs are in the same record.
        for (let n = 0; n < many; n++) {
          const { key, value } = entry((n * 7919) % many)
          cost(1, () => map.put(key, value))
        }
        cost(1, () => map.put(entry(5).key, Buffer.alloc(20, 1)))
        cost(1, () => map.put(entry(5).key, Buffer.alloc(400)))
        const operations: MapOperation[] = []
        for (let n = 2000; n < 2080; n++) operations.push({ type: 'put', ...entry(n) })
        for (let n = 0; n < 10; n++) operations.push({ type: 'delete', key: entry(n).key })
        cost(1, () => map.batch(operations))
        for (let n = 10; n < many - 10; n++) {
          cost(1, () => void map.delete(entry(n).key))
        }
        cost(0, () => void map.delete(bytesOf('nothing')))
        cost(0, () => map.batch([]))
        cost(0, () => void [...map.entries()])
      }),
    )

    it(
      'with a snapshot open as well; a large value costs one more',
      withMap((map, volume) => {
        const cost = (wanted: number, call: () => void) => assertCost(volume, wanted, call)
        const operations = Array.from(
          { length: 300 },
          (_, n) => ({ type: 'put', ...entry(n) }) as const,
        )
        map.batch(operations)
        const snapshot = map.snapshot()
        // More than a page of what is retired.
        for (let n = 0; n < 80; n++) {
          cost(1, () => void map.delete(entry(n).key))
          cost(1, () => map.put(entry(n + 10_000).key, entry(n).value))
        }
        snapshot.close()
        const inline = isPaged ? 32 * 1024 : 512
        const [small, large] = [entry(88_888).key, entry(99_999).key]
        // The slabs for such sizes are there.
        map.put(small, Buffer.alloc(inline - small.length - 4))
        map.put(large, Buffer.alloc(inline))
        cost(1, () => map.put(small, Buffer.alloc(inline - small.length - 4, 1)))
        cost(2, () => map.put(large, Buffer.alloc(inline, 1)))
        cost(1, () => void map.delete(large))
      }),
    )

    it(
      'a hundred at once',
      withMap(async (map, volume) => {
        // The heap has its chunks.
        map.put(entry(3).key, entry(3).value)
        const { barriers, fences } = volume.stats().counters
        const waiting: Promise<void>[] = []
        for (let n = 0; n < 100; n++) waiting.push(map.putAsync(entry(n).key, entry(n).value))
        waiting.push(map.deleteAsync(entry(3).key))
        waiting.push(map.batchAsync([{ type: 'put', ...entry(500) }]))
        assert.equal(map.count(), 100)
        await Promise.all(waiting)
        const { counters } = volume.stats()
        if (isPaged) assert.equal(counters.barriers - barriers, 1)
        else assert.equal(counters.fences - fences, 102)
      }),
    )
  })
}

interface Bench {
  readonly volume: Volume
  readonly map: OrderedMap
  readonly heap: Heap
  readonly chunk: Chunk
  readonly object: number
  /** Reservations. */
  readonly reserved: number
  readonly reservedLarge: number
}

/** What is called on its own object: waits of the call within a transaction, whose commit is one more. */
const changes: readonly [name: string, call: (bench: Bench) => unknown, within: number][] = [
  ['volume.allocate', ({ volume }) => volume.allocate({ size: 4096, name: 'new' }), 0],
  ['volume.rename', ({ volume, chunk }) => volume.rename(chunk, 'another'), 0],
  ['volume.free', ({ volume, chunk }) => volume.free(chunk), 0],
  ['volume.publish', ({ volume }) => volume.publish(volume.reserve({ size: 4096 })), 0],
  ['heap.allocate', ({ heap }) => heap.allocate(100), 0],
  ['heap.setRoot', ({ heap, object }) => heap.setRoot(object), 0],
  ['heap.free', ({ heap, object }) => heap.free(object), 0],
  ['heap.publish', ({ heap, reserved }) => heap.publish(reserved), 0],
  // More than travels in the record: the contents are durable before it.
  ['heap.publish, large', ({ heap, reservedLarge }) => heap.publish(reservedLarge), 1],
  ['map.put', ({ map }) => map.put(entry(500).key, entry(500).value), 0],
  ['map.put over', ({ map }) => map.put(entry(5).key, Buffer.alloc(20, 1)), 0],
  ['map.put over, longer', ({ map }) => map.put(entry(5).key, Buffer.alloc(400, 1)), 0],
  ['map.delete', ({ map }) => map.delete(entry(5).key), 0],
  [
    'map.batch',
    ({ map }) =>
      map.batch([
        { type: 'put', ...entry(500) },
        { type: 'put', ...entry(5, 40) },
        { type: 'delete', key: entry(6).key },
      ]),
    0,
  ],
  ['map.clear', ({ map }) => map.clear({ gte: entry(10).key, lt: entry(40).key }), 0],
]

for (const place of [tmpfsLine, tmpfsPage]) {
  const unit = place.granularity === 'page' ? 'barriers' : 'fences'
  describe(`${unit} within a transaction and outside, ${place.name}`, { skip: place.skip }, () => {
    const onBench = (body: (bench: Bench) => void): void => {
      withVolume(
        place,
        (volume) => {
          const map = OrderedMap.open(volume, 'map')
          for (let n = 0; n < 50; n++) map.put(entry(n).key, entry(n).value)
          // The slabs of longer entries are there.
          for (const bytes of [40, 400]) map.put(bytesOf(`long ${bytes}`), Buffer.alloc(bytes))
          const heap = volume.heap('objects')
          const object = heap.allocate(100)
          const chunk = volume.allocate({ size: 4096, name: 'chunk' })
          const reserved = heap.reserve(100)
          const reservedLarge = heap.reserve(1000)
          volume.checkpoint()
          body({ volume, map, heap, chunk, object, reserved, reservedLarge })
        },
        { size: 16 * MIB },
      )
    }
    const waits = (volume: Volume) => volume.stats().counters[unit]

    for (const [name, call, within] of changes) {
      it(name, () => {
        onBench((bench) => {
          const { volume } = bench
          const before = waits(volume)
          call(bench)
          assert.equal(waits(volume) - before, within + 1, 'outside')
        })
        onBench((bench) => {
          const { volume } = bench
          const before = waits(volume)
          volume.transact(() => {
            call(bench)
            assert.equal(waits(volume) - before, within, 'within')
          })
          assert.equal(waits(volume) - before, within + 1, 'with its commit')
        })
        onBench((bench) => {
          const { volume } = bench
          const before = waits(volume)
          const abort = new Error('abort')
          const work = () => {
            call(bench)
            throw abort
          }
          assert.throws(() => volume.transact(work), abort)
          assert.equal(waits(volume) - before, within, 'rolled back')
        })
      })
    }

    it('all of them in one transaction', () => {
      onBench((bench) => {
        const { volume } = bench
        const before = waits(volume)
        volume.transact(() => {
          for (const [, call] of changes) call(bench)
        })
        assert.equal(waits(volume) - before, 2)
      })
    })
  })
}

describe('space', () => {
  /** Loads so many entries of 16 + 100 bytes under random keys. */
  function load(map: OrderedMap, entries: number, random: Random): Buffer[] {
    const keys: Buffer[] = []
    for (let left = entries; left > 0; left -= 100) {
      const operations = Array.from({ length: Math.min(left, 100) }, () => {
        keys.push(Buffer.from(random.bytes(16)))
        return { type: 'put', key: keys.at(-1)!, value: random.bytes(100) } as const
      })
      map.batch(operations)
    }
    return keys
  }

  const openVolume = (size: number) =>
    openSimulated(new SimulatedMedia('cache-line', makeImage({ size }), false))

  it('an entry of 16 + 100 bytes takes 133 bytes of objects, and 150 of chunks', (t) => {
    const volume = openVolume(16 * MIB)
    const empty = volume.stats().usedBytes
    const map = OrderedMap.open(volume, 'map')
    const entries = 20_000
    seeded((random) => load(map, entries, random))
    // A block of 120 bytes, and its share of a leaf.
    const objects = volume.heap('map').stats().usedBytes / entries
    // The heap takes its space in chunks of an eighth of what it has, and the last is not full.
    const chunks = (volume.stats().usedBytes - empty) / entries
    const { leaves } = auditMap(volume)
    t.diagnostic(
      `${objects.toFixed(1)} bytes of objects an entry, ${chunks.toFixed(1)} of chunks, ` +
        `${(entries / leaves).toFixed(1)} entries a leaf`,
    )
    assert.ok(objects <= 135, `${objects} bytes of objects`)
    assert.ok(chunks <= 152, `${chunks} bytes of chunks`)
    volume.close()
  })

  it('comes back, round for round', () => {
    const volume = openVolume(8 * MIB)
    const map = OrderedMap.open(volume, 'map')
    map.put(bytesOf('first'), bytesOf('value'))
    let peak: number | undefined
    seeded((random) => {
      for (let round = 0; round < ROUNDS; round++) {
        const keys = load(map, 3000, random)
        const loaded = volume.stats().usedBytes
        peak ??= loaded
        assert.ok(loaded <= peak * 1.05, `round ${round}: ${loaded} bytes, ${peak} at first`)
        if (round % 3 === 0) map.clear({ gt: bytesOf('first') })
        if (round % 3 === 1) keys.sort(Buffer.compare)
        const snapshot = round % 4 === 0 ? map.snapshot() : undefined
        for (const key of keys) map.delete(key)
        map.clear({ lt: bytesOf('first') })
        snapshot?.close()
        const { entries, leaves, retired } = auditMap(volume)
        assert.deepEqual([entries, retired], [1, 0])
        assert.ok(leaves <= 2, `${leaves} leaves`)
        // Each of the few objects that stay may keep a chunk, and those differ in size.
        const { usedBytes } = volume.stats()
        assert.ok(usedBytes <= peak / 4, `round ${round}: ${usedBytes} bytes of ${peak}`)
      }
    })
    const model = new MapModel(new Map([['first', bytesOf('value')]]))
    assertSame(map, model)
    assert.deepEqual(volume.check(), [])
    volume.close()
  })
})

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

describe('memory', () => {
  it('of leaves that were changed after opening is given back when the cache is small', () => {
    const media = new SimulatedMedia('cache-line', makeImage({ size: 16 * MIB }), false)
    const filled = openSimulated(media)
    const written = OrderedMap.open(filled, 'map')
    const entries = 40_000
    for (let n = 0; n < entries; n += 200) {
      written.batch(
        Array.from({ length: 200 }, (_, i) => ({ type: 'put', ...entry(n + i, 8) }) as const),
      )
    }
    filled.close()
    const volume = openSimulated(media)
    const map = OrderedMap.open(volume, 'map', { cacheBytes: 0 })
    const used = () => {
      // What the first finds is given back while it goes on.
      gc()
      gc()
      return process.memoryUsage().arrayBuffers
    }
    map.count()
    const before = used()
    // One entry of each leaf, which has to be read for it. No cursor and no snapshot comes between.
    for (let n = 1; n < entries; n += 64) map.delete(entry(n).key)
    const more = used() - before
    assert.ok(more < 200_000, `${more} more bytes for ${entries / 64} leaves`)
    volume.close()
  })
})
