// The power is cut at every flush and fence of each operation of a map: what is found is the map before or after it,
// and no object that nobody has.
//
// PLINTH_LONG=1 tries more states of each point.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Volume } from 'plinth'
import { type MapOperation, OrderedMap } from 'plinth/map'
import { type CrashTest, crashTest, makeImage, openSimulated, SimulatedMedia } from 'plinth/testing'
import { auditMap, bytesOf, differenceOf, MapModel, textOf } from '../support/map-model.js'

const LONG = process.env.PLINTH_LONG === '1'
const LIMITS = LONG ? { exhaustive: 64, samples: 16 } : { exhaustive: 4, samples: 1 }

const put = (key: string, value: Uint8Array): MapOperation => ({
  type: 'put',
  key: bytesOf(key),
  value,
})
const remove = (key: string): MapOperation => ({ type: 'delete', key: bytesOf(key) })
const keyOf = (n: number) => `key ${String(n).padStart(4, '0')}`
const longKeyOf = (n: number) => `${'a long beginning of keys '.repeat(12)}${keyOf(n)}`
const count = (length: number) => Array.from({ length }, (_, n) => n)

/** Puts so many entries; their keys are far apart, so that others go between them. */
function fill(map: OrderedMap, entries: number, keys = keyOf): void {
  const operations = count(entries).map((n) => put(keys(n * 10), Buffer.alloc(n % 40, n)))
  for (let at = 0; at < entries; at += 100) map.batch(operations.slice(at, at + 100))
}

interface Scenario {
  readonly before: (map: OrderedMap) => void
  /** Each of these is one step: done or not done. */
  readonly steps: readonly ((map: OrderedMap) => unknown)[]
  /** What is done before the steps and leaves no trace: a snapshot, for one. */
  readonly hold?: (map: OrderedMap) => unknown
  /** Steps that are several transactions: each leaves some of the entries that were there. */
  readonly isPiecewise?: boolean
  /** Steps that are under way at the same time. */
  readonly isTogether?: boolean
  readonly size?: number
  /** @default all */
  readonly models?: NonNullable<CrashTest<number>['models']>
}

const TWO = ['cache-line', 'page'] as const
const DISKS = ['page', 'page-prefix'] as const

const one = (n: number) => (map: OrderedMap) => map.put(bytesOf(keyOf(n)), Buffer.alloc(20, n))

/** Put, put over, in a batch with others, and gone. */
function largeOf(bytes: number): Scenario {
  return {
    before: (map) => fill(map, 5),
    steps: [
      (map) => map.put(bytesOf('large'), Buffer.alloc(bytes, 7)),
      (map) => map.put(bytesOf('large'), Buffer.alloc(bytes + 500, 8)),
      (map) =>
        map.batch([
          put('large 1', Buffer.alloc(bytes, 7)),
          put(keyOf(1), Buffer.alloc(9)),
          remove('large'),
        ]),
    ],
    models: bytes > 32_768 ? DISKS : TWO,
  }
}

const scenarios: Record<string, Scenario> = {
  'the first entry': { before: () => {}, steps: [one(1)] },
  'put, new key': { before: (map) => fill(map, 30), steps: [one(15)] },
  'put over, in place': {
    before: (map) => fill(map, 30),
    steps: [(map) => map.put(bytesOf(keyOf(200)), Buffer.alloc(20, 99))],
  },
  'put over, elsewhere': {
    before: (map) => fill(map, 30),
    steps: [(map) => map.put(bytesOf(keyOf(200)), Buffer.alloc(300, 99))],
  },
  delete: { before: (map) => fill(map, 30), steps: [(map) => map.delete(bytesOf(keyOf(200)))] },
  'a leaf splits': { before: (map) => fill(map, 64), steps: [one(15)] },
  'a leaf with long keys splits': {
    before: (map) => fill(map, 64, longKeyOf),
    steps: [(map) => map.put(bytesOf(longKeyOf(15)), Buffer.alloc(20))],
    size: 2 ** 21,
  },
  'a full leaf at the end': { before: (map) => fill(map, 64), steps: [one(9000)] },
  'leaves merge': {
    before: (map) => {
      fill(map, 128)
      for (const n of count(47)) map.delete(bytesOf(keyOf(640 + n * 10)))
    },
    steps: [(map) => map.delete(bytesOf(keyOf(1270)))],
  },
  'leaves with long keys merge': {
    before: (map) => {
      fill(map, 80, longKeyOf)
      for (const n of count(8)) map.delete(bytesOf(longKeyOf(640 + n * 10)))
      for (const n of count(40)) map.delete(bytesOf(longKeyOf(n * 10)))
      map.put(bytesOf(longKeyOf(650)), Buffer.alloc(1))
    },
    steps: [(map) => map.delete(bytesOf(longKeyOf(790)))],
    size: 2 ** 21,
  },
  'a batch over several leaves': {
    before: (map) => {
      fill(map, 200)
      for (const n of count(45)) map.delete(bytesOf(keyOf(1300 + n * 10)))
    },
    steps: [
      (map) =>
        map.batch([
          ...count(6).map((n) => put(keyOf(n * 10 + 5), Buffer.alloc(30, n))),
          ...count(6).map((n) => put(keyOf(n * 10 + 705), Buffer.alloc(30, n))),
          ...count(5).map((n) => remove(keyOf(1750 + n * 10))),
          put(keyOf(5), Buffer.alloc(50)),
          remove(keyOf(15)),
          put('twice', Buffer.alloc(1)),
          remove('twice'),
        ]),
    ],
    models: TWO,
  },
  // Beyond what travels in the record: on memory, and on disks.
  ...Object.fromEntries(
    [2000, 33_000].map((bytes) => [`a large value of ${bytes} bytes`, largeOf(bytes)]),
  ),
  'a large value goes': {
    before: (map) => map.put(bytesOf('large'), Buffer.alloc(40_000, 7)),
    steps: [(map) => map.delete(bytesOf('large'))],
  },
  'with a snapshot open': {
    before: (map) => fill(map, 70),
    hold: (map) => map.snapshot(),
    steps: [
      (map) => map.put(bytesOf(keyOf(100)), Buffer.alloc(10, 3)),
      (map) => map.delete(bytesOf(keyOf(110))),
      one(15),
    ],
  },
  'what a snapshot held is freed': {
    before: (map) => fill(map, 20),
    steps: [
      (map) => {
        const snapshot = map.snapshot()
        map.batch([remove(keyOf(10)), put(keyOf(20), Buffer.alloc(300))])
        snapshot.close()
      },
      one(15),
    ],
  },
  'what a snapshot held is freed, several pages': {
    before: (map) => fill(map, 70),
    steps: [
      (map) => {
        // Two pages of what is retired, then each of them in a transaction of its own.
        const snapshot = map.snapshot()
        map.batch(count(66).map((n) => remove(keyOf(n * 10))))
        snapshot.close()
      },
      one(15),
    ],
    models: DISKS,
  },
  'several at once, waiting for one barrier': {
    before: (map) => fill(map, 64),
    steps: [
      (map) => map.putAsync(bytesOf(keyOf(15)), Buffer.alloc(9)),
      (map) => map.deleteAsync(bytesOf(keyOf(200))),
      (map) => map.putAsync(bytesOf(keyOf(25)), Buffer.alloc(900)),
    ],
    isTogether: true,
    models: DISKS,
  },
  clear: {
    before: (map) => fill(map, 100),
    steps: [(map) => map.clear({ gte: bytesOf(keyOf(300)) })],
    isPiecewise: true,
    models: TWO,
  },
}

