/** What a heap promises, on every device and by both backends. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Heap, Volume } from 'plinth'
import { afterCrash, MIB, type Place, places, tmpfsLine, withVolume } from '../support/devices.js'
import { allocateInto, freeFrom } from '../support/links.js'
import { pattern } from '../support/pattern.js'

const SIZE = 2 * MIB
const NAME = 'h'
const badPointer = { code: 'ERR_BAD_POINTER' }

/** What must be found: the objects by pointer, with the first bytes of those that have contents. */
interface Scene {
  readonly objects: readonly (readonly [pointer: number, type: number, contents?: Uint8Array])[]
  readonly root?: number
}

/** Closes the volume, opens it again, and closes it after `body`. */
function reopened<T>(at: Place, volume: Volume, path: string, body: (volume: Volume) => T): T {
  volume.close()
  const again = Volume.open(path, at.options)
  try {
    return body(again)
  } finally {
    again.close()
  }
}

function put(heap: Heap, size: number, contents: Uint8Array, type = 0): number {
  const pointer = heap.reserve(size, type)
  heap.copyIn(pointer, contents)
  heap.publish(pointer)
  return pointer
}

function contentsOf(heap: Heap, pointer: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  heap.copyOut(pointer, bytes)
  return bytes
}

function compare(volume: Volume, { objects, root = 0 }: Scene): void {
  const heap = volume.heap(NAME)
  assert.deepEqual(
    [...heap.objects()],
    objects.map(([pointer]) => pointer).sort((a, b) => a - b),
  )
  assert.equal(heap.root, root)
  for (const [pointer, type, contents] of objects) {
    assert.equal(heap.type(pointer), type)
    if (contents !== undefined) {
      assert.deepEqual(contentsOf(heap, pointer, contents.length), contents)
    }
  }
  assert.deepEqual(volume.check(), [])
}

class Abort extends Error {}

