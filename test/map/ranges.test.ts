// Ranges, cursors and what callers give: against a plain sorted list.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { OrderedMap, type Range } from 'plinth/map'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import {
  assertBytes,
  assertRange,
  assertSame,
  auditMap,
  bytesOf,
  describeRange,
  MapModel,
  show,
  textOf,
} from '../support/map-model.js'
import { type Random, seeded } from '../support/random.js'

const RANGES = process.env.PLINTH_LONG === '1' ? 200_000 : 4000

function openMap(options: { size?: number; cacheBytes?: number } = {}) {
  const { size = 2 ** 22, cacheBytes } = options
  const volume = openSimulated(new SimulatedMedia('cache-line', makeImage({ size }), false))
  return { volume, map: OrderedMap.open(volume, 'map', { cacheBytes }) }
}

/** Keys that share long beginnings, with neighbours of one byte. */
function prefixedKeys(): string[] {
  const keys = ['', '\0', '\0\0', 'a', 'aa', 'aaa', '\xff', '\xff\xff', '\xff\xff\xff\xff\xff']
  for (const stem of ['shared/', `${'long'.repeat(20)}/`, 'a\0\0\0']) {
    for (let i = 0; i < 90; i++) {
      keys.push(`${stem}${String.fromCharCode(97 + (i % 9))}${'z'.repeat(i % 7)}${i}`)
    }
    keys.push(stem, `${stem}\0`, `${stem}\0\0\0\0`, `${stem}\0\0\0\0\0`, `${stem}\xff`)
  }
  return keys
}

function someBound(model: MapModel, random: Random): string {
  const key = random.pick(model.keys())
  const kind = random.below(8)
  if (kind === 0) return `${key}\0`
  if (kind === 1) return key.slice(0, -1)
  if (kind === 2) return key.slice(0, random.below(key.length + 1))
  if (kind === 3) return `${key.slice(0, -1)}${String.fromCharCode(random.below(256))}`
  if (kind === 4) return ''
  return key
}

function someRange(model: MapModel, random: Random): Range {
  const range: Record<string, unknown> = {}
  if (!random.chance(4)) range[random.pick(['gt', 'gte'])] = bytesOf(someBound(model, random))
  if (!random.chance(4)) range[random.pick(['lt', 'lte'])] = bytesOf(someBound(model, random))
  if (random.chance(8)) range.lt = range.gte ?? range.gt
  if (range.lt !== undefined) delete range.lte
  if (random.chance(2)) range.reverse = true
  if (random.chance(4)) range.limit = random.below(80)
  return range
}

function fill(map: OrderedMap): MapModel {
  const model = new MapModel()
  for (const [i, key] of prefixedKeys().entries()) {
    map.put(bytesOf(key), Buffer.from(`value ${i}`))
    model.put(key, Buffer.from(`value ${i}`))
  }
  return model
}

describe('ranges', () => {
  it('are what a sorted list has between the bounds', () => {
    const { volume, map } = openMap()
    const model = fill(map)
    assertSame(map, model)
    seeded((random) => {
      for (let i = 0; i < RANGES; i++) assertRange(map, model, someRange(model, random))
    })
    volume.close()
  })

  it('with the lower bound behind the upper one are empty, wherever the leaves end', () => {
    const { volume, map } = openMap()
    const model = fill(map)
    const keys = [...model.keys(), 'shared/zzzzzzzzzz', '0', 'm', 'zz']
    for (let i = 0; i < keys.length; i += 3) {
      for (let j = 0; j < keys.length; j += 5) {
        const [low, high] = [keys[i]!, keys[j]!].sort() as [string, string]
        if (low === high) continue
        for (const reverse of [false, true]) {
          const range = { gte: bytesOf(high), lte: bytesOf(low), reverse }
          assert.deepEqual([...map.keys(range)].map(textOf), [], describeRange(range))
        }
      }
    }
    volume.close()
  })

  it('of an empty map and of one entry', () => {
    const { volume, map } = openMap()
    const empty = new MapModel()
    const ranges = [{}, { reverse: true }, { gte: bytesOf('') }, { lt: bytesOf('') }, { limit: 0 }]
    for (const range of ranges) assertRange(map, empty, range)
    map.put(bytesOf(''), bytesOf(''))
    const one = new MapModel(new Map([['', Buffer.alloc(0)]]))
    for (const range of ranges) assertRange(map, one, range)
    assert.equal(map.get(bytesOf(''))?.length, 0)
    volume.close()
  })

  it('may be gone through in any way that seek allows', () => {
    const { volume, map } = openMap()
    const model = fill(map)
    seeded((random) => {
      for (let round = 0; round < RANGES / 40; round++) {
        const range = someRange(model, random)
        const wanted = model.range({ ...range, limit: Number.POSITIVE_INFINITY })
        const cursor = map.cursor(range)
        let place = 0
        let left = range.limit ?? Number.POSITIVE_INFINITY
        for (let step = random.between(1, 20); step > 0; step--) {
          if (random.chance(3)) {
            const target = someBound(model, random)
            cursor.seek(bytesOf(target))
            place = placeOf(wanted, target, range)
          }
          for (let i = random.below(30); i > 0; i--) {
            const key = left > 0 ? wanted[place] : undefined
            const what = `${describeRange(range)} at ${show(key)}`
            assert.equal(cursor.next(), key !== undefined, what)
            if (key === undefined) {
              assert.throws(() => cursor.key)
              break
            }
            assert.equal(show(textOf(cursor.key)), show(key), what)
            assertBytes(cursor.value, model.get(key))
            place++
            left--
          }
        }
        cursor.close()
        cursor.close()
        assert.equal(cursor.next(), false)
      }
    })
    volume.close()
  })
})

