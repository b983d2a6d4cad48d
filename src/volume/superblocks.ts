/** The two superblocks of a volume: found, looked at before they are believed, written. */
import { PlinthError } from '../base/errors.js'
import { type Offset, PAGE_BYTES } from '../base/units.js'
import type { Readable } from '../check/inspection.js'
import { findIntruder, nameBoth } from '../check/intruder.js'
import { likelyTails, newestTail } from '../check/tails.js'
import { CHECKPOINT, CHECKPOINT_STATE, decodeCheckpoint } from '../layout/checkpoint-header.js'
import { CHECKPOINT_AT, type Geometry, SUPERBLOCK_AT } from '../layout/geometry.js'
import { followSuperblock, unwritableFeatures } from '../layout/refusal.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  isLaterSuperblock,
  isSameSuperblock,
  SUPERBLOCK,
  type Superblock,
  type SuperblockDefect,
  secondSuperblockAt,
  volumeSeed,
} from '../layout/superblock.js'
import type { Stretch } from '../media/bad-blocks.js'
import type { Media } from '../media/media.js'
import type { End } from './areas.js'

export interface Found {
  readonly superblock: Superblock
  readonly geometry: Geometry
  /** Which copy counts: the other is written first, when they are. */
  readonly source: 0 | 1
  /** Whether one copy is to be written from the other: it is damaged, and the device can read and write both. */
  readonly isRepairable: boolean
}

const REFUSED = {
  newer: 'ERR_FORMAT_TOO_NEW',
  older: 'ERR_FORMAT_TOO_OLD',
  restoring: 'ERR_VOLUME_INCOMPLETE',
  impossible: 'ERR_VOLUME_CORRUPT',
  truncated: 'ERR_DEVICE_TRUNCATED',
} as const

/**
 * Finds the superblock of a volume whose device is still its own. A copy that cannot be read is done without.
 * @throws PlinthError ERR_NOT_A_VOLUME, ERR_VOLUME_CORRUPT, ERR_FORMAT_TOO_NEW, ERR_FORMAT_TOO_OLD,
 *   ERR_DEVICE_TRUNCATED, ERR_DEVICE_IN_USE, ERR_DEVICE_IO, ERR_VOLUME_INCOMPLETE unless `restoring`
 */
export function findSuperblock(
  device: Readable,
  path: string,
  readOnly: boolean,
  restoring = false,
): Found {
  const { sizeBytes } = device
  if (sizeBytes < PAGE_BYTES) {
    throw new PlinthError('ERR_NOT_A_VOLUME', `${path} has ${sizeBytes} bytes: it holds no volume`)
  }
  let unreadable: unknown
  const read = (at: Offset, copy: 0 | 1): Superblock | SuperblockDefect => {
    try {
      return decodeSuperblock(device.read(at, PAGE_BYTES), copy)
    } catch (error) {
      unreadable ??= error
      return 'no-magic'
    }
  }
  const first = read(SUPERBLOCK_AT, 0)
  // The first copy tells where the second is. A torn one still does: the word with the size is the old one or the
  // new one, and while the first is written there is a second for each. Else it is at the device's end.
  const second =
    typeof first === 'string'
      ? withoutFirst(device, read)
      : readSecond(device, secondSuperblockAt(first.sizeBytes), read)
  const superblock =
    typeof first === 'string' || (typeof second !== 'string' && isLaterSuperblock(second, first))
      ? second
      : first
  if (typeof superblock === 'string') {
    if (unreadable !== undefined) throw unreadable
    const bad = device.badBlocks?.within(SUPERBLOCK_AT, PAGE_BYTES)[0]
    if (bad !== undefined) {
      throw badBlock(
        bad,
        `the first superblock of ${path}, and no second one is where it should be`,
      )
    }
    if (first === 'no-magic' && second === 'no-magic') {
      throw new PlinthError('ERR_NOT_A_VOLUME', `${path} does not hold a plinth volume`)
    }
    throw corrupt(`${path}: both superblocks are damaged`)
  }
  const geometry = followSuperblock(superblock, sizeBytes, restoring)
  if ('why' in geometry)
    throw new PlinthError(REFUSED[geometry.why], `${path}: ${geometry.message}`)
  if (unwritableFeatures(superblock) !== 0 && !readOnly) {
    throw new PlinthError(
      'ERR_FORMAT_TOO_NEW',
      `${path}: the volume has features that this version cannot write; it can be opened with readOnly`,
    )
  }
  const intruder = findIntruder(device, superblock, geometry)
  if (intruder !== undefined) {
    throw new PlinthError(
      'ERR_DEVICE_IN_USE',
      `${path} holds ${nameBoth(intruder, superblock)}: it was given to somebody else, or wiped; ` +
        'only repair with force takes it back for the volume',
    )
  }
  const areSame =
    typeof first !== 'string' && typeof second !== 'string' && isSameSuperblock(first, second)
  const source = superblock === first ? 0 : 1
  return { superblock, geometry, source, isRepairable: unreadable === undefined && !areSame }
}

