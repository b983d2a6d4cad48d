/**
 * Images with right checksums and wrong contents: fields of every structure are given values that are
 * possible, nearly possible or somebody else's, and all checksums are made right again. What comes of such an
 * image is the volume, or a documented code; what opens takes a write and opens again.
 *
 * `npm run test:fuzz` tries a million. TEST_SEED repeats a run.
 *
 * A case is cheap, so that there can be many: all are in this process, and of an image only the pages are
 * copied that another case has written. Every second one is read by a reader, every fourth one checked, besides
 * those that are refused, whose check has to say why.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ERROR_CODES, PlinthError, type Volume } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { crc32c } from '../../src/base/checksum.js'
import { checkDevice } from '../../src/check/check.js'
import { CHECKPOINT } from '../../src/layout/checkpoint-header.js'
import { CHUNK_SLOT, chunkSlotSeed } from '../../src/layout/chunk-slot.js'
import { CHECKPOINT_AT, SUPERBLOCK_AT } from '../../src/layout/geometry.js'
import {
  HEAP_HEADER,
  HEAP_ROOT_AT,
  heapHeaderChecksum,
  SLAB_ENTRY,
  SLAB_HEADER,
  slabEntrySeed,
} from '../../src/layout/heap.js'
import { SUPERBLOCK, volumeSeed } from '../../src/layout/superblock.js'
import { recordSeed } from '../../src/log/log.js'
import { TYPE } from '../../src/map/layout.js'
import { Image } from '../../src/testing/images.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { geometry, readableOf, repairImage } from '../support/damage.js'
import { placesOf } from '../support/places.js'
import { Random, seedOfRun } from '../support/random.js'

const { tableAt, tableCopyAt, tableBytes } = placesOf(geometry)
const CASES = process.env.PLINTH_LONG === '1' ? 1_000_000 : 20_000
const KEY = (i: number) => Buffer.from(`key ${i}`)

/** Of a superblock: its fields and the first two extents. */
const SUPERBLOCK_BYTES = 240

type GranularityModel = 'page' | 'cache-line'

/** A structure with a checksum, and how that is made right. */
interface Sealed {
  readonly at: number
  readonly length: number
  readonly seal: (image: Uint8Array) => void
}

/** A volume, and where its structures are. */
interface Base {
  readonly model: GranularityModel
  readonly image: Image
  readonly sealed: readonly Sealed[]
  /** Stretches without a checksum whose words are pointers, heads or bits. */
  readonly bare: readonly (readonly [at: number, length: number])[]
  /** Words that are at home somewhere on this volume. */
  readonly words: readonly number[]
}

function makeBase(model: GranularityModel, closed: boolean): Base {
  const media = new SimulatedMedia(model, makeImage(), false)
  const volume = openSimulated(media)
  volume.allocate({ size: 8192, name: 'a', type: 't' })
  const freed = volume.allocate({ size: 4096, name: 'b' })
  const map = OrderedMap.open(volume, 'map')
  for (let i = 0; i < 150; i++) map.put(KEY(i), Buffer.alloc(i % 40, i))
  map.put(Buffer.alloc(100, 7), Buffer.alloc(3))
  const heap = volume.heap('things')
  heap.setRoot(heap.allocate(64, 3))
  for (const size of [16, 200, 3000, 9000]) heap.allocate(size, 5)
  map.snapshot()
  volume.checkpoint()
  volume.free(freed)
  for (let i = 0; i < 20; i++) map.delete(KEY(i * 7))
  volume.transact((tx) => tx.write(volume.chunk('a'), 100, Buffer.alloc(300, 1)))
  volume.allocate({ size: 4096, name: 'late' })
  if (closed) volume.close()
  const image = Image.copyOf(media.visible)
  media.release()
  return { model, image, ...structuresOf(image.bytes) }
}

