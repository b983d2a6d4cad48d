import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Heap, Volume } from 'plinth'
import { crc32c } from '../../src/base/checksum.js'
import { KIB, MIB } from '../../src/base/units.js'
import { NONE, NumberSet } from '../../src/heap/number-set.js'
import { SizeClasses } from '../../src/heap/size-classes.js'
import {
  blockAlign,
  blockBytesMax,
  defaultClasses,
  encodeSlabEntry,
  HEAP_HEADER,
  SLAB_ENTRY,
  SLAB_HEADER,
  slabBase,
  slabEntrySeed,
  slabLayout,
  slabUnits,
  unitBytesFor,
} from '../../src/layout/heap.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { allocateInto, freeFrom } from '../support/links.js'

const image = makeImage({ size: 2 * MIB })

/** Granules that hold several slabs. */
const roomy = makeImage({ size: 8 * MIB, granule: 128 * KIB })

function withHeap<T>(
  body: (heap: Heap, volume: Volume, media: SimulatedMedia) => T,
  from = image,
): T {
  const media = new SimulatedMedia('cache-line', from)
  const volume = openSimulated(media)
  try {
    return body(volume.heap('h'), volume, media)
  } finally {
    volume.close()
  }
}

const badPointer = { code: 'ERR_BAD_POINTER' }

describe('size classes', () => {
  for (const largest of [16 * KIB, 256 * KIB, MIB]) {
    it(`waste at most an eighth of what is asked for beyond 64 bytes, up to ${largest}`, () => {
      const classes = new SizeClasses(defaultClasses(largest))
      for (let size = 1; size <= largest; size++) {
        const block = classes.sizes[classes.of(size)]!
        assert.ok(block >= size)
        if (size > 64) assert.ok((block - size) / size <= 1 / 8, `${block} for ${size}`)
        else assert.ok(block - size < 8 || size < 16, `${block} for ${size}`)
        assert.equal(block % 8, 0)
      }
    })
  }

  it('leave at most a fifth of a slab unused', () => {
    for (const unitBytes of [4 * KIB, 64 * KIB]) {
      for (const size of defaultClasses(blockBytesMax(unitBytes, 2 * MIB))) {
        const bytes = slabUnits(size, unitBytes) * unitBytes
        assert.ok((bytes % size) / bytes <= 1 / 5, `${size} in ${bytes}`)
      }
    }
  })

  it('begin blocks where their size allows', () => {
    for (const [size, align] of [
      [24, 8],
      [64, 64],
      [320, 64],
      [4096, 4096],
      [65536, 4096],
    ] as const) {
      assert.equal(blockAlign(size), align)
      const { headBytes } = slabLayout(32, 65536, false)
      assert.equal((slabBase(0, 65536, headBytes, size) ?? 0) % align, 0)
      assert.equal(slabBase(1, 65536, headBytes, size), 0)
    }
  })

  it('have units that fit the volume', () => {
    assert.equal(unitBytesFor(4 * KIB), 4 * KIB)
    assert.equal(unitBytesFor(2 * MIB), 64 * KIB)
  })
})

