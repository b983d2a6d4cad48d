import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkSlotSeed,
  decodeChunkSlot,
  encodeChunkSlot,
} from '../../src/layout/chunk-slot.js'
import { planGeometry } from '../../src/layout/geometry.js'
import { volumeSeed } from '../../src/layout/superblock.js'
import { MIB, readDevice, tmpfsLine, withVolume } from '../support/devices.js'
import { placesOf } from '../support/places.js'

const geometry = planGeometry({ sizeBytes: MIB, alignBytes: 4096 })
const { tableAt, tableCopyAt } = placesOf(geometry)
const decoder = new TextDecoder()

describe('the chunk table that a volume writes', () => {
  it('is byte for byte what the struct table writes, in both copies', {
    skip: tmpfsLine.skip,
  }, () => {
    withVolume(tmpfsLine, (volume, path) => {
      const name = (length: number) => `${length}-`.padEnd(length, 'n')
      for (let length = 3; length <= 64; length++) {
        volume.allocate({ size: 4096 * (1 + (length % 3)), name: name(length) })
      }
      for (let length = 1; length <= 16; length++) {
        volume.allocate({ size: 1, type: 't'.repeat(length) })
      }
      volume.allocate({ size: 1, name: 'ä€𝄞', type: '€€€€€' })
      for (const length of [5, 6, 30, 64]) volume.free(volume.chunk(name(length)))
      volume.allocate({ size: 1, name: 'second' })
      volume.transact(() => {
        volume.rename(volume.chunk('second'), 'renamed')
        volume.rename(volume.chunk(name(10)), undefined)
      })
      const chunks = volume.chunks()
      volume.checkpoint()

      const image = readDevice(path)
      const seed = volumeSeed(image.subarray(32, 48))
      const seen: unknown[] = []
      let free = 0
      for (let slot = 0; slot < geometry.slots; slot++) {
        const at = tableAt + slot * CHUNK_SLOT.bytes
        const second = tableCopyAt + slot * CHUNK_SLOT.bytes
        const bytes = Uint8Array.from(image.subarray(at, at + CHUNK_SLOT.bytes))
        assert.equal(Buffer.compare(image.subarray(second, second + CHUNK_SLOT.bytes), bytes), 0)
        const values = decodeChunkSlot(bytes, 0, chunkSlotSeed(seed, slot))
        assert.ok(values !== undefined, `slot ${slot} is damaged`)
        if (values === 'unused') continue
        const again = new Uint8Array(CHUNK_SLOT.bytes)
        encodeChunkSlot(values, chunkSlotSeed(seed, slot), again)
        assert.deepEqual(again, bytes, `slot ${slot}`)
        if (values.state === CHUNK_STATE.FREE) {
          free++
          // Nothing is left of the chunk but how often the slot was used.
          assert.deepEqual(
            [values.nameBytes, values.typeBytes, values.start, values.granules],
            [0, 0, 0, 0],
          )
          continue
        }
        const text = (of: Uint8Array, length: number) =>
          length === 0 ? undefined : decoder.decode(of.subarray(0, length))
        seen.push({
          id: values.generation * 2 ** 24 + slot,
          name: text(values.name, values.nameBytes),
          type: text(values.type, values.typeBytes),
          offset: values.start * geometry.granuleBytes,
          size: values.granules * geometry.granuleBytes,
        })
      }
      const byId = (a: { id: number }, b: { id: number }) => a.id - b.id
      assert.deepEqual((seen as { id: number }[]).sort(byId), chunks.sort(byId))
      assert.equal(free, 3)
    })
  })
})
