/** Making a volume of a device, in an order that a crash leaves "not a volume" or a whole one. */
import { randomFillSync } from 'node:crypto'
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import { PAGE_BYTES } from '../base/units.js'
import type { Readable } from '../check/inspection.js'
import { Device } from '../device/device.js'
import { createFile } from '../device/file-space.js'
import { isSame, missing, statOf } from '../device/open.js'
import { ANCHOR_STATE } from '../layout/anchor.js'
import {
  ANCHOR_AT,
  type Geometry,
  planGeometry,
  SUPERBLOCK_AT,
  TABLE_AT,
} from '../layout/geometry.js'
import { findSignatures } from '../layout/signature.js'
import { encodeSuperblock, FORMAT_VERSION, volumeSeed } from '../layout/superblock.js'
import type { BadBlocks, Stretch } from '../media/bad-blocks.js'
import type { Media } from '../media/media.js'
import { mapAreas } from './areas.js'
import { readContents } from './contents.js'
import { type FormatOptions, parseFormatOptions } from './options.js'
import { eraseStretches, secondSuperblocks } from './wipe.js'

/** What a new volume is to be besides its options: a restored one is like another. */
export interface Identity {
  readonly uuid: Uint8Array
  readonly created: number
  /** `INCOMPATIBLE` bits. */
  readonly incompatible: number
}

export function formatDevice(
  path: string,
  options: FormatOptions | undefined,
  identity: Partial<Identity> = {},
): void {
  const parsed = parseFormatOptions(options)
  const isMissing = statOf(path) === undefined
  if (isMissing && parsed.size === undefined) {
    const { message } = missing(path)
    throw new PlinthError(
      'ERR_DEVICE_MISSING',
      `${message}; give a size to have a file created there`,
    )
  }
  const created = isMissing ? createFile(path) : undefined
  try {
    const { backend, granularity, unsafeGranularity } = parsed
    const wanted = { backend, granularity, unsafeGranularity }
    const device = new Device({ path, ...wanted, readOnly: false, created })
    try {
      formatOpened(device, parsed, identity)
    } catch (error) {
      device.giveBack()
      throw error
    } finally {
      device.close()
    }
  } catch (error) {
    const there = created && statOf(path)
    if (there !== undefined && isSame(there, created!)) fs.rmSync(path, { force: true })
    throw error
  }
}

function formatOpened(
  device: Device,
  wanted: ReturnType<typeof parseFormatOptions>,
  identity: Partial<Identity>,
): void {
  const isFile = device.kind === 'file' || device.kind === 'tmpfs' || device.kind === 'fsdax'
  const deviceBytes = device.sizeBytes
  const sizeBytes = wanted.size ?? deviceBytes
  if (sizeBytes > deviceBytes && !isFile) {
    throw new PlinthError(
      'ERR_DEVICE_TOO_SMALL',
      `${device.path} has ${deviceBytes} bytes, ${sizeBytes} are wanted`,
    )
  }
  const geometry = planGeometry({
    sizeBytes,
    granuleBytes: wanted.granule,
    logBytes: wanted.logSize,
    alignBytes: device.alignBytes,
  })
  if (!wanted.force) refuseContents(device)
  const remains = remainsOf(device, geometry)
  if (isFile) device.allocate(sizeBytes)
  refuseBadMetadata(device.badBlocks, geometry)
  const media = device.media(Math.max(geometry.sizeBytes, deviceBytes))
  // A crash here leaves what was there before without its second copies.
  eraseStretches(media, device, remains)
  writeVolume(media, geometry, {
    alignBytes: device.alignBytes,
    label: wanted.label,
    uuid: randomFillSync(new Uint8Array(16)),
    created: Date.now(),
    ...identity,
  })
}

/** A new volume has all of its metadata, twice. */
function refuseBadMetadata(badBlocks: BadBlocks, geometry: Geometry): void {
  const { logAt, logBytes, tableCopyAt, sizeBytes } = geometry
  const bad = [
    ...badBlocks.within(0, logAt + logBytes),
    ...badBlocks.within(tableCopyAt, sizeBytes - tableCopyAt),
  ][0]
  if (bad === undefined) return
  throw new PlinthError(
    'ERR_BAD_BLOCKS',
    `the device has ${bad.length} bad bytes at ${bad.offset}, where the volume's metadata would be; choose another size, or clear them`,
  )
}

/** What stands at either end must be zero, or the user must have said `force`. */
function refuseContents(device: Device): void {
  const { what } = readContents(device, device.path)
  if (what === undefined) return
  throw new PlinthError(
    'ERR_DEVICE_IN_USE',
    `${device.path} holds ${what}; the option force overwrites it`,
  )
}

/**
 * What would have the device found as something else: second superblocks of volumes that were here
 * before, which a damaged first one has looked for, and signatures of others. Not what the new volume
 * overwrites.
 */
function remainsOf(
  device: Readable,
  { logAt, logBytes, tableCopyAt, sizeBytes }: Geometry,
): Stretch[] {
  const ends = secondSuperblocks(device).map((offset) => ({ offset, length: PAGE_BYTES }))
  return [...ends, ...findSignatures(device)].filter(
    ({ offset, length }) =>
      offset + length > logAt + logBytes &&
      (offset < tableCopyAt || offset >= sizeBytes) &&
      !device.badBlocks?.touches(offset, length),
  )
}

/** Writes a new volume to media, whatever was there. Durable when it returns. */
export function writeVolume(
  media: Media,
  geometry: Geometry,
  about: {
    alignBytes: number
    label: Uint8Array
    uuid: Uint8Array
    created: number
    incompatible?: number
  },
): void {
  const seed = volumeSeed(about.uuid)
  const areas = mapAreas(media, geometry, seed, about.alignBytes)
  const { head, tail } = areas
  // 1. No superblock: from here on a crash leaves no volume, neither the old one nor half a new one.
  media.zero(head, SUPERBLOCK_AT, PAGE_BYTES)
  media.zero(tail, areas.superblockCopyAt, PAGE_BYTES)
  media.fence()
  // 2. Empty tables, no record that could be taken for one of this volume's, anchors at the start.
  // Writing the whole log also has a filesystem allocate it for good: later writes only overwrite.
  media.zero(head, ANCHOR_AT, PAGE_BYTES)
  media.zero(head, TABLE_AT, geometry.tableBytes + geometry.logBytes)
  media.zero(tail, areas.tableCopyAt, geometry.tableBytes + PAGE_BYTES)
  media.fence()
  areas.anchors.write({ epoch: 0, state: ANCHOR_STATE.CLOSED, head: 0, slotsUsed: 0, holes: 0 })
  // 3. Superblocks, the second first: the volume exists with the first of them that is whole.
  const values = {
    version: FORMAT_VERSION,
    compatible: 0,
    readOnlyCompatible: 0,
    incompatible: about.incompatible ?? 0,
    uuid: about.uuid,
    sizeBytes: geometry.sizeBytes,
    granuleBytes: geometry.granuleBytes,
    logBytes: geometry.logBytes,
    created: about.created,
    label: about.label,
  }
  media.write(tail, areas.superblockCopyAt, encodeSuperblock({ ...values, copy: 1 }))
  media.fence()
  media.write(head, SUPERBLOCK_AT, encodeSuperblock({ ...values, copy: 0 }))
  media.fence()
  media.unmap(head)
  media.unmap(tail)
}
