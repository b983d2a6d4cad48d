/**
 * What a device says bounds nothing by itself: volumes that are as large, as full or as old as the format allows cost
 * what is stated in docs/guarantees.md. Counted are reads, bytes and lengths of arrays, which are the same each time.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { PlinthError } from 'plinth'
import { ChunkTable } from '../../src/allocator/chunk-table.js'
import { checkDevice } from '../../src/check/check.js'
import type { Readable } from '../../src/check/inspection.js'
import { spaceOf } from '../../src/heap/heap.js'
import {
  CHECKPOINT_STATE,
  type CheckpointHeader,
  COUNT_RESTART,
  decodeCheckpoint,
  encodeCheckpoint,
} from '../../src/layout/checkpoint-header.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkSlotSeed,
  decodeChunkSlot,
  encodeChunkSlot,
  SLOTS_MAX,
} from '../../src/layout/chunk-slot.js'
import {
  CHECKPOINT_AT,
  type Geometry,
  geometryOf,
  planGeometry,
  slotPlaces,
} from '../../src/layout/geometry.js'
import {
  encodeHeapHeader,
  encodeSlabHeader,
  HEAP_TYPE,
  slabLayout,
  UNIT_NUMBER_MAX,
} from '../../src/layout/heap.js'
import { rootChunkName, slabChunkName } from '../../src/layout/heap-names.js'
import {
  encodeSuperblock,
  FORMAT_VERSION,
  shapeFields,
  volumeSeed,
} from '../../src/layout/superblock.js'
import { Revocations } from '../../src/log/revocations.js'
import { SlotCopies } from '../../src/log/slot-copies.js'
import { NO_BAD_BLOCKS } from '../../src/media/bad-blocks.js'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { MODELS } from '../../src/testing/crash-test.js'
import { Random } from '../../src/testing/random.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { placesOf } from '../support/places.js'

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB
const SLOT = CHUNK_SLOT.bytes
const UUID = Uint8Array.from({ length: 16 }, (_, i) => i + 1)
const SEED = volumeSeed(UUID)

/** A device of which only some stretches are kept; the rest is zeros. Counts what is read. */
class Sparse implements Readable {
  readonly sizeBytes: number
  readonly #parts: { at: number; bytes: Uint8Array }[] = []
  /** What is at a place of the data area. */
  readonly #data: (offset: number) => Uint8Array | undefined
  reads = 0
  bytes = 0
  dataReads = 0

  constructor(
    geometry: Geometry,
    counts: { slotsUsed: number; holes: number },
    data: (offset: number) => Uint8Array | undefined,
  ) {
    const { sizeBytes, checkpointCopyAt, superblockCopyAt } = geometry
    this.sizeBytes = sizeBytes
    this.#data = data
    const shape = { ...shapeFields(geometry), maxBytes: 0, growBytes: 0, devices: 1, device: 0 }
    const features = { incompatible: 0, readOnlyCompatible: 0, compatible: 0 }
    const own = { version: FORMAT_VERSION, sequence: 1, flags: 0, ...features }
    const name = { uuid: UUID, label: new Uint8Array(64), created: 0 }
    for (const [copy, at] of [0, superblockCopyAt].entries()) {
      this.put(at, encodeSuperblock({ ...shape, ...own, ...name, copy }))
    }
    const state = { logSalt: 1, sequence: 1, head: 0, state: CHECKPOINT_STATE.CLOSED }
    for (const at of [CHECKPOINT_AT, checkpointCopyAt]) {
      this.put(at, encodeCheckpoint({ ...state, ...counts }, SEED))
    }
  }

  put(at: number, bytes: Uint8Array): void {
    this.#parts.push({ at, bytes })
  }

  read(offset: number, length: number): Uint8Array {
    this.reads++
    this.bytes += length
    const read = new Uint8Array(length)
    const end = offset + length
    for (const { at, bytes } of this.#parts) {
      const from = Math.max(at, offset)
      const to = Math.min(at + bytes.length, end)
      if (from < to) read.set(bytes.subarray(from - at, to - at), from - offset)
    }
    const data = this.#data(offset)
    if (data !== undefined) {
      this.dataReads++
      read.set(data.subarray(0, length))
    }
    return read
  }
}

