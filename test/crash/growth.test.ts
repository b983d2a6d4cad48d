/**
 * Volumes that grow: power is cut at every flush and fence while a volume becomes longer, gets more slots and a longer
 * log. What is opened then is the state before or after, is sound, has all of its space, and grows on.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { PlinthError, type Volume } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { MODELS } from '../../src/testing/crash-test.js'
import { Random } from '../../src/testing/random.js'
import { type Model, SimulatedMedia } from '../../src/testing/simulated-media.js'
import { type ImageOptions, makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { account } from '../support/account.js'

const KIB = 1024
const MIB = 1024 * KIB
const LIMITS = { exhaustive: 32, samples: 6 }

interface Life {
  readonly what: string
  readonly image: ImageOptions
  /** Before the power is cut. */
  readonly prepare: (volume: Volume) => void
  /** At each of its flushes and fences it is. */
  readonly step: (volume: Volume) => void
  /** Of the state after it. */
  readonly grown: (volume: Volume) => boolean
}

function fill(volume: Volume, but: number): void {
  volume.allocate({ size: volume.stats().largestFreeBytes - but, name: 'filler' })
}

function useSlots(volume: Volume): void {
  const { slots } = volume.info.layout.tables[0]!
  for (let i = volume.stats().chunks; i < slots; i++) {
    volume.allocate({ size: 4096, name: `slot ${i}` })
  }
}

const map = (volume: Volume) => OrderedMap.open(volume, 'map')
const key = (i: number) => Buffer.from(`key ${i}`)

const LIVES: readonly Life[] = [
  {
    what: 'longer, on a device that has become so',
    image: { deviceSize: MIB + 96 * KIB },
    prepare: (volume) => fill(volume, 4096),
    step: (volume) => volume.grow(),
    grown: (volume) => volume.info.size === MIB + 96 * KIB,
  },
  {
    what: 'longer by less than the device has, and by less than a granule',
    image: { deviceSize: MIB + 96 * KIB, granule: 16 * KIB },
    prepare: (volume) => volume.allocate({ size: 4096, name: 'first' }),
    step: (volume) => volume.grow(MIB + 2 * 4096),
    grown: (volume) => volume.info.size === MIB + 2 * 4096,
  },
  {
    what: 'by itself, for a chunk',
    image: { deviceSize: 2 * MIB, maxSize: MIB + 128 * KIB },
    prepare: (volume) => fill(volume, 4096),
    step: (volume) => volume.allocate({ size: 32 * KIB, name: 'new' }),
    grown: (volume) => volume.findChunk('new') !== undefined,
  },
  {
    what: 'by itself, in a transaction over a map and a chunk',
    image: { deviceSize: 2 * MIB, maxSize: MIB + 128 * KIB },
    prepare: (volume) => {
      map(volume).put(key(0), Buffer.alloc(100))
      fill(volume, 4096)
    },
    step: (volume) =>
      volume.transact((tx) => {
        map(volume).put(key(1), Buffer.alloc(100, 1))
        const chunk = volume.allocate({ size: 32 * KIB, name: 'new' })
        tx.write(chunk, 0, Buffer.alloc(64, 7))
        map(volume).delete(key(0))
      }),
    grown: (volume) => map(volume).has(key(1)),
  },
  {
    what: 'more slots',
    image: { slots: 32 },
    prepare: useSlots,
    step: (volume) => volume.allocate({ size: 4096, name: 'new' }),
    grown: (volume) => volume.findChunk('new') !== undefined,
  },
  {
    what: 'more slots and longer, in one transaction',
    image: { slots: 32, deviceSize: 2 * MIB, maxSize: MIB + 256 * KIB },
    prepare: (volume) => {
      fill(volume, 40 * 4096)
      useSlots(volume)
    },
    step: (volume) =>
      volume.transact(() => {
        for (let i = 0; i < 12; i++) volume.allocate({ size: 4096, name: `new ${i}` })
      }),
    grown: (volume) => volume.findChunk('new 11') !== undefined,
  },
  {
    what: 'a longer log',
    image: { deviceSize: 16 * MIB, granule: 64 * KIB },
    prepare: (volume) => {
      const a = volume.allocate({ size: 4096, name: 'a' })
      volume.transact((tx) => tx.write(a, 0, Buffer.alloc(64, 7)))
    },
    step: (volume) => volume.grow(),
    grown: (volume) => volume.info.size === 16 * MIB,
  },
]

/** Everything that must not change by growing. */
function contentsOf(volume: Volume): string {
  const chunks = volume.chunks().map(({ name, id, offset, size, heap }) => {
    if (heap !== undefined) return { heap }
    const cell = [...volume.chunk(id).bytes.subarray(0, 64)]
    return { name, id, offset, size, cell: cell.every((byte) => byte === 7) }
  })
  const entries = volume.heaps().includes('map')
    ? [...map(volume).entries()].map(([k, v]) => `${Buffer.from(k)}=${v[0]}`)
    : []
  return JSON.stringify([chunks.filter(({ heap }) => heap === undefined), entries])
}

function workOn(volume: Volume): void {
  try {
    const chunk = volume.allocate({ size: 4096, name: 'later' })
    volume.transact((tx) => tx.write(chunk, 0, Buffer.alloc(64, 7)))
    volume.free(chunk)
  } catch (error) {
    if (!(error instanceof PlinthError && error.code === 'ERR_NO_SPACE')) throw error
  }
  account(volume)
}

function cutEverywhere(life: Life, model: Model): number {
  const media = new SimulatedMedia(model, makeImage(life.image))
  const volume = openSimulated(media)
  life.prepare(volume)
  const before = contentsOf(volume)
  const states: { opened: string; grown: boolean }[] = []
  const seen = new Set<number>()
  media.onPoint = () => {
    forEachCrashState(media, new Random(1, states.length), LIMITS, seen, (state) => {
      const after = new SimulatedMedia(model, state, false)
      const opened = openSimulated(after)
      account(opened)
      states.push({ opened: contentsOf(opened), grown: life.grown(opened) })
      // What is opened can be used, and closed, and grows again.
      if (states.length % 8 === 0) {
        if (!life.grown(opened)) life.step(opened)
        workOn(opened)
        opened.close()
        const again = openSimulated(after)
        account(again)
        assert.ok(life.grown(again))
      }
      after.release()
    })
  }
  life.step(volume)
  media.onPoint = undefined
  const after = contentsOf(volume)
  assert.ok(life.grown(volume))
  account(volume)
  for (const { opened, grown } of states) {
    assert.ok(opened === before || opened === after, `${opened} is neither ${before} nor ${after}`)
    if (grown && before !== after) assert.equal(opened, after)
  }
  volume.close()
  const reopened = openSimulated(media)
  assert.equal(contentsOf(reopened), after)
  assert.equal(reopened.recovery.clean, true)
  account(reopened)
  return states.length
}

describe('a volume that grows', () => {
  for (const life of LIVES) {
    for (const model of MODELS) {
      it(`${life.what}: ${model}`, (t) => {
        const states = cutEverywhere(life, model)
        t.diagnostic(`${states} states`)
        assert.ok(states > 5, `${states} states`)
      })
    }
  }
})