function modelOf(map: OrderedMap): MapModel {
  const model = new MapModel()
  for (const [key, value] of map.entries()) model.put(textOf(key), value)
  return model
}

/** The map before the first step and after each, without a crash. */
async function courseOf({ before, hold, steps, size = 2 ** 20 }: Scenario): Promise<MapModel[]> {
  const volume = openSimulated(new SimulatedMedia('cache-line', makeImage({ size }), false))
  const map = OrderedMap.open(volume, 'map')
  before(map)
  const course = [modelOf(map)]
  hold?.(map)
  for (const step of steps) {
    await step(map)
    course.push(modelOf(map))
  }
  volume.close()
  return course
}

/** What a crash after so many acknowledged steps may leave. */
function verify(
  volume: Volume,
  course: readonly MapModel[],
  done: number,
  { isPiecewise, isTogether }: Scenario,
): void {
  const map = OrderedMap.open(volume, 'map')
  const { entries, retired } = auditMap(volume)
  assert.equal(retired, 0, 'what snapshots held is gone')
  assert.equal(entries, map.count())
  const wanted = course.slice(done, isTogether ? course.length : done + 2)
  const differences = wanted.map((model) => differenceOf(map, model))
  const isRight = differences.includes(undefined) || (isPiecewise && isBetween(map, wanted))
  assert.ok(isRight, `${differences.join(' / ')}, with ${done} done`)
  // Further work is possible.
  const now = modelOf(map)
  for (const n of [1, 100, 9999]) {
    one(n)(map)
    now.put(keyOf(n), Buffer.alloc(20, n))
  }
  assert.equal(differenceOf(map, now), undefined)
  assert.equal(auditMap(volume).entries, now.size)
  assert.deepEqual(volume.check(), [])
}

/** Everything that stays is there, and nothing that never was. */
function isBetween(map: OrderedMap, [before, after = before]: readonly MapModel[]): boolean {
  const found = modelOf(map)
  return (
    found.keys().every((key) => before!.get(key) !== undefined) &&
    after!.keys().every((key) => found.get(key) !== undefined)
  )
}

function testOf(scenario: Scenario, course: readonly MapModel[]): CrashTest<number> {
  const { before, steps, hold, models, size = 2 ** 20 } = scenario
  return {
    setup(volume) {
      before(OrderedMap.open(volume, 'map'))
    },
    async workload(volume, acknowledge) {
      const map = OrderedMap.open(volume, 'map')
      hold?.(map)
      const waiting: Promise<void>[] = []
      for (const [n, step] of steps.entries()) {
        const result = step(map)
        if (result instanceof Promise) waiting.push(result.then(() => acknowledge(n)))
        else acknowledge(n)
      }
      await Promise.all(waiting)
    },
    check: (volume, acknowledged) => verify(volume, course, acknowledged.length, scenario),
    size,
    ...(models && { models }),
    ...LIMITS,
  }
}

describe('a map after a power cut', () => {
  for (const [name, scenario] of Object.entries(scenarios)) {
    it(name, async (t) => {
      const { states, points, nested, unflushed } = await crashTest(
        testOf(scenario, await courseOf(scenario)),
      )
      assert.ok(states >= 15, `${states} states`)
      assert.deepEqual(unflushed, [])
      t.diagnostic(`${states} states at ${points} points, ${nested} of them cut again`)
    })
  }
})
