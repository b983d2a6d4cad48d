import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { FreeIndex } from '../../src/allocator/free-index.js'
import { Random, seeded } from '../support/random.js'

/** An index from a picture: `.` free, `#` taken. */
function of(picture: string): FreeIndex {
  const index = new FreeIndex(picture.length)
  for (const { index: at, 0: run } of picture.matchAll(/\.+/g)) index.release(at, run.length)
  return index
}

function pictureOf(index: FreeIndex): string {
  const cells = Array.from({ length: index.cells }, () => '#')
  index.forEachRun((start, length) => cells.fill('.', start, start + length))
  return cells.join('')
}

/** Everything that an index says, against what its picture says. */
function check(index: FreeIndex, picture: string): void {
  const runs = [...picture.matchAll(/\.+/g)]
  assert.equal(pictureOf(index), picture)
  assert.equal(index.free, picture.replaceAll('#', '').length)
  assert.equal(index.runs, runs.length)
  assert.equal(index.longest, Math.max(0, ...runs.map(([run]) => run.length)))
}

/** First fit by address, plainly. */
function findPlainly(picture: string, length: number, align: number, phase: number): number {
  for (let at = 0; at + length <= picture.length; at++) {
    if ((at + phase) % align === 0 && !picture.slice(at, at + length).includes('#')) return at
  }
  return -1
}

