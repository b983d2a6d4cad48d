// What fails leaves the map as it was: no space, too large, no time for it, a device that gives up.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { PlinthError, type Volume } from 'plinth'
import { type MapOperation, OrderedMap } from 'plinth/map'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { Random as Seeded } from '../../src/testing/random.js'
import { type Model as Medium, SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import {
  assertBytes,
  assertSame,
  auditMap,
  bytesOf,
  differenceOf,
  MapModel,
} from '../support/map-model.js'
import { type Random, seeded } from '../support/random.js'

const LONG = process.env.PLINTH_LONG === '1'
const ROUNDS = LONG ? 60 : 3

const put = (key: string, value: Uint8Array): MapOperation => ({
  type: 'put',
  key: bytesOf(key),
  value,
})
const remove = (key: string): MapOperation => ({ type: 'delete', key: bytesOf(key) })

/** The error that a call throws must have one of these codes; undefined when it throws none. */
function codeOf(codes: readonly string[], body: () => void): string | undefined {
  try {
    body()
    return undefined
  } catch (error) {
    if (!(error instanceof PlinthError) || !codes.includes(error.code)) throw error
    return error.code
  }
}

const isFull = (body: () => void) => codeOf(['ERR_NO_SPACE'], body) !== undefined

/** Memory, the device and an opening of it say the same. */
function verify(volume: Volume, model: MapModel, isHeld = false): void {
  assertSame(OrderedMap.open(volume, 'map'), model)
  const { entries, retired } = auditMap(volume)
  if (!isHeld) assert.equal(retired, 0)
  assert.equal(entries, model.size)
  assert.deepEqual(volume.check(), [])
}

/** Takes all chunks that are left, so that the heap has its own space alone. */
function takeTheRest(volume: Volume): void {
  while (volume.stats().largestFreeBytes > 0) {
    volume.allocate({ size: volume.stats().largestFreeBytes })
  }
}

const valueBytes = (random: Random) =>
  random.pick([0, 9, 40, 100, 100, 200, 500, 600, 3000, random.chance(8) ? 30_000 : 1])

describe('a full volume', () => {
  for (const medium of ['cache-line', 'page'] as const) {
    for (const keyBytes of [12, 90, 700]) {
      it(`${medium}, keys of ${keyBytes} bytes`, () => {
        seeded((random) => {
          for (let round = 0; round < ROUNDS; round++) fillAndEmpty(medium, keyBytes, random)
        }, keyBytes)
      })
    }
  }

  function fillAndEmpty(medium: Medium, keyBytes: number, random: Random): void {
    const media = new SimulatedMedia(medium, makeImage(), false)
    let volume = openSimulated(media)
    let map = OrderedMap.open(volume, 'map')
    const model = new MapModel()
    const keyOf = () => 'p'.repeat(keyBytes - 4) + String(random.below(10_000)).padStart(4, '0')
    if (random.chance(2)) {
      // Chunks cannot be had: each operation stops where the heap's own space ends.
      for (let i = 0; i < 100; i++) model.put(keyOf(), Buffer.alloc(30))
      for (const key of model.keys()) map.put(bytesOf(key), model.get(key)!)
      takeTheRest(volume)
    }
    let failures = 0
    for (let i = 0; failures < 40 && i < 4000; i++) {
      const operations = Array.from({ length: random.chance(4) ? random.between(2, 30) : 1 }, () =>
        model.size > 0 && random.chance(8)
          ? remove(random.pick(model.keys()))
          : put(keyOf(), Buffer.alloc(valueBytes(random), i)),
      )
      const codes = ['ERR_NO_SPACE', 'ERR_TX_TOO_LARGE']
      const code = codeOf(codes, () => {
        const [first] = operations
        if (operations.length > 1 || first?.type !== 'put') map.batch(operations)
        else map.put(first.key, first.value)
      })
      if (code === undefined) model.apply(operations)
      else if (++failures % 8 === 1) verify(volume, model)
    }
    assert.ok(failures >= 40, 'it was full')
    verify(volume, model)
    withSnapshot(volume, map, model, random)
    verify(volume, model)
    volume.close()
    volume = openSimulated(media)
    map = OrderedMap.open(volume, 'map')
    verify(volume, model)
    // Each can be deleted, and then there is room again.
    const keys = [...model.keys()]
    for (const key of keys.filter(() => !random.chance(10))) {
      assert.equal(map.delete(bytesOf(key)), true)
      model.delete(key)
    }
    verify(volume, model)
    for (const key of keys) {
      if (isFull(() => map.put(bytesOf(key), Buffer.alloc(20)))) continue
      model.put(key, Buffer.alloc(20))
    }
    verify(volume, model)
    assert.equal(map.clear(), model.size)
    verify(volume, new MapModel())
    volume.close()
    media.release()
  }

  /** What a snapshot holds takes space as well: a page of what is retired may be what is missing. */
  function withSnapshot(volume: Volume, map: OrderedMap, model: MapModel, random: Random): void {
    const snapshot = map.snapshot()
    const then = model.copy()
    for (let i = 0; i < 60 && model.size > 0; i++) {
      const key = random.pick(model.keys())
      if (random.chance(2)) {
        if (!isFull(() => void map.delete(bytesOf(key)))) model.delete(key)
      } else if (!isFull(() => map.put(bytesOf(key), Buffer.alloc(10, i)))) {
        model.put(key, Buffer.alloc(10, i))
      }
    }
    verify(volume, model, true)
    assertSame(snapshot, then)
    snapshot.close()
  }
})

describe('a batch that is too large', () => {
  /** A map of `entries` small entries, and its model. */
  function prepare(entries: number, crashModel: Medium, isRandom: boolean) {
    const media = new SimulatedMedia('cache-line', makeImage({ size: 2 ** 21, logSize: 65536 }))
    const volume = openSimulated(media)
    const map = OrderedMap.open(volume, 'map')
    const model = new MapModel()
    seeded((random) => {
      while (model.size < entries) {
        const key = `key ${isRandom ? random.below(1_000_000) : 10_000 + model.size}`
        map.put(bytesOf(key), Buffer.alloc(isRandom ? random.below(40) : 4))
        model.put(key, map.get(bytesOf(key))!)
      }
    })
    volume.close()
    const image = media.durable.slice()
    const open = () => openSimulated(new SimulatedMedia(crashModel, image, false))
    return { model, open }
  }

  /** Whether so many operations fit; either way the map is what it must be. */
  function attempt(
    { model, open }: ReturnType<typeof prepare>,
    operations: readonly MapOperation[],
    isAsync: boolean,
  ): Promise<boolean> {
    const volume = open()
    const map = OrderedMap.open(volume, 'map')
    const verdict = isAsync ? map.batchAsync(operations) : callAsync(() => map.batch(operations))
    return verdict.then(
      () => finish(true),
      (error) => {
        assert.equal(error.code, 'ERR_TX_TOO_LARGE')
        return finish(false)
      },
    )
    function finish(fits: boolean): boolean {
      const after = model.copy()
      if (fits) after.apply(operations)
      verify(volume, after)
      map.put(bytesOf('later'), bytesOf('value'))
      after.put('later', bytesOf('value'))
      verify(volume, after)
      volume.close()
      return fits
    }
  }

  const callAsync = async (body: () => void) => body()

  for (const crashModel of ['cache-line', 'page'] as const) {
    const work: Record<string, (model: MapModel) => MapOperation[]> = {
      deletes: (model) => model.keys().map(remove),
      // Slabs that become empty leave in the same record: that is staged last.
      'deletes in the order of putting': (model) => model.keys().map(remove),
      'deletes in reverse order': (model) => [...model.keys()].reverse().map(remove),
      puts: () => Array.from({ length: 3000 }, (_, i) => put(`new ${i}`, Buffer.alloc(20))),
      'puts over': (model) => model.keys().map((key) => put(key, Buffer.alloc(100))),
      'large values': () =>
        Array.from({ length: 1200 }, (_, i) => put(`large ${i}`, Buffer.alloc(520))),
    }
    for (const [name, operationsOf] of Object.entries(work)) {
      it(`of ${name}, ${crashModel}: nothing changes`, async (t) => {
        const prepared = prepare(2200, crashModel, !name.includes('order'))
        const operations = operationsOf(prepared.model)
        let fits = 0
        let isTooLarge = operations.length
        assert.equal(await attempt(prepared, operations, false), false, 'all of them')
        while (isTooLarge - fits > 1) {
          const half = (fits + isTooLarge) >>> 1
          if (await attempt(prepared, operations.slice(0, half), false)) fits = half
          else isTooLarge = half
        }
        // All around the limit, where what is staged last is what does not fit.
        const near = LONG ? 60 : 2
        for (let count = fits - near; count <= fits + near; count++) {
          await attempt(prepared, operations.slice(0, count), count % 2 === 0)
        }
        t.diagnostic(`${fits} of them fit`)
      })
    }
  }
})

describe('a call that is not possible now', () => {
  const key = bytesOf('key')
  const writes: Record<string, (map: OrderedMap) => unknown> = {
    put: (map) => map.put(key, key),
    delete: (map) => map.delete(key),
    batch: (map) => map.batch([put('key', key)]),
    clear: (map) => map.clear(),
  }
  const waits: Record<string, (map: OrderedMap) => Promise<void>> = {
    putAsync: (map) => map.putAsync(key, key),
    deleteAsync: (map) => map.deleteAsync(key),
    batchAsync: (map) => map.batchAsync([put('key', key)]),
  }
  const reads: Record<string, (map: OrderedMap) => unknown> = {
    get: (map) => map.get(key),
    has: (map) => map.has(key),
    cursor: (map) => map.cursor().next(),
    keys: (map) => [...map.keys()],
    count: (map) => map.count(),
    snapshot: (map) => map.snapshot(),
  }

  function withMap(
    body: (map: OrderedMap, volume: Volume, image: () => Uint8Array) => void | Promise<void>,
  ) {
    const media = new SimulatedMedia('page', makeImage())
    const volume = openSimulated(media)
    const map = OrderedMap.open(volume, 'map')
    map.put(key, bytesOf('value'))
    return body(map, volume, () => media.durable.slice())
  }

  it('what waits within a transaction, and a snapshot: ERR_TX_ACTIVE', () =>
    withMap(async (map, volume) => {
      for (const [name, wait] of Object.entries(waits)) {
        await assert.rejects(
          volume.transact(() => ({ wait: wait(map) })).wait,
          { code: 'ERR_TX_ACTIVE' },
          name,
        )
      }
      assert.throws(() => volume.transact(() => map.snapshot()), { code: 'ERR_TX_ACTIVE' })
      const model = new MapModel()
      model.put('key', bytesOf('value'))
      verify(volume, model)
    }))

  it('a snapshot that ends within a transaction gives its space back later', () =>
    withMap((map, volume) => {
      const snapshot = map.snapshot()
      map.put(key, bytesOf('another'))
      volume.transact(() => snapshot.close())
      assert.equal(auditMap(volume).retired, 1)
      map.snapshot().close()
      assert.equal(auditMap(volume).retired, 0)
    }))

  it('a closed volume: ERR_VOLUME_CLOSED', () =>
    withMap(async (map, volume) => {
      const snapshot = map.snapshot()
      const cursor = map.cursor()
      assert.equal(cursor.next(), true)
      volume.close()
      for (const call of Object.values({ ...writes, ...reads })) {
        assert.throws(() => call(map), { code: 'ERR_VOLUME_CLOSED' })
      }
      for (const call of Object.values(waits)) {
        await assert.rejects(call(map), { code: 'ERR_VOLUME_CLOSED' })
      }
      assert.throws(() => OrderedMap.open(volume, 'map'), { code: 'ERR_VOLUME_CLOSED' })
      assert.throws(() => snapshot.get(key), { code: 'ERR_VOLUME_CLOSED' })
      assert.throws(() => cursor.key, { code: 'ERR_VOLUME_CLOSED' })
      assert.throws(() => cursor.value, { code: 'ERR_VOLUME_CLOSED' })
      cursor.close()
      snapshot.close()
    }))

  it('a volume that is open for reading: ERR_READ_ONLY for changes', () =>
    withMap(async (_map, volume, image) => {
      volume.close()
      const reader = openSimulated(new SimulatedMedia('page', image(), false), true)
      const map = OrderedMap.open(reader, 'map')
      for (const [name, call] of Object.entries(writes)) {
        if (name !== 'clear') assert.throws(() => call(map), { code: 'ERR_READ_ONLY' })
      }
      assert.throws(() => map.clear(), { code: 'ERR_READ_ONLY' })
      for (const call of Object.values(waits)) {
        await assert.rejects(call(map), { code: 'ERR_READ_ONLY' })
      }
      for (const call of Object.values(reads)) call(map)
      assertBytes(map.get(key), bytesOf('value'))
      assert.throws(() => OrderedMap.open(reader, 'another'), { code: 'ERR_HEAP_NOT_FOUND' })
      reader.close()
    }))

  it('a heap that is no map: ERR_NOT_A_MAP, and it stays as it was', () => {
    const media = new SimulatedMedia('page', makeImage(), false)
    const volume = openSimulated(media)
    const used = volume.heap('used')
    const object = used.allocate(100)
    assert.throws(() => OrderedMap.open(volume, 'used'), { code: 'ERR_NOT_A_MAP' })
    used.setRoot(object)
    assert.throws(() => OrderedMap.open(volume, 'used'), { code: 'ERR_NOT_A_MAP' })
    assert.deepEqual([...used.objects()], [object])
    // A map of a later version.
    OrderedMap.open(volume, 'map')
    const { root } = volume.heap('map')
    volume.heap('map').setUint32(root + 8, 2)
    volume.heap('map').persist(root, 64)
    volume.close()
    const again = openSimulated(media)
    assert.throws(() => OrderedMap.open(again, 'map'), { code: 'ERR_FORMAT_TOO_NEW' })
    again.heap('map').setUint32(root, 7)
    assert.throws(() => OrderedMap.open(again, 'map'), { code: 'ERR_NOT_A_MAP' })
    again.close()
  })

  it('two maps of one volume know nothing of each other, and one is opened once', () => {
    const volume = openSimulated(new SimulatedMedia('page', makeImage(), false))
    const one = OrderedMap.open(volume, 'one')
    const other = OrderedMap.open(volume, 'other')
    one.put(key, bytesOf('1'))
    assert.equal(other.has(key), false)
    assert.equal(OrderedMap.open(volume, 'one'), one)
    volume.close()
  })
})

describe('a device that fails', () => {
  const big = Buffer.alloc(50_000, 7)
  type Work = (map: OrderedMap) => unknown
  const works: Record<string, Work> = {
    'put, new key': (map) => map.put(bytesOf('new'), bytesOf('value')),
    'put over': (map) => map.put(bytesOf('key 50'), bytesOf('another')),
    'put, large value': (map) => map.put(bytesOf('large'), big),
    delete: (map) => map.delete(bytesOf('key 10')),
    batch: (map) => map.batch([put('new', big), remove('key 3'), put('new 2', bytesOf('v'))]),
    'put of many': (map) => {
      for (let i = 0; i < 70; i++) map.put(bytesOf(`more ${i}`), bytesOf('value'))
    },
    putAsync: (map) => map.putAsync(bytesOf('new'), bytesOf('value')),
    'putAsync, large value': (map) => map.putAsync(bytesOf('large'), big),
    'deleteAsync and batchAsync': (map) =>
      Promise.all([
        map.deleteAsync(bytesOf('key 10')),
        map.batchAsync([put('new', big), remove('key 3')]),
      ]),
    clear: (map) => map.clear(),
    'a snapshot that ends': (map) => {
      const snapshot = map.snapshot()
      map.delete(bytesOf('key 10'))
      snapshot.close()
      map.put(bytesOf('new'), bytesOf('value'))
    },
  }

  function prepare(medium: Medium) {
    const media = new SimulatedMedia(medium, makeImage())
    const volume = openSimulated(media)
    const map = OrderedMap.open(volume, 'map')
    const model = new MapModel()
    for (let i = 0; i < 100; i++) model.put(`key ${i}`, Buffer.from(`value ${i}`))
    for (const key of model.keys()) map.put(bytesOf(key), model.get(key)!)
    volume.close()
    return { image: media.durable.slice(), model }
  }

  /** Leaves out most of what a crash may leave, but not the first ones: nothing and everything. */
  class MostStates extends Set<number> {
    override has(fingerprint: number): boolean {
      return (this.size > 3 && fingerprint % (LONG ? 4 : 64) !== 0) || super.has(fingerprint)
    }
  }

  /** Fails the fence of this number; false when there are not so many. */
  async function failAt(
    { image, model }: ReturnType<typeof prepare>,
    medium: Medium,
    work: Work,
    number: number,
  ): Promise<boolean> {
    const media = new SimulatedMedia(medium, image)
    const volume = openSimulated(media)
    const map = OrderedMap.open(volume, 'map')
    let fences = 0
    media.judge = (kind) => (kind === 'fence' && fences++ === number ? 'fail' : 'go')
    let code: string | undefined
    try {
      await work(map)
    } catch (error) {
      code = (error as PlinthError).code
    }
    const isLate = work === works['a snapshot that ends']
    // What nobody waits for may fail later.
    await new Promise((resolve) => setImmediate(resolve))
    if (fences <= number) return false
    media.judge = undefined
    assert.ok(code === 'ERR_VOLUME_FAILED' || (code === undefined && isLate))
    assert.throws(() => map.put(bytesOf('a'), big), { code: 'ERR_VOLUME_FAILED' })
    assert.throws(() => map.delete(bytesOf('key 1')), { code: 'ERR_VOLUME_FAILED' })
    await assert.rejects(map.putAsync(bytesOf('a'), big), { code: 'ERR_VOLUME_FAILED' })
    for (const read of [
      () => volume.stats(),
      () => map.get(bytesOf('key 1')),
      () => map.getInto(bytesOf('key 1'), big),
      () => map.has(bytesOf('none')),
      () => map.count(),
      () => map.keys().next(),
      () => map.snapshot(),
    ]) {
      assert.throws(read, { code: 'ERR_VOLUME_FAILED' })
    }
    const random = new Seeded(1)
    forEachCrashState(media, random, { exhaustive: 4, samples: 1 }, new MostStates(), (state) => {
      const reopened = openSimulated(new SimulatedMedia(medium, state, false))
      const found = OrderedMap.open(reopened, 'map')
      const { entries, retired } = auditMap(reopened)
      assert.equal(retired, 0)
      assert.equal(entries, found.count())
      assert.ok(Math.abs(entries - model.size) <= 70 || work === works.clear)
      if (work === works.delete || work === works['put, large value']) {
        const after = model.copy()
        if (work === works.delete) after.delete('key 10')
        else after.put('large', big)
        const differences = [differenceOf(found, model), differenceOf(found, after)]
        assert.ok(differences.includes(undefined), differences.join(' / '))
      }
      reopened.close()
    })
    assert.throws(() => volume.close(), { code: 'ERR_VOLUME_FAILED' })
    return true
  }

  for (const medium of ['cache-line', 'page'] as const) {
    it(`at each barrier of each operation, ${medium}: ERR_VOLUME_FAILED`, async () => {
      const prepared = prepare(medium)
      for (const [name, work] of Object.entries(works)) {
        let number = 0
        try {
          // Each of the first, some of many.
          while (await failAt(prepared, medium, work, number)) number += number < 5 || LONG ? 1 : 13
        } catch (cause) {
          throw new Error(`${name}, fence ${number}: ${(cause as Error).message}`, { cause })
        }
        assert.ok(number > 0, name)
      }
    })
  }
})

describe('entries that fill their blocks just so', () => {
  for (const medium of ['cache-line', 'page'] as const) {
    it(medium, () => {
      const media = new SimulatedMedia(medium, makeImage({ size: 2 ** 23 }), false)
      let volume = openSimulated(media)
      let map = OrderedMap.open(volume, 'map')
      const model = new MapModel()
      const sizes = volume.heap('map').sizes.filter((size) => size <= 70_000)
      for (const block of sizes) {
        for (const over of [-1, 0, 1]) {
          for (const head of [4, 12]) {
            const bytes = block + over - head
            // All of it key, all of it value, and half of each.
            for (const keyBytes of [bytes, 0, bytes >>> 1]) {
              if (keyBytes < 0 || keyBytes > 65_536) continue
              const key = Buffer.alloc(keyBytes, block)
              const value = Buffer.alloc(bytes - keyBytes, over)
              map.put(key, value)
              model.put(key.toString('latin1'), value)
            }
          }
        }
      }
      assertSame(map, model)
      volume.close()
      volume = openSimulated(media)
      map = OrderedMap.open(volume, 'map')
      verify(volume, model)
      volume.close()
    })
  }
})
