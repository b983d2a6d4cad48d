/**
 * Where the second superblock of a volume may be when its first says nothing and it is not at the
 * device's end: looked for as far as can be bounded, whatever the device's size.
 *
 *   every page        of the first 16 MiB
 *   sizes one types   1 to 99 MiB, GiB, TiB, and ten and a hundred times as many; powers of two
 */
import { GIB, MIB, type Offset, PAGE_BYTES, TIB } from '../base/units.js'
import { CHECKPOINT, decodeCheckpoint } from '../layout/checkpoint-header.js'
import { CHECKPOINT_AT } from '../layout/geometry.js'
import {
  decodeSuperblock,
  isLaterSuperblock,
  type Superblock,
  secondSuperblockAt,
  volumeSeed,
} from '../layout/superblock.js'
import type { Readable } from './inspection.js'

const EVERY_PAGE_BYTES = 16 * MIB

/** A second superblock that is whole and describes just the place where it is. */
export interface Tail {
  readonly superblock: Superblock
  readonly offset: Offset
}

/** Second superblocks where the first one says, whole or not, that its volume ends, and at the device's end. */
export function likelyTails(device: Readable, told: number): Tail[] {
  const tails: Tail[] = []
  for (const end of new Set([told, device.sizeBytes])) {
    const at = secondSuperblockAt(end)
    if (at === undefined || at + PAGE_BYTES > device.sizeBytes) continue
    const tail = tailIn(device.read(at, PAGE_BYTES), at)
    if (tail !== undefined) tails.push(tail)
  }
  return tails
}

/**
 * The tail that counts: one whose volume has the checkpoint header at the head, before all others, and of a volume's the last
 * change. A growth that was cut short may have left one of before or of after.
 */
export function newestTail(device: Readable, tails: readonly Tail[]): Tail | undefined {
  const own = tails.filter((tail) => isOfHead(device, tail))
  let newest: Tail | undefined
  for (const tail of own.length > 0 ? own : tails) {
    const isLater = newest === undefined || isLaterSuperblock(tail.superblock, newest.superblock)
    if (isLater) newest = tail
  }
  return newest
}

/** Whether the checkpoint header at the head is of the volume with this tail. */
export function isOfHead(device: Readable, { superblock }: Tail): boolean {
  const seed = volumeSeed(superblock.uuid)
  return decodeCheckpoint(device.read(CHECKPOINT_AT, CHECKPOINT.bytes), seed) !== undefined
}

/** At most 16 MiB and some hundred pages are read. */
export function* findTails(device: Readable): Generator<Tail> {
  const { sizeBytes } = device
  for (let from = 0; from < Math.min(EVERY_PAGE_BYTES, sizeBytes); from += MIB) {
    const bytes = device.read(from, Math.min(MIB, sizeBytes - from))
    for (let page = 0; page + PAGE_BYTES <= bytes.length; page += PAGE_BYTES) {
      const tail = tailIn(bytes.subarray(page, page + PAGE_BYTES), from + page)
      if (tail !== undefined) yield tail
    }
  }
  for (const volumeBytes of ROUND_SIZES) {
    if (volumeBytes > sizeBytes) break
    const offset = volumeBytes - PAGE_BYTES
    const tail = tailIn(device.read(offset, PAGE_BYTES), offset)
    if (tail !== undefined) yield tail
  }
}

/** The second superblock in a page; undefined when it is none, or belongs somewhere else. */
export function tailIn(page: Uint8Array, offset: Offset): Tail | undefined {
  const superblock = decodeSuperblock(page, 1)
  return typeof superblock !== 'string' && superblock.sizeBytes === offset + PAGE_BYTES
    ? { superblock, offset }
    : undefined
}

/** Lowest first, above those of which every page is looked at. */
const ROUND_SIZES: readonly number[] = [
  ...new Set([
    ...[MIB, GIB, TIB].flatMap((unit) =>
      [1, 10, 100].flatMap((times) => Array.from({ length: 99 }, (_, i) => (i + 1) * times * unit)),
    ),
    ...Array.from({ length: 53 }, (_, bits) => 2 ** bits),
  ]),
]
  .filter((size) => size > EVERY_PAGE_BYTES && size <= Number.MAX_SAFE_INTEGER)
  .sort((a, b) => a - b)
