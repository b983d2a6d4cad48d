/**
 * The superblock: who a volume is, and where everything of it lies. One page, kept at both ends. It changes when
 * the volume grows, when its chunk table gets another extent, and when its log is replaced: the second copy is
 * written first, and of two whole copies the one with the higher sequence counts.
 */
import { crc32c } from '../base/checksum.js'
import { alignDown, type Offset, PAGE_BYTES } from '../base/units.js'
import { type Shape, TABLE_EXTENTS_MAX, type TableExtent } from './geometry.js'
import { defineStruct, type Values } from './struct.js'

export const FORMAT_VERSION = 2
/** ASCII "plinth", then bytes that a text tool or a 7-bit channel would damage. */
export const MAGIC = Uint8Array.of(0x70, 0x6c, 0x69, 0x6e, 0x74, 0x68, 0x1a, 0xf5)
export const LABEL_BYTES_MAX = 64

/** Bits of `incompatible`. */
export const INCOMPATIBLE = {
  /** Set by a restore until all of it is durable. */
  RESTORING: 1,
} as const
/** Feature bits that this version knows. */
export const FEATURES_KNOWN = {
  compatible: 0,
  readOnlyCompatible: 0,
  incompatible: INCOMPATIBLE.RESTORING,
} as const

export const SUPERBLOCK = defineStruct({
  bytes: PAGE_BYTES,
  // biome-ignore format: the columns are the table
  fields: {
    magic:              [0, 'bytes8', 'tells a volume from anything else'],
    checksum:           [8, 'u32', 'CRC-32C of the page with this field zero'],
    version:            [12, 'u32', 'another number means another meaning of everything below'],
    compatible:         [16, 'u32', 'features that a version which does not know them may ignore'],
    readOnlyCompatible: [20, 'u32', 'features that such a version may ignore when it only reads'],
    incompatible:       [24, 'u32', 'features that make such a version refuse'],
    copy:               [28, 'u32', '0 at the head, 1 at the tail: finds a misdirected write'],
    uuid:               [32, 'bytes16', 'seed of all checksums: structures of another volume never pass'],
    sizeBytes:          [48, 'u64', 'a device that is smaller was truncated'],
    granuleBytes:       [56, 'u64', 'what chunks, log and table are cut of'],
    logBytes:           [64, 'u64', 'length of the redo log'],
    created:            [72, 'u64', 'milliseconds since 1970'],
    label:              [80, 'bytes64', 'for people; UTF-8, zero-padded'],
    sequence:           [144, 'u64', 'counts changes: of two whole copies the higher is newer'],
    logAt:              [152, 'u64', 'where the redo log is: it can be replaced by a longer one'],
    maxBytes:           [160, 'u64', 'so far the volume grows by itself, 0 for not at all'],
    growBytes:          [168, 'u64', 'by so much at least, 0 for as much as it has'],
    flags:              [176, 'u32', '1: the length of the log was chosen, and stays'],
    devices:            [180, 'u32', 'of how many devices the volume is: 1'],
    device:             [184, 'u32', 'which of them this is: 0'],
    extentCount:        [188, 'u32', 'how many extents the chunk table has'],
    extents:            [192, 'bytes768', 'of each: slots, then where its two copies are'],
  },
})
export type Superblock = Values<typeof SUPERBLOCK.fields>

/** Bits of `flags`. */
export const SUPERBLOCK_FLAG = {
  /** The length of the log was chosen: growing leaves it. */
  LOG_IS_CHOSEN: 1,
} as const

/** One of the extents of the chunk table. */
const EXTENT = defineStruct({
  bytes: 24,
  // biome-ignore format: the columns are the table
  fields: {
    slots:    [0, 'u32', 'a multiple of 32: whole pages'],
    firstAt:  [8, 'u64', 'device offset of the first copy: where a granule begins'],
    secondAt: [16, 'u64', 'of the second'],
  },
})

/** Bytes of a superblock with so many extents, the rest of whose page is zero. */
export function superblockBytes(extentCount: number): number {
  const count = extentCount <= TABLE_EXTENTS_MAX ? extentCount : 1
  return SUPERBLOCK.fields.extents[0] + count * EXTENT.bytes
}

/** The fields that say where everything is. */
export function shapeFields(
  shape: Shape,
): Pick<
  Superblock,
  'sizeBytes' | 'granuleBytes' | 'logAt' | 'logBytes' | 'extentCount' | 'extents'
> {
  const { sizeBytes, granuleBytes, logAt, logBytes } = shape
  const extents = new Uint8Array(TABLE_EXTENTS_MAX * EXTENT.bytes)
  for (const [i, extent] of shape.extents.entries()) EXTENT.write(extent, extents, i * EXTENT.bytes)
  return {
    sizeBytes,
    granuleBytes,
    logAt,
    logBytes,
    extentCount: shape.extents.length,
    extents,
  }
}