// Each makes something durable: it is found at once, after a crash and after a reopen.
const scenes: [what: string, make: (heap: Heap, volume: Volume) => Scene][] = [
  ['nothing', () => ({ objects: [] })],
  [
    'allocate, with types',
    (heap) => ({ objects: [3, 0, 65_535].map((type) => [heap.allocate(40, type), type] as const) }),
  ],
  [
    'free',
    (heap) => {
      const [first, second, third] = [64, 64, 5000].map((size) => heap.allocate(size))
      heap.free(first!)
      heap.free(third!)
      return { objects: [[second!, 0]] }
    },
  ],
  [
    'reserve and publish: small, larger, a chunk',
    (heap) => ({
      objects: [32, 3000, 100_000].map((size) => {
        const contents = pattern(Math.min(size, 70_000), size)
        return [put(heap, size, contents, 7), 7, contents] as const
      }),
    }),
  ],
  [
    'reserve and cancel, and a reservation that is left',
    (heap) => {
      for (const size of [32, 3000, 100_000]) heap.cancel(heap.reserve(size))
      const pointer = heap.allocate(32)
      heap.copyIn(heap.reserve(32), pattern(32, 1))
      return { objects: [[pointer, 0]] }
    },
  ],
  [
    'objects made and freed with their pointers',
    (heap, volume) => {
      const holder = put(heap, 32, new Uint8Array(32))
      const object = allocateInto(volume, heap, holder, 500)
      allocateInto(volume, heap, holder + 8, 100_000)
      freeFrom(volume, heap, holder + 8)
      assert.equal(heap.getUint64(holder + 8), 0)
      const link = new Uint8Array(32)
      new DataView(link.buffer).setBigUint64(0, BigInt(object), true)
      return {
        objects: [
          [holder, 0, link],
          [object, 0],
        ],
      }
    },
  ],
  [
    'setRoot',
    (heap) => {
      const [first, second] = [heap.allocate(64), heap.allocate(64)]
      heap.setRoot(first)
      heap.setRoot(second)
      return {
        objects: [
          [first, 0],
          [second, 0],
        ],
        root: second,
      }
    },
  ],
  [
    'stores, persisted',
    (heap) => {
      const [small, large] = [heap.allocate(60), heap.allocate(100_000)]
      heap.copyIn(small, new Uint8Array(60))
      heap.setUint32(small + 5, 0xdeadbeef)
      heap.setUint64(small + 52, 2 ** 52 + 1)
      heap.persist(small, 60)
      heap.copyIn(large + 50_000, pattern(300, 2))
      heap.persist(large + 50_000, 300)
      const contents = new Uint8Array(60)
      const view = new DataView(contents.buffer)
      view.setUint32(5, 0xdeadbeef, true)
      view.setBigUint64(52, 2n ** 52n + 1n, true)
      assert.deepEqual(contentsOf(heap, large + 50_000, 300), pattern(300, 2))
      return {
        objects: [
          [small, 0, contents],
          [large, 0],
        ],
      }
    },
  ],
  [
    'everything in one transaction',
    (heap, volume) => {
      const old = [heap.allocate(64), heap.allocate(100_000)]
      const reserved = heap.reserve(64, 4)
      heap.copyIn(reserved, pattern(64, 4))
      return volume.transact((tx) => {
        const small = heap.allocate(24, 9)
        const large = heap.allocate(100_000)
        tx.writeObject(heap, small, pattern(24, 1))
        tx.setObjectUint32(heap, small, 77)
        tx.setObjectUint64(heap, small + 8, large)
        assert.equal(tx.getObjectUint64(heap, small + 8), large)
        tx.writeObject(heap, large + 99_000, pattern(24, 2))
        assert.deepEqual(tx.readObject(heap, large + 99_000, 24), pattern(24, 2))
        heap.publish(reserved)
        for (const pointer of old) heap.free(pointer)
        heap.setRoot(small)
        return {
          objects: [
            [small, 9, tx.readObject(heap, small, 24)],
            [large, 0],
            [reserved, 4, pattern(64, 4)],
          ],
          root: small,
        }
      })
    },
  ],
  [
    'a transaction that is given up',
    (heap, volume) => {
      const [kept, large] = [put(heap, 64, pattern(64, 1)), heap.allocate(100_000, 2)]
      const reserved = heap.reserve(64)
      const { usedBytes } = volume.stats()
      assert.throws(
        () =>
          volume.transact((tx) => {
            tx.writeObject(heap, kept, pattern(64, 2))
            heap.free(kept)
            heap.free(large)
            heap.publish(reserved)
            heap.setRoot(heap.allocate(5000))
            heap.allocate(100_000)
            throw new Abort()
          }),
        Abort,
      )
      assert.equal(volume.stats().usedBytes, usedBytes)
      heap.cancel(reserved)
      return {
        objects: [
          [kept, 0, pattern(64, 1)],
          [large, 2],
        ],
      }
    },
  ],
  [
    'objects of many sizes, every second one freed',
    (heap) => {
      const made = Array.from({ length: 120 }, (_, i) => heap.allocate(1 + i * i, i % 3))
      for (const [i, pointer] of made.entries()) if (i % 2 === 0) heap.free(pointer)
      return { objects: made.flatMap((pointer, i) => (i % 2 === 0 ? [] : [[pointer, i % 3]])) }
    },
  ],
]