/** A volume whose table has extents of so many slots, side by side behind the head and before the tail. */
function withSlots(extents: readonly number[], sizeBytes: number): Geometry {
  const planned = planGeometry({ sizeBytes, granuleBytes: 4096, alignBytes: 4096 })
  const { dataAt, tailAt } = planned
  const bytes = extents.reduce((sum, slots) => sum + slots * SLOT, 0)
  let at = 0
  const placed = extents.map((slots) => {
    const extent = { slots, firstAt: dataAt + at, secondAt: tailAt - bytes + at }
    at += slots * SLOT
    return extent
  })
  return geometryOf({ ...planned, extents: placed, logAt: dataAt + bytes })!
}

const slotOf = (slot: number, start: number, type: string, name: string): Uint8Array => {
  const bytes = new Uint8Array(SLOT)
  const text = (of: string, length: number) => {
    const field = new Uint8Array(length)
    field.set(Buffer.from(of))
    return field
  }
  const values = { version: 1, generation: 1, state: CHUNK_STATE.CHUNK, start, granules: 1 }
  encodeChunkSlot(
    {
      ...values,
      nameBytes: name.length,
      typeBytes: type.length,
      type: text(type, 16),
      name: text(name, 64),
    },
    chunkSlotSeed(SEED, slot),
    bytes,
  )
  return bytes
}

describe('a chunk table with all slots there can be, all of them empty', () => {
  // As a volume has that has grown: each extent is as large as all before it.
  const sizes = [8192, ...Array.from({ length: 11 }, (_, i) => 8192 * 2 ** i)]
  const geometry = withSlots(sizes, 64 * GIB)
  const { slots, logAt, logBytes } = geometry
  assert.equal(slots, SLOTS_MAX)
  const tableBytes = slots * SLOT
  const counts = { slotsUsed: slots, holes: slots }

  test('check reads it once', () => {
    const device = new Sparse(geometry, counts, () => undefined)
    assert.deepEqual(checkDevice(device).findings, [])
    // Windows of a MiB of both copies; ends of the metadata, superblocks and checkpoint headers beside them.
    const windows = (2 * tableBytes) / MIB
    assert.ok(device.reads <= windows + 32, `${device.reads} reads for ${windows} windows`)
    assert.ok(device.bytes <= 2 * tableBytes + logBytes + 4 * MIB, `${device.bytes} bytes`)
  })

  test('opening passes all of it at once', (t) => {
    const bytes = new Uint8Array(sizes.at(-1)! * SLOT)
    const mapping = (offset: number, length: number) => ({
      slot: 0,
      offset,
      length,
      bytes: bytes.subarray(0, length),
      dirty: undefined,
    })
    const extents = geometry.extents.map(({ slots: its, firstAt, secondAt }) => ({
      slots: its,
      copies: [mapping(firstAt, its * SLOT), mapping(secondAt, its * SLOT)] as const,
    }))
    const read = t.mock.method(SlotCopies.prototype, 'read')
    const passed = t.mock.method(SlotCopies.prototype, 'unusedFrom')
    const table = new ChunkTable({ geometry, seed: SEED, extents, badBlocks: NO_BAD_BLOCKS })
    assert.equal(
      table.load(counts, 0, () => {}),
      0,
    )
    assert.deepEqual([read.mock.callCount(), passed.mock.callCount()], [0, 1])
    const chunksEnd = geometry.extents[0]!.secondAt
    assert.equal(table.granules.free, (chunksEnd - (logAt + logBytes)) / 4096)
  })
})