describe('free index', () => {
  describe('find', () => {
    const cases: [picture: string, length: number, align: number, phase: number, at: number][] = [
      ['........', 1, 1, 0, 0],
      ['........', 8, 1, 0, 0],
      ['........', 9, 1, 0, -1],
      ['########', 1, 1, 0, -1],
      ['#.##..##', 1, 1, 0, 1],
      ['#.##..##', 2, 1, 0, 4],
      ['#.##..##', 3, 1, 0, -1],
      ['..#...##', 3, 1, 0, 3],
      ['##...#..', 2, 1, 0, 2],
      ['#######.', 1, 1, 0, 7],
      ['.', 1, 1, 0, 0],
      ['#', 1, 1, 0, -1],
      ['#....', 2, 2, 0, 2],
      ['#....', 2, 4, 0, -1],
      ['#.....', 2, 4, 0, 4],
      ['#....', 2, 4, 1, 3],
      ['#....', 2, 4, 3, 1],
      ['.#.#.#.#', 1, 2, 1, -1],
      ['.#.#...#', 1, 2, 1, 5],
      ['#...#...', 3, 4, 3, 1],
      ['...#....#...', 4, 4, 0, 4],
      ['...#....#...', 4, 4, 1, -1],
      ['........', 1, 2 ** 40, 0, 0],
      ['........', 1, 2 ** 40, 1, -1],
      ['........', 1, 2 ** 40, 2 ** 40 - 3, 3],
    ]
    for (const [picture, length, align, phase, at] of cases) {
      it(`${length} aligned to ${align} with phase ${phase} in ${picture}: ${at}`, () => {
        const index = of(picture)
        assert.equal(index.find(length, align, phase), at)
        check(index, picture)
      })
    }
  })

  describe('take', () => {
    const cases: [before: string, start: number, length: number, after: string][] = [
      ['........', 0, 8, '########'],
      ['........', 0, 3, '###.....'],
      ['........', 5, 3, '.....###'],
      ['........', 3, 2, '...##...'],
      ['#..#...#', 4, 1, '#..##..#'],
      ['#..#...#', 5, 1, '#..#.#.#'],
      ['#..#...#', 6, 1, '#..#..##'],
      ['.', 0, 1, '#'],
      ['.......', 6, 1, '......#'],
    ]
    for (const [before, start, length, after] of cases) {
      it(`${before} takes ${length} at ${start}: ${after}`, () => {
        const index = of(before)
        index.take(start, length)
        check(index, after)
      })
    }
  })

  describe('release', () => {
    const cases: [before: string, start: number, length: number, after: string][] = [
      ['########', 0, 8, '........'],
      ['########', 3, 2, '###..###'],
      ['..####..', 2, 1, '...###..'],
      ['..####..', 5, 1, '..###...'],
      ['..##..##', 2, 2, '......##'],
      ['..####..', 3, 1, '..#.##..'],
      ['#', 0, 1, '.'],
      ['#######', 6, 1, '######.'],
    ]
    for (const [before, start, length, after] of cases) {
      it(`${before} gets ${length} at ${start} back: ${after}`, () => {
        const index = of(before)
        index.release(start, length)
        check(index, after)
      })
    }
  })

  describe('refuses what only a defect can ask', () => {
    const cases: [picture: string, what: 'take' | 'release', start: number, length: number][] = [
      ['########', 'take', 0, 1],
      ['########', 'take', 7, 1],
      ['..#.....', 'take', 0, 3],
      ['..#.....', 'take', 2, 1],
      ['.....###', 'take', 4, 2],
      ['########', 'release', 0, 0],
      ['########', 'release', 7, 2],
      ['########', 'release', -1, 1],
    ]
    for (const [picture, what, start, length] of cases) {
      it(`${what} ${length} at ${start} of ${picture}`, () => {
        const index = of(picture)
        assert.throws(() => index[what](start, length), /please report/)
        check(index, picture)
      })
    }
  })

  it('walks beside a picture', () => {
    seeded((random) => {
      for (const cells of [1, 2, 7, 64, 100]) {
        let picture = '.'.repeat(cells)
        const index = of(picture)
        for (let step = 0; step < 1000; step++) {
          const length = random.between(1, Math.max(1, cells >>> 2))
          const align = 2 ** random.below(4)
          const phase = random.below(8)
          const at = index.find(length, align, phase)
          assert.equal(at, findPlainly(picture, length, align, phase))
          const taken = [...picture.matchAll(/#+/g)]
          if (at !== -1 && !random.chance(3)) {
            index.take(at, length)
            picture = picture.slice(0, at) + '#'.repeat(length) + picture.slice(at + length)
          } else if (taken.length > 0) {
            const { index: start, 0: run } = random.pick(taken)
            const from = start + random.below(run.length)
            const count = random.between(1, start + run.length - from)
            index.release(from, count)
            picture = picture.slice(0, from) + '.'.repeat(count) + picture.slice(from + count)
          }
          check(index, picture)
        }
      }
    })
  })

  it('says what any picture says', () => {
    const picture = fc
      .array(fc.constantFrom('.', '#'), { minLength: 1, maxLength: 40 })
      .map((cells) => cells.join(''))
    seeded((_, seed) =>
      fc.assert(
        fc.property(
          picture,
          fc.integer({ min: 1, max: 8 }),
          fc.constantFrom(1, 2, 4, 8),
          fc.integer({ min: 0, max: 9 }),
          (cells, length, align, phase) => {
            const index = of(cells)
            check(index, cells)
            assert.equal(index.find(length, align, phase), findPlainly(cells, length, align, phase))
          },
        ),
        { seed, numRuns: 500 },
      ),
    )
  })

  it('many cells: the first, the last, and a run over all of them', () => {
    const cells = 4 * 1024 * 1024 - 1
    const index = new FreeIndex(cells)
    index.release(0, cells)
    assert.equal(index.longest, cells)
    index.take(0, 1)
    index.take(cells - 1, 1)
    assert.deepEqual([index.free, index.runs, index.longest], [cells - 2, 1, cells - 2])
    assert.equal(index.find(cells - 2), 1)
    assert.equal(index.find(cells - 1), -1)
    const random = new Random(1)
    for (let i = 0; i < 1000; i++) {
      const at = 1 + random.below(cells - 2)
      index.take(at, 1)
      index.release(at, 1)
    }
    assert.deepEqual([index.free, index.runs, index.longest], [cells - 2, 1, cells - 2])
  })
})
