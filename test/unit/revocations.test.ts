import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Revocations } from '../../src/log/revocations.js'
import { seeded } from '../support/random.js'

/** What a record at `lsn` may still write of a stretch of `width` cells: `x` may, `.` may not. */
function written(revocations: Revocations, lsn: number, from: number, length: number): string {
  const cells = Array.from({ length }, () => '.')
  let end = 0
  revocations.pieces(from, length, lsn, (skip, count) => {
    assert.ok(count > 0 && skip >= end && skip + count <= length, 'pieces in order and within')
    end = skip + count
    cells.fill('x', skip, end)
  })
  return cells.join('')
}

/** Revocations from a picture: line n revokes at LSN n what it has as `#`. */
function of(lines: readonly string[], shift = 0): Revocations {
  const revocations = new Revocations()
  lines.forEach((line, lsn) => {
    for (const { index, 0: run } of line.matchAll(/#+/g)) {
      revocations.add(shift + index, run.length, lsn)
    }
  })
  revocations.cut()
  return revocations
}

describe('revocations', () => {
  const cases: [what: string, lines: string[], lsn: number, written: string][] = [
    ['none', ['        '], 0, 'xxxxxxxx'],
    ['of the record itself', ['  ####  '], 0, 'xx....xx'],
    ['later ones', ['', '  ####  '], 0, 'xx....xx'],
    ['earlier ones do not count', ['  ####  ', ''], 1, 'xxxxxxxx'],
    ['all of it', ['', '########'], 0, '........'],
    ['its first cell', ['', '#       '], 0, '.xxxxxxx'],
    ['its last cell', ['', '       #'], 0, 'xxxxxxx.'],
    ['two apart', ['', ' ##  ## '], 0, 'x..xx..x'],
    ['two that touch', ['', ' ##     ', '   ##   '], 0, 'x....xxx'],
    ['a later one over an earlier one', ['', '  ####  ', '   ##   '], 1, 'xx....xx'],
    [
      'a later one over an earlier one, seen between',
      ['', '  ####  ', '   ##   ', ''],
      2,
      'xxx..xxx',
    ],
    ['an earlier one over a later one', ['', '   ##   ', '  ####  '], 2, 'xx....xx'],
    ['an overlap', ['####    ', '  ####  ', ''], 1, 'xx....xx'],
    ['the same twice', ['  ####  ', '  ####  ', ''], 1, 'xx....xx'],
    ['the same twice, seen after', ['  ####  ', '  ####  ', ''], 2, 'xxxxxxxx'],
    ['many cuts', ['# # # # ', ' # # # #', '  ##    ', ''], 1, 'x...x.x.'],
  ]
  for (const [what, lines, lsn, expected] of cases) {
    it(`${what}: ${lines.map((line) => `[${line}]`).join(' ')} at ${lsn}`, () => {
      assert.equal(written(of(lines), lsn, 0, 8), expected)
      // Far out on the device all is the same.
      assert.equal(written(of(lines, 2 ** 52), lsn, 2 ** 52, 8), expected)
    })
  }

  it('a range that ends before, begins behind or lies between', () => {
    const revocations = of(['', '    ##  ##    '])
    assert.equal(written(revocations, 0, 0, 4), 'xxxx')
    assert.equal(written(revocations, 0, 10, 4), 'xxxx')
    assert.equal(written(revocations, 0, 6, 2), 'xx')
    assert.equal(written(revocations, 0, 5, 4), '.xx.')
  })

  it('any ranges, beside a plain model', () => {
    seeded((random) => {
      for (let round = 0; round < 300; round++) {
        const width = random.between(1, 60)
        const last = new Int32Array(width).fill(-1)
        const revocations = new Revocations()
        const count = random.below(30)
        for (let lsn = 0; lsn < count; lsn++) {
          // A record may free several chunks.
          for (let n = random.between(1, 2); n > 0; n--) {
            const from = random.below(width)
            const length = random.between(1, width - from)
            revocations.add(from, length, lsn)
            last.fill(lsn, from, from + length)
          }
        }
        revocations.cut()
        for (let look = 0; look < 20; look++) {
          const lsn = random.below(count + 1)
          const from = random.below(width)
          const length = random.between(1, width - from)
          const expected = Array.from(last.subarray(from, from + length), (at) =>
            at < lsn ? 'x' : '.',
          ).join('')
          assert.equal(written(revocations, lsn, from, length), expected)
        }
      }
    })
  })
})
