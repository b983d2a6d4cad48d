/**
 * Parsers on bytes of any kind: random, and valid ones changed. Each gives a value, undefined or a
 * PlinthError, in bounded time.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { PlinthError } from 'plinth'
import { ChunkTable } from '../../src/allocator/chunk-table.js'
import { crc32c } from '../../src/base/checksum.js'
import { MIB } from '../../src/base/units.js'
import { checkDevice } from '../../src/check/check.js'
import { SizeClasses } from '../../src/heap/size-classes.js'
import type { SlabChunk } from '../../src/heap/slab-chunk.js'
import { readSlabs } from '../../src/heap/slab-reader.js'
import {
  CHECKPOINT,
  decodeCheckpoint,
  encodeCheckpoint,
} from '../../src/layout/checkpoint-header.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkSlotSeed,
  decodeChunkSlot,
  encodeChunkSlot,
  encodeFreeSlot,
} from '../../src/layout/chunk-slot.js'
import { type Geometry, geometryOf, TABLE_EXTENTS_MAX } from '../../src/layout/geometry.js'
import {
  decodeHeapHeader,
  encodeHeapHeader,
  encodeSlabEntry,
  encodeSlabHeader,
  HEAP_HEADER,
  heapHeaderChecksum,
  SLAB_ENTRY,
  SLAB_HEADER,
  slabEntrySeed,
  slabLayout,
  slabPlace,
} from '../../src/layout/heap.js'
import { findSignatures, SIGNATURE_BYTES } from '../../src/layout/signature.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  FORMAT_VERSION,
  SUPERBLOCK,
  shapeFields,
  shapeOf,
} from '../../src/layout/superblock.js'
import { walkLog } from '../../src/log/replay.js'
import { Revocations } from '../../src/log/revocations.js'
import { NO_BAD_BLOCKS } from '../../src/media/bad-blocks.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { readContents } from '../../src/volume/contents.js'
import { findSuperblock } from '../../src/volume/superblocks.js'
import { evaluate, geometry, makeAged, readableOf, repairImage } from '../support/damage.js'
import { placesOf } from '../support/places.js'
import { seeded, seedOfRun } from '../support/random.js'

const LONG = process.env.PLINTH_LONG === '1'
const SEED = 12345
/** No parser of these sizes takes so long, however slow the machine. */
const SLOW_MS = 2000

/** Runs a property with the seed of this run. */
function demand(property: fc.IProperty<[Uint8Array]>, runs: number): void {
  fc.assert(property, { seed: seedOfRun, numRuns: LONG ? runs * 20 : runs })
}

/** Nothing but a PlinthError, and in time. */
function parse<T>(body: () => T): T | undefined {
  const started = performance.now()
  try {
    return body()
  } catch (error) {
    if (!(error instanceof PlinthError)) throw error
    assert.match(error.code, /^ERR_/)
    return undefined
  } finally {
    const took = performance.now() - started
    assert.ok(took < SLOW_MS, `took ${took} ms`)
  }
}

/** Random bytes, or valid ones with some changed; `seal` may make the checksum right again. */
function bytesLike(
  valid: Uint8Array,
  seal?: (bytes: Uint8Array) => void,
): fc.Arbitrary<Uint8Array> {
  const size = valid.length
  const changed = fc
    .tuple(
      fc.array(fc.tuple(fc.nat(size - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 8 }),
      fc.boolean(),
    )
    .map(([changes, sealed]) => {
      const bytes = valid.slice()
      for (const [at, byte] of changes) bytes[at] = byte
      if (sealed) seal?.(bytes)
      return bytes
    })
  return fc.oneof(fc.uint8Array({ minLength: size, maxLength: size }), {
    arbitrary: changed,
    weight: 4,
  })
}

const word = (bytes: Uint8Array, at: number, value: number) =>
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, value, true)

const { tableAt, tableCopyAt, tableBytes, chunksAt } = placesOf(geometry)

const superblock = encodeSuperblock({
  version: FORMAT_VERSION,
  compatible: 0,
  readOnlyCompatible: 0,
  incompatible: 0,
  copy: 0,
  uuid: new Uint8Array(16).fill(7),
  ...shapeFields(geometry),
  created: 1,
  label: new Uint8Array(64),
  sequence: 1,
  maxBytes: 2 ** 40,
  growBytes: 2 ** 20,
  flags: 1,
  devices: 1,
  device: 0,
})
const sealSuperblock = (page: Uint8Array) => {
  word(page, 8, 0)
  word(page, 8, crc32c(0, page))
}