function structuresOf(image: Uint8Array): Omit<Base, 'model' | 'image'> {
  const seed = volumeSeed(image.subarray(32, 48))
  const { inspection } = checkDevice(readableOf(image))
  const sealed: Sealed[] = []
  const bare: [number, number][] = []
  const words: number[] = [0, 1, 63, 64, 4095, 4096, 2 ** 21 - 1, 2 ** 21, 2 ** 31, 2 ** 32 - 1]
  const put = (to: Uint8Array, at: number, word: number) =>
    new DataView(to.buffer, to.byteOffset).setUint32(at, word, true)
  for (const at of [0, geometry.superblockCopyAt]) {
    const seal = (to: Uint8Array) => {
      put(to, at + SUPERBLOCK.fields.checksum[0], 0)
      put(to, at + SUPERBLOCK.fields.checksum[0], crc32c(0, to, at, at + 4096))
    }
    sealed.push({ at, length: SUPERBLOCK_BYTES, seal })
  }
  const plain = (at: number, length: number, itsSeed: number, end = at + length) =>
    sealed.push({
      at,
      length,
      seal: (to) => put(to, at, crc32c(itsSeed, to, at + 4, end)),
    })
  for (const at of [CHECKPOINT_AT, geometry.checkpointCopyAt]) plain(at, CHECKPOINT.bytes, seed)
  for (let slot = 0; slot < 16; slot++) {
    for (const table of [tableAt, tableCopyAt]) {
      plain(table + slot * CHUNK_SLOT.bytes, CHUNK_SLOT.bytes, chunkSlotSeed(seed, slot))
    }
  }
  const { logAt, logBytes } = geometry
  const { logSalt, head } = inspection.checkpointHeader!
  const view = new DataView(image.buffer)
  for (let lsn = head; lsn < head + logBytes; ) {
    const at = logAt + (lsn % logBytes)
    const bytes = view.getUint32(at + 4, true)
    const isSkip = (view.getUint32(at + 12, true) & (1 << 21)) !== 0
    if (view.getUint32(at + 8, true) !== lsn || bytes === 0) break
    const length = isSkip ? 24 : bytes
    plain(at, length, recordSeed(seed, logSalt))
    lsn += isSkip ? bytes : Math.ceil(bytes / 64) * 64
  }
  const volume = openSimulated(new SimulatedMedia('cache-line', image, false))
  for (const { id, offset, chunks } of inspection.heaps.values()) {
    const header = (to: Uint8Array) => {
      const bytes = to.subarray(offset, offset + HEAP_HEADER.bytes)
      put(bytes, HEAP_HEADER.fields.checksum[0], heapHeaderChecksum(bytes, seed))
    }
    sealed.push({ at: offset, length: 160, seal: header })
    bare.push([offset + HEAP_ROOT_AT, 8])
    words.push(id % 2 ** 32, offset)
    for (const chunk of chunks) {
      plain(chunk.offset + chunk.layout.headerAt, SLAB_HEADER.bytes, seed)
      for (const { unit, blockBytes } of chunk.slabs) {
        const at = chunk.offset + chunk.layout.entriesAt + unit * SLAB_ENTRY.bytes
        plain(at, SLAB_ENTRY.bytes, slabEntrySeed(seed, chunk.id, unit))
        const { bitmapsAt, bitmapBytes } = chunk.layout
        bare.push([chunk.offset + bitmapsAt + unit * bitmapBytes, bitmapBytes])
        words.push(blockBytes)
      }
    }
  }
  for (const type of [TYPE.LEAF, TYPE.RETIRED, TYPE.HEADER, TYPE.ENTRY]) {
    for (const pointer of [...volume.heap('map').objects({ type })].slice(0, 12)) {
      bare.push([pointer, type === TYPE.ENTRY ? 12 : type === TYPE.HEADER ? 12 : 512])
      words.push(pointer)
    }
  }
  return { sealed, bare, words }
}

/** Changes some words, and makes the checksums right. */
function forge({ image, sealed, bare, words }: Base, random: Random): Image {
  const copy = Image.copyOf(image.bytes)
  const forged = copy.bytes
  const view = new DataView(forged.buffer)
  for (let n = random.between(1, 3); n > 0; n--) {
    const isBare = random.chance(4)
    const one = isBare ? undefined : random.pick(sealed)
    const [at, length] = one === undefined ? random.pick(bare) : [one.at, one.length]
    const words32 = Math.max(1, Math.floor(length / 4))
    const wordAt = at + 4 * random.below(words32)
    const before = view.getUint32(wordAt, true)
    const value = random.pick([
      random.pick(words),
      before + 1,
      before - 1,
      before ^ (1 << random.below(32)),
      before * 2,
      view.getUint32(at + 4 * random.below(words32), true),
      random.next(),
    ])
    view.setUint32(wordAt, value >>> 0, true)
    copy.note(at, length)
    // A structure that is another's, whole.
    if (one !== undefined && random.chance(8)) {
      const other = random.pick(sealed.filter((each) => each.length === one.length))
      forged.copyWithin(one.at, other.at, other.at + other.length)
    }
    one?.seal(forged)
    // What is kept twice says the same twice, mostly.
    const twin = one && twinOf(one, sealed)
    if (twin !== undefined && !random.chance(4)) {
      forged.copyWithin(twin.at, one!.at, one!.at + one!.length)
      if (one!.at === 0 || twin.at === 0) {
        view.setUint32(twin.at + SUPERBLOCK.fields.copy[0], twin.at === 0 ? 0 : 1, true)
      }
      twin.seal(forged)
      copy.note(twin.at, twin.length)
    }
  }
  return copy
}

/** Everything that is kept twice, and where. */
const TWICE: readonly (readonly [first: number, second: number, bytes: number])[] = [
  [SUPERBLOCK_AT, geometry.superblockCopyAt, 4096],
  [CHECKPOINT_AT, geometry.checkpointCopyAt, 4096],
  [tableAt, tableCopyAt, tableBytes],
]

