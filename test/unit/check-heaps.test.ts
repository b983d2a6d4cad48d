/** Check and repair of heaps in files: what each kind of damage is called, and what becomes of it. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { FINDING_CODES, type Finding, type FindingCode, formatFindings, Volume } from 'plinth'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkSlotSeed,
  encodeChunkSlot,
} from '../../src/layout/chunk-slot.js'
import { planGeometry } from '../../src/layout/geometry.js'
import { volumeSeed } from '../../src/layout/superblock.js'
import { inMemory, MIB, tmpfsLine, withVolume } from '../support/devices.js'
import { placesOf } from '../support/places.js'

const geometry = planGeometry({ sizeBytes: MIB, alignBytes: 4096 })
const { tableAt, tableCopyAt } = placesOf(geometry)

const codesOf = (findings: readonly Finding[]) => findings.map(({ code }) => code)

/** Both copies of a slot with other values, and right checksums. */
function changeSlot(image: Uint8Array, index: number, values: object): void {
  const seed = chunkSlotSeed(volumeSeed(image.subarray(32, 48)), index)
  for (const table of [tableAt, tableCopyAt]) {
    const at = table + index * CHUNK_SLOT.bytes
    encodeChunkSlot({ ...CHUNK_SLOT.read(image, at), ...values }, seed, image, at)
  }
}

/** What a closed volume with a heap has, in its first chunks: the root chunk, then one of a slab, a large object. */
function withHeap<T>(
  change: (image: Uint8Array, at: { root: number; slab: number; object: number }) => void,
  body: (path: string) => T,
): T {
  return inMemory((folder) => {
    const path = join(folder, 'device')
    Volume.format(path, { size: MIB })
    const volume = Volume.open(path)
    const heap = volume.heap('things')
    const object = heap.allocate(16, 7)
    heap.allocate(16, 7)
    heap.allocate(600)
    heap.allocate(20_000)
    heap.setRoot(object)
    const [root, slab] = volume.chunks().map(({ offset }) => offset)
    volume.close()
    const image = Uint8Array.from(fs.readFileSync(path))
    change(image, { root: root!, slab: slab!, object })
    fs.writeFileSync(path, image)
    return body(path)
  })
}

const flip = (image: Uint8Array, at: number) => {
  image[at]! ^= 1
}
const zero = (image: Uint8Array, at: number, length: number) => image.fill(0, at, at + length)

/** Places in the root chunk of one unit of 4 KiB. */
const HEAP_AT = { root: 64, sizes: 128, slabHeader: 1024, entry: 1088, bitmap: 1152 }
const setRoot = (image: Uint8Array, root: number, value: bigint) =>
  new DataView(image.buffer).setBigUint64(root + HEAP_AT.root, value, true)

