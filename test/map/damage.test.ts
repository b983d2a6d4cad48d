// Maps whose bytes were damaged on the device: what is read is right, or ERR_VOLUME_CORRUPT; nothing crashes or hangs.
//
// PLINTH_LONG=1 tries twenty times as many damages.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { PlinthError, type Volume } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { LEAF_SLOTS, LOW_AT, LOW_BYTES_MAX, SLOTS_AT, TYPE } from '../../src/map/layout.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { bytesOf, MapModel, textOf } from '../support/map-model.js'
import { type Random, seeded } from '../support/random.js'

const TIMES = process.env.PLINTH_LONG === '1' ? 8000 : 400

/** A map of several leaves, some with long low keys, and what a snapshot of the last opening left. */
function prepare() {
  const media = new SimulatedMedia('cache-line', makeImage())
  const volume = openSimulated(media)
  const map = OrderedMap.open(volume, 'map')
  const model = new MapModel()
  const set = (key: string, value: Buffer) => {
    map.put(bytesOf(key), value)
    model.put(key, value)
  }
  for (let i = 0; i < 300; i++) {
    set(`key ${(i * 7919) % 300}`, Buffer.alloc(i % 50, i))
    if (i % 3 === 0) set(`${'long'.repeat(25)}${i}`, Buffer.from(`value ${i}`))
  }
  set('large', Buffer.alloc(20_000, 3))
  map.snapshot()
  for (let i = 0; i < 30; i++) {
    map.delete(bytesOf(`key ${i}`))
    model.delete(`key ${i}`)
  }
  volume.checkpoint()
  return { image: media.durable.slice(), model }
}

const { image, model } = prepare()

/** Bytes of the map's objects: what the structure is, and what only entries say. */
function placesOf(volume: Volume) {
  const heap = volume.heap('map')
  const of = (type: number) => [...heap.objects({ type })]
  return {
    header: heap.root,
    leaves: of(TYPE.LEAF),
    entries: of(TYPE.ENTRY),
    keys: of(TYPE.KEY),
    pages: of(TYPE.RETIRED),
  }
}

const places = (() => {
  const volume = openSimulated(new SimulatedMedia('cache-line', image, false))
  return placesOf(volume)
})()
const all = [places.header, ...Object.values(places).flat()]

function someWord(random: Random): number {
  return random.pick([0, 1, 63, 64, 0xffffffff, 0x7fffffff, random.next(), random.pick(all)])
}

const damages: Record<string, (heapBytes: DataView, random: Random) => string> = {
  'a pointer of a leaf': (view, random) => {
    const leaf = random.pick(places.leaves)
    const slot = random.below(LEAF_SLOTS)
    const at = leaf + SLOTS_AT + slot * 8
    const pointer = random.chance(2) ? random.pick(all) + random.pick([0, 0, 8, 1]) : random.next()
    view.setUint32(at, pointer, true)
    if (random.chance(3)) view.setUint32(at + 4, someWord(random), true)
    return `slot ${slot} of leaf ${leaf}: ${pointer}`
  },
  'the head of a leaf': (view, random) => {
    const leaf = random.pick(places.leaves)
    const at = leaf + random.pick([0, 4, 4, LOW_AT, LOW_AT + 4])
    const word = someWord(random)
    view.setUint32(at, word, true)
    return `word at ${at - leaf} of leaf ${leaf}: ${word}`
  },
  'a low key': (view, random) => {
    const leaf = random.pick(places.leaves)
    const at = leaf + LOW_AT + random.below(LOW_BYTES_MAX)
    view.setUint8(at, random.next() & 255)
    return `byte at ${at - leaf} of leaf ${leaf}`
  },
  'a long low key': (view, random) => {
    const at = random.pick(places.keys) + random.below(100)
    view.setUint8(at, random.next() & 255)
    return `byte at ${at}`
  },
  'the lengths of an entry': (view, random) => {
    const entry = random.pick(places.entries)
    const at = entry + random.pick([0, 0, 0, 4, 8])
    const word = random.chance(2)
      ? view.getUint32(at, true) ^ (1 << random.below(32))
      : someWord(random)
    view.setUint32(at, word, true)
    return `word at ${at - entry} of entry ${entry}: ${word}`
  },
  'what was retired': (view, random) => {
    const at = random.pick(places.pages) + random.below(64) * 8
    view.setUint32(at, random.chance(3) ? someWord(random) : random.pick(all), true)
    return `word at ${at}: ${view.getUint32(at, true)}`
  },
  'the header': (view, random) => {
    view.setUint32(places.header + 4 * random.below(3), someWord(random), true)
    return 'the header'
  },
  anything: (view, random) => {
    const at = random.pick(all)
    const bytes = random.bytes(random.pick([8, 64, 512]))
    bytes.forEach((byte, i) => {
      if (at + i < view.byteLength) view.setUint8(at + i, byte)
    })
    return `${bytes.length} bytes at ${at}`
  },
}

