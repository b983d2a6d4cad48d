/**
 * Every single-bit flip of the metadata of a small volume. Each is mended when the volume opens,
 * refused, reported by check, or harmless: the volume is what it was. Repair brings all of them back.
 *
 * PLINTH_LONG=1 flips all of the reserved and unused parts too; otherwise one bit of 401 of them.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Aged,
  type AgeOptions,
  alarms,
  evaluate,
  makeAged,
  repairImage,
  type Stretch,
  stretchesOf,
} from '../support/damage.js'

const LONG = process.env.PLINTH_LONG === '1'

interface Tally {
  flips: number
  healed: number
  refused: number
  reported: number
  harmless: number
  mended: number
}

function flip(aged: Aged, damaged: Uint8Array, bit: number, tally: Tally, stretch: Stretch): void {
  const at = bit >>> 3
  damaged[at]! ^= 1 << (bit & 7)
  const last = aged.states.length - 1
  const count = tally.flips++
  try {
    const { code, state, healed, findings } = evaluate(aged, damaged, {
      thorough: count % 16 === 0,
    })
    const serious = findings.some(({ severity }) => severity === 'error')
    const loud = alarms(findings)
    // A flip that opening does not mend is one that the log noticed, or one that changes nothing.
    if (code !== undefined) {
      assert.ok(serious, `opening says ${code}, check has no error`)
      tally.refused++
    } else if (healed > 0) {
      assert.equal(state, last)
      assert.ok(loud.length > 0, 'healed, but check says nothing')
      tally.healed++
    } else if (loud.length > 0) {
      assert.ok(state === last || loud.some(({ code }) => code === 'log-bit-flip'))
      tally.reported++
    } else {
      assert.equal(state, last, 'neither opening nor check noticed')
      tally.harmless++
    }
    const mendOneIn = LONG && stretch.live ? 1 : 5
    if (loud.length > 0 && count % mendOneIn === 0) {
      const image = damaged.slice()
      const { remaining } = repairImage(aged, image)
      assert.deepEqual(alarms(remaining), [])
      assert.equal(evaluate(aged, image).state, last, 'after repair')
      tally.mended++
    }
  } catch (error) {
    const where = `${stretch.name}, byte ${at - stretch.from} of it, bit ${bit & 7}`
    throw new Error(`${where}: ${(error as Error).message}`, { cause: error })
  } finally {
    damaged[at]! ^= 1 << (bit & 7)
  }
}

/** Which stretches, and one in how many of their bits. */
const cases: [options: AgeOptions, stretches: RegExp | 'everything', oneIn: number][] = [
  [{ crashModel: 'cache-line', end: 'kill' }, 'everything', 1],
  [{ crashModel: 'cache-line', end: 'power' }, /^log$/, LONG ? 1 : 3],
  [{ crashModel: 'page', end: 'power' }, /^log$/, LONG ? 1 : 7],
  [{ crashModel: 'page', end: 'close' }, /^(second )?(superblock|anchor|table)/, LONG ? 1 : 23],
]

for (const [options, wanted, oneIn] of cases) {
  test(`single-bit flips, ${options.crashModel}, ended by ${options.end}`, (t) => {
    const aged = makeAged(options)
    const damaged = aged.image.slice()
    const started = performance.now()
    const isAll = wanted === 'everything'
    const sum = { flips: 0, healed: 0, refused: 0, reported: 0, harmless: 0, mended: 0 }
    for (const stretch of stretchesOf(aged)) {
      if (!isAll && !wanted.test(stretch.name)) continue
      const step = stretch.live || (LONG && isAll) ? oneIn : oneIn * 401
      for (let bit = stretch.from * 8; bit < stretch.to * 8; bit += step) {
        flip(aged, damaged, bit, sum, stretch)
      }
    }
    assert.deepEqual(damaged, aged.image)
    assert.ok(sum.flips > 0)
    t.diagnostic(
      `${sum.flips} flips in ${Math.round(performance.now() - started)} ms: ${sum.healed} healed by opening, ` +
        `${sum.refused} refused by opening, ${sum.reported} reported by check, ${sum.harmless} harmless; ` +
        `${sum.mended} repaired and opened as they were`,
    )
  })
}
