/**
 * What a heap keeps on media, all of it in chunks of its own.
 *
 *   root chunk    ┌ heap header ┐┌ slab header ┬ slab entries ┬ bitmaps ┐┌ units ────────────────┐
 *   slab chunk                   ┌ slab header ┬ slab entries ┬ bitmaps ┐┌ units ────────────────┐
 *                                 one            one a unit     a bit for     a slab is a run of
 *                                                16 bytes       each block    units of one size
 *   large object  the chunk is the object
 *
 * A unit is a power of two from 4 to 64 KiB; units are counted from the start of the chunk, so the
 * first of them hold what stands before the blocks. Bitmaps have room for blocks of 16 bytes: a bit
 * for each 16 bytes of a unit. A slab of several units uses the bitmap of its first.
 *
 * Which chunk belongs to which heap stands in the chunk's name, so that opening a heap reads the
 * chunk table and nothing else; the slab header must agree once it is read.
 */
import { isZero } from '../base/bits.js'
import { crc32c } from '../base/checksum.js'
import { alignUp, KIB, LINE_BYTES, MIB, PAGE_BYTES } from '../base/units.js'
import { defineStruct, type Values } from './struct.js'

export const HEAP_TYPE = {
  HEAP: 'plinth.heap',
  SLAB: 'plinth.slab',
  LARGE: 'plinth.large',
} as const
/** Types that begin so belong to the library; nobody else gives them or gets such chunks. */
export const OWN_TYPE_PREFIX = 'plinth.'

export const HEAP_VERSION = 1
/** ASCII "pl-heap", then a byte that a 7-bit channel would damage. */
const HEAP_MAGIC = Uint8Array.of(0x70, 0x6c, 0x2d, 0x68, 0x65, 0x61, 0x70, 0xf5)
/** ASCII "slab". */
const SLAB_MAGIC = 0x62616c73

export const UNIT_BYTES_MIN = 4 * KIB
export const UNIT_BYTES_MAX = 64 * KIB
export const BLOCK_BYTES_MIN = 16
export const BLOCK_ALIGN = 8
/** A slab has at most so many units. */
export const SLAB_UNITS_MAX = 16
/** A slab chunk has at most so many units: what precedes the blocks stays small. */
export const CHUNK_UNITS_MAX = 2048
/** The most units of a slab chunk on a volume: so many, or all of a granule. */
export function chunkUnitsMax(unitBytes: number, granuleBytes: number): number {
  return Math.max(CHUNK_UNITS_MAX, granuleBytes / unitBytes)
}
/** Units of a heap are numbered below this. */
export const UNIT_NUMBER_MAX = 2 ** 26
/** Type tags are below this. */
export const TYPE_MAX = 2 ** 16
export const CLASSES_MAX = 224

/** First line: what never changes. Second: the root. Then the sizes of the classes. */
export const HEAP_HEADER = defineStruct({
  bytes: KIB,
  // biome-ignore format: the columns are the table
  fields: {
    magic:     [0, 'bytes8', 'tells a heap from anything else'],
    checksum:  [8, 'u32', 'CRC-32C of the header with this field and the root zero, seeded with the volume'],
    version:   [12, 'u32', 'another number means another meaning of everything below'],
    id:        [16, 'u64', 'id of the root chunk: finds a copied or misdirected header'],
    unitBytes: [24, 'u32', 'power of two; places of everything follow from it'],
    classes:   [28, 'u32', 'how many sizes follow'],
    features:  [32, 'u32', 'none yet; others refuse the heap'],
    root:      [64, 'u64', 'pointer of the object that the rest is found from, 0 for none; changes in one word'],
    sizes:     [128, 'bytes896', 'u32 each: bytes of a block, ascending multiples of 8'],
  },
})
export const HEAP_ROOT_AT = HEAP_HEADER.fields.root[0]

/** Written once, with the chunk. */
export const SLAB_HEADER = defineStruct({
  bytes: LINE_BYTES,
  // biome-ignore format: the columns are the table
  fields: {
    checksum:  [0, 'u32', 'CRC-32C of the rest, seeded with the volume'],
    magic:     [4, 'u32', 'tells it from anything else'],
    heap:      [8, 'u64', 'id of the root chunk; the name of this chunk must say the same'],
    chunk:     [16, 'u64', 'id of this chunk: what an earlier one left here never passes'],
    firstUnit: [24, 'u32', 'number in the heap of the first unit; free blocks are taken in this order'],
    units:     [28, 'u32', 'length of the chunk; checked against the chunk table'],
    unitBytes: [32, 'u32', 'checked against the heap header'],
  },
})
export type SlabHeader = Values<typeof SLAB_HEADER.fields>

