/** Repair under power cuts: whatever it was doing, the volume is no worse, and repair can be run again. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { alignUp, LINE_BYTES } from '../../src/base/units.js'
import { checkDevice } from '../../src/check/check.js'
import { CHUNK_SLOT } from '../../src/layout/chunk-slot.js'
import { CHECKPOINT_AT } from '../../src/layout/geometry.js'
import { HEAP_HEADER, SLAB_ENTRY } from '../../src/layout/heap.js'
import { RECORD_SKIP } from '../../src/layout/record.js'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { Random as LabRandom } from '../../src/testing/random.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { repairDevice } from '../../src/volume/inspect.js'
import {
  type Aged,
  alarms,
  evaluate,
  geometry,
  makeAged,
  readableOf,
  repairImage,
} from '../support/damage.js'
import { placesOf } from '../support/places.js'

const { checkpointCopyAt, superblockCopyAt } = geometry
const { tableAt, tableCopyAt } = placesOf(geometry)
const slot = (table: number, n: number) => table + n * CHUNK_SLOT.bytes

/** In the heap of the volume: bytes of its header, of slab headers and of an entry. */
function heapPlaces(): number[] {
  const { image } = makeAged({ crashModel: 'cache-line', end: 'close' })
  const [heap] = checkDevice(readableOf(image)).inspection.heaps.values()
  const [root, slab] = heap!.chunks
  const headers = [root, slab].flatMap((chunk) =>
    [4, 12, 20, 33].map((at) => chunk!.offset + chunk!.layout.headerAt + at),
  )
  const entry = slab!.offset + slab!.layout.entriesAt + slab!.slabs[0]!.unit * SLAB_ENTRY.bytes
  const sizes = [0, 8, 100, 300].map((at) => root!.offset + HEAP_HEADER.fields.sizes[0] + at)
  return [...headers, ...sizes, entry + 5]
}

const damages: [what: string, places: number[], opens: boolean, drops: boolean, flip?: number][] = [
  [
    'the first of everything',
    [100, CHECKPOINT_AT + 9, slot(tableAt, 0), slot(tableAt, 3)],
    true,
    false,
  ],
  [
    'the second of everything',
    [superblockCopyAt + 8, checkpointCopyAt, slot(tableCopyAt, 1) + 50, slot(tableCopyAt, 4)],
    true,
    false,
  ],
  ['both of a slot', [slot(tableAt, 2) + 17, slot(tableCopyAt, 2) + 60], false, true],
  ['the heads of a heap', heapPlaces(), true, false, 0x40],
  ['unused slots', [slot(tableAt, 40), slot(tableAt, 41), slot(tableCopyAt, 60)], true, false],
]

/** Overwrites what the second record of the log says; there are others behind it. */
function damageLog({ image }: Aged): Uint8Array {
  const { checkpointHeader } = checkDevice(readableOf(image)).inspection
  const { logAt, logBytes } = geometry
  const view = new DataView(image.buffer, image.byteOffset)
  let lsn = checkpointHeader!.head
  let at = 0
  for (let records = 0; ; ) {
    at = logAt + (lsn % logBytes)
    const isSkip = (view.getUint32(at + 12, true) & RECORD_SKIP) !== 0
    if (!isSkip && records++ === 1) break
    lsn += alignUp(view.getUint32(at + 4, true), LINE_BYTES)
  }
  const damaged = image.slice()
  damaged.fill(0x5a, at + 24, at + 56)
  return damaged
}

/** Every state in which a power cut leaves a repair. */
function crashes(
  aged: Aged,
  damaged: Uint8Array,
  dropDamaged: boolean,
  visit: (image: Uint8Array) => void,
): number {
  const media = new SimulatedMedia(aged.crashModel, damaged)
  const known = new Set<number>()
  let states = 0
  media.onPoint = () =>
    forEachCrashState(media, new LabRandom(1), { exhaustive: 64, samples: 16 }, known, (image) => {
      states++
      visit(image)
    })
  repairDevice(
    {
      device: {
        sizeBytes: damaged.length,
        read: (offset, length) => readableOf(media.visible).read(offset, length),
      },
      alignBytes: 4096,
      openMedia: () => media,
    },
    { dryRun: false, dropDamaged, force: true },
  )
  return states
}

for (const crashModel of ['cache-line', 'page', 'byte'] as const) {
  for (const [what, places, opens, dropDamaged, flip = 0x55] of damages) {
    test(`a power cut while repair restores ${what}, ${crashModel}`, (t) => {
      const aged = makeAged({ crashModel, end: 'close' })
      const last = aged.states.length - 1
      const isHeap = what.includes('heap')
      const damaged = aged.image.slice()
      for (const at of places) damaged[at]! ^= flip
      assert.equal(evaluate(aged, damaged).code === undefined, opens)
      const repaired = damaged.slice()
      assert.deepEqual(alarms(repairImage(aged, repaired, { dropDamaged }).remaining), [])
      const end = evaluate(aged, repaired)
      assert.equal(end.code, undefined)
      if (opens) assert.equal(end.state, last)
      const states = crashes(aged, damaged, dropDamaged, (image) => {
        const { code, state, chunkState } = evaluate(aged, image)
        // Between the two copies of a lost slot it opens already.
        // Of a heap, which is kept once, a part is repaired and a part is not.
        if (isHeap) assert.equal(chunkState, last)
        else if (opens) assert.equal(state, last)
        else assert.ok(code === 'ERR_VOLUME_CORRUPT' || code === undefined)
        const again = image.slice()
        assert.deepEqual(alarms(repairImage(aged, again, { dropDamaged }).remaining), [])
        // A slot that is given up takes its generation from what is left of it: that may have changed.
        if (opens) assert.deepEqual(again, repaired)
        else assert.equal(evaluate(aged, again).code, undefined)
      })
      assert.ok(states > 0)
      t.diagnostic(`${states} states`)
    })
  }
}

for (const crashModel of ['cache-line', 'page'] as const) {
  for (const end of ['power', 'kill'] as const) {
    test(`a power cut while repair drops what is behind a damaged record, ${crashModel}, ${end}`, (t) => {
      const aged = makeAged({ crashModel, end })
      const damaged = damageLog(aged)
      assert.equal(evaluate(aged, damaged).code, 'ERR_VOLUME_CORRUPT')
      assert.deepEqual(repairImage(aged, damaged.slice()).fixes, [], 'nothing is given up unasked')
      const repaired = damaged.slice()
      assert.deepEqual(alarms(repairImage(aged, repaired, { dropDamaged: true }).remaining), [])
      const ends = evaluate(aged, repaired)
      assert.equal(ends.code, undefined)
      const states = crashes(aged, damaged, true, (image) => {
        const now = evaluate(aged, image)
        if (now.code !== undefined) assert.equal(now.code, 'ERR_VOLUME_CORRUPT')
        const again = image.slice()
        assert.deepEqual(alarms(repairImage(aged, again, { dropDamaged: true }).remaining), [])
        assert.deepEqual(evaluate(aged, again), ends)
      })
      assert.ok(states > 0)
      t.diagnostic(`${states} states`)
    })
  }
}