describe('the structs', () => {
  it('are where FORMAT.md says', () => {
    const table = (struct: { fields: Record<string, readonly [number, string, string]> }) =>
      Object.entries(struct.fields).map(([name, [at, kind]]) => `${at} ${kind} ${name}`)
    assert.deepEqual(table(HEAP_HEADER), [
      '0 bytes8 magic',
      '8 u32 checksum',
      '12 u32 version',
      '16 u64 id',
      '24 u32 unitBytes',
      '28 u32 classes',
      '32 u32 features',
      '64 u64 root',
      '128 bytes896 sizes',
    ])
    assert.deepEqual(table(SLAB_HEADER), [
      '0 u32 checksum',
      '4 u32 magic',
      '8 u64 heap',
      '16 u64 chunk',
      '24 u32 firstUnit',
      '28 u32 units',
      '32 u32 unitBytes',
    ])
    assert.deepEqual(table(SLAB_ENTRY), [
      '0 u32 checksum',
      '4 u32 blockBytes',
      '8 u16 units',
      '10 u16 blocks',
      '12 u32 type',
    ])
  })

  it('are written by hand as by the table', () => {
    const words = new Uint32Array(4)
    const bytes = new Uint8Array(words.buffer)
    const seed = slabEntrySeed(7, 8, 9)
    encodeSlabEntry(320, 2, 204, 5, seed, words, bytes)
    const wanted = new Uint8Array(16)
    SLAB_ENTRY.write({ checksum: 0, blockBytes: 320, units: 2, blocks: 204, type: 5 }, wanted)
    new DataView(wanted.buffer).setUint32(0, crc32c(seed, wanted, 4), true)
    assert.deepEqual(bytes, wanted)
  })
})

describe('a set of numbers', () => {
  it('knows its least', () => {
    const set = new NumberSet()
    assert.equal(set.first, NONE)
    for (const number of [5000, 40, 31, 70000]) set.add(number)
    const order: number[] = []
    while (set.first !== NONE) {
      order.push(set.first)
      set.delete(set.first)
    }
    assert.deepEqual(order, [31, 40, 5000, 70000])
    set.delete(123456)
    set.add(7)
    set.delete(8)
    assert.equal(set.first, 7)
  })
})