/** What is done, what check says, the code that using the heap gives, whether it can be repaired, and with `dropDamaged`. */
const cases: [
  what: string,
  change: Parameters<typeof withHeap>[0],
  codes: FindingCode[],
  refused: string | undefined,
  repairs: boolean,
  repairsDropping: boolean,
][] = [
  ['nothing', () => {}, [], undefined, true, true],
  [
    'a bit of a header',
    (image, { root }) => flip(image, root + 200),
    ['heap-damaged'],
    'ERR_VOLUME_CORRUPT',
    true,
    true,
  ],
  [
    'the sizes of a header, which are the default ones',
    (image, { root }) => image.fill(0xaa, root + HEAP_AT.sizes, root + HEAP_AT.slabHeader),
    ['heap-damaged'],
    'ERR_VOLUME_CORRUPT',
    true,
    true,
  ],
  [
    'a header with its checksum',
    (image, { root }) => image.fill(0, root, root + 64),
    ['heap-damaged'],
    'ERR_VOLUME_CORRUPT',
    false,
    false,
  ],
  [
    'a root that is no object',
    (image, { root, object }) => setRoot(image, root, BigInt(object + 8)),
    ['heap-root'],
    undefined,
    false,
    false,
  ],
  [
    'a root with a bit too high',
    (image, { root, object }) => setRoot(image, root, BigInt(object) | (1n << 60n)),
    ['heap-root'],
    'ERR_VOLUME_CORRUPT',
    true,
    true,
  ],
  [
    'a root that is no number',
    (image, { root }) => setRoot(image, root, 0xffffffff_00000000n),
    ['heap-root'],
    'ERR_VOLUME_CORRUPT',
    false,
    true,
  ],
  [
    'a slab header',
    (image, { root, slab }) => {
      zero(image, root + HEAP_AT.slabHeader, 64)
      image.fill(0x55, slab, slab + 64)
    },
    ['slab-header-damaged', 'slab-header-damaged'],
    'ERR_VOLUME_CORRUPT',
    true,
    true,
  ],
  [
    'a bit of an entry',
    (image, { root }) => flip(image, root + HEAP_AT.entry + 9),
    ['slab-entry-damaged'],
    'ERR_VOLUME_CORRUPT',
    true,
    true,
  ],
  [
    'an entry',
    (image, { root }) => {
      setRoot(image, root, 0n)
      image.fill(0xee, root + HEAP_AT.entry, root + HEAP_AT.entry + 16)
    },
    ['slab-entry-damaged'],
    'ERR_VOLUME_CORRUPT',
    false,
    true,
  ],
  [
    'a lost entry',
    (image, { root }) => {
      setRoot(image, root, 0n)
      zero(image, root + HEAP_AT.entry, 16)
    },
    ['slab-bits-impossible'],
    undefined,
    false,
    true,
  ],
  [
    'bits beyond the last block',
    (image, { root }) => flip(image, root + HEAP_AT.bitmap + 31),
    ['slab-bits-impossible'],
    'ERR_VOLUME_CORRUPT',
    true,
    true,
  ],
  [
    'a name that no chunk of a heap has',
    (image) =>
      changeSlot(image, 1, { name: Uint8Array.of(97, ...new Array(63).fill(0)), nameBytes: 1 }),
    ['heap-chunk-invalid'],
    'ERR_VOLUME_CORRUPT',
    false,
    false,
  ],
  [
    'a root chunk that was given up',
    (image) =>
      changeSlot(image, 0, {
        state: CHUNK_STATE.FREE,
        granules: 0,
        start: 0,
        nameBytes: 0,
        typeBytes: 0,
      }),
    ['heap-orphan', 'heap-orphan'],
    undefined,
    false,
    true,
  ],
]

describe('check of heaps', () => {
  for (const [what, change, codes, refused, repairs, repairsDropping] of cases) {
    test(what, () => {
      withHeap(change, (path) => {
        const before = fs.readFileSync(path)
        const findings = Volume.check(path)
        assert.deepEqual(codesOf(findings), codes, formatFindings(findings))
        const reader = Volume.open(path, { readOnly: true })
        const use = () => [...reader.heap('things').objects()]
        if (refused !== undefined) assert.throws(use, { code: refused })
        assert.ok(codesOf(reader.check()).every((code) => codes.includes(code)))
        reader.close()
        assert.deepEqual(fs.readFileSync(path), before, 'nothing is written')
        assert.equal(
          findings.every(({ fixable }) => fixable),
          repairs,
        )
        for (const [dropDamaged, isRepaired] of [
          [false, repairs],
          [true, repairsDropping],
        ] as const) {
          const { remaining } = Volume.repair(path, { dryRun: false, dropDamaged })
          assert.equal(remaining.length === 0, isRepaired, formatFindings(remaining))
        }
        Volume.open(path).close()
      })
    })
  }

  test('every code is seen', () => {
    const seen = new Set(cases.flatMap(([, , codes]) => codes))
    const all = Object.keys(FINDING_CODES).filter((code) => /^(heap|slab)-/.test(code))
    assert.deepEqual(
      all.filter((code) => !seen.has(code as FindingCode)),
      [],
    )
  })

  test('an open heap is compared with the device', () => {
    withVolume(tmpfsLine, (volume, path) => {
      const heap = volume.heap('things')
      const object = heap.allocate(16)
      heap.allocate(16)
      heap.setRoot(object)
      heap.reserve(3000)
      volume.checkpoint()
      assert.deepEqual(volume.check(), [])
      const [root] = volume.chunks()
      const fd = fs.openSync(path, 'r+')
      const change = (at: number, byte: number) => {
        const was = Buffer.alloc(1)
        fs.readSync(fd, was, 0, 1, at)
        fs.writeSync(fd, Uint8Array.of(byte), 0, 1, at)
        assert.deepEqual(codesOf(volume.check()), ['memory-differs'])
        fs.writeSync(fd, was, 0, 1, at)
        assert.deepEqual(volume.check(), [])
      }
      // One object more, one less; another root.
      change(root!.offset + HEAP_AT.bitmap, 7)
      change(root!.offset + HEAP_AT.bitmap, 1)
      change(root!.offset + HEAP_AT.root, (object + 16) & 255)
      fs.closeSync(fd)
    })
  })
})