const CODES = ['ERR_VOLUME_CORRUPT', 'ERR_NOT_A_MAP', 'ERR_FORMAT_TOO_NEW']

/** What `body` returns; undefined when it says that the map is damaged. */
function orCorrupt<T>(body: () => T): T | undefined {
  try {
    return body()
  } catch (error) {
    if (error instanceof PlinthError && CODES.includes(error.code)) return undefined
    throw error
  }
}

/**
 * No key gets another's value. Entries and low keys have no checksum: an entry whose own bytes were changed may
 * have another key or value, and one beside a low key that was changed may be missed, until its leaf is read.
 */
function attempt(damaged: Uint8Array, hasEntries: boolean): 'right' | 'missing' | 'refused' {
  const volume = openSimulated(new SimulatedMedia('cache-line', damaged, false))
  const map = orCorrupt(() => OrderedMap.open(volume, 'map', { cacheBytes: 0 }))
  if (map === undefined) return 'refused'
  let right = 0
  let missing = 0
  let changed = 0
  for (const key of model.keys()) {
    orCorrupt(() => {
      const value = map.get(bytesOf(key))
      if (value === undefined) missing++
      else if (Buffer.compare(value, model.get(key)!) !== 0) changed++
      else right++
    })
  }
  if (!hasEntries) assert.equal(changed, 0, 'a key has the value of another')
  const listed = orCorrupt(() => [...map.entries()].map(([key]) => textOf(key)))
  const backwards = orCorrupt(() => [...map.keys({ reverse: true })].map(textOf).reverse())
  assert.deepEqual(listed, backwards)
  if (listed !== undefined) {
    assert.equal(listed.length, new Set(listed).size)
    assert.equal(right + missing + changed, model.size, 'what can be listed can be had')
  }
  // Changes are possible or refused.
  for (const key of [...model.keys()].filter((_, i) => i % 40 === 0)) {
    orCorrupt(() => map.put(bytesOf(key), Buffer.alloc(30)))
    orCorrupt(() => map.delete(bytesOf(key)))
    orCorrupt(() => map.put(bytesOf(`${key}+`), Buffer.alloc(700)))
  }
  orCorrupt(() => map.clear())
  volume.close()
  if (right === model.size && listed !== undefined) return 'right'
  return listed === undefined ? 'refused' : 'missing'
}

describe('a damaged map', () => {
  for (const [name, damage] of Object.entries(damages)) {
    it(`${name} has changed`, (t) => {
      const tally = { right: 0, missing: 0, refused: 0 }
      // An entry's own words, for one.
      const hasEntries = name === 'the lengths of an entry' || name === 'anything'
      seeded((random) => {
        for (let i = 0; i < TIMES / 8; i++) {
          const damaged = image.slice()
          const what = damage(new DataView(damaged.buffer), random)
          try {
            tally[attempt(damaged, hasEntries)]++
          } catch (cause) {
            throw new Error(`${what}: ${(cause as Error).message}`, { cause })
          }
        }
      }, name.length)
      t.diagnostic(JSON.stringify(tally))
    })
  }
})

/**
 * A pointer twice in what was retired, or one that a leaf still has, was freed when the map opened: its space went to
 * another entry, or the transaction threw, and the map did not open again.
 */
describe('bytes of the map that are possible each and not together', () => {
  const [page, leaf] = [places.pages[0]!, places.leaves[0]!]
  const [one, other] = places.keys
  const entryOf = (view: DataView, its: number) => {
    let at = its + SLOTS_AT
    while (view.getUint32(at, true) === 0) at += 8
    return view.getUint32(at, true)
  }
  const cases: [what: string, change: (view: DataView) => void][] = [
    [
      'an entry retired twice',
      (view) => view.setUint32(page + 8, view.getUint32(page, true), true),
    ],
    ['an entry retired that a leaf has', (view) => view.setUint32(page, entryOf(view, leaf), true)],
    ['a retired leaf', (view) => view.setUint32(page, leaf, true)],
    ['a pointer beyond 2^53', (view) => view.setUint32(page + 4, 0xffffffff, true)],
    [
      'a long low key of two leaves',
      (view) => {
        const its = places.leaves.find((each) => view.getUint32(each + LOW_AT, true) === other)!
        view.setUint32(its + LOW_AT, one!, true)
        view.setUint32(its + 4, view.getUint32(its + 4, true) - 1, true)
      },
    ],
  ]
  for (const [what, change] of cases) {
    it(what, () => {
      const damaged = image.slice()
      change(new DataView(damaged.buffer))
      const media = new SimulatedMedia('cache-line', damaged, false)
      const volume = openSimulated(media)
      assert.throws(() => OrderedMap.open(volume, 'map'), { code: 'ERR_VOLUME_CORRUPT' })
      volume.allocate({ size: 4096, name: 'the rest is usable' })
      volume.close()
      assert.ok(openSimulated(new SimulatedMedia('cache-line', media.visible, false)).isOpen)
    })
  }
})