/** Index in the range from which a cursor that sought `target` goes on: its length for none. */
function placeOf(wanted: readonly string[], target: string, range: Range): number {
  const inBounds = new MapModel(new Map([[target, Buffer.alloc(0)]])).range(range).length === 1
  if (!inBounds && range.limit !== 0) return wanted.length
  const index = wanted.findIndex((key) => (range.reverse ? key <= target : key >= target))
  return index === -1 ? wanted.length : index
}

describe("a caller's buffers", () => {
  it('may be used again for the next key and value', () => {
    for (const make of [Buffer.alloc, (bytes: number) => new Uint8Array(bytes)]) {
      const { volume, map } = openMap()
      const model = new MapModel()
      const key = make(8)
      const value = make(16)
      for (let i = 0; i < 1000; i++) {
        new DataView(key.buffer, key.byteOffset).setUint32(0, i)
        value.fill(i)
        map.put(key, value)
        model.put(textOf(key), value)
      }
      key.fill(0xff)
      value.fill(0)
      assertSame(map, model)
      auditMap(volume)
      volume.close()
    }
  })

  it('get of a value what fits, wherever they begin, and its length', () => {
    const { volume, map } = openMap()
    const arena = Buffer.alloc(2048, 0xee)
    const key = Buffer.from('key')
    for (const bytes of [0, 1, 3, 4, 31, 64, 100, 255, 256, 257, 600, 1000]) {
      const value = Buffer.from(Array.from({ length: bytes }, (_, i) => (i * 7 + bytes) & 0xff))
      map.put(key, value)
      for (const room of [0, 1, 4, 50, 100, 256, 1000, 1003]) {
        for (const from of [0, 1, 4, 7]) {
          const target = arena.subarray(from, from + room)
          // Twice: what is copied to again is treated in another way.
          for (let i = 0; i < 2; i++) {
            arena.fill(0xee)
            assert.equal(map.getInto(key, target), bytes)
            const copied = Math.min(bytes, room)
            assertBytes(target.subarray(0, copied), value.subarray(0, copied))
            assert.ok(arena.subarray(0, from).every((byte) => byte === 0xee))
            assert.ok(arena.subarray(from + copied).every((byte) => byte === 0xee))
          }
        }
      }
    }
    arena.fill(0xee)
    assert.equal(map.getInto(Buffer.from('none'), arena), -1)
    assert.ok(arena.every((byte) => byte === 0xee))
    assert.throws(() => map.getInto(key, 'target' as never), { code: 'ERR_INVALID_ARG_TYPE' })
    volume.close()
  })

  it('and those of a batch, when it has returned', () => {
    const { volume, map } = openMap()
    const model = new MapModel()
    const arena = Buffer.alloc(128 * 8)
    for (let round = 0; round < 10; round++) {
      const operations = Array.from({ length: 128 }, (_, i) => {
        arena.writeUInt32BE(round * 128 + i, i * 8)
        const key = arena.subarray(i * 8, i * 8 + 8)
        return { type: 'put', key, value: key } as const
      })
      model.apply(operations)
      map.batch(operations)
      arena.fill(0xee)
    }
    assertSame(map, model)
    volume.close()
  })

  it('and the bounds of a range, while it is gone through', () => {
    const { volume, map } = openMap()
    const model = fill(map)
    for (const reverse of [false, true]) {
      const range = { gte: bytesOf('a'), lt: bytesOf('shared/zzz'), reverse }
      const wanted = model.range(range)
      const cursor = map.cursor(range)
      range.gte.fill(0xff)
      range.lt.fill(0)
      for (const key of wanted) {
        assert.equal(cursor.next(), true)
        assert.equal(show(textOf(cursor.key)), show(key))
      }
      assert.equal(cursor.next(), false)
      cursor.close()
    }
    volume.close()
  })

  it('are copies when they come back', () => {
    const { volume, map } = openMap()
    const model = fill(map)
    for (const [key, value] of map.entries()) {
      key.fill(0)
      value.fill(0)
    }
    map.get(bytesOf('a'))!.fill(0)
    assertSame(map, model)
    volume.close()
  })
})