/** One a unit. All zero where no slab begins. */
export const SLAB_ENTRY = defineStruct({
  bytes: 16,
  // biome-ignore format: the columns are the table
  fields: {
    checksum:   [0, 'u32', 'CRC-32C of the rest, seeded with chunk and unit'],
    blockBytes: [4, 'u32', 'must be a class of the heap'],
    units:      [8, 'u16', 'length of the slab; follows from the class, checked'],
    blocks:     [10, 'u16', 'blocks in it; follows too, checked. A later version may place them otherwise'],
    type:       [12, 'u32', 'tag of the objects in it'],
  },
})

/** Where what stands before the blocks is in a chunk of so many units. */
export interface SlabLayout {
  readonly headerAt: number
  readonly entriesAt: number
  readonly bitmapsAt: number
  /** First byte that a block may have. */
  readonly headBytes: number
  readonly bitmapBytes: number
}

export function slabLayout(units: number, unitBytes: number, isRoot: boolean): SlabLayout {
  const headerAt = isRoot ? HEAP_HEADER.bytes : 0
  const entriesAt = headerAt + SLAB_HEADER.bytes
  const bitmapsAt = alignUp(entriesAt + units * SLAB_ENTRY.bytes, LINE_BYTES)
  const bitmapBytes = unitBytes / BLOCK_BYTES_MIN / 8
  const headBytes = bitmapsAt + units * bitmapBytes
  return { headerAt, entriesAt, bitmapsAt, headBytes, bitmapBytes }
}

/** The largest power of two that divides a block's size, at most a page: blocks are aligned to it. */
export function blockAlign(blockBytes: number): number {
  return Math.min(blockBytes & -blockBytes, PAGE_BYTES)
}

/** Units of a slab: the fewest that leave at most a sixteenth of it unused, else those that leave least. */
export function slabUnits(blockBytes: number, unitBytes: number): number {
  let best = 0
  let bestShare = 1
  for (let units = 1; units <= SLAB_UNITS_MAX; units++) {
    const bytes = units * unitBytes
    if (bytes < blockBytes) continue
    const share = (bytes % blockBytes) / bytes
    if (share <= 1 / 16) return units
    if (share < bestShare) {
      best = units
      bestShare = share
    }
  }
  return best
}

/**
 * Offset of the first block within a slab that begins at `unit` of a chunk: behind the head where
 * that reaches into the unit. Undefined when too little would remain.
 */
export function slabBase(
  unit: number,
  unitBytes: number,
  headBytes: number,
  blockBytes: number,
): number | undefined {
  const start = unit * unitBytes
  if (headBytes <= start) return 0
  const bytes = slabUnits(blockBytes, unitBytes) * unitBytes
  const base = alignUp(headBytes - start, blockAlign(blockBytes))
  if (base >= unitBytes) return undefined
  return Math.floor((bytes - base) / blockBytes) * blockBytes * 2 >= bytes ? base : undefined
}

/** A chunk with slabs, as far as places in it follow from it. */
export interface SlabShape {
  readonly units: number
  readonly unitBytes: number
  readonly layout: SlabLayout
}

/** Where a slab and its blocks would be (`base` counts from its start); undefined where none can begin. */
export function slabPlace(
  { units: chunkUnits, unitBytes, layout: { headBytes } }: SlabShape,
  unit: number,
  blockBytes: number,
): { units: number; base: number; blocks: number } | undefined {
  if (unit < Math.floor(headBytes / unitBytes)) return undefined
  const base = slabBase(unit, unitBytes, headBytes, blockBytes)
  const units = slabUnits(blockBytes, unitBytes)
  if (base === undefined || unit + units > chunkUnits) return undefined
  return { units, base, blocks: Math.floor((units * unitBytes - base) / blockBytes) }
}

/** The unit for a volume: not above its granule, so that a small volume's heaps are small. */
export function unitBytesFor(granuleBytes: number): number {
  return Math.min(Math.max(granuleBytes, UNIT_BYTES_MIN), UNIT_BYTES_MAX)
}

/** The largest block: half a granule, within 4 and 16 units. Larger objects are chunks. */
export function blockBytesMax(unitBytes: number, granuleBytes: number): number {
  return Math.min(Math.max(granuleBytes / 2, 4 * unitBytes), SLAB_UNITS_MAX * unitBytes, MIB)
}

/**
 * The default sizes: multiples of 8 to 64 bytes, then eight to each doubling, so that beyond 64
 * bytes at most an eighth of what is asked for comes on top.
 */
export function defaultClasses(largest: number): number[] {
  const sizes: number[] = []
  for (let size = BLOCK_BYTES_MIN; size < 64; size += BLOCK_ALIGN) sizes.push(size)
  for (let base = 64; base < largest; base *= 2) {
    for (let size = base; size < 2 * base && size <= largest; size += base / 8) sizes.push(size)
  }
  sizes.push(largest)
  return sizes
}