/** What passes as a geometry is one: everything within the volume, at granules, nothing over anything. */
function demandPlaces(of: Geometry | undefined): void {
  if (of === undefined) return
  const { granuleBytes, logAt, logBytes, extents } = of
  const areas: [at: number, end: number][] = [
    [0, 8192],
    [logAt, logAt + logBytes],
    [of.checkpointCopyAt, of.sizeBytes],
  ]
  for (const { slots, firstAt, secondAt } of extents) {
    for (const at of [firstAt, secondAt]) areas.push([at, at + slots * CHUNK_SLOT.bytes])
  }
  areas.sort(([one], [other]) => one - other)
  let before = 0
  for (const [at, end] of areas) {
    assert.ok(Number.isSafeInteger(at) && at >= before && at < end)
    assert.ok(at === of.checkpointCopyAt || at % granuleBytes === 0)
    before = end
  }
  assert.equal(before, of.sizeBytes)
}

test('decodeSuperblock', () => {
  demand(
    fc.property(bytesLike(superblock, sealSuperblock), (page) => {
      const found = parse(() => decodeSuperblock(page))
      if (typeof found === 'string') return
      assert.ok(found !== undefined)
      assert.equal(found.checksum, SUPERBLOCK.read(page).checksum)
      if (found.version !== FORMAT_VERSION) return
      assert.ok(Number.isSafeInteger(found.sequence + 1) && Number.isSafeInteger(found.maxBytes))
      assert.ok(found.extentCount >= 1 && found.extentCount <= TABLE_EXTENTS_MAX)
      assert.equal(shapeOf(found).extents.length, found.extentCount)
      demandPlaces(geometryOf(shapeOf(found)))
    }),
    1500,
  )
})

test('findSuperblock and check, on devices of any size', () => {
  demand(
    fc.property(bytesLike(superblock, sealSuperblock), (page) => {
      for (const sizeBytes of [0, 100, 4096, 5000, geometry.sizeBytes]) {
        const image = new Uint8Array(sizeBytes)
        image.set(page.subarray(0, Math.min(sizeBytes, 4096)))
        if (sizeBytes > 8192) image.set(page, sizeBytes - 4096)
        const device = readableOf(image)
        const found = parse(() => findSuperblock(device, 'device', false))
        if (found !== undefined) assert.ok(found.geometry.sizeBytes <= sizeBytes)
        const { findings } = parse(() => checkDevice(device))!
        assert.ok(found !== undefined || findings.some(({ severity }) => severity === 'error'))
      }
    }),
    60,
  )
})

test('decodeCheckpoint', () => {
  const valid = encodeCheckpoint(
    { sequence: 5, logSalt: 3, state: 1, head: 4096, slotsUsed: 2, holes: 1 },
    SEED,
  )
  const seal = (line: Uint8Array) => word(line, 0, crc32c(SEED, line, 4, CHECKPOINT.bytes))
  demand(
    fc.property(bytesLike(valid, seal), (line) => {
      const header = parse(() => decodeCheckpoint(line, SEED))
      if (header === undefined) return
      assert.ok(Number.isSafeInteger(header.sequence) && Number.isSafeInteger(header.head))
      assert.ok(header.state === 1 || header.state === 2)
    }),
    4000,
  )
})

function validSlot(index: number, start: number, granules: number, name: string): Uint8Array {
  const bytes = new Uint8Array(CHUNK_SLOT.bytes)
  const text = Buffer.from(name)
  const padded = new Uint8Array(64)
  padded.set(text)
  encodeChunkSlot(
    {
      version: 3,
      generation: 2,
      state: CHUNK_STATE.CHUNK,
      nameBytes: text.length,
      start,
      granules,
      typeBytes: 0,
      type: new Uint8Array(16),
      name: padded,
    },
    chunkSlotSeed(SEED, index),
    bytes,
  )
  return bytes
}

const sealSlot = (index: number, bytes: Uint8Array, at = 0) =>
  word(bytes, at, crc32c(chunkSlotSeed(SEED, index), bytes, at + 4, at + CHUNK_SLOT.bytes))

test('decodeChunkSlot', () => {
  demand(
    fc.property(
      bytesLike(validSlot(0, 1, 2, 'name'), (bytes) => sealSlot(0, bytes)),
      (bytes) => {
        const slot = parse(() => decodeChunkSlot(bytes, 0, chunkSlotSeed(SEED, 0)))
        if (slot === undefined || slot === 'unused') return
        assert.ok(slot.nameBytes <= 64 && slot.typeBytes <= 16)
        assert.ok(slot.state === CHUNK_STATE.FREE || slot.granules > 0)
      },
    ),
    4000,
  )
})

