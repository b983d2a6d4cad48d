/**
 * Whether a device that holds a volume's metadata was given to somebody else since. Asked before
 * anything is written where that metadata is: repairing it from its second copy would destroy what the
 * new owner has.
 *
 *   ours      whole; or one bit differs, a sector was lost or torn, a block is bad
 *   foreign   anything else in the first two pages; a known signature in any part that is not whole
 *
 * A copy at the end that is unknown bytes, while all of the head is ours, is damage: nobody moves in
 * without a sign at the beginning or one that is known.
 */
import { bitsIn, isZero } from '../base/bits.js'
import { type Offset, PAGE_BYTES } from '../base/units.js'
import { CHECKPOINT, decodeCheckpoint } from '../layout/checkpoint-header.js'
import { CHUNK_SLOT, chunkSlotSeed, decodeChunkSlot } from '../layout/chunk-slot.js'
import {
  CHECKPOINT_AT,
  type Geometry,
  HEAD_BYTES,
  SUPERBLOCK_AT,
  tableCopies,
} from '../layout/geometry.js'
import { findSignatures } from '../layout/signature.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  labelOf,
  SUPERBLOCK,
  type Superblock,
  volumeSeed,
} from '../layout/superblock.js'
import type { Readable } from './inspection.js'
import { Lenient } from './lenient.js'

/** What is behind the checkpoint header in its page. */
const NOTHING = new Uint8Array(PAGE_BYTES - CHECKPOINT.bytes)

export interface Intruder {
  /** What is there, in words. */
  readonly what: string
  readonly offset: Offset
}

/** What is on a device in the place of metadata of the volume that this superblock describes. */
export function findIntruder(
  raw: Readable,
  superblock: Superblock,
  geometry: Geometry,
): Intruder | undefined {
  const device = new Lenient(raw)
  const seed = volumeSeed(superblock.uuid)
  const metadata = [
    { from: 0, to: HEAD_BYTES },
    ...tableCopies(geometry).map(({ offset, bytes }) => ({ from: offset, to: offset + bytes })),
    { from: geometry.checkpointCopyAt, to: geometry.sizeBytes },
  ]
  for (const { what, offset } of findSignatures(device, metadata)) {
    if (!isWhole(device, geometry, seed, offset)) return { what, offset }
  }
  const [first, checkpointHeader] = [SUPERBLOCK_AT, CHECKPOINT_AT].map((at) => readPage(device, at))
  if (first !== undefined && !isOwnHead(first, superblock, checkpointHeader, seed)) {
    const what = isZero(first) ? 'zeros' : 'data of an unknown kind'
    return { what, offset: SUPERBLOCK_AT }
  }
  if (checkpointHeader !== undefined && !isCheckpointPage(checkpointHeader)) {
    return { what: 'data of an unknown kind', offset: CHECKPOINT_AT }
  }
  return undefined
}

/** Both owners, in words: `a swap area, at 4086, in the place of the plinth volume 'old'`. */
export function nameBoth({ what, offset }: Intruder, superblock: Superblock): string {
  const name = labelOf(superblock)
  return `${what}, at ${offset}, in the place of the plinth volume${name === '' ? '' : ` '${name}'`}`
}

/** Whether a page holds a checkpoint header or a damaged one, and nothing else. */
export function isCheckpointPage(page: Uint8Array): boolean {
  const rest = page.subarray(CHECKPOINT.bytes)
  return Buffer.compare(rest, NOTHING) === 0 || bitsIn(rest) <= 1
}

/** Whether the first page of a device is, or was before some damage, that of this volume. */
function isOwnHead(
  page: Uint8Array,
  superblock: Superblock,
  checkpointPage: Uint8Array | undefined,
  seed: number,
): boolean {
  const own = Buffer.from(encodeSuperblock({ ...superblock, copy: 0 }))
  if (own.equals(page)) return true
  // One flipped bit.
  if (bitsIn(page.map((byte, i) => byte ^ own[i]!)) <= 1) return true
  const [magicAt] = SUPERBLOCK.fields.magic
  const [uuidAt] = SUPERBLOCK.fields.uuid
  const sameAt = (at: number, length: number) =>
    own.compare(page, at, at + length, at, at + length) === 0
  // Nothing but a superblock of this volume, whatever is wrong with the values: one was torn, or misdirected.
  const [extentsAt] = SUPERBLOCK.fields.extents
  const isAlone = bitsIn(page.subarray(extentsAt + superblock.extents.length)) <= 1
  if (isAlone && sameAt(magicAt, 8) && sameAt(uuidAt, 16)) return true
  // A write that was lost, or torn over zeros; that the checkpoint header is there tells it from a device that was wiped.
  if (
    checkpointPage === undefined ||
    decodeCheckpoint(checkpointPage.subarray(0, CHECKPOINT.bytes), seed) === undefined
  ) {
    return false
  }
  for (let at = 0; at < PAGE_BYTES; at += 8) {
    if (!sameAt(at, 8) && !isZero(page.subarray(at, at + 8))) return false
  }
  return true
}

/** Whether the structure at a place of the metadata passes its checksum: then its bytes only look foreign. */
function isWhole(device: Readable, geometry: Geometry, seed: number, offset: Offset): boolean {
  const { checkpointCopyAt, superblockCopyAt } = geometry
  const table = tableCopies(geometry).find(
    (copy) => offset >= copy.offset && offset < copy.offset + copy.bytes,
  )
  if (table !== undefined) {
    const slot = Math.floor((offset - table.offset) / CHUNK_SLOT.bytes)
    const page = readPage(device, offset - (offset % PAGE_BYTES))
    const inPage = (slot * CHUNK_SLOT.bytes) % PAGE_BYTES
    const slotSeed = chunkSlotSeed(seed, table.first + slot)
    return page === undefined || decodeChunkSlot(page, inPage, slotSeed) !== undefined
  }
  if (offset < CHECKPOINT_AT || offset >= superblockCopyAt) {
    const page = readPage(device, offset < CHECKPOINT_AT ? SUPERBLOCK_AT : superblockCopyAt)
    return page === undefined || typeof decodeSuperblock(page) !== 'string'
  }
  const at = offset < HEAD_BYTES ? CHECKPOINT_AT : checkpointCopyAt
  const page = readPage(device, at)
  if (page === undefined) return true
  const isCheckpoint = decodeCheckpoint(page.subarray(0, CHECKPOINT.bytes), seed) !== undefined
  return offset < at + CHECKPOINT.bytes && isCheckpoint
}

/** A page; undefined when it is a known bad block or cannot be read: that says nothing of who has it. */
function readPage(device: Readable, at: Offset): Uint8Array | undefined {
  const page = device.read(at, PAGE_BYTES)
  return device.badBlocks?.touches(at, PAGE_BYTES) ? undefined : page
}
