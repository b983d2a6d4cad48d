// The parts of a map that are in memory alone: bytes of keys, inner nodes, who holds which state.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { commonPrefix, compareBytes, headOf, separate } from '../../src/map/bytes.js'
import { buildTree, FANOUT, Inner, type Node } from '../../src/map/inner.js'
import { Leaf } from '../../src/map/leaf.js'
import { SnapshotTracker } from '../../src/map/snapshot-tracker.js'
import { bytesOf, show, textOf } from '../support/map-model.js'
import { type Random, seeded } from '../support/random.js'

/** Short and alike: one is often the beginning of another. */
const keys = fc
  .array(fc.constantFrom(0, 1, 97, 254, 255), { maxLength: 9 })
  .map((bytes) => Uint8Array.from(bytes))

describe('bytes of keys', () => {
  it('are compared as unsigned bytes, what another begins with before it', () => {
    fc.assert(
      fc.property(keys, keys, (a, b) => {
        assert.equal(Math.sign(compareBytes(a, b)), Buffer.compare(a, b))
        const common = commonPrefix(a, b)
        assert.deepEqual(a.slice(0, common), b.slice(0, common))
        assert.ok(common === a.length || common === b.length || a[common] !== b[common])
      }),
    )
  })

  it('heads are in the order of the keys, or say nothing', () => {
    fc.assert(
      fc.property(keys, keys, fc.nat(9), (a, b, most) => {
        const from = Math.min(most, commonPrefix(a, b))
        const difference = headOf(a, from) - headOf(b, from)
        if (difference !== 0) assert.equal(Math.sign(difference), Buffer.compare(a, b))
        assert.ok(Number.isInteger(headOf(a, from)) && headOf(a, from) >= 0)
      }),
    )
  })

  it('what separates two is after the one and not after the other, and a copy', () => {
    fc.assert(
      fc.property(keys, keys, (a, b) => {
        fc.pre(compareBytes(a, b) < 0)
        const right = Buffer.from(b)
        const between = separate(a, right)
        right.fill(7)
        assert.ok(compareBytes(a, between) < 0)
        assert.ok(compareBytes(between, b) <= 0)
        assert.ok(between.length <= commonPrefix(a, b) + 1)
      }),
    )
  })
})

describe('inner nodes', () => {
  const leaf = (low: string) => new Leaf(0, bytesOf(low), 1)

  function someLow(random: Random): string {
    let low = random.pick(['', 'stem/', 'stem/stem/', '\xff'])
    for (let i = random.below(5); i > 0; i--) low += random.pick(['a', 'b', '\0', '\xff'])
    return low
  }

  /** The child of the last low key that is not after `key`. */
  function wantedOf(lows: readonly string[], key: string): number {
    let index = 0
    while (index + 1 < lows.length && lows[index + 1]! <= key) index++
    return index
  }

  it('find the child in whose range a key is, whatever was replaced before', () => {
    seeded((random) => {
      for (let round = 0; round < 60; round++) {
        let lows = ['', someLow(random) || 'x'].sort()
        let node = new Inner(
          lows.map(bytesOf),
          lows.map((low) => leaf(low)),
        )
        for (let step = 0; step < 60; step++) {
          const at = random.below(lows.length)
          const next = lows[at + 1]
          const low = someLow(random)
          const fits = low > lows[at]! && (next === undefined || low < next)
          const replaced = fits ? [lows[at]!, low] : random.chance(6) && at > 0 ? [] : [lows[at]!]
          lows = lows.toSpliced(at, 1, ...replaced)
          node = node.with(
            at,
            replaced.map(bytesOf),
            replaced.map((each) => leaf(each)),
          )
          assert.deepEqual(node.keys.map(textOf), lows)
          for (const part of lows.length > FANOUT / 4 ? [node, ...node.halves()] : [node]) {
            const its = part.keys.map(textOf)
            for (let i = 0; i < 8; i++) {
              const key = random.chance(2) ? someLow(random) : random.pick(lows)
              assert.equal(part.childOf(bytesOf(key)), wantedOf(its, key), show(key))
            }
          }
        }
      }
    })
  })

  it('are built over any number of leaves, none of them full', () => {
    for (const count of [1, 2, 47, 48, 49, 64, 65, 2303, 2304, 2305, 5000]) {
      const lows = Array.from({ length: count }, (_, i) =>
        i === 0 ? '' : String(i).padStart(5, '0'),
      )
      const root = buildTree(lows.map((low) => leaf(low)))
      const found: string[] = []
      const depths = new Set<number>()
      const walk = (node: Node, depth: number): void => {
        if (node instanceof Leaf) {
          found.push(textOf(node.low))
          depths.add(depth)
          return
        }
        assert.ok(node.children.length > 1 && node.children.length < FANOUT)
        for (const child of node.children) walk(child, depth + 1)
      }
      walk(root, 0)
      assert.deepEqual(found, lows)
      assert.equal(depths.size, 1)
    }
  })
})

describe('holds', () => {
  it('know the oldest and the newest state that somebody holds', () => {
    seeded((random) => {
      const tracker = new SnapshotTracker()
      const model: number[] = []
      let version = 1
      for (let step = 0; step < 2000; step++) {
        const what = random.below(3)
        if (what === 0 || model.length === 0) {
          model.push(version)
          tracker.take(version++)
        } else if (what === 1) {
          const held = random.pick(model)
          model.push(held)
          tracker.take(held)
        } else {
          for (let i = random.between(1, 3); i > 0 && model.length > 0; i--) {
            tracker.drop(model.splice(random.below(model.length), 1)[0]!)
          }
        }
        assert.equal(tracker.oldest, Math.min(...model))
        assert.equal(tracker.newest, Math.max(0, ...model))
      }
    })
  })
})