test('ChunkTable.load', () => {
  const SLOTS = 6
  const valid = Buffer.concat(
    Array.from({ length: SLOTS }, (_, i) =>
      validSlot(i, chunksAt / geometry.granuleBytes + 3 * i, 2, `name-${i}`),
    ),
  )
  const seal = (bytes: Uint8Array) => {
    for (let slot = 0; slot < SLOTS; slot++) sealSlot(slot, bytes, slot * CHUNK_SLOT.bytes)
  }
  const media = new SimulatedMedia('cache-line', new Uint8Array(geometry.sizeBytes), false)
  const map = (at: number) => media.map(at, tableBytes)
  const extents = [{ slots: geometry.slots, copies: [map(tableAt), map(tableCopyAt)] as const }]
  const places = { geometry, seed: SEED, extents, badBlocks: NO_BAD_BLOCKS }
  demand(
    fc.property(bytesLike(valid, seal), (bytes) => {
      const [{ copies }] = extents as [(typeof extents)[0]]
      copies[0].bytes.set(bytes)
      copies[1].bytes.set(bytes.length % 2 === 0 ? bytes : valid)
      const table = new ChunkTable(places)
      const loaded = parse(() => {
        table.load({ slotsUsed: SLOTS, holes: 0 }, 0, () => {})
        return true
      })
      if (loaded === undefined) return
      // What loads makes sense: chunks within bounds, apart, and the rest is free.
      let end = chunksAt / geometry.granuleBytes
      let used = 0
      for (const slot of table.slotsInOrder()) {
        assert.ok(table.startOf(slot) >= end)
        end = table.startOf(slot) + table.granulesOf(slot)
        used += table.granulesOf(slot)
      }
      assert.ok(end <= tableCopyAt / geometry.granuleBytes)
      const granules = (tableCopyAt - chunksAt) / geometry.granuleBytes
      assert.equal(table.granules.free, granules - used)
      const again = new ChunkTable(places)
      assert.throws(
        () => again.load({ slotsUsed: 0, holes: 0 }, geometry.slots + 1, () => {}),
        PlinthError,
      )
    }),
    1500,
  )
})

/** Whole records, one after the other, with entries of every kind. */
function validLog(): Uint8Array {
  const bytes = new Uint8Array(geometry.logBytes)
  const view = new DataView(bytes.buffer)
  const entries: number[][] = [
    [chunksAt, (1 << 21) | (2 << 25), 1, 2, 3, 4],
    [chunksAt + 64, 2 << 21, 5, 0, 7, 8],
    [chunksAt, 3 << 21, 4096, 0],
    [0, (4 << 21) | (16 << 25), ...new Uint32Array(encodeFreeSlot(0, SEED, 1, 1).buffer)],
  ]
  let lsn = 0
  for (let round = 0; round < 20; round++) {
    const words = entries.slice(0, 1 + (round % 4)).flat()
    const length = 24 + words.length * 4
    view.setUint32(lsn + 4, length, true)
    view.setUint32(lsn + 8, lsn, true)
    view.setUint32(lsn + 16, lsn, true)
    for (const [i, each] of words.entries()) view.setUint32(lsn + 24 + 4 * i, each, true)
    lsn += Math.ceil(length / 64) * 64
  }
  return bytes
}

/** Makes the checksums of all records right that can be reached. */
function sealLog(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  for (let at = 0; at + 24 <= bytes.length; ) {
    const length = view.getUint32(at + 4, true)
    if (length < 24 || length % 8 !== 0 || at + length > bytes.length) return
    word(bytes, at, crc32c(SEED, bytes, at + 4, at + length))
    at += Math.ceil(length / 64) * 64
  }
}