/** The same, read: what it says may be impossible. */
export function shapeOf(superblock: Superblock): Shape {
  const { sizeBytes, granuleBytes, logAt, logBytes, extentCount } = superblock
  const extents: TableExtent[] = []
  for (let i = 0; i < Math.min(extentCount, TABLE_EXTENTS_MAX); i++) {
    extents.push(EXTENT.read(superblock.extents, i * EXTENT.bytes))
  }
  return { sizeBytes, granuleBytes, logAt, logBytes, extents }
}

/** Sequences count changes; one that is as large as this is damage. */
const SEQUENCE_MAX = 2 ** 53 - 2 ** 31

/** Whether a superblock says of extents, devices, flags and growth what it can say. */
function isSound(superblock: Superblock): boolean {
  const { extentCount, extents, devices, device, flags } = superblock
  const { sequence, maxBytes, growBytes } = superblock
  if (!(sequence < SEQUENCE_MAX)) return false
  if (!Number.isSafeInteger(maxBytes) || !Number.isSafeInteger(growBytes)) return false
  if (extentCount === 0 || extentCount > TABLE_EXTENTS_MAX) return false
  for (let i = 0; i < TABLE_EXTENTS_MAX; i++) {
    const from = i * EXTENT.bytes
    if (i < extentCount) {
      if (!EXTENT.reservedIsZero(extents, from)) return false
    } else if (extents.subarray(from, from + EXTENT.bytes).some((byte) => byte !== 0)) return false
  }
  return devices === 1 && device === 0 && flags <= SUPERBLOCK_FLAG.LOG_IS_CHOSEN
}

const NO_CHECKSUM = new Uint8Array(4)

/** The page, checksummed. */
export function encodeSuperblock(values: Omit<Superblock, 'checksum' | 'magic'>): Uint8Array {
  const page = new Uint8Array(SUPERBLOCK.bytes)
  SUPERBLOCK.write({ ...values, magic: MAGIC, checksum: 0 }, page)
  new DataView(page.buffer).setUint32(SUPERBLOCK.fields.checksum[0], crc32c(0, page), true)
  return page
}

/** What is wrong with a page that should be a superblock. */
export type SuperblockDefect = 'no-magic' | 'checksum' | 'reserved' | 'misdirected'

/** What is in a page; with `copy` only when it is that one. */
export function decodeSuperblock(page: Uint8Array, copy?: 0 | 1): Superblock | SuperblockDefect {
  if (!hasMagic(page)) return 'no-magic'
  const values = SUPERBLOCK.read(page)
  if (checksumOf(page) !== values.checksum) return 'checksum'
  // A later version may use what is reserved today: its number is looked at first.
  if (values.version === FORMAT_VERSION) {
    if (!SUPERBLOCK.reservedIsZero(page) || !isSound(values)) return 'reserved'
  }
  return copy !== undefined && values.copy !== copy ? 'misdirected' : values
}

export function hasMagic(bytes: Uint8Array, at = 0): boolean {
  return MAGIC.every((byte, i) => bytes[at + i] === byte)
}

/** Where the second copy on a volume or at the end of a device of so many bytes is; undefined where none can be. */
export function secondSuperblockAt(sizeBytes: number): Offset | undefined {
  const at = alignDown(sizeBytes, PAGE_BYTES) - PAGE_BYTES
  return Number.isSafeInteger(at) && at >= PAGE_BYTES ? at : undefined
}

/** Whether two copies say the same, but for which copy they are. */
export function isSameSuperblock(first: Superblock, second: Superblock): boolean {
  return Object.keys(SUPERBLOCK.fields).every((name) => {
    if (name === 'copy' || name === 'checksum') return true
    const [one, other] = [first, second].map((each) => each[name as keyof Superblock])
    return typeof one === 'number' || typeof other === 'number'
      ? one === other
      : Buffer.compare(one!, other!) === 0
  })
}

/** Whether a copy is of a later change of the same volume than the other. */
export function isLaterSuperblock(one: Superblock, other: Superblock): boolean {
  return one.sequence > other.sequence && Buffer.compare(one.uuid, other.uuid) === 0
}

/** Of the page with its checksum zero. */
function checksumOf(page: Uint8Array): number {
  const [at] = SUPERBLOCK.fields.checksum
  const before = crc32c(crc32c(0, page, 0, at), NO_CHECKSUM)
  return crc32c(before, page, at + NO_CHECKSUM.length)
}

/** As text, empty for none. */
export function labelOf({ label }: Pick<Superblock, 'label'>): string {
  return Buffer.from(label).toString('utf8').replace(/\0+$/, '')
}

/** `8-4-4-4-12`. */
export function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex')
  return [8, 12, 16, 20].reduceRight((text, at) => `${text.slice(0, at)}-${text.slice(at)}`, hex)
}

/** Start value of every other checksum of this volume. */
export function volumeSeed(uuid: Uint8Array): number {
  return crc32c(0, uuid)
}
