import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Heap, ObjectReader } from 'plinth'
import { KIB, MIB } from '../../src/base/units.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { seeded } from '../support/random.js'

const image = makeImage({ size: 4 * MIB })
const outOfRange = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }
const badPointer = { code: 'ERR_BAD_POINTER' }

function withReader(body: (reader: ObjectReader, heap: Heap) => void): void {
  const volume = openSimulated(new SimulatedMedia('cache-line', image, false))
  try {
    const heap = volume.heap('h')
    body(heap.reader(), heap)
  } finally {
    volume.close()
  }
}

function put(heap: Heap, contents: Uint8Array): number {
  const pointer = heap.reserve(contents.length)
  heap.bytes(pointer).fill(0xee)
  heap.copyIn(pointer, contents)
  heap.publish(pointer)
  return pointer
}

describe('a reader of objects', () => {
  it('goes to objects of one type alone when it is told to', () =>
    withReader((reader, heap) => {
      const small = heap.allocate(64, 7)
      const large = heap.allocate(MIB, 9)
      const plain = heap.allocate(64)
      for (const [pointer, type] of [
        [small, 7],
        [large, 9],
        [plain, 0],
      ] as const) {
        reader.at(pointer, type)
        assert.equal(reader.size, heap.size(pointer))
        for (const other of [0, 7, 9].filter((each) => each !== type)) {
          assert.throws(() => reader.at(pointer, other), badPointer)
        }
      }
      // What is refused moves nothing.
      reader.at(small)
      assert.throws(() => reader.at(large, 7), badPointer)
      assert.equal(reader.size, heap.size(small))
    }))

  it('fetches ahead whatever it is told, and stays where it is', () =>
    withReader((reader, heap) => {
      const pointer = put(heap, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))
      const large = heap.allocate(MIB)
      const gone = heap.allocate(64)
      heap.free(gone)
      reader.at(pointer)
      const pointers = [
        pointer,
        large,
        gone,
        pointer + 3,
        large + MIB - 1,
        0,
        -1,
        0.5,
        NaN,
        2 ** 53,
        Infinity,
      ]
      for (const each of pointers) {
        for (const length of [0, 1, 64, 4096, 2 * MIB, -1, NaN]) reader.prefetch(each, length)
      }
      reader.prefetch('a' as never, 8)
      assert.equal(reader.getUint32(0), 0x04030201)
      assert.deepEqual(heap.bytes(pointer).subarray(0, 8), Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))
    }))

  it('reads nothing but the object it is at', () =>
    withReader((reader, heap) => {
      const pointer = put(
        heap,
        Uint8Array.from({ length: 100 }, (_, i) => i),
      )
      const target = new Uint8Array(200)
      assert.equal(reader.size, 0)
      assert.throws(() => reader.getUint32(0), outOfRange)
      assert.throws(() => reader.copyOut(0, 0, target), badPointer)
      reader.at(pointer)
      assert.equal(reader.size, heap.size(pointer))
      const { size } = reader
      assert.equal(reader.getUint32(size - 4), heap.getUint32(pointer + size - 4))
      for (const offset of [size - 3, size, -1, -4, 0.5, NaN, 2 ** 32, 2 ** 53, Infinity]) {
        assert.throws(() => reader.getUint32(offset), outOfRange, `${offset}`)
      }
      const ranges = [
        [0, size + 1],
        [size, 1],
        [1, size],
        [-1, 2],
        [0, -1],
        [0, 0.5],
        [4, 2 ** 32 - 2],
        [0, NaN],
      ] as const
      for (const [offset, length] of ranges) {
        assert.throws(() => reader.copyOut(offset, length, target), outOfRange)
        assert.throws(() => reader.compare(offset, length, target), outOfRange)
      }
      for (const at of [-1, 0.5, NaN, 201, 197, 2 ** 32]) {
        assert.throws(() => reader.copyOut(0, 4, target, at), outOfRange, `${at}`)
      }
      assert.ok(target.every((byte) => byte === 0))
      for (const wrong of ['1', 1n, undefined] as never[]) {
        assert.throws(() => reader.getUint32(wrong), { code: 'ERR_INVALID_ARG_TYPE' })
        assert.throws(() => reader.compare(0, wrong, target), { code: 'ERR_INVALID_ARG_TYPE' })
        assert.throws(() => reader.copyOut(0, 4, wrong), { code: 'ERR_INVALID_ARG_TYPE' })
        assert.throws(() => reader.at(wrong), { code: 'ERR_INVALID_ARG_TYPE' })
        assert.throws(() => reader.copyOut(0, 4, target, wrong ?? 'x'), RangeError)
      }
    }))

  it('stays where it was when it is sent to no object', () =>
    withReader((reader, heap) => {
      const [first, second] = [put(heap, Uint8Array.of(1, 2, 3, 4)), put(heap, new Uint8Array(4))]
      reader.at(first)
      heap.free(second)
      for (const pointer of [second, first + 8, 0, NaN]) {
        assert.throws(() => reader.at(pointer), badPointer)
      }
      assert.equal(reader.getUint32(0), 0x04030201)
    }))

  it('copies and compares as a plain model does, wherever it begins and ends', () =>
    seeded((random) =>
      withReader((reader, heap) => {
        for (const length of [16, 61, 64, 256, 300, 1000, 40 * KIB]) {
          const contents = random.bytes(length)
          reader.at(put(heap, contents))
          const buffer = new ArrayBuffer(length + 200)
          for (let round = 0; round < 300; round++) {
            // Each view begins somewhere else, and now and then the buffer is another.
            const target = new Uint8Array(random.chance(20) ? buffer.slice() : buffer).subarray(
              random.below(9),
            )
            const offset = random.below(random.chance(2) ? length : 16)
            const count = random.below(Math.min(random.chance(3) ? length : 300, length - offset))
            const at = random.below(target.length - count)
            const wanted = target.slice()
            wanted.set(contents.subarray(offset, offset + count), at)
            reader.copyOut(offset, count, target, at)
            assert.deepEqual(target, wanted)
            if (offset + 4 <= length) {
              const word = Buffer.from(contents.buffer).readUInt32LE(offset)
              assert.equal(reader.getUint32(offset), word)
            }
            const other = contents.slice(offset, offset + random.below(count + 8))
            if (other.length > 0 && random.chance(2)) other[random.below(other.length)]! ^= 0x80
            const own = contents.subarray(offset, offset + count)
            const order = Math.sign(reader.compare(offset, count, other))
            assert.equal(order, Buffer.compare(own, other))
          }
        }
      }),
    ))

  it('follows a buffer that grows', () =>
    withReader((reader, heap) => {
      reader.at(put(heap, new Uint8Array(64).fill(7)))
      const Resizable = ArrayBuffer as unknown as new (
        length: number,
        options: { maxByteLength: number },
      ) => ArrayBuffer & { resize(length: number): void }
      const buffer = new Resizable(64, { maxByteLength: 256 })
      reader.copyOut(0, 64, new Uint8Array(buffer))
      buffer.resize(256)
      const target = new Uint8Array(buffer)
      reader.copyOut(0, 64, target, 128)
      assert.ok(target.subarray(128, 192).every((byte) => byte === 7))
    }))
})
