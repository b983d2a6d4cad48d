/** Making a volume of a device, in an order that a crash leaves "not a volume" or a whole one. */
import { randomFillSync } from 'node:crypto'
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import { MIB, PAGE_BYTES } from '../base/units.js'
import type { Readable } from '../check/inspection.js'
import { Device } from '../device/device.js'
import { createFile } from '../device/file-space.js'
import { isSame, statOf } from '../device/open.js'
import { CHECKPOINT_STATE } from '../layout/checkpoint-header.js'
import {
  type Geometry,
  geometryOf,
  HEAD_BYTES,
  metadataRuns,
  planGeometry,
  type Shape,
  VOLUME_BYTES_MIN,
} from '../layout/geometry.js'
import { findSignatures } from '../layout/signature.js'
import { FORMAT_VERSION, SUPERBLOCK_FLAG, shapeFields, volumeSeed } from '../layout/superblock.js'
import type { BadBlocks, Stretch } from '../media/bad-blocks.js'
import type { Media } from '../media/media.js'
import { mapAreas, mappingsOf } from './areas.js'
import { readContents } from './contents.js'
import { type FormatOptions, parseFormatOptions } from './options.js'
import { writeSuperblocks } from './superblocks.js'
import { eraseStretches, secondSuperblocks } from './wipe.js'

/** What a new volume is to be besides its options: a restored one is like another. */
export interface Identity {
  readonly uuid: Uint8Array
  readonly created: number
  /** `INCOMPATIBLE` bits. */
  readonly incompatible: number
  /** Where everything of the other volume is, so that chunks can be where they were. */
  readonly shape: Shape
  /** Whether its log stays as long as it is. */
  readonly isLogChosen: boolean
}

/** A file that plinth makes and that grows by itself begins with so much. */
const FILE_BYTES_FIRST = 16 * MIB
const LOG_BYTES_FIRST = 4 * MIB

