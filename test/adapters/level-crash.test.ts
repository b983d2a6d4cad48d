// Power cuts in put, del, batch and clear of PlinthLevel: before every flush and fence, on every model.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Volume } from 'plinth'
import { PlinthLevel } from 'plinth/level'
import { OrderedMap } from 'plinth/map'
import { crashTest, makeImage, openSimulated, SimulatedMedia } from 'plinth/testing'
import { SlowMedia } from '../support/slow-media.js'

type State = Record<string, string>
interface Step {
  readonly change: (db: PlinthLevel) => Promise<void>
  /** What is there behind it. */
  readonly after: State
}

const SIZE = 2 ** 20
const MODELS = ['byte', 'cache-line', 'page', 'page-prefix'] as const

/** Each is one atomic change on the way from nothing. */
const steps = (large: string): readonly Step[] => [
  { change: (db) => db.put('a', '1'), after: { a: '1' } },
  { change: (db) => db.put('b', large), after: { a: '1', b: large } },
  {
    change: (db) =>
      db.batch([
        { type: 'put', key: 'a', value: '2' },
        { type: 'del', key: 'b' },
        { type: 'put', key: 'c', value: '2' },
        { type: 'put', key: 'd', value: large },
      ]),
    after: { a: '2', c: '2', d: large },
  },
  {
    change: (db) =>
      db.batch([
        { type: 'put', key: 'one', value: '3', sublevel: db.sublevel('x') },
        { type: 'put', key: 'one', value: '3', sublevel: db.sublevel('y') },
        { type: 'del', key: 'd' },
      ]),
    after: { '!x!one': '3', '!y!one': '3', a: '2', c: '2' },
  },
  {
    change: (db) => db.sublevel('x').put('one', '4'),
    after: { '!x!one': '4', '!y!one': '3', a: '2', c: '2' },
  },
  { change: (db) => db.del('c'), after: { '!x!one': '4', '!y!one': '3', a: '2' } },
  { change: (db) => db.sublevel('y').clear(), after: { '!x!one': '4', a: '2' } },
  {
    change: (db) => db.batch().put('a', '5').put('z', '5').del('!x!one').write(),
    after: { a: '5', z: '5' },
  },
]

/** `large` is beyond what travels in a record. */
function stepsOn(model: (typeof MODELS)[number]): readonly Step[] {
  return steps('x'.repeat(model.startsWith('page') ? 33_000 : 600))
}

/** What is there is what was acknowledged, or one step more. */
function demand(found: State, steps: readonly Step[], acknowledged: number): void {
  const states = [{}, ...steps.map(({ after }) => after)]
  const isThere = states
    .slice(acknowledged, acknowledged + 2)
    .some((state) => isEqual(state, found))
  assert.ok(isThere, `${Object.keys(found)} with ${acknowledged} acknowledged`)
}

function isEqual(a: State, b: State): boolean {
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key])
}

function read(volume: Volume): State {
  const entries = OrderedMap.open(volume, 'level').entries()
  const decode = (bytes: Uint8Array) => Buffer.from(bytes).toString()
  return Object.fromEntries([...entries].map((entry) => entry.map(decode)))
}

for (const model of MODELS) {
  describe(`power cuts: ${model}`, () => {
    const steps = stepsOn(model)

    test('one change after the other: each is there or not, what was acknowledged is', async (t) => {
      const report = await crashTest<number>({
        size: SIZE,
        models: [model],
        setup: (volume) => OrderedMap.open(volume, 'level'),
        async workload(volume, acknowledge) {
          const db = new PlinthLevel(volume)
          for (const [i, { change }] of steps.entries()) {
            await change(db)
            acknowledge(i)
          }
        },
        check(volume, { length }) {
          demand(read(volume), steps, length)
          assert.deepEqual(volume.check(), [])
        },
      })
      assert.ok(report.points >= 2 * steps.length && report.distinct > steps.length)
      t.diagnostic(`${report.points} points, ${report.states} states`)
      assert.deepEqual(report.unflushed, [])
    })

    test('many at the same time, half of them relaxed: what is there is a beginning', async () => {
      await crashTest<number>({
        size: SIZE,
        models: [model],
        setup: (volume) => OrderedMap.open(volume, 'level'),
        async workload(volume, acknowledge) {
          const db = new PlinthLevel(volume)
          await db.open()
          const puts = Array.from({ length: 10 }, async (_, i) => {
            await db.put(`${i}`, `${i}`, { sync: i % 2 === 0 })
            if (i % 2 === 0) acknowledge(i)
          })
          await Promise.all(puts)
        },
        check(volume, acknowledged) {
          const found = Object.values(read(volume)).map(Number)
          assert.deepEqual(found, [...found.keys()])
          assert.ok(found.length > Math.max(-1, ...acknowledged))
        },
      })
    })

    test('opened again as a database, and gone on with', async () => {
      const media = new SlowMedia(model, makeImage({ size: SIZE }))
      const db = new PlinthLevel(openSimulated(media))
      await db.open()
      let acknowledged = 0
      const cuts: { image: Uint8Array; acknowledged: number }[] = []
      const cut = () => cuts.push({ image: media.durable.slice(), acknowledged })
      media.onPoint = (kind) => {
        if (kind === 'fence') cut()
      }
      for (const { change } of steps) {
        await change(db)
        acknowledged++
      }
      media.onPoint = undefined
      cut()
      assert.ok(cuts.length > steps.length)
      for (const { image, acknowledged } of cuts) {
        using volume = openSimulated(new SimulatedMedia(model, image, false))
        await using db = new PlinthLevel(volume, { createIfMissing: false })
        demand(Object.fromEntries(await db.iterator().all()), steps, acknowledged)
        for (const { change } of steps.slice(acknowledged)) await change(db)
        demand(Object.fromEntries(await db.iterator().all()), steps, steps.length)
      }
    })
  })
}