export function encodeHeapHeader(
  values: { id: number; unitBytes: number; sizes: readonly number[] },
  seed: number,
): Uint8Array {
  const { id, unitBytes } = values
  const sizes = new Uint8Array(CLASSES_MAX * 4)
  const view = new DataView(sizes.buffer)
  values.sizes.forEach((size, i) => {
    view.setUint32(i * 4, size, true)
  })
  const bytes = new Uint8Array(HEAP_HEADER.bytes)
  HEAP_HEADER.write(
    {
      magic: HEAP_MAGIC,
      checksum: 0,
      version: HEAP_VERSION,
      id,
      unitBytes,
      classes: values.sizes.length,
      features: 0,
      root: 0,
      sizes,
    },
    bytes,
  )
  const checksum = heapHeaderChecksum(bytes, seed)
  new DataView(bytes.buffer).setUint32(HEAP_HEADER.fields.checksum[0], checksum, true)
  return bytes
}

export function heapHeaderChecksum(bytes: Uint8Array, seed: number): number {
  const copy = bytes.slice(0, HEAP_HEADER.bytes)
  copy.fill(0, HEAP_HEADER.fields.checksum[0], HEAP_HEADER.fields.checksum[0] + 4)
  copy.fill(0, HEAP_ROOT_AT, HEAP_ROOT_AT + 8)
  return crc32c(seed, copy)
}

/** The header, or what is wrong with it. */
export function decodeHeapHeader(
  bytes: Uint8Array,
  seed: number,
): { unitBytes: number; sizes: number[]; root: number; id: number } | 'damaged' | 'newer' {
  const values = HEAP_HEADER.read(bytes)
  if (!HEAP_MAGIC.every((byte, i) => values.magic[i] === byte)) return 'damaged'
  if (values.checksum !== heapHeaderChecksum(bytes, seed)) return 'damaged'
  if (values.version !== HEAP_VERSION || values.features !== 0) return 'newer'
  const { unitBytes, classes, root, id } = values
  const powers = [4, 8, 16, 32, 64].map((kib) => kib * KIB)
  if (!powers.includes(unitBytes) || classes < 1 || classes > CLASSES_MAX) return 'damaged'
  if (!HEAP_HEADER.reservedIsZero(bytes) || !Number.isSafeInteger(root)) return 'damaged'
  const view = new DataView(values.sizes.buffer, values.sizes.byteOffset)
  const sizes: number[] = []
  for (let i = 0; i < classes; i++) {
    const size = view.getUint32(i * 4, true)
    if (size % BLOCK_ALIGN !== 0 || size <= (sizes[i - 1] ?? BLOCK_BYTES_MIN - 1)) return 'damaged'
    if (size > SLAB_UNITS_MAX * unitBytes) return 'damaged'
    sizes.push(size)
  }
  return { unitBytes, sizes, root, id }
}

export function encodeSlabHeader(
  values: Omit<SlabHeader, 'checksum' | 'magic'>,
  seed: number,
): Uint8Array {
  const bytes = new Uint8Array(SLAB_HEADER.bytes)
  SLAB_HEADER.write({ ...values, magic: SLAB_MAGIC, checksum: 0 }, bytes)
  new DataView(bytes.buffer).setUint32(0, crc32c(seed, bytes, 4), true)
  return bytes
}

/** Seed of an entry's checksum: one of another chunk or unit never passes. */
export function slabEntrySeed(volumeSeed: number, chunkId: number, unit: number): number {
  const low = chunkId >>> 0
  const high = (chunkId - low) / 2 ** 32
  return (volumeSeed ^ Math.imul(low, 0x9e3779b1) ^ Math.imul(high + unit + 1, 0x85ebca6b)) >>> 0
}

/** Writes an entry with its checksum to 16 bytes, given as words and as bytes: the hand-written form of SLAB_ENTRY.write; a test holds the two together. */
export function encodeSlabEntry(
  blockBytes: number,
  units: number,
  blocks: number,
  type: number,
  seed: number,
  words: Uint32Array,
  bytes: Uint8Array,
): void {
  words[1] = blockBytes
  words[2] = units | (blocks << 16)
  words[3] = type
  words[0] = crc32c(seed, bytes, 4, SLAB_ENTRY.bytes)
}

/** The entry, `none` where no slab begins, undefined when it is damaged. */
export function decodeSlabEntry(
  from: Uint8Array,
  at: number,
  seed: number,
): Values<typeof SLAB_ENTRY.fields> | 'none' | undefined {
  if (isZero(from, at, at + SLAB_ENTRY.bytes)) return 'none'
  const values = SLAB_ENTRY.read(from, at)
  return values.checksum === crc32c(seed, from, at + 4, at + SLAB_ENTRY.bytes) ? values : undefined
}