test('check of 20 000 slab chunks reads each head once', () => {
  const geometry = withSlots([32 * KIB], 256 * MIB)
  const { granuleBytes } = geometry
  const { tableAt, tableCopyAt, chunksAt, chunksEnd } = placesOf(geometry)
  const first = chunksAt / granuleBytes
  const id = SLOTS_MAX
  const cost = (count: number) => {
    const device = new Sparse(geometry, { slotsUsed: count, holes: 0 }, (offset) => {
      if (offset < chunksAt || offset >= chunksEnd) return undefined
      const granule = (offset - chunksAt) / granuleBytes
      if (!Number.isInteger(granule) || granule >= count) return undefined
      const head = new Uint8Array(granuleBytes)
      const units = 1
      const { headerAt } = slabLayout(units, granuleBytes, granule === 0)
      if (granule === 0)
        head.set(encodeHeapHeader({ id, unitBytes: granuleBytes, sizes: [16, 64] }, SEED))
      const chunk = SLOTS_MAX + granule
      const header = { heap: id, chunk, firstUnit: granule, units, unitBytes: granuleBytes }
      head.set(encodeSlabHeader(header, SEED), headerAt)
      return head
    })
    const table = new Uint8Array(count * SLOT)
    for (let slot = 0; slot < count; slot++) {
      const isRoot = slot === 0
      const type = isRoot ? HEAP_TYPE.HEAP : HEAP_TYPE.SLAB
      const name = isRoot ? rootChunkName('h') : slabChunkName(id, slot)
      table.set(slotOf(slot, first + slot, type, name), slot * SLOT)
    }
    for (const at of [tableAt, tableCopyAt]) device.put(at, table)
    const { findings, inspection } = checkDevice(device)
    assert.deepEqual(findings, [])
    assert.equal(inspection.heaps.get(id)?.chunks.length, count)
    return { reads: device.reads, dataReads: device.dataReads, bytes: device.bytes }
  }
  const one = cost(10_000)
  const two = cost(20_000)
  // One more for the header of the heap.
  assert.equal(two.dataReads, 20_001)
  assert.equal(two.reads - one.reads, 10_000)
  const { headBytes } = slabLayout(1, granuleBytes, false)
  assert.equal(two.bytes - one.bytes, 10_000 * headBytes)
})

test('units with the greatest numbers cost two pages a kind of objects', () => {
  const media = new SimulatedMedia('cache-line', makeImage(), false)
  const before = openSimulated(media)
  const heap = before.heap('h')
  const { id, rootChunk, unitBytes } = spaceOf(heap)
  while (heap.stats().slabChunks < 2) heap.allocate(64, 1)
  for (let i = 0; i < 5; i++) heap.allocate(64, 1)
  before.close()
  const image = media.visible.slice()
  const geometry = planGeometry({ sizeBytes: image.length, alignBytes: 4096 })
  // The second chunk gets the last numbers there are.
  let moved = 0
  for (let slot = 0; slot < geometry.slots; slot++) {
    const seed = chunkSlotSeed(SEED, slot)
    const places = slotPlaces(geometry, slot)
    const values = decodeChunkSlot(image, places[0], seed)
    if (typeof values !== 'object' || values.state !== CHUNK_STATE.CHUNK) continue
    const chunkId = values.generation * SLOTS_MAX + slot
    if (chunkId === rootChunk.chunk.id) continue
    const units = (values.granules * geometry.granuleBytes) / unitBytes
    const firstUnit = UNIT_NUMBER_MAX - units
    const name = Buffer.from(slabChunkName(id, firstUnit))
    values.name.fill(0)
    values.name.set(name)
    for (const at of places) {
      encodeChunkSlot({ ...values, nameBytes: name.length }, seed, image.subarray(at, at + SLOT))
    }
    const at = values.start * geometry.granuleBytes
    const header = { heap: id, chunk: chunkId, firstUnit, units, unitBytes }
    image.set(encodeSlabHeader(header, SEED), at + slabLayout(units, unitBytes, false).headerAt)
    moved++
  }
  assert.equal(moved, 1)
  const volume = openSimulated(new SimulatedMedia('cache-line', image, false))
  const opened = volume.heap('h')
  opened.free(Math.max(...opened.objects()))
  opened.allocate(64, 1)
  const { kinds, chunks } = spaceOf(opened)
  assert.equal(chunks.at(-1)!.firstUnit + chunks.at(-1)!.units, UNIT_NUMBER_MAX)
  assert.ok(kinds.length > 0)
  const bits = UNIT_NUMBER_MAX / 1024 / 8
  assert.equal(bits, 8192)
  for (const { slabs } of kinds) {
    assert.ok(slabs.memoryBytes <= bits + 2 * 132, `${slabs.memoryBytes} bytes`)
  }
  assert.ok(kinds.some(({ slabs }) => slabs.memoryBytes > bits))
  volume.close()
})