for (const at of places) {
  describe(`heap: ${at.name}`, { skip: at.skip }, () => {
    for (const [what, make] of scenes) {
      it(`${what}: found at once, after a crash and after a reopen`, () =>
        withVolume(
          at,
          (volume, path) => {
            const scene = make(volume.heap(NAME), volume)
            compare(volume, scene)
            afterCrash(at, path, (crashed) => compare(crashed, scene))
            reopened(at, volume, path, (again) => {
              compare(again, scene)
              const heap = again.heap(NAME)
              heap.setRoot(0)
              for (const pointer of [...heap.objects()]) heap.free(pointer)
              compare(again, { objects: [] })
            })
          },
          { size: SIZE },
        ))
    }

    it('keeps its own classes', () =>
      withVolume(
        at,
        (volume, path) => {
          const made = volume.heap(NAME, { classes: [1001, 136] })
          const { sizes } = made
          assert.ok(sizes.includes(1008) && sizes.includes(136))
          const old = made.allocate(1005)
          const found = (again: Volume) => {
            assert.throws(() => again.heap(NAME, { classes: [136, 2008] }), {
              code: 'ERR_HEAP_CLASSES',
            })
            const heap = again.heap(NAME, { classes: [136] })
            assert.deepEqual(heap.sizes, sizes)
            assert.equal(heap.size(old), 1008)
            assert.equal(heap.size(heap.allocate(1001)), 1008)
            assert.equal(heap.size(heap.allocate(129)), 136)
          }
          found(volume)
          afterCrash(at, path, found)
          reopened(at, volume, path, found)
        },
        { size: SIZE },
      ))

    it('many transactions at a time share a barrier', () =>
      withVolume(
        at,
        async (volume, path) => {
          const heap = volume.heap(NAME)
          const holder = put(heap, 320, new Uint8Array(320))
          // A slab of this kind: a new chunk would be zeroed in between.
          const old = heap.allocate(48, 1)
          const before = volume.stats()
          const made = await Promise.all(
            Array.from({ length: 40 }, (_, i) =>
              volume.transactAsync((tx) => {
                const object = heap.allocate(48, 1)
                tx.writeObject(heap, object, pattern(48, i))
                tx.setObjectUint64(heap, holder + 8 * i, object)
                if (i === 20) heap.free(old)
                return object
              }),
            ),
          )
          const { counters, checkpoints } = volume.stats()
          assert.equal(checkpoints, before.checkpoints)
          const waits = at.granularity === 'page' ? 'barriers' : 'fences'
          assert.equal(
            counters[waits] - before.counters[waits],
            at.granularity === 'page' ? 1 : made.length,
          )
          const found = (again: Volume) => {
            const objects = made.map((pointer, i) => [pointer, 1, pattern(48, i)] as const)
            compare(again, { objects: [[holder, 0], ...objects] })
            const links = made.map((_, i) => again.heap(NAME).getUint64(holder + 8 * i))
            assert.deepEqual(links, made)
          }
          afterCrash(at, path, found)
          reopened(at, volume, path, found)
        },
        { size: SIZE },
      ))

    it('ends with the volume', () =>
      withVolume(
        at,
        (volume) => {
          const heap = volume.heap(NAME)
          const pointer = put(heap, 64, pattern(64, 1))
          const reader = heap.reader()
          reader.at(pointer)
          const bytes = heap.bytes(pointer)
          volume.close()
          const uses = [
            () => heap.allocate(64),
            () => heap.free(pointer),
            () => heap.getUint32(pointer),
            () => heap.copyOut(pointer, new Uint8Array(4)),
            () => reader.at(pointer),
          ]
          for (const use of uses) assert.throws(use, { code: 'ERR_VOLUME_CLOSED' })
          // Views of mmap-io cannot be emptied; all others are.
          if (at.backend !== 'native') return
          assert.equal(bytes.length, 0)
          for (const use of [
            () => reader.getUint32(0),
            () => reader.getUint32(1),
            () => reader.compare(0, 4, new Uint8Array(4)),
            () => reader.copyOut(0, 64, new Uint8Array(64)),
          ]) {
            assert.throws(use, { code: 'ERR_VOLUME_CLOSED' })
          }
        },
        { size: SIZE },
      ))

    it('refuses what is no pointer, and nothing is changed', () =>
      withVolume(at, refuseBadPointers, { size: SIZE }))
  })
}