function twinOf(one: Sealed, sealed: readonly Sealed[]): Sealed | undefined {
  for (const [first, second, bytes] of TWICE) {
    for (const [from, to] of [
      [first, second],
      [second, first],
    ] as const) {
      if (one.at < from || one.at >= from + bytes) continue
      return sealed.find(({ at }) => at === one.at - from + to)
    }
  }
  return undefined
}

/** What `body` gives; undefined when it is refused with a documented code. */
function documented<T>(body: () => T): T | undefined {
  try {
    return body()
  } catch (error) {
    if (error instanceof PlinthError && error.code in ERROR_CODES) return undefined
    throw error
  }
}

/** Reads and writes everything that there is. */
function use(volume: Volume): { isWritten: boolean; isMapWritten: boolean } {
  for (const { id } of volume.chunks()) documented(() => volume.findChunk(id)?.bytes[0])
  const isWritten =
    documented(() => {
      const chunk = volume.findChunk('forged') ?? volume.allocate({ size: 4096, name: 'forged' })
      volume.transact((tx) => tx.setUint32(chunk, 0, 77))
      return true
    }) ?? false
  documented(() => {
    const heap = volume.heap('things')
    for (const pointer of heap.objects()) heap.type(pointer)
    heap.free(heap.allocate(40, 5))
    if (heap.root !== 0) heap.getUint32(heap.root)
    heap.stats()
  })
  const map = documented(() => OrderedMap.open(volume, 'map'))
  const isMapWritten =
    map !== undefined &&
    (documented(() => {
      map.put(KEY(1000), Buffer.alloc(10))
      return true
    }) ??
      false)
  if (map !== undefined) {
    documented(() => map.count())
    documented(() => [...map.entries({ limit: 100 })].length)
    documented(() => map.delete(KEY(3)))
  }
  return { isWritten, isMapWritten }
}

/** What is repaired opens, or is told of. */
function repair({ model }: Base, forged: Uint8Array): void {
  const repaired = forged.slice()
  const report = documented(() =>
    repairImage({ crashModel: model }, repaired, { dropDamaged: true }),
  )
  if (report === undefined || report.remaining.some(({ severity }) => severity !== 'info')) return
  const media = new SimulatedMedia(model, repaired, false)
  try {
    openSimulated(media).close()
  } finally {
    media.release()
  }
}

/** What became of an image. */
function judge(base: Base, forged: Uint8Array, random: Random): 'refused' | 'read' | 'written' {
  if (random.chance(2)) {
    const media = new SimulatedMedia(base.model, forged, false)
    try {
      const reader = documented(() => openSimulated(media, true))
      reader?.close()
    } finally {
      media.release()
    }
  }
  const writable = new SimulatedMedia(base.model, forged, false)
  try {
    const volume = documented(() => openSimulated(writable))
    if (volume === undefined) {
      const { findings } = checkDevice(readableOf(forged))
      // Whatever it is, somebody is told; and repair ends, with a volume that opens or findings that say why not.
      assert.ok(
        findings.some(({ severity }) => severity !== 'info'),
        'check says why',
      )
      if (random.chance(20)) repair(base, forged)
      return 'refused'
    }
    if (random.chance(4)) checkDevice(readableOf(forged))
    const { isWritten, isMapWritten } = use(volume)
    volume.close()
    const again = new SimulatedMedia(base.model, writable.visible, false)
    try {
      const reopened = openSimulated(again)
      if (isWritten) assert.equal(reopened.chunk('forged').view.getUint32(0, true), 77)
      if (isMapWritten) {
        assert.equal(OrderedMap.open(reopened, 'map').get(KEY(1000))?.length, 10)
      }
      reopened.close()
    } finally {
      again.release()
    }
    return isWritten ? 'written' : 'read'
  } finally {
    writable.release()
  }
}

test('images with right checksums are right or refused', { timeout: 21_600_000 }, (t) => {
  const bases = (['page', 'cache-line'] as const).flatMap((model) =>
    [true, false].map((closed) => makeBase(model, closed)),
  )
  const tally = { refused: 0, read: 0, written: 0 }
  for (let tried = 0; tried < CASES; tried++) {
    const random = new Random(seedOfRun, tried)
    const base = bases[tried % bases.length]!
    const forged = forge(base, random)
    try {
      tally[judge(base, forged.bytes, random)]++
    } catch (cause) {
      throw new Error(
        `case ${tried}, repeat with TEST_SEED=${seedOfRun}: ${(cause as Error).message}`,
        { cause },
      )
    }
    forged.giveBack()
  }
  t.diagnostic(`${CASES} images: ${JSON.stringify(tally)}`)
  assert.ok(tally.refused > 0 && tally.written > 0)
})