describe('LSNs and sequences near the greatest number', () => {
  const geometry = planGeometry({ sizeBytes: MIB, alignBytes: 4096 })
  const { checkpointCopyAt, logBytes } = geometry
  const NAMES = ['a', 'b', 'c']

  /** A closed volume with a chunk, whose checkpoint headers say that it is as old. */
  const aged = (change: Partial<CheckpointHeader>): Uint8Array => {
    const media = new SimulatedMedia('cache-line', makeImage(), false)
    const volume = openSimulated(media)
    volume.allocate({ size: 4096, name: 'a' })
    volume.close()
    const image = media.visible.slice()
    for (const at of [CHECKPOINT_AT, checkpointCopyAt]) {
      const header = decodeCheckpoint(image.subarray(at, at + 64), SEED)!
      image.set(encodeCheckpoint({ ...header, ...change }, SEED), at)
    }
    return image
  }
  const headerOf = (image: Uint8Array) =>
    decodeCheckpoint(image.subarray(CHECKPOINT_AT, CHECKPOINT_AT + 64), SEED)!
  const namesOf = (volume: ReturnType<typeof openSimulated>) =>
    volume.chunks().map(({ name }) => name)

  const cases: [what: string, change: Partial<CheckpointHeader>, head: number, sequence: number][] =
    [
      ['just below', { head: COUNT_RESTART - 4096, sequence: 7 }, COUNT_RESTART - 4096, 8],
      ['reached', { head: COUNT_RESTART, sequence: 7 }, 0, 8],
      ['passed', { head: COUNT_RESTART + 4096, sequence: 7 }, 4096, 8],
      ['the last', { head: 2 ** 53 - 2 ** 31 - 4096, sequence: 7 }, logBytes - 4096, 8],
      ['a sequence', { head: 0, sequence: COUNT_RESTART }, 0, 1],
      ['the last sequence', { head: 0, sequence: 2 ** 53 - 2 ** 31 - 1 }, 0, 1],
      ['both', { head: 2 ** 52 + 64, sequence: 2 ** 52 + 64 }, 4096, 1],
    ]
  for (const [what, change, head, sequence] of cases) {
    test(`${what}: begins anew at the same place of the ring`, () => {
      const media = new SimulatedMedia('page', aged(change), false)
      const volume = openSimulated(media)
      const header = headerOf(media.visible)
      assert.deepEqual([header.head, header.sequence], [head, sequence])
      for (const name of NAMES.slice(1)) volume.allocate({ size: 4096, name })
      // Not closed: what follows is replayed from there.
      const again = openSimulated(new SimulatedMedia('page', media.visible, false))
      assert.equal(again.recovery.recordsReplayed, 2)
      assert.deepEqual(namesOf(again), NAMES)
      again.close()
    })
  }

  for (const field of ['head', 'sequence']) {
    test(`a ${field} that no log can reach is damage`, () => {
      const image = aged({ [field]: 2 ** 53 - 2 ** 31 })
      assert.throws(
        () => openSimulated(new SimulatedMedia('page', image, false)),
        (error) => error instanceof PlinthError && error.code === 'ERR_VOLUME_CORRUPT',
      )
    })
  }

  for (const model of MODELS) {
    test(`power that fails while they begin anew, ${model}`, () => {
      const media = new SimulatedMedia(model, aged({ head: 2 ** 52 + 4096, sequence: 2 ** 52 + 5 }))
      const seen = new Set<number>()
      let states = 0
      let done: readonly string[] = ['a']
      let next: readonly string[] = ['a']
      media.onPoint = () => {
        const limits = { exhaustive: 64, samples: 16 }
        forEachCrashState(media, new Random(1, states), limits, seen, (state) => {
          states++
          const after = new SimulatedMedia(model, state, false)
          const opened = openSimulated(after)
          const names = namesOf(opened).join()
          assert.ok([done.join(), next.join()].includes(names), names)
          opened.allocate({ size: 4096, name: 'after' })
          opened.close()
          after.release()
        })
      }
      const volume = openSimulated(media)
      next = ['a', 'b']
      volume.allocate({ size: 4096, name: 'b' })
      done = next
      volume.close()
      assert.ok(states > 4, `${states} states`)
    })
  }
})

test('revocations take 32 bytes each, once they are cut', () => {
  const revocations = new Revocations()
  for (let i = 0; i < 100_000; i++) revocations.add(4096 * (i % 1000), 4096, i)
  // Three numbers each, in an array that doubles.
  assert.ok(revocations.memoryBytes < 2 * 24 * 100_000)
  revocations.cut()
  assert.equal(revocations.memoryBytes, 32 * 100_000)
})
