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
function findPlainly(picture: string, length: number, align: number): number {
  for (let at = 0; at + length <= picture.length; at++) {
    if (at % align === 0 && !picture.slice(at, at + length).includes('#')) return at
  }
  return -1
}

function findLastPlainly(picture: string, length: number): number {
  return picture.lastIndexOf('.'.repeat(length))
}

function runStartPlainly(picture: string, cell: number): number {
  return picture[cell] === '.' ? picture.lastIndexOf('#', cell) + 1 : -1
}

describe('free index', () => {
  describe('find', () => {
    const cases: [picture: string, length: number, align: number, at: number][] = [
      ['........', 1, 1, 0],
      ['........', 8, 1, 0],
      ['........', 9, 1, -1],
      ['########', 1, 1, -1],
      ['#.##..##', 1, 1, 1],
      ['#.##..##', 2, 1, 4],
      ['#.##..##', 3, 1, -1],
      ['..#...##', 3, 1, 3],
      ['##...#..', 2, 1, 2],
      ['#######.', 1, 1, 7],
      ['.', 1, 1, 0],
      ['#', 1, 1, -1],
      ['#....', 2, 2, 2],
      ['#....', 2, 4, -1],
      ['#.....', 2, 4, 4],
      ['#....', 1, 4, 4],
      ['.#.#.#.#', 1, 2, 0],
      ['#.#.#.#.', 1, 2, -1],
      ['#.#.#...', 1, 2, 6],
      ['#...#...', 3, 4, -1],
      ['#...#....', 1, 8, 8],
      ['...#....#...', 4, 4, 4],
      ['...#.....#......', 4, 4, 4],
      ['...##....#......', 4, 4, 12],
      ['...##....#......', 5, 4, -1],
      ['........', 1, 2 ** 40, 0],
      ['#.......', 1, 2 ** 40, -1],
    ]
    for (const [picture, length, align, at] of cases) {
      it(`${length} aligned to ${align} in ${picture}: ${at}`, () => {
        const index = of(picture)
        assert.equal(index.find(length, align), at)
        check(index, picture)
      })
    }
  })

  describe('find the last', () => {
    const cases: [picture: string, length: number, at: number][] = [
      ['........', 1, 7],
      ['........', 8, 0],
      ['........', 9, -1],
      ['########', 1, -1],
      ['#.##..##', 1, 5],
      ['#.##..##', 2, 4],
      ['#.##..##', 3, -1],
      ['...#.#..', 3, 0],
      ['...#.#..', 2, 6],
      ['....#...', 3, 5],
      ['....#...', 4, 0],
      ['.......#', 2, 5],
    ]
    for (const [picture, length, at] of cases) {
      it(`${length} in ${picture}: ${at}`, () => {
        const index = of(picture)
        assert.equal(index.findLast(length), at)
        check(index, picture)
      })
    }
  })

  describe('the start of the run that has a cell', () => {
    const cases: [picture: string, cell: number, start: number][] = [
      ['........', 0, 0],
      ['........', 7, 0],
      ['########', 3, -1],
      ['..#...##', 0, 0],
      ['..#...##', 1, 0],
      ['..#...##', 2, -1],
      ['..#...##', 3, 3],
      ['..#...##', 5, 3],
      ['..#...##', 6, -1],
      ['#.......', 0, -1],
    ]
    for (const [picture, cell, start] of cases) {
      it(`${cell} in ${picture}: ${start}`, () => {
        const index = of(picture)
        assert.equal(index.runStart(cell), start)
        check(index, picture)
      })
    }
  })

  describe('grow', () => {
    const cases: [before: string, cells: number, after: string][] = [
      ['....', 4, '....'],
      ['....', 8, '....####'],
      ['.##.', 5, '.##.#'],
      ['####', 6, '######'],
    ]
    for (const [before, cells, after] of cases) {
      it(`${before} to ${cells}: ${after}`, () => {
        const index = of(before)
        index.grow(cells)
        check(index, after)
      })
    }

    it('what comes joins the run before it when it is given', () => {
      const index = of('##..')
      assert.throws(() => index.release(4, 1), /please report/)
      index.grow(8)
      index.release(4, 4)
      check(index, '##......')
      assert.deepEqual([index.find(6), index.runStart(7)], [2, 2])
    })

    it('to fewer cells is refused', () => {
      const index = of('....')
      assert.throws(() => index.grow(3), /please report/)
      check(index, '....')
    })
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
      ['........', 'release', 3, 1],
      ['........', 'release', 0, 8],
      ['##.#####', 'release', 1, 2],
      ['##.#####', 'release', 2, 2],
      ['#.#.####', 'release', 0, 3],
      ['##.#.###', 'release', 1, 3],
      ['.#.#.###', 'release', 1, 3],
      ['.#####..', 'release', 0, 6],
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
          const length = random.between(1, Math.max(1, picture.length >>> 2))
          const align = 2 ** random.below(4)
          const at = index.find(length, align)
          assert.equal(at, findPlainly(picture, length, align))
          const last = index.findLast(length)
          assert.equal(last, findLastPlainly(picture, length))
          const cell = random.below(picture.length)
          assert.equal(index.runStart(cell), runStartPlainly(picture, cell))
          const count = random.between(1, 4)
          const isFree =
            cell + count <= picture.length && !/#/.test(picture.slice(cell, cell + count))
          assert.equal(index.isFree(cell, count), isFree)
          const taken = [...picture.matchAll(/#+/g)]
          if (at !== -1 && !random.chance(3)) {
            const from = random.chance(3) ? last : at
            index.take(from, length)
            picture = picture.slice(0, from) + '#'.repeat(length) + picture.slice(from + length)
          } else if (random.chance(50) && picture.length < 2 * cells) {
            const more = random.between(0, 3)
            picture += '#'.repeat(more)
            index.grow(picture.length)
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
          (cells, length, align) => {
            const index = of(cells)
            check(index, cells)
            assert.equal(index.find(length, align), findPlainly(cells, length, align))
            assert.equal(index.findLast(length), findLastPlainly(cells, length))
            for (let cell = 0; cell < cells.length; cell++) {
              assert.equal(index.runStart(cell), runStartPlainly(cells, cell))
              assert.equal(index.isFree(cell, 1), cells[cell] === '.')
            }
          },
        ),
        { seed, numRuns: 500 },
      ),
    )
  })
})