export function formatDevice(
  path: string,
  options: FormatOptions | undefined,
  identity: Partial<Identity> = {},
): void {
  const stat = statOf(path)
  const isMissing = stat === undefined
  // A file of less is no volume: empty, or what is left when the making of one was interrupted.
  const isNew = isMissing || (stat.isFile() && stat.size < VOLUME_BYTES_MIN)
  const parsed = completed(parseFormatOptions(options), isNew, identity.shape)
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

type Wanted = ReturnType<typeof parseFormatOptions> & {
  /** Length of the log at first, which nobody has chosen. */
  readonly firstLog?: number | undefined
}

/** A file that is made without a size grows by itself; anything else keeps its size unless more is said. */
function completed(wanted: Wanted, isNew: boolean, shape: Shape | undefined): Wanted {
  const size = wanted.size ?? shape?.sizeBytes
  if (size !== undefined || !isNew) return { ...wanted, size }
  const maxSize = wanted.maxSize ?? Number.POSITIVE_INFINITY
  const first = Math.min(FILE_BYTES_FIRST, maxSize)
  return {
    ...wanted,
    size: first,
    maxSize,
    firstLog: first === FILE_BYTES_FIRST ? LOG_BYTES_FIRST : undefined,
  }
}

function formatOpened(device: Device, wanted: Wanted, identity: Partial<Identity>): void {
  const isFile = device.kind === 'file' || device.kind === 'tmpfs' || device.kind === 'fsdax'
  const deviceBytes = device.sizeBytes
  const sizeBytes = wanted.size ?? deviceBytes
  if (sizeBytes > deviceBytes && !isFile) {
    throw new PlinthError(
      'ERR_DEVICE_TOO_SMALL',
      `${device.path} has ${deviceBytes} bytes, ${sizeBytes} are wanted`,
    )
  }
  const { shape, ...about } = identity
  const geometry = shape
    ? placed(shape, device)
    : planGeometry({
        sizeBytes,
        granuleBytes: wanted.granule,
        logBytes: wanted.logSize ?? wanted.firstLog,
        maxBytes: wanted.maxSize,
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
    maxBytes: Math.min(wanted.maxSize ?? 0, Number.MAX_SAFE_INTEGER),
    growBytes: wanted.growBy ?? 0,
    isLogChosen: wanted.logSize !== undefined,
    ...about,
  })
}

/** The geometry of a volume that is to be like another. */
function placed(shape: Shape, { alignBytes, path }: Device): Geometry {
  const geometry = geometryOf(shape)
  if (geometry === undefined || shape.granuleBytes % alignBytes !== 0) {
    throw new PlinthError('ERR_BACKEND_LIMIT', `a volume cannot be laid out so on ${path}`)
  }
  return geometry
}

/** What a new volume writes, lowest first. */
function writtenBy(geometry: Geometry): Stretch[] {
  const { granuleBytes, checkpointCopyAt, sizeBytes } = geometry
  return [
    { offset: 0, length: HEAD_BYTES },
    ...metadataRuns(geometry).map(({ start, length }) => ({
      offset: start * granuleBytes,
      length: length * granuleBytes,
    })),
    { offset: checkpointCopyAt, length: sizeBytes - checkpointCopyAt },
  ]
}

/** A new volume has all of its metadata, twice. */
function refuseBadMetadata(badBlocks: BadBlocks, geometry: Geometry): void {
  const bad = writtenBy(geometry).flatMap(({ offset, length }) =>
    badBlocks.within(offset, length),
  )[0]
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
function remainsOf(device: Readable, geometry: Geometry): Stretch[] {
  const written = writtenBy(geometry)
  const ends = secondSuperblocks(device).map((offset) => ({ offset, length: PAGE_BYTES }))
  return [...ends, ...findSignatures(device)].filter(
    ({ offset, length }) =>
      !written.some(
        (each) => offset >= each.offset && offset + length <= each.offset + each.length,
      ) && !device.badBlocks?.touches(offset, length),
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
    maxBytes?: number
    growBytes?: number
    isLogChosen?: boolean
  },
): void {
  const seed = volumeSeed(about.uuid)
  const areas = mapAreas(media, geometry, seed, about.alignBytes)
  const { head, tail, checkpointHeaders, log, extents } = areas
  // 1. No superblock: from here on a crash leaves no volume, neither the old one nor half a new one.
  for (const { mapping, superblockAt } of [head, tail])
    media.zero(mapping, superblockAt, PAGE_BYTES)
  media.fence()
  // 2. Empty tables, no record that could be taken for one of this volume's, checkpoint headers at the start.
  // Writing the whole log also has a filesystem allocate it for good: later writes only overwrite.
  for (const { mapping, checkpointAt } of [head, tail])
    media.zero(mapping, checkpointAt, PAGE_BYTES)
  for (const mapping of [log, ...extents.flatMap(({ copies }) => copies)]) {
    media.zero(mapping, 0, mapping.length)
  }
  media.fence()
  checkpointHeaders.write({
    logSalt: 0,
    state: CHECKPOINT_STATE.CLOSED,
    head: 0,
    slotsUsed: 0,
    holes: 0,
  })
  // 3. Superblocks, the second first: the volume exists with the first of them that is whole.
  writeSuperblocks(media, areas, {
    version: FORMAT_VERSION,
    compatible: 0,
    readOnlyCompatible: 0,
    incompatible: about.incompatible ?? 0,
    uuid: about.uuid,
    ...shapeFields(geometry),
    created: about.created,
    label: about.label,
    sequence: 1,
    maxBytes: about.maxBytes ?? 0,
    growBytes: about.growBytes ?? 0,
    flags: about.isLogChosen ? SUPERBLOCK_FLAG.LOG_IS_CHOSEN : 0,
    devices: 1,
    device: 0,
  })
  for (const mapping of mappingsOf(areas)) media.unmap(mapping)
}
