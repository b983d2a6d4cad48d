// A user who moves the memory of a view away (ArrayBuffer.prototype.transfer, Node 22 and later) once failed the volume at
// the next persist, and a heap read as if it were empty. The views are taken anew; those that were moved stay readable.
// mmap-io has no way back to the memory: there the volume fails, and opened again it has what was committed.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { MIB, places } from '../support/devices.js'

const transfer = (ArrayBuffer.prototype as { transfer?: (this: ArrayBuffer) => ArrayBuffer })
  .transfer
const skip = transfer === undefined && 'ArrayBuffer.prototype.transfer is younger than this Node'
const move = (bytes: Uint8Array) => new Uint8Array(transfer!.call(bytes.buffer as ArrayBuffer))

const onTmpfs = places.filter(({ name }) => name.startsWith('tmpfs'))

for (const place of onTmpfs.filter(({ name }) => name.includes('mmap-io'))) {
  describe(`views that were moved away, ${place.name}`, { skip: skip || place.skip }, () => {
    it('the volume fails, and has what was committed when it is opened again', () =>
      place.with(4 * MIB, (path) => {
        const uses: ((volume: Volume) => unknown)[] = [
          (volume) => volume.chunk('c').persist(4096, 4096),
          (volume) => volume.chunk('c').bytes,
          (volume) => volume.chunk('c').write(0, Uint8Array.of(1)),
          (volume) => volume.transact((tx) => tx.read(volume.chunk('c'), 0, 1)),
          (volume) => volume.heap('h').getUint64(volume.heap('h').root),
        ]
        for (const use of uses) {
          Volume.format(path, { size: 4 * MIB, force: true, ...place.options })
          const volume = Volume.open(path, place.options)
          const chunk = volume.allocate({ size: 65536, name: 'c', zero: true })
          const heap = volume.heap('h')
          heap.setRoot(heap.allocate(16))
          volume.transact((tx) => tx.setUint32(chunk, 0, 7))
          move(chunk.bytes)
          move(heap.bytes(heap.root))
          assert.throws(() => use(volume), { code: 'ERR_VOLUME_FAILED' }, String(use))
          assert.throws(() => volume.stats(), { code: 'ERR_VOLUME_FAILED' })
          assert.throws(() => volume.close(), { code: 'ERR_VOLUME_FAILED' })
          const later = Volume.open(path, place.options)
          assert.equal(later.chunk('c').view.getUint32(0, true), 7)
          assert.deepEqual(later.check(), [])
          later.close()
        }
      }))
  })
}

for (const place of onTmpfs.filter(({ name }) => !name.includes('mmap-io'))) {
  describe(`views that were moved away, ${place.name}`, { skip: skip || place.skip }, () => {
    it('of a chunk: it goes on, and nothing is lost', () =>
      place.with(4 * MIB, (path) => {
        Volume.format(path, { size: 4 * MIB, ...place.options })
        const volume = Volume.open(path, place.options)
        const chunk = volume.allocate({ size: 65536, name: 'c', zero: true })
        volume.transact((tx) => tx.setUint32(chunk, 0, 7))
        chunk.bytes[5000] = 9
        const moved = move(chunk.bytes)
        chunk.persist(4096, 4096)
        assert.deepEqual([chunk.bytes.length, chunk.view.byteLength], [65536, 65536])
        const again = move(chunk.bytes)
        volume.transact((tx) => {
          tx.setUint32(chunk, 4, 8)
          assert.equal(tx.getUint32(chunk, 0), 7)
          assert.equal(tx.read(chunk, 5000, 1)[0], 9)
        })
        move(chunk.bytes)
        chunk.write(100, Uint8Array.of(1, 2, 3))
        volume.checkpoint()
        volume.close()
        assert.deepEqual([moved.length, again.length], [65536, 65536])
        const later = Volume.open(path, place.options)
        const { bytes } = later.chunk('c')
        assert.deepEqual(
          [bytes[0], bytes[4], bytes[5000], ...bytes.subarray(100, 103)],
          [7, 8, 9, 1, 2, 3],
        )
        later.close()
      }))

    it('of an object: all of its heap is found again', () =>
      place.with(4 * MIB, (path) => {
        Volume.format(path, { size: 4 * MIB, ...place.options })
        const volume = Volume.open(path, place.options)
        const heap = volume.heap('h')
        const pointers = Array.from({ length: 200 }, (_, i) => heap.allocate(16 + (i % 5) * 100))
        volume.transact((tx) => {
          for (const [i, pointer] of pointers.entries()) tx.setObjectUint64(heap, pointer, i)
        })
        const reader = heap.reader()
        reader.at(pointers[7]!)
        move(heap.bytes(pointers[3]!))
        assert.equal(reader.getUint32(0), 7)
        for (const [i, pointer] of pointers.entries()) {
          assert.equal(heap.getUint64(pointer), i)
          move(heap.bytes(pointer))
        }
        for (const pointer of pointers.slice(100)) heap.free(pointer)
        move(heap.bytes(pointers[0]!))
        const made = heap.allocate(300)
        assert.ok(!pointers.slice(0, 100).includes(made))
        assert.deepEqual(volume.check(), [])
        volume.close()
        const later = Volume.open(path, place.options)
        assert.equal(later.heap('h').stats().objects, 101)
        for (const [i, pointer] of pointers.slice(0, 100).entries()) {
          assert.equal(later.heap('h').getUint64(pointer), i)
        }
        later.close()
      }))
  })
}
