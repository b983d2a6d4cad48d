/**
 * Seeded damage of many bytes: overwritten, zeroed, lost, misdirected and stale stretches of the
 * metadata, heaps included, one to four at a time. Opening and check never crash; what opens is what
 * was, or check says what is wrong, or nothing on the device can tell (`Undecidable`); repair leaves what
 * opened as it opened, and restores what one copy still has.
 *
 * PLINTH_LONG=1 tries 100 000 (`npm test -- crash/damage --test-timeout=7200000`); otherwise 6 000.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Aged,
  alarms,
  evaluate,
  geometry,
  isRestorable,
  keepContents,
  makeAged,
  repairImage,
  type Stretch,
  stretchesOf,
  type Undecidable,
  whyUndecidable,
} from '../support/damage.js'
import { placesOf } from '../support/places.js'
import { type Random, seeded } from '../support/random.js'

const TIMES = process.env.PLINTH_LONG === '1' ? 100_000 : 6000
const { sizeBytes } = geometry
const { chunksAt, chunksEnd } = placesOf(geometry)

/** A place in the metadata: in what is in use more often than not. */
function place(stretches: readonly Stretch[], random: Random): number {
  if (random.chance(4)) {
    return random.chance(2) ? random.below(chunksAt) : random.between(chunksEnd, sizeBytes - 1)
  }
  const { from, to } = random.pick(stretches)
  return random.between(from, to - 1)
}

const aligned = (at: number, unit: number) => at - (at % unit)

/** Damages an image; returns what was done, for the message of a failure. */
function hurt(
  { older }: Aged,
  stretches: readonly Stretch[],
  image: Uint8Array,
  random: Random,
): string {
  const done: string[] = []
  const times = random.chance(2) ? 1 : random.between(2, 4)
  for (let n = 0; n < times; n++) {
    const at = place(stretches, random)
    const unit = random.pick([8, 64, 512, 4096])
    const start = aligned(at, unit)
    const what = random.below(6)
    if (what === 0) {
      const length = random.between(2, 64)
      image.set(random.bytes(Math.min(length, image.length - at)), at)
      done.push(`${length} random bytes at ${at}`)
    } else if (what === 1) {
      image.fill(random.chance(2) ? 0 : 0xff, start, start + unit)
      done.push(`${unit} equal bytes at ${start}`)
    } else if (what === 2) {
      image.set(random.bytes(unit), start)
      done.push(`${unit} random bytes at ${start}`)
    } else if (what === 3) {
      const from = aligned(place(stretches, random), unit)
      image.copyWithin(start, from, from + unit)
      done.push(`${unit} bytes from ${from} at ${start}`)
    } else if (what === 4) {
      for (let i = random.between(2, 9); i > 0; i--) {
        image[place(stretches, random)]! ^= 1 << random.below(8)
      }
      done.push('flipped bits')
    } else if (times === 1) {
      // Alone: nothing can tell an old copy when the other is gone.
      image.set(older.subarray(start, start + unit), start)
      done.push(`${unit} old bytes at ${start}`)
    }
  }
  return done.join(', ')
}

interface Tally extends Record<Undecidable, number> {
  unchanged: number
  byOpening: number
  refused: number
  reported: number
  restored: number
}

function attempt(aged: Aged, stretches: readonly Stretch[], random: Random, tally: Tally): void {
  const damaged = aged.image.slice()
  const what = hurt(aged, stretches, damaged, random)
  keepContents(aged, damaged)
  const last = aged.states.length - 1
  try {
    const before = evaluate(aged, damaged, { thorough: random.chance(8) })
    const loud = alarms(before.findings)
    if (before.code !== undefined) {
      assert.ok(
        loud.some(({ severity }) => severity === 'error'),
        `opening says ${before.code}`,
      )
      tally.refused++
    } else if (before.state === last) {
      if (before.repaired > 0) tally.byOpening++
      else tally.unchanged++
    } else if (loud.length > 0) tally.reported++
    else {
      const why = whyUndecidable(aged, damaged)
      assert.ok(why !== undefined, `state ${before.state} and nobody noticed`)
      // At least it is a state that the volume had.
      if (why === 'tail') assert.ok(before.chunkState >= 0, 'a mixture of states')
      else assert.equal(before.chunkState, last)
      tally[why]++
    }
    const unrepaired = damaged.slice()
    const plan = repairImage(aged, damaged, { dryRun: true })
    assert.deepEqual(damaged, unrepaired, 'a dry run writes nothing')
    const { fixes, remaining } = repairImage(aged, damaged)
    assert.deepEqual(fixes.slice(0, plan.fixes.length), plan.fixes)
    const after = evaluate(aged, damaged, { thorough: false })
    if (before.code === undefined) {
      assert.equal(after.code, undefined, 'what opened opens')
      assert.ok(after.state >= before.state, 'as it did, or nearer to what it was')
      assert.ok(after.chunkState >= before.chunkState)
    }
    if (isRestorable(aged, unrepaired)) {
      // Where all before the log is gone, only whoever accepts that records may be missing gets it back.
      const isLogGone = remaining.some(({ code }) => code === 'log-gone')
      const left = isLogGone
        ? repairImage(aged, damaged, { dropDamaged: true }).remaining
        : remaining
      assert.deepEqual(alarms(left), [])
      const restored = isLogGone ? evaluate(aged, damaged, { thorough: false }) : after
      assert.equal(restored.state, last, 'what a copy has is restored')
      tally.restored++
    }
  } catch (error) {
    throw new Error(`${what}: ${(error as Error).message}`, { cause: error })
  }
}

for (const [index, [crashModel, end]] of (
  [
    ['cache-line', 'power'],
    ['page', 'power'],
    ['cache-line', 'close'],
  ] as const
).entries()) {
  test(`damage of many bytes, ${crashModel}, ended by ${end}`, (t) => {
    const aged = makeAged({ crashModel, end })
    const stretches = stretchesOf(aged).filter(({ live }) => live)
    const times = Math.ceil(TIMES / 3)
    const started = performance.now()
    const sum = {
      unchanged: 0,
      byOpening: 0,
      refused: 0,
      reported: 0,
      tail: 0,
      objects: 0,
      restored: 0,
    }
    seeded((random) => {
      for (let i = 0; i < times; i++) attempt(aged, stretches, random, sum)
    }, index)
    assert.ok(sum.restored > times / 50)
    t.diagnostic(
      `${times} damages in ${Math.round(performance.now() - started)} ms: ${sum.unchanged} changed nothing, ` +
        `${sum.byOpening} repaired by opening, ${sum.refused} refused by opening, ${sum.reported} reported by check, ` +
        `${sum.tail} that cannot be told from a torn last record, ${sum.objects} from objects allocated or freed; ` +
        `${sum.restored} had a whole copy of everything and were restored`,
    )
  })
}