/** Bytes of array buffers that are made meanwhile; what is collected meanwhile makes it less. */
function bytesOf(body: () => void): number {
  const before = process.memoryUsage().arrayBuffers
  body()
  return process.memoryUsage().arrayBuffers - before
}

describe('memory follows the runs', () => {
  const CELLS = 2 ** 32 - 1

  it('as many cells as can be counted, free as one run', () => {
    const bytes = bytesOf(() => {
      const index = new FreeIndex(CELLS)
      assert.deepEqual([index.free, index.runs, index.find(1)], [0, 0, -1])
      index.release(0, CELLS)
      assert.deepEqual([index.free, index.runs, index.longest], [CELLS, 1, CELLS])
      index.take(0, 1)
      index.take(CELLS - 1, 1)
      assert.deepEqual([index.free, index.runs, index.longest], [CELLS - 2, 1, CELLS - 2])
      assert.equal(index.find(CELLS - 2), 1)
      assert.equal(index.find(CELLS - 1), -1)
      assert.equal(index.find(1, 2 ** 31), 2 ** 31)
      assert.equal(index.findLast(1), CELLS - 2)
      assert.equal(index.runStart(CELLS - 2), 1)
      assert.equal(index.runStart(CELLS - 1), -1)
      const random = new Random(1)
      for (let i = 0; i < 1000; i++) {
        const at = 1 + (random.next() % (CELLS - 2))
        index.take(at, 1)
        assert.deepEqual([index.isFree(at, 1), index.free], [false, CELLS - 3])
        index.release(at, 1)
      }
      assert.deepEqual([index.free, index.runs, index.longest], [CELLS - 2, 1, CELLS - 2])
      index.release(CELLS - 1, 1)
      index.release(0, 1)
      assert.deepEqual([index.free, index.runs, index.find(CELLS)], [CELLS, 1, 0])
    })
    assert.ok(bytes < 64 * 1024, `${bytes} bytes`)
  })

  it('a volume that grows to as many cells', () => {
    const bytes = bytesOf(() => {
      const index = new FreeIndex(1000)
      index.release(0, 1000)
      for (let cells = 1000; cells < CELLS; ) {
        const next = Math.min(CELLS, cells * 2)
        index.grow(next)
        index.release(cells, next - cells)
        cells = next
      }
      assert.deepEqual([index.cells, index.free, index.runs], [CELLS, CELLS, 1])
    })
    assert.ok(bytes < 64 * 1024, `${bytes} bytes`)
  })
})

