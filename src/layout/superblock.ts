/** The superblock: what never changes after format. One page, kept at both ends. */
import { crc32c } from '../base/checksum.js'
import { alignDown, type Offset, PAGE_BYTES } from '../base/units.js'
import { defineStruct, type Values } from './struct.js'

export const FORMAT_VERSION = 1
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
    granuleBytes:       [56, 'u64', 'with size and log it gives every other place'],
    logBytes:           [64, 'u64', 'length of the redo log'],
    created:            [72, 'u64', 'milliseconds since 1970'],
    label:              [80, 'bytes64', 'for people; UTF-8, zero-padded'],
  },
})
export type Superblock = Values<typeof SUPERBLOCK.fields>

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
  if (values.version === FORMAT_VERSION && !SUPERBLOCK.reservedIsZero(page)) return 'reserved'
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
