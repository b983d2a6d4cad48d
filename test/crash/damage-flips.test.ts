/**
 * Every single-bit flip of the metadata of a small volume, heaps included. Each is repaired when the
 * volume opens, refused, reported by check, or harmless: the volume is what it was. Repair brings all
 * of them back. What nothing can notice is one class, and what it does is exactly known:
 *
 *   a bit of a block in a bitmap   one object more or one less, nothing else
 *   a bit of the root              another object is the root, nothing else (to none: reported)
 *
 * PLINTH_LONG=1 flips all of the log, and of the reserved and unused parts; otherwise one bit of 3 and
 * one of 401. `PLINTH_LONG=1 npm test -- crash/damage --test-timeout=7200000` is the long run.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Image } from '../../src/testing/images.js'
import {
  type Aged,
  type AgeOptions,
  alarms,
  evaluate,
  makeAged,
  type Outcome,
  repairImage,
  type Stretch,
  stretchesOf,
  uncheckedBits,
} from '../support/damage.js'

const LONG = process.env.PLINTH_LONG === '1'

interface Tally {
  flips: number
  byOpening: number
  refused: number
  reported: number
  harmless: number
  /** An object more or less, another root. */
  unseen: number
  byRepair: number
}

/** Bits without a checksum, of the volumes at hand. */
const uncheckedOf = new WeakMap<Aged, ReturnType<typeof uncheckedBits>>()

/** Nobody noticed: it is one of the bits of which nobody can, and it has done just what such a bit does. */
function demandUnseen(aged: Aged, bit: number, { chunkState, heap }: Outcome): void {
  const unchecked = uncheckedOf.get(aged) ?? uncheckedBits(aged)
  uncheckedOf.set(aged, unchecked)
  const what = unchecked.get(bit)
  assert.ok(what !== undefined, 'neither opening nor check noticed')
  assert.equal(chunkState, aged.states.length - 1)
  assert.ok(heap !== undefined && 'objects' in heap, 'the heap can be used')
  const known = aged.states.at(-1)!.heap
  const missing = [...known.objects.keys()].filter((pointer) => !heap.objects.has(pointer))
  const changed = missing.length + heap.objects.size - (known.objects.size - missing.length)
  assert.equal(changed, what === 'object' ? 1 : 0)
  assert.equal(heap.root !== known.root, what === 'root')
  for (const [pointer, { size, type, byte }] of known.objects) {
    const object = heap.objects.get(pointer)
    if (object === undefined) continue
    assert.deepEqual([object.size >= size, object.type, object.byte], [true, type, byte])
  }
}

function flip(aged: Aged, image: Image, bit: number, tally: Tally, stretch: Stretch): void {
  const { bytes: damaged } = image
  const at = bit >>> 3
  const was = damaged.slice(at, at + 1)
  image.set(Uint8Array.of(was[0]! ^ (1 << (bit & 7))), at)
  const last = aged.states.length - 1
  const count = tally.flips++
  try {
    const outcome = evaluate(aged, damaged, { thorough: count % 16 === 0 })
    const { code, state, chunkState, repaired, findings } = outcome
    const isHeap = stretch.name.startsWith('heap')
    const serious = findings.some(({ severity }) => severity === 'error')
    const loud = alarms(findings)
    // A flip that opening does not repair is one that the log noticed, or one that changes nothing.
    if (code !== undefined) {
      assert.ok(serious, `opening says ${code}, check has no error`)
      tally.refused++
    } else if (repaired > 0) {
      assert.equal(state, last)
      assert.ok(loud.length > 0, 'repaired, but check says nothing')
      tally.byOpening++
    } else if (loud.length > 0) {
      const isLog = loud.some(({ code }) => code === 'log-bit-flip')
      assert.ok(state === last || isLog || (isHeap && chunkState === last))
      tally.reported++
    } else if (state === last) {
      tally.harmless++
    } else {
      demandUnseen(aged, bit, outcome)
      tally.unseen++
    }
    const repairOneIn = LONG && stretch.live ? 1 : 5
    // A root that points to no object may be its owner's mistake: it is not repair's to change.
    const isOwners = loud.some(({ code, severity }) => code === 'heap-root' && severity !== 'error')
    if (loud.length > 0 && !isOwners && count % repairOneIn === 0) {
      const copy = damaged.slice()
      // Bits of a unit without a slab may be all that is left of one.
      const dropDamaged = loud.some(({ code }) => code === 'slab-bits-impossible')
      const { remaining } = repairImage(aged, copy, { dropDamaged })
      assert.deepEqual(alarms(remaining), [])
      assert.equal(evaluate(aged, copy).state, last, 'after repair')
      tally.byRepair++
    }
  } catch (error) {
    const where = `${stretch.name}, byte ${at - stretch.from} of it, bit ${bit & 7}`
    throw new Error(`${where}: ${(error as Error).message}`, { cause: error })
  } finally {
    image.set(was, at)
  }
}

/** Which stretches, and one in how many of the bits that count. */
const cases: [options: AgeOptions, stretches: RegExp, oneIn: number][] = [
  [{ crashModel: 'cache-line', end: 'kill' }, /^(?!log$)/, 1],
  [{ crashModel: 'cache-line', end: 'kill' }, /^log$/, LONG ? 1 : 3],
  [{ crashModel: 'cache-line', end: 'close' }, /^heap/, 1],
  [{ crashModel: 'cache-line', end: 'power' }, /^log$/, LONG ? 1 : 5],
  [{ crashModel: 'page', end: 'power' }, /^log$|^heap/, LONG ? 1 : 9],
  [
    { crashModel: 'page', end: 'close' },
    /^(second )?(superblock|checkpoint header|table)|^heap/,
    LONG ? 1 : 23,
  ],
]

for (const [options, wanted, oneIn] of cases) {
  test(`single-bit flips of ${wanted}, ${options.crashModel}, ended by ${options.end}`, (t) => {
    const aged = makeAged(options)
    // An image of the lab: of two that follow each other only the pages that differ are copied.
    const damaged = Image.copyOf(aged.image)
    const started = performance.now()
    const sum = {
      flips: 0,
      byOpening: 0,
      refused: 0,
      reported: 0,
      harmless: 0,
      unseen: 0,
      byRepair: 0,
    }
    for (const stretch of stretchesOf(aged)) {
      if (!wanted.test(stretch.name)) continue
      const step = stretch.live || (LONG && options.end === 'kill') ? oneIn : oneIn * 401
      for (let bit = stretch.from * 8; bit < stretch.to * 8; bit += step) {
        flip(aged, damaged, bit, sum, stretch)
      }
    }
    assert.equal(Buffer.compare(damaged.bytes, aged.image), 0)
    assert.ok(sum.flips > 0)
    t.diagnostic(
      `${sum.flips} flips in ${Math.round(performance.now() - started)} ms: ${sum.byOpening} repaired by opening, ` +
        `${sum.refused} refused by opening, ${sum.reported} reported by check, ${sum.harmless} harmless, ` +
        `${sum.unseen} made or freed one object or named another root, which nothing can tell; ` +
        `${sum.byRepair} repaired and opened as they were`,
    )
  })
}