describe('every other cell free', () => {
  const RUNS = 100_000
  const upwards = Array.from({ length: RUNS }, (_, i) => i)
  const shuffled = (random: Random) => {
    const order = [...upwards]
    for (let i = order.length - 1; i > 0; i--) {
      const other = random.below(i + 1)
      ;[order[i], order[other]] = [order[other]!, order[i]!]
    }
    return order
  }
  const orders: [what: string, order: (random: Random) => readonly number[]][] = [
    ['upwards', () => upwards],
    ['downwards', () => upwards.toReversed()],
    ['from both ends', () => upwards.map((i) => (i % 2 === 0 ? i / 2 : RUNS - 1 - (i - 1) / 2))],
    ['in any order', shuffled],
  ]
  for (const [what, orderOf] of orders) {
    it(`${RUNS} runs of a cell that come and go ${what}`, () => {
      seeded((random) => {
        const order = orderOf(random)
        const index = new FreeIndex(2 * RUNS)
        const alternate = () => {
          for (const i of order) index.release(2 * i, 1)
          assert.deepEqual([index.free, index.runs, index.longest], [RUNS, RUNS, 1])
          assert.deepEqual([index.find(1), index.find(2), index.findLast(2)], [0, -1, -1])
          assert.equal(index.findLast(1), 2 * RUNS - 2)
          index.take(0, 1)
          assert.deepEqual([index.find(1), index.find(1, 2 ** 17)], [2, 2 ** 17])
          index.release(0, 1)
          for (const i of [0, 1, RUNS >>> 1, RUNS - 1]) {
            assert.equal(index.runStart(2 * i), 2 * i)
            assert.equal(index.runStart(2 * i + 1), -1)
          }
          let next = 0
          index.forEachRun((start, length) => {
            assert.deepEqual([start, length], [next, 1])
            next += 2
          })
          assert.equal(next, 2 * RUNS)
        }
        const bytes = bytesOf(alternate)
        // Six words a run, of which there are at most twice as many, and as many again on the way there.
        assert.ok(bytes < 4 * 24 * RUNS, `${bytes} bytes`)
        // Runs that join, to the last: the nodes that they had are used again.
        const again = bytesOf(() => {
          for (const [n, i] of order.entries()) {
            index.release(2 * i + 1, 1)
            assert.equal(index.free, RUNS + n + 1)
            if (what === 'upwards') {
              assert.deepEqual(
                [index.longest, index.runs],
                [Math.min(2 * n + 3, 2 * RUNS), Math.max(1, RUNS - n - 1)],
              )
            }
          }
          assert.deepEqual([index.runs, index.longest, index.find(2 * RUNS)], [1, 2 * RUNS, 0])
          // And that are cut.
          for (const [n, i] of order.entries()) {
            index.take(2 * i, 1)
            assert.equal(index.free, 2 * RUNS - n - 1)
          }
          assert.deepEqual([index.free, index.runs, index.longest], [RUNS, RUNS, 1])
          assert.equal(index.find(1), 1)
          for (const i of order) index.take(2 * i + 1, 1)
          assert.deepEqual([index.free, index.runs, index.longest], [0, 0, 0])
          alternate()
        })
        assert.ok(again < 64 * 1024, `${again} bytes more`)
      })
    })
  }
})
