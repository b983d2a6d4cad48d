import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { NameIndex } from '../../src/allocator/name-index.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  decodeChunkSlot,
  encodeChunkSlot,
  judgeChunkSlot,
  SLOT_IS,
} from '../../src/layout/chunk-slot.js'
import { seeded } from '../support/random.js'

describe('name index', () => {
  it('is what a map of names is, over many changes', () =>
    seeded((random) => {
      const names: Buffer[] = []
      const index = new NameIndex((slot) => names[slot]!)
      const model = new Map<string, number>()
      const nameOf = (i: number) => Buffer.from(`name ${i}`)
      for (let round = 0; round < 20_000; round++) {
        const slot = random.below(400)
        const before = names[slot]
        if (before !== undefined) {
          index.delete(before, slot)
          if (model.get(before.toString()) === slot) model.delete(before.toString())
        }
        // Sometimes one that another slot has: then it is this one's.
        const name = nameOf(random.below(600))
        const other = model.get(name.toString())
        index.set(name, slot)
        model.set(name.toString(), slot)
        names[slot] = name
        if (other !== undefined && other !== slot) {
          index.delete(name, other)
          assert.equal(index.find(name), slot)
        }
        const asked = nameOf(random.below(600))
        assert.equal(index.find(asked), model.get(asked.toString()) ?? -1)
      }
      for (const [name, slot] of model) assert.equal(index.find(Buffer.from(name)), slot)
    }))

  it('holds names whose hashes begin alike', () => {
    const names = Array.from({ length: 5000 }, (_, i) => Buffer.from(`${i}`))
    const index = new NameIndex((slot) => names[slot]!)
    for (const [slot, name] of names.entries()) index.set(name, slot)
    for (const [slot, name] of names.entries()) if (slot % 3 === 0) index.delete(name, slot)
    for (const [slot, name] of names.entries()) {
      assert.equal(index.find(name), slot % 3 === 0 ? -1 : slot)
    }
  })
})

it('a slot is judged the same with its values and without', () =>
  seeded((random) => {
    const found = new Map<number, number>()
    for (let round = 0; round < 20_000; round++) {
      const bytes = new Uint8Array(2 * CHUNK_SLOT.bytes)
      const words = new Uint32Array(bytes.buffer)
      const at = CHUNK_SLOT.bytes
      const isFree = random.chance(4)
      encodeChunkSlot(
        {
          version: random.below(1000),
          generation: random.pick([0, 1, 2 ** 29 - 1, 2 ** 29]),
          state: random.pick([CHUNK_STATE.FREE, CHUNK_STATE.CHUNK, 3]),
          nameBytes: random.pick([0, 64, 65]),
          typeBytes: random.pick([0, 16, 17]),
          start: random.below(100),
          granules: isFree ? 0 : random.below(3),
          type: new Uint8Array(16),
          name: new Uint8Array(64),
        },
        7,
        bytes,
        at,
      )
      if (random.chance(8)) bytes.fill(0)
      if (random.chance(3)) bytes[at + random.below(128)]! ^= 1 << random.below(8)
      const decoded = decodeChunkSlot(bytes, at, 7)
      const judged =
        decoded === 'unused'
          ? SLOT_IS.UNUSED
          : decoded === undefined
            ? SLOT_IS.DAMAGED
            : SLOT_IS.WHOLE
      assert.equal(judgeChunkSlot(bytes, words, at, 7), judged)
      found.set(judged, (found.get(judged) ?? 0) + 1)
    }
    for (const judged of Object.values(SLOT_IS)) assert.ok(found.get(judged)! > 100)
  }))