test('walkLog', () => {
  const valid = validLog()
  sealLog(valid)
  const walk = (bytes: Uint8Array, head: number) => {
    const log = { geometry, bytes, head, seed: SEED, volumeSeed: SEED }
    const revocations = new Revocations()
    parse(() => {
      const prefix = walkLog(log, (kind, offset, length, from, lsn) => {
        assert.ok(from >= 24 && from <= bytes.length && lsn >= head)
        if (kind === 4) assert.ok(offset < geometry.slots && length === CHUNK_SLOT.bytes)
        else assert.ok(offset >= chunksAt && offset + length <= tableCopyAt)
        if (kind === 3) revocations.add(offset, length, lsn)
        else assert.ok(from + length <= bytes.length)
      })
      assert.ok(prefix.end >= head && prefix.end <= head + bytes.length)
      revocations.cut()
    })
  }
  let records = 0
  walkLog({ geometry, bytes: valid, head: 0, seed: SEED, volumeSeed: SEED }, () => records++)
  assert.equal(records, 50)
  const front = valid.slice(0, 4096)
  demand(
    fc.property(bytesLike(front, sealLog), (bytes) => {
      const ring = valid.slice()
      ring.set(bytes)
      walk(ring, 0)
      walk(ring, geometry.logBytes + 64)
    }),
    600,
  )
})

test('a forged log takes no longer than a real one', () => {
  // Records within records: at every line one that claims all of the rest.
  const bytes = new Uint8Array(geometry.logBytes)
  const view = new DataView(bytes.buffer)
  for (let at = 64; at < bytes.length; at += 64) {
    view.setUint32(at + 4, bytes.length - at, true)
    view.setUint32(at + 8, at, true)
    view.setUint32(at + 16, at, true)
  }
  const started = performance.now()
  assert.throws(
    () => walkLog({ geometry, bytes, head: 0, seed: SEED, volumeSeed: SEED }, () => {}),
    PlinthError,
  )
  assert.ok(performance.now() - started < SLOW_MS)
})

const UNIT_BYTES = 4096
const HEAP_ID = 16_777_216
const UNITS = 8
const HEAD = slabLayout(UNITS, UNIT_BYTES, true)
const SHAPE = { units: UNITS, unitBytes: UNIT_BYTES, layout: HEAD }
const heapHeader = encodeHeapHeader(
  { id: HEAP_ID, unitBytes: UNIT_BYTES, sizes: [16, 40, 3000] },
  SEED,
)
const sealHeapHeader = (bytes: Uint8Array) => word(bytes, 8, heapHeaderChecksum(bytes, SEED))

test('decodeHeapHeader', () => {
  demand(
    fc.property(bytesLike(heapHeader, sealHeapHeader), (bytes) => {
      const header = parse(() => decodeHeapHeader(bytes, SEED))
      if (typeof header === 'string') return
      assert.ok(header !== undefined && Number.isSafeInteger(header.root))
      let before = 0
      for (const size of header.sizes) {
        assert.ok(size > before && size % 8 === 0 && size <= 16 * header.unitBytes)
        before = size
      }
    }),
    2000,
  )
})

/** The head of a root chunk: two slabs, and room for others. */
function validHead(): Uint8Array {
  const { headerAt, entriesAt, headBytes } = HEAD
  const bytes = new Uint8Array(headBytes)
  bytes.set(heapHeader)
  const header = {
    heap: HEAP_ID,
    chunk: HEAP_ID,
    firstUnit: 0,
    units: UNITS,
    unitBytes: UNIT_BYTES,
  }
  bytes.set(encodeSlabHeader(header, SEED), headerAt)
  for (const [unit, blockBytes] of [
    [0, 16],
    [1, 3000],
  ] as const) {
    const words = new Uint32Array(SLAB_ENTRY.bytes / 4)
    const entry = new Uint8Array(words.buffer)
    const { units, blocks } = slabPlace(SHAPE, unit, blockBytes)!
    const seed = slabEntrySeed(SEED, HEAP_ID, unit)
    encodeSlabEntry(blockBytes, units, blocks, 5, seed, words, entry)
    bytes.set(entry, entriesAt + unit * SLAB_ENTRY.bytes)
  }
  return bytes
}
const sealHead = (bytes: Uint8Array) => {
  const { headerAt, entriesAt } = HEAD
  word(bytes, headerAt, crc32c(SEED, bytes, headerAt + 4, headerAt + SLAB_HEADER.bytes))
  for (let unit = 0; unit < UNITS; unit++) {
    const at = entriesAt + unit * SLAB_ENTRY.bytes
    const end = at + SLAB_ENTRY.bytes
    if (bytes.subarray(at, end).every((byte) => byte === 0)) continue
    word(bytes, at, crc32c(slabEntrySeed(SEED, HEAP_ID, unit), bytes, at + 4, end))
  }
}