describe('what is no key, value, range or option', () => {
  const { map, volume } = openMap()
  map.put(bytesOf('kept'), bytesOf('value'))
  const key = bytesOf('key')
  const wrong: [string, () => unknown, string][] = [
    ['a key that is a string', () => map.put('key' as never, key), 'ERR_INVALID_ARG_TYPE'],
    ['no key', () => map.get(undefined as never), 'ERR_INVALID_ARG_TYPE'],
    ['a value that is null', () => map.put(key, null as never), 'ERR_INVALID_ARG_TYPE'],
    ['a key that is too long', () => map.put(Buffer.alloc(65537), key), 'ERR_OUT_OF_RANGE'],
    ['its deletion', () => map.delete(Buffer.alloc(65537)), 'ERR_OUT_OF_RANGE'],
    ['its search', () => map.has(Buffer.alloc(65537)), 'ERR_OUT_OF_RANGE'],
    ['a batch that is none', () => map.batch({} as never), 'ERR_INVALID_ARG_TYPE'],
    ['an operation that is none', () => map.batch([null as never]), 'ERR_INVALID_ARG_TYPE'],
    [
      'an unknown operation',
      () => map.batch([{ type: 'del', key } as never]),
      'ERR_INVALID_ARG_VALUE',
    ],
    ['an unknown bound', () => [...map.keys({ from: key } as never)], 'ERR_UNKNOWN_OPTION'],
    ['two lower bounds', () => [...map.keys({ gt: key, gte: key })], 'ERR_INVALID_ARG_VALUE'],
    ['a limit below 0', () => map.count({ limit: -1 }), 'ERR_INVALID_ARG_VALUE'],
    ['a limit that is no number', () => map.count({ limit: Number.NaN }), 'ERR_INVALID_ARG_VALUE'],
    ['a part of an entry', () => map.count({ limit: 0.5 }), 'ERR_INVALID_ARG_VALUE'],
    ['a range that is null', () => map.count(null as never), 'ERR_INVALID_ARG_TYPE'],
    ['a range to clear that is null', () => map.clear(null as never), 'ERR_INVALID_ARG_TYPE'],
    ['that is a number', () => map.clear(5 as never), 'ERR_INVALID_ARG_TYPE'],
    ['a key to clear', () => map.clear(key as never), 'ERR_UNKNOWN_OPTION'],
    ['a limit to clear below 0', () => map.clear({ limit: -1 }), 'ERR_INVALID_ARG_VALUE'],
    ['no volume', () => OrderedMap.open({} as never, 'a'), 'ERR_INVALID_ARG_TYPE'],
    [
      'an unknown option',
      () => OrderedMap.open(volume, 'map', { cache: 1 } as never),
      'ERR_UNKNOWN_OPTION',
    ],
    [
      'no number of bytes',
      () => OrderedMap.open(volume, 'map', { cacheBytes: Number.NaN }),
      'ERR_INVALID_ARG_VALUE',
    ],
  ]
  for (const [name, call, code] of wrong) {
    it(`${name}: ${code}`, () => {
      assert.throws(call, { code })
      assert.deepEqual([...map.keys()].map(textOf), ['kept'])
    })
  }

  it('any number of bytes will do for the cache', () => {
    for (const cacheBytes of [0, 1.5, 2 ** 40, Number.MAX_SAFE_INTEGER, Number.POSITIVE_INFINITY]) {
      const opened = openMap({ cacheBytes })
      opened.map.put(key, key)
      assertBytes(opened.map.get(key), key)
      opened.volume.close()
    }
  })

  it('a cursor at no entry, and a target that is no key', () => {
    const cursor = map.cursor()
    assert.throws(() => cursor.key, { code: 'ERR_NO_ENTRY' })
    assert.throws(() => cursor.value, { code: 'ERR_NO_ENTRY' })
    assert.throws(() => cursor.seek('a' as never), { code: 'ERR_INVALID_ARG_TYPE' })
    assert.equal(cursor.next(), true)
    cursor.close()
    assert.throws(() => cursor.key, { code: 'ERR_NO_ENTRY' })
  })
})
