/** What is on a device, told by its ends: a volume, somebody else's things, zeros. */
import { PlinthError } from '../base/errors.js'
import { type Offset, PAGE_BYTES } from '../base/units.js'
import type { Readable } from '../check/inspection.js'
import { findTails } from '../check/tails.js'
import { SUPERBLOCK_AT } from '../layout/geometry.js'
import { findSignatures, SIGNATURE_BYTES } from '../layout/signature.js'
import {
  decodeSuperblock,
  hasMagic,
  labelOf,
  MAGIC,
  secondSuperblockAt,
} from '../layout/superblock.js'
import { type Found, findSuperblock } from './superblocks.js'

export interface Contents {
  /** The volume that opens, or why none does. */
  readonly volume: Found | PlinthError
  /** In words; undefined for zeros at both ends. */
  readonly what: string | undefined
}

/** Whatever its contents are, they are told. */
export function readContents(device: Readable, path: string): Contents {
  const volume = findVolume(device, path)
  return { volume, what: describe(device, volume) }
}

function findVolume(device: Readable, path: string): Found | PlinthError {
  try {
    return findSuperblock(device, path, true)
  } catch (error) {
    if (error instanceof PlinthError) return error
    throw error
  }
}

function describe(device: Readable, volume: Found | PlinthError): string | undefined {
  const { sizeBytes } = device
  const isGivenAway = volume instanceof PlinthError && volume.code === 'ERR_DEVICE_IN_USE'
  const superblock =
    sizeBytes < PAGE_BYTES ? 'no-magic' : decodeSuperblock(device.read(SUPERBLOCK_AT, PAGE_BYTES))
  // What a chunk holds may look like anything: where a volume is, nothing is guessed.
  if (!isGivenAway && typeof superblock !== 'string') return 'a plinth volume'
  const own = describeOwn(device)
  for (const { what } of findSignatures(device)) {
    return own === undefined ? what : `${what}, and what is left of a plinth volume`
  }
  if (own !== undefined) return own
  const length = Math.min(SIGNATURE_BYTES, sizeBytes)
  const ends = [device.read(0, length), device.read(sizeBytes - length, length)]
  const isEmpty = ends.every((end) => end.every((byte) => byte === 0))
  return isEmpty ? undefined : 'data of an unknown kind'
}

/** What is seen of a volume that is not whole. */
function describeOwn(device: Readable): string | undefined {
  const has = (at: Offset) => hasMagic(device.read(at, MAGIC.length))
  if (has(SUPERBLOCK_AT)) return 'a plinth volume'
  const endAt = secondSuperblockAt(device.sizeBytes)
  if (endAt !== undefined && has(endAt)) return 'the end of a plinth volume'
  for (const { superblock } of findTails(device)) {
    const name = labelOf(superblock)
    return `the end of ${name === '' ? 'a plinth volume' : `the plinth volume '${name}'`} of ${superblock.sizeBytes} bytes`
  }
  return undefined
}
