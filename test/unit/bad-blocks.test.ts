import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BadBlocks, NO_BAD_BLOCKS } from '../../src/media/bad-blocks.js'
import { seeded } from '../support/random.js'

const PAGE = 4096
const PAGES = 40

test('against a plain model: whole pages, merged, found wherever they are', () => {
  for (let i = 0; i < 200; i++) {
    seeded((random) => {
      const bad = new Array<boolean>(PAGES).fill(false)
      const found = Array.from({ length: random.below(6) }, () => {
        const offset = random.below(PAGES * PAGE - 1)
        const length = random.between(1, Math.min(3 * PAGE, PAGES * PAGE - offset))
        for (let page = Math.floor(offset / PAGE); page * PAGE < offset + length; page++) {
          bad[page] = true
        }
        return { offset, length }
      })
      const blocks = new BadBlocks(found)
      assert.equal(blocks.isEmpty, found.length === 0)
      assert.equal(blocks.bytes, bad.filter(Boolean).length * PAGE)
      for (const [i, { offset, length }] of blocks.stretches.entries()) {
        assert.deepEqual([offset % PAGE, length % PAGE], [0, 0])
        const before = blocks.stretches[i - 1]
        assert.ok(before === undefined || before.offset + before.length < offset)
      }
      for (let j = 0; j < 20; j++) {
        const from = random.below(PAGES * PAGE)
        const length = random.below(PAGES * PAGE - from + 1)
        const isBad = (at: number) => bad[Math.floor(at / PAGE)]!
        const pieces = [
          ...blocks.within(from, length).map((each) => ({ ...each, bad: true })),
          ...blocks.around(from, length).map((each) => ({ ...each, bad: false })),
        ].sort((a, b) => a.offset - b.offset)
        let at = from
        for (const piece of pieces) {
          assert.equal(piece.offset, at)
          assert.ok(piece.length > 0)
          for (let byte = at; byte < at + piece.length; byte += 512) {
            assert.equal(isBad(byte), piece.bad)
          }
          at += piece.length
        }
        assert.equal(at, from + length)
        assert.equal(
          blocks.touches(from, length),
          pieces.some((each) => each.bad),
        )
      }
    }, i)
  }
})

test('nothing of a bad page is no piece of it', () => {
  const blocks = new BadBlocks([{ offset: PAGE, length: PAGE }])
  assert.deepEqual(blocks.within(PAGE + 5, 0), [])
  assert.equal(blocks.touches(PAGE + 5, 0), false)
})

test('none', () => {
  assert.ok(NO_BAD_BLOCKS.isEmpty)
  assert.deepEqual(NO_BAD_BLOCKS.around(5, 7), [{ offset: 5, length: 7 }])
  assert.equal(NO_BAD_BLOCKS.touches(0, 2 ** 50), false)
})
