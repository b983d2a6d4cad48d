/**
 * Large objects are a chunk each, and so a mapping each while they are mapped. It stayed, so that a map
 * with 65 000 values of 17 KiB met the kernel's limit, and V8 with it: the process died.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type OpenOptions, Volume } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { loadAddon } from '../../src/native/load.js'
import { MIB, type Place, places } from '../support/devices.js'
import { pattern } from '../support/pattern.js'

/** More than are mapped at once. */
const COUNT = 4600
const MAPPED_MAX = 4096
const VALUE_BYTES = 17 * 1024
const keyOf = (i: number) => Buffer.from(`key${i}`)

/** In memory: thousands of barriers are not the question. */
const inMemory = places.filter(({ name }) => /^tmpfs, (page|cache-line), native$/.test(name))

function onVolume(at: Place, body: (open: (options?: OpenOptions) => Volume) => void): void {
  at.with(160 * MIB, (path) => {
    const size = 160 * MIB
    Volume.format(path, { size, granule: 4096, logSize: 8 * MIB, ...at.options })
    const opened: Volume[] = []
    try {
      body((options) => {
        const volume = Volume.open(path, { ...at.options, ...options })
        opened.push(volume)
        return volume
      })
    } finally {
      for (const volume of opened) volume.close()
    }
  })
}

const mappings = () => loadAddon()!.mappingCount()

for (const at of inMemory) {
  describe(`large objects: ${at.name}`, { skip: at.skip }, () => {
    it('of a map: few are mapped, all are found', () => {
      onVolume(at, (open) => {
        const before = mappings()
        const volume = open()
        const map = OrderedMap.open(volume, 'm')
        const value = pattern(VALUE_BYTES, 1)
        const numbered = (i: number) => {
          value[0] = i
          value[1] = i >>> 8
          return value
        }
        const few = () => {
          const count = mappings() - before
          assert.ok(count <= MAPPED_MAX + 64, `${count} mappings`)
        }
        for (let i = 0; i < COUNT; i++) map.put(keyOf(i), numbered(i))
        few()
        // In one transaction, some over others that are there.
        map.batch(
          [3, 40, COUNT - 1, COUNT].map((i) => ({
            type: 'put',
            key: keyOf(i),
            value: numbered(i).slice(),
          })),
        )
        map.delete(keyOf(5))
        const all = () => {
          for (let i = 0; i <= COUNT; i++) {
            const expected = i === 5 ? undefined : numbered(i)
            const found = map.get(keyOf(i))
            assert.equal(found?.length, expected?.length)
            if (expected !== undefined) assert.equal(Buffer.compare(found!, expected), 0, `${i}`)
          }
        }
        all()
        all()
        few()
        volume.close()

        const reader = open({ readOnly: true })
        const read = OrderedMap.open(reader, 'm')
        for (let i = 0; i <= COUNT; i += 7) {
          assert.equal(Buffer.compare(read.get(keyOf(i))!, numbered(i)), 0)
        }
        few()
        reader.close()
        const again = open()
        assert.deepEqual(
          again.check().filter(({ severity }) => severity !== 'info'),
          [],
        )
        assert.equal(OrderedMap.open(again, 'm').count(), COUNT)
      })
    })

    it('of a heap: with views, stores or staged changes they stay', () => {
      onVolume(at, (open) => {
        const volume = open()
        const heap = volume.heap('h')
        const reserve = () => heap.reserve(VALUE_BYTES)
        const [viewed, stored, staged, read] = [1, 2, 3, 4].map((seed) => {
          const pointer = reserve()
          heap.copyIn(pointer, pattern(VALUE_BYTES, seed))
          heap.publish(pointer)
          return pointer
        }) as [number, number, number, number]
        const view = heap.bytes(viewed)
        view[7] = 77
        heap.setUint32(stored + 8, 88)
        const reader = heap.reader()
        reader.at(read)
        volume.transact((tx) => {
          tx.writeObject(heap, staged, Uint8Array.of(1, 2, 3, 4))
          // So many others that the oldest mappings are asked for.
          const others = Array.from({ length: COUNT }, reserve)
          for (const pointer of others) heap.cancel(pointer)
        })
        assert.equal(view[7], 77)
        view[9] = 99
        assert.equal(heap.getUint32(stored + 8), 88)
        assert.deepEqual([...heap.bytes(staged).subarray(0, 4)], [1, 2, 3, 4])
        // Its mapping was given back; the reader finds it again.
        assert.equal(reader.getUint32(0), heap.getUint32(read))
        volume.close()
        const again = open()
        const same = again.heap('h')
        assert.equal(same.bytes(viewed)[7], 77)
        assert.equal(same.bytes(viewed)[9], 99)
        assert.equal(same.getUint32(stored + 8), 88)
        assert.deepEqual([...same.bytes(staged).subarray(0, 4)], [1, 2, 3, 4])
      })
    })
  })
}