test('readSlabs', () => {
  const valid = validHead()
  const chunk = {
    ...SHAPE,
    firstUnit: 0,
    chunk: { id: HEAP_ID },
  } as unknown as SlabChunk
  const facts = {
    heap: HEAP_ID,
    name: 'fuzz',
    unitBytes: UNIT_BYTES,
    classes: new SizeClasses([16, 40, 3000]),
    seed: SEED,
  }
  assert.equal(readSlabs(chunk, valid, facts).length, 2)
  demand(
    fc.property(bytesLike(valid, sealHead), (bytes) => {
      const slabs = parse(() => readSlabs(chunk, bytes.slice(), facts))
      if (slabs === undefined) return
      let next = 0
      for (const { unit, index, type } of slabs) {
        const { units, blocks } = slabPlace(SHAPE, unit, [16, 40, 3000][index]!)!
        assert.ok(unit >= next && blocks > 0 && type < 65536)
        next = unit + units
        assert.ok(next <= UNITS)
      }
    }),
    3000,
  )
})

test('the heads of a heap, with checksums that are right', () => {
  const aged = makeAged({ crashModel: 'cache-line', end: 'close' })
  const { inspection } = checkDevice(readableOf(aged.image))
  const { seed, heaps } = inspection
  const [heap] = heaps.values()
  const seal = (image: Uint8Array) => {
    const header = image.subarray(heap!.offset, heap!.offset + HEAP_HEADER.bytes)
    word(header, 8, heapHeaderChecksum(header, seed))
    for (const { id, offset, units, layout } of heap!.chunks) {
      const headerAt = offset + layout.headerAt
      word(image, headerAt, crc32c(seed, image, headerAt + 4, headerAt + SLAB_HEADER.bytes))
      for (let unit = 0; unit < units; unit++) {
        const at = offset + layout.entriesAt + unit * SLAB_ENTRY.bytes
        const end = at + SLAB_ENTRY.bytes
        if (image.subarray(at, end).every((byte) => byte === 0)) continue
        word(image, at, crc32c(slabEntrySeed(seed, id, unit), image, at + 4, end))
      }
    }
  }
  const times = LONG ? 20_000 : 400
  seeded((random) => {
    for (let i = 0; i < times; i++) {
      const image = aged.image.slice()
      for (let n = random.between(1, 4); n > 0; n--) {
        const { offset, layout } = random.pick(heap!.chunks)
        const at = offset + random.below(layout.headBytes)
        if (random.chance(2)) image[at]! ^= 1 << random.below(8)
        else image.set(random.bytes(Math.min(8, offset + layout.headBytes - at)), at)
      }
      seal(image)
      const { code, chunkState } = parse(() => evaluate(aged, image))!
      assert.equal(code, undefined, 'a heap keeps nobody from the volume')
      assert.equal(chunkState, aged.states.length - 1)
      parse(() => repairImage(aged, image, { dropDamaged: true }))
    }
  })
})

test('findSignatures and readContents, on devices of any size', () => {
  demand(
    fc.property(bytesLike(superblock), (page) => {
      for (const sizeBytes of [0, 1, 511, 4096, 5000, 65536, SIGNATURE_BYTES + 4608, 2 * MIB]) {
        const image = new Uint8Array(sizeBytes)
        image.set(page.subarray(0, Math.min(sizeBytes, 4096)))
        if (sizeBytes > 8192) image.set(page, sizeBytes - 4096)
        const device = readableOf(image)
        for (const { offset, length } of parse(() => [...findSignatures(device)])!) {
          assert.ok(offset >= 0 && offset + length <= sizeBytes)
        }
        const { what } = parse(() => readContents(device, 'device'))!
        assert.equal(
          what === undefined,
          image.every((byte) => byte === 0),
        )
      }
    }),
    60,
  )
})

test('raw random images', () => {
  const aged = makeAged({ crashModel: 'cache-line', end: 'close' })
  const times = LONG ? 4000 : 150
  seeded((random) => {
    for (let i = 0; i < times; i++) {
      const image = random.chance(2) ? aged.image.slice() : new Uint8Array(geometry.sizeBytes)
      // All of an area, or a good part of it.
      const from = random.pick([0, 4096, tableAt, geometry.logAt, tableCopyAt])
      const noise = random.bytes(random.between(1, 40_000))
      image.set(noise.subarray(0, image.length - from), from)
      if (random.chance(3)) image.set(aged.image.subarray(0, 4096))
      const { code, findings } = parse(() => evaluate(aged, image, { thorough: false }))!
      if (code !== undefined) assert.ok(findings.some(({ severity }) => severity === 'error'))
    }
  })
})