/** Every call that takes a pointer or an address, with everything that is none. */
function refuseBadPointers(volume: Volume): void {
  const heap = volume.heap(NAME)
  const other = volume.heap('other')
  const object = put(heap, 64, pattern(64, 1))
  const next = put(heap, 64, pattern(64, 2))
  const large = put(heap, 100_000, pattern(1000, 3))
  const foreign = put(other, 64, pattern(64, 4))
  // Of classes of their own, so that nobody gets their space; the slabs stay.
  const others = [heap.allocate(96), heap.allocate(128)]
  const freed = heap.allocate(96)
  heap.free(freed)
  const goneChunk = heap.allocate(300_000)
  heap.free(goneChunk)
  const cancelled = heap.reserve(128)
  heap.cancel(cancelled)
  const reserved = heap.reserve(64)
  heap.copyIn(reserved, pattern(64, 5))
  const chunk = volume.allocate({ size: 4096, name: 'chunk', zero: true })
  const slabOfOther = volume.chunks().find(({ name }) => name === 'heap:other')!
  const slabOfHeap = volume.chunks().find(({ name }) => name === `heap:${NAME}`)!

  // Of no live or reserved object, neither its start nor within.
  const outside: [what: string, pointer: number][] = [
    ['nothing', 0],
    ['one', 1],
    ['negative', -object],
    ['not a number', NaN],
    ['infinite', Infinity],
    ['infinite, below', -Infinity],
    ['beyond the device', SIZE],
    ['the device size and an object', SIZE + object],
    ['2^32 and an object', 2 ** 32 + object],
    ['2^53', 2 ** 53],
    ['a part of a byte', object + 0.5],
    ['the superblock', 4096],
    ['the heap header', slabOfHeap.offset],
    ['a bitmap', slabOfHeap.offset + 1024 + 512],
    ['the header of the other heap', slabOfOther.offset],
    ['a chunk', chunk.offset],
    ['an object of another heap', foreign],
    ['a freed object', freed],
    ['a freed chunk', goneChunk],
    ['a cancelled reservation', cancelled],
    ['a free block', next + 64 * 20],
    ['behind a large object', large + heap.size(large)],
  ]
  const inside: [what: string, pointer: number][] = [
    ['within an object', object + 8],
    ['the last byte of one', object + 63],
    ['within a large object', large + 4096],
  ]

  const stored = Uint8Array.of(0xde, 0xad)
  const two = new Uint8Array(2)
  const alone: [what: string, use: (pointer: number) => unknown][] = [
    ['free', (p) => heap.free(p)],
    ['size', (p) => heap.size(p)],
    ['type', (p) => heap.type(p)],
    ['bytes', (p) => heap.bytes(p)],
    ['publish', (p) => heap.publish(p)],
    ['cancel', (p) => heap.cancel(p)],
    ['reader', (p) => heap.reader().at(p)],
    ['tx.freeObject', (p) => volume.transact(() => heap.free(p))],
    ['tx.publishObject', (p) => volume.transact(() => heap.publish(p))],
    ['setRoot', (p) => heap.setRoot(p || 1)],
    ['tx.setRoot', (p) => volume.transact(() => heap.setRoot(p || 1))],
  ]
  const addresses: [what: string, use: (address: number) => unknown][] = [
    ['getUint32', (a) => heap.getUint32(a)],
    ['getUint64', (a) => heap.getUint64(a)],
    ['setUint32', (a) => heap.setUint32(a, 0xdead)],
    ['setUint64', (a) => heap.setUint64(a, 0xdead)],
    ['copyOut', (a) => heap.copyOut(a, two)],
    ['copyIn', (a) => heap.copyIn(a, stored)],
    ['persist', (a) => heap.persist(a, 2)],
    ['an object made with its pointer', (a) => allocateInto(volume, heap, a, 64)],
    ['the same, a new slab', (a) => allocateInto(volume, heap, a, 333)],
    ['an object freed with its pointer', (a) => freeFrom(volume, heap, a)],
    ['tx.writeObject', (a) => volume.transact((tx) => tx.writeObject(heap, a, stored))],
    ['tx.readObject', (a) => volume.transact((tx) => tx.readObject(heap, a, 2))],
    ['tx.setObjectUint32', (a) => volume.transact((tx) => tx.setObjectUint32(heap, a, 1))],
    ['tx.setObjectUint64', (a) => volume.transact((tx) => tx.setObjectUint64(heap, a, 1))],
    ['tx.getObjectUint64', (a) => volume.transact((tx) => tx.getObjectUint64(heap, a))],
  ]
  const [stats, usedBytes] = [heap.stats(), volume.stats().usedBytes]
  const refused = (call: string, what: string, use: () => unknown) =>
    assert.throws(use, badPointer, `${call} of ${what}`)
  for (const [what, pointer] of outside) {
    for (const [call, use] of [...alone, ...addresses]) refused(call, what, () => use(pointer))
    assert.equal(heap.has(pointer), false, what)
  }
  for (const [what, pointer] of inside) {
    for (const [call, use] of alone) refused(call, what, () => use(pointer))
    assert.equal(heap.has(pointer), false, what)
  }
  // Eight bytes, of which only some are the object's.
  for (const rest of [7, 3, 1]) {
    for (const end of [object + 64, large + heap.size(large)]) {
      for (const [call, use] of addresses) {
        if (/64|Into|From/.test(call)) refused(call, `${rest} bytes`, () => use(end - rest))
        else if (/32/.test(call) && rest < 4) refused(call, `${rest} bytes`, () => use(end - rest))
      }
    }
  }
  for (const use of [
    () => heap.copyIn(object + 1, new Uint8Array(64)),
    () => heap.copyOut(object, new Uint8Array(65)),
    () => heap.persist(object + 60, 5),
    () => heap.free(reserved),
    () => heap.setRoot(reserved),
    () => heap.reader().at(reserved),
    () => volume.transact(() => heap.free(reserved)),
  ]) {
    assert.throws(use, badPointer)
  }
  // A live object is nothing to publish or cancel.
  for (const use of [() => heap.publish(object), () => heap.cancel(object)]) {
    assert.throws(use, badPointer)
  }
  for (const wrong of ['1', BigInt(object), {}, null, undefined, true] as never[]) {
    for (const [call, use] of [...alone, ...addresses]) {
      if (/setRoot/.test(call)) continue
      const code = 'ERR_INVALID_ARG_TYPE'
      assert.throws(() => use(wrong), { name: 'TypeError', code }, `${call} of ${typeof wrong}`)
    }
    assert.throws(() => heap.setRoot(wrong), { name: 'TypeError' })
  }

  assert.deepEqual([heap.stats(), volume.stats().usedBytes], [stats, usedBytes])
  heap.publish(reserved)
  const objects: Scene['objects'] = [
    [object, 0, pattern(64, 1)],
    [next, 0, pattern(64, 2)],
    [large, 0, pattern(1000, 3)],
    [reserved, 0, pattern(64, 5)],
    ...others.map((pointer) => [pointer, 0] as const),
  ]
  compare(volume, { objects })
  assert.deepEqual([...other.objects()], [foreign])
  assert.deepEqual(contentsOf(other, foreign, 64), pattern(64, 4))
  assert.ok(chunk.bytes.every((byte) => byte === 0))
}

describe('two volumes', { skip: tmpfsLine.skip }, () => {
  it('know nothing of each other’s heaps and pointers', () =>
    withVolume(tmpfsLine, (volume) =>
      withVolume(tmpfsLine, (other) => {
        const heap = volume.heap(NAME)
        const foreign = other.heap(NAME)
        const object = heap.allocate(64)
        for (let i = 0; i < 5; i++) foreign.allocate(64)
        const pointer = [...foreign.objects()].at(-1)!
        assert.throws(() => heap.free(pointer), badPointer)
        assert.throws(() => foreign.setRoot(pointer + 64), badPointer)
        // They would be durable although the transaction around them is rolled back.
        for (const use of [
          () => foreign.free(pointer),
          () => foreign.allocate(64),
          () => other.allocate({ size: 4096 }),
        ]) {
          assert.throws(() => volume.transact(use), { code: 'ERR_TX_ACTIVE' })
        }
        assert.throws(
          () => volume.transact((tx) => tx.writeObject(foreign, object, new Uint8Array(8))),
          { code: 'ERR_INVALID_ARG_TYPE' },
        )
        assert.equal(foreign.stats().objects, 5)
        assert.deepEqual([...heap.objects()], [object])
      }),
    ))
})