type ReadCopy = (at: Offset, copy: 0 | 1) => Superblock | SuperblockDefect

function readSecond(
  { sizeBytes }: Readable,
  at: Offset | undefined,
  read: ReadCopy,
): Superblock | SuperblockDefect {
  return at !== undefined && at + PAGE_BYTES <= sizeBytes ? read(at, 1) : 'no-magic'
}

/** The second copy of a volume whose first is damaged, or cannot be read. */
function withoutFirst(device: Readable, read: ReadCopy): Superblock | SuperblockDefect {
  const { sizeBytes } = device
  try {
    const told = SUPERBLOCK.read(device.read(SUPERBLOCK_AT, PAGE_BYTES)).sizeBytes
    const tail = newestTail(device, likelyTails(device, told))
    if (tail !== undefined) return tail.superblock
  } catch {
    // Then the device's end alone.
  }
  return readSecond(device, secondSuperblockAt(sizeBytes), read)
}

/** A device with a page cache before it. */
interface Cached extends Readable {
  /** Past the page cache. */
  readStored(offset: Offset, length: number): Uint8Array
  /** From now on everything is read from the device. */
  dropCache(): void
}

/**
 * Finds the superblock that the device has, and makes sure that what is read of the volume from now on is what
 * the device has too: that is what recovery trusts.
 * @throws PlinthError as `findSuperblock`
 */
export function findStored(
  device: Cached,
  path: string,
  readOnly: boolean,
  restoring: boolean,
): Found {
  const stored: Readable = {
    sizeBytes: device.sizeBytes,
    badBlocks: device.badBlocks,
    read: (offset, length) => device.readStored(offset, length),
  }
  const found = findSuperblock(stored, path, readOnly, restoring)
  if (!wasClosed(stored, found)) device.dropCache()
  return found
}

/** Whether the last user closed the volume: then everything before was durable. */
function wasClosed(device: Readable, { superblock, geometry }: Found): boolean {
  const seed = volumeSeed(superblock.uuid)
  return [CHECKPOINT_AT, geometry.checkpointCopyAt].every((at) => {
    try {
      return (
        decodeCheckpoint(device.read(at, CHECKPOINT.bytes), seed)?.state === CHECKPOINT_STATE.CLOSED
      )
    } catch {
      return false
    }
  })
}

/**
 * Writes both copies, durably, with a fence between, so that one is whole at any instant: the one that counts, the
 * `source`, is written last. Two fences.
 */
export function writeSuperblocks(
  media: Media,
  { head, tail }: { readonly head: End; readonly tail: End },
  superblock: Omit<Superblock, 'checksum' | 'magic' | 'copy'>,
  source: 0 | 1 = 0,
): void {
  const both = [
    [0, head],
    [1, tail],
  ] as const
  for (const [copy, { mapping, superblockAt }] of [both[1 - source]!, both[source]]) {
    media.write(mapping, superblockAt, encodeSuperblock({ ...superblock, copy }))
    media.fence()
  }
}

export function badBlock({ offset, length }: Stretch, where: string): PlinthError {
  return new PlinthError(
    'ERR_BAD_BLOCKS',
    `${length} bytes at ${offset} are known to be bad, in ${where}`,
  )
}

export function corrupt(what: string): PlinthError {
  return new PlinthError('ERR_VOLUME_CORRUPT', what)
}