describe('a heap', () => {
  it('allocates and frees with one fence each', () =>
    withHeap((heap, volume) => {
      const keep = heap.allocate(64)
      const fences = () => volume.stats().counters.fences
      const cases: [string, () => void][] = [
        ['allocate', () => heap.allocate(64)],
        ['free', () => heap.free([...heap.objects()].at(-1)!)],
        ['allocate a new slab', () => heap.allocate(1000)],
        ['free its last object', () => heap.free([...heap.objects()].at(-1)!)],
        ['allocate with a pointer', () => allocateInto(volume, heap, keep, 64)],
        ['free with a pointer', () => freeFrom(volume, heap, keep)],
        ['setRoot', () => heap.setRoot(keep)],
        ['publish', () => heap.publish(heap.reserve(64))],
        [
          'put',
          () =>
            volume.transact((tx) => {
              const object = heap.allocate(64)
              tx.writeObject(heap, object, new Uint8Array(64))
              tx.setObjectUint64(heap, keep, object)
              heap.free([...heap.objects()].at(-1)!)
            }),
        ],
      ]
      for (const [what, run] of cases) {
        const before = fences()
        run()
        assert.equal(fences() - before, 1, what)
      }
    }, roomy))

  it('links and unlinks with the pointer', () =>
    withHeap((heap, volume) => {
      const holder = heap.allocate(16)
      const object = allocateInto(volume, heap, holder + 8, 100)
      assert.equal(heap.getUint64(holder + 8), object)
      freeFrom(volume, heap, holder + 8)
      assert.equal(heap.getUint64(holder + 8), 0)
      assert.ok(!heap.has(object))
      assert.throws(() => freeFrom(volume, heap, holder + 8), badPointer)
    }))

  it('refuses what is no pointer', () =>
    withHeap((heap, volume) => {
      const object = heap.allocate(64)
      const large = heap.allocate(100_000)
      const chunk = volume.allocate({ size: 4096 })
      const other = volume.heap('other').allocate(64)
      const reserved = heap.reserve(64)
      const bad = [0, 1, -1, NaN, 0.5, object + 8, object + 0.5, object + 64 * 1000, large + 4096]
      for (const pointer of [...bad, chunk.offset, other, reserved, 2 ** 52, Infinity]) {
        assert.throws(() => heap.free(pointer), badPointer, `${pointer}`)
        assert.throws(() => heap.setRoot(pointer || 1), badPointer, `${pointer}`)
        assert.throws(() => volume.transact(() => heap.free(pointer)), badPointer)
      }
      for (const wrong of ['x', 5n, {}, undefined, Symbol('s')] as never[]) {
        for (const use of [
          () => heap.free(wrong),
          () => heap.bytes(wrong),
          () => heap.setUint32(object, wrong),
          () => heap.reserve(wrong),
          () => heap.allocate(8, wrong ?? 'x'),
        ]) {
          assert.throws(use, { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
        }
      }
      assert.throws(() => heap.getUint32(object + 61), badPointer)
      assert.throws(() => heap.copyIn(object, new Uint8Array(65)), badPointer)
      assert.throws(() => heap.getUint32(large + heap.size(large)), badPointer)
      heap.free(object)
      for (const use of [heap.bytes, heap.size, heap.free, heap.getUint32]) {
        assert.throws(() => use.call(heap, object), badPointer)
      }
    }))

  it('reads and writes words wherever they are', () =>
    withHeap((heap) => {
      const object = heap.allocate(64)
      for (const at of [0, 4, 5, 7, 56]) {
        heap.setUint64(object + at, 2 ** 52 + 12345)
        assert.equal(heap.getUint64(object + at), 2 ** 52 + 12345)
        heap.setUint32(object + at, 0xfffffffe)
        assert.equal(heap.getUint32(object + at), 0xfffffffe)
      }
      assert.throws(() => heap.setUint32(object, -1), RangeError)
      const bytes = new Uint8Array(10)
      heap.copyIn(object, Uint8Array.of(1, 2, 3))
      heap.copyOut(object, bytes, 4, 3)
      assert.deepEqual([...bytes], [0, 0, 0, 0, 1, 2, 3, 0, 0, 0])
      assert.throws(() => heap.copyOut(object, bytes, 8, 3), RangeError)
    }))

  it('keeps its own classes', () => {
    const media = new SimulatedMedia('cache-line', image)
    let volume = openSimulated(media)
    let heap = volume.heap('h', { classes: [1000, 136] })
    assert.equal(heap.size(heap.allocate(999)), 1000)
    volume.close()
    volume = openSimulated(new SimulatedMedia('cache-line', media.durable))
    assert.throws(() => volume.heap('h', { classes: [2008] }), { code: 'ERR_HEAP_CLASSES' })
    heap = volume.heap('h', { classes: [1000] })
    assert.equal(heap.size(heap.allocate(999)), 1000)
    assert.equal(heap.size(heap.allocate(130)), 136)
    volume.close()
  })

  it('gives chunks to nobody else', () =>
    withHeap((heap, volume) => {
      heap.allocate(100_000)
      for (const { id, name, type } of volume.chunks()) {
        assert.match(type!, /^plinth\./)
        assert.throws(() => volume.chunk(id), { code: 'ERR_CHUNK_OWNED' })
        assert.throws(() => volume.chunk(name!), { code: 'ERR_CHUNK_OWNED' })
      }
      assert.throws(() => volume.allocate({ size: 1, type: 'plinth.heap' }), {
        code: 'ERR_INVALID_ARG_VALUE',
      })
    }))

  it('turns an aborted transaction back', () =>
    withHeap((heap, volume) => {
      const object = heap.allocate(64)
      const before = { stats: heap.stats(), used: volume.stats().usedBytes }
      assert.throws(() =>
        volume.transact(() => {
          heap.free(object)
          heap.setRoot(heap.allocate(5000))
          heap.allocate(200_000)
          throw new Error('abort')
        }),
      )
      assert.deepEqual({ stats: heap.stats(), used: volume.stats().usedBytes }, before)
      assert.equal(heap.root, 0)
      heap.free(object)
    }))

  it('survives a transaction that is too large, and goes on in it', () =>
    withHeap((heap, volume) => {
      const made: number[] = []
      volume.transact(() => {
        assert.throws(
          () => {
            for (;;) made.push(heap.allocate(2000))
          },
          (error: { code: string }) => /ERR_TX_TOO_LARGE|ERR_NO_SPACE/.test(error.code),
        )
      })
      assert.deepEqual(
        [...heap.objects()],
        made.sort((a, b) => a - b),
      )
      assert.deepEqual(volume.check(), [])
    }))

  it('is full, and can be emptied', () =>
    withHeap((heap, volume) => {
      const objects: number[] = []
      assert.throws(
        () => {
          for (;;) objects.push(heap.allocate(700))
        },
        { code: 'ERR_NO_SPACE' },
      )
      assert.ok(volume.stats().largestFreeBytes < 4096 * 2)
      for (const object of objects) heap.free(object)
      assert.equal(heap.stats().objects, 0)
      assert.ok(heap.stats().slabChunks <= 2)
    }))

  it('ends with the volume', () => {
    const volume = openSimulated(new SimulatedMedia('cache-line', image))
    const heap = volume.heap('h')
    const object = heap.allocate(64)
    volume.close()
    for (const use of [
      () => heap.allocate(64),
      () => heap.free(object),
      () => heap.getUint32(object),
      () => heap.bytes(object),
      () => [...heap.objects()],
      () => heap.reserve(8),
    ]) {
      assert.throws(use, { code: 'ERR_VOLUME_CLOSED' })
    }
  })

  it('is part of the transaction under way', () =>
    withHeap((heap, volume) => {
      const object = heap.allocate(64)
      const { fences } = volume.stats().counters
      const made = volume.transact(() => {
        const made = heap.allocate(64)
        heap.setRoot(made)
        heap.free(object)
        assert.ok(heap.has(made) && !heap.has(object))
        assert.equal(heap.root, made)
        return made
      })
      assert.equal(volume.stats().counters.fences, fences + 1)
      assert.throws(
        () =>
          volume.transact(() => {
            heap.setRoot(0)
            heap.free(made)
            heap.allocate(5000)
            throw new Error('no')
          }),
        { message: 'no' },
      )
      assert.equal(heap.root, made)
      assert.deepEqual([...heap.objects()], [made])
    }))

  it('is read by a reader', () => {
    const media = new SimulatedMedia('cache-line', image)
    const writer = openSimulated(media)
    const object = writer.heap('h').allocate(64)
    writer.heap('h').setRoot(object)
    media.volatileUnits()
    const reader = openSimulated(new SimulatedMedia('page', media.durable), true)
    const heap = reader.heap('h')
    assert.equal(heap.root, object)
    assert.deepEqual([...heap.objects()], [object])
    assert.throws(() => heap.allocate(1), { code: 'ERR_READ_ONLY' })
    assert.throws(() => reader.heap('none'), { code: 'ERR_HEAP_NOT_FOUND' })
    reader.close()
  })
})

describe('a damaged heap', () => {
  it('is refused with a code, whatever byte of its heads is changed', () => {
    const media = new SimulatedMedia('cache-line', image)
    let volume = openSimulated(media)
    const heap = volume.heap('h')
    for (let i = 0; i < 40; i++) heap.allocate(i * 50 + 1)
    const chunks = volume.chunks()
    volume.close()
    const good = media.durable
    for (const { offset } of chunks.slice(0, 3)) {
      for (let at = 0; at < 1300; at += 13) {
        const bad = good.slice()
        bad[offset + at]! ^= 0x81
        volume = openSimulated(new SimulatedMedia('cache-line', bad))
        try {
          const damaged = volume.heap('h')
          for (const pointer of damaged.objects()) damaged.free(pointer)
          damaged.allocate(64)
          void damaged.root
        } catch (error) {
          const { code } = error as { code?: string }
          assert.match(`${code}`, /^ERR_(VOLUME_CORRUPT|FORMAT_TOO_NEW|BAD_POINTER)$/, `at ${at}`)
        }
        volume.close()
      }
    }
  })
})
