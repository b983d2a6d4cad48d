/**
 * Where everything of a volume lies.
 *
 *   0         4 Ki      8 Ki                                           data            tail          size
 *   ├─────────┼─────────┼───────────────┼───────────┼──────────────────┼───────────────┼─────────────┤
 *   superblock  anchor    chunk table     redo log    (up to the next    granules        chunk table,
 *                                                      granule)                          anchor, superblock
 *   └──────────────── head ───────────────────────────────────────────┘               └─── tail ────┘
 *
 * Everything that is kept twice is kept at both ends: what overwrites the beginning of a device (a
 * partition tool, mkfs) leaves the tail, and the other way round. The tail's place follows from the
 * size of the volume, so it is found without the head.
 */
import { PlinthError } from '../base/errors.js'
import {
  alignDown,
  alignUp,
  GIB,
  type GranuleIndex,
  isPowerOfTwo,
  KIB,
  MIB,
  type Offset,
  PAGE_BYTES,
  powerOfTwoFloor,
} from '../base/units.js'
import { CHUNK_SLOT } from './chunk-slot.js'

/** The smallest volume. */
export const VOLUME_BYTES_MIN = MIB
export const GRANULE_BYTES_MIN = PAGE_BYTES
export const GRANULE_BYTES_MAX = 4 * GIB
/** More granules would make the free index and the table of chunks large: the granule grows instead. */
export const GRANULES_MAX = 4 * MIB
export const LOG_BYTES_MIN = 64 * KIB
export const LOG_BYTES_MAX = GIB

export const SUPERBLOCK_AT: Offset = 0
export const ANCHOR_AT: Offset = PAGE_BYTES
export const TABLE_AT: Offset = 2 * PAGE_BYTES

export interface Geometry {
  readonly sizeBytes: number
  readonly granuleBytes: number
  readonly slots: number
  readonly tableBytes: number
  readonly logAt: Offset
  readonly logBytes: number
  /** First byte of the data area: a multiple of the granule. */
  readonly dataAt: Offset
  readonly granules: number
  /** First byte of the tail: a multiple of the granule. */
  readonly tailAt: Offset
  readonly tableCopyAt: Offset
  readonly anchorCopyAt: Offset
  readonly superblockCopyAt: Offset
}

/** Works out the places. Undefined when nothing would be left for chunks. */
export function computeGeometry(wanted: {
  sizeBytes: number
  granuleBytes: number
  logBytes: number
}): Geometry | undefined {
  const { sizeBytes, granuleBytes, logBytes } = wanted
  // One slot for each granule: a chunk is never refused for want of a slot.
  const slots = Math.floor(sizeBytes / granuleBytes)
  const tableBytes = alignUp(slots * CHUNK_SLOT.bytes, PAGE_BYTES)
  const logAt = TABLE_AT + tableBytes
  const dataAt = alignUp(logAt + logBytes, granuleBytes)
  const tailAt = alignDown(sizeBytes - tableBytes - 2 * PAGE_BYTES, granuleBytes)
  const granules = (tailAt - dataAt) / granuleBytes
  if (granules < 1 || slots > GRANULES_MAX) return undefined
  const superblockCopyAt = sizeBytes - PAGE_BYTES
  const anchorCopyAt = superblockCopyAt - PAGE_BYTES
  return {
    sizeBytes,
    granuleBytes,
    slots,
    tableBytes,
    logAt,
    logBytes,
    dataAt,
    granules,
    tailAt,
    tableCopyAt: anchorCopyAt - tableBytes,
    anchorCopyAt,
    superblockCopyAt,
  }
}

/** The geometry that a superblock describes; undefined when no volume can be so. */
export function geometryOf(described: {
  sizeBytes: number
  granuleBytes: number
  logBytes: number
}): Geometry | undefined {
  const { sizeBytes, granuleBytes, logBytes } = described
  const sane =
    sizeBytes >= VOLUME_BYTES_MIN &&
    Number.isSafeInteger(sizeBytes) &&
    sizeBytes % PAGE_BYTES === 0 &&
    granuleBytes >= GRANULE_BYTES_MIN &&
    granuleBytes <= GRANULE_BYTES_MAX &&
    isPowerOfTwo(granuleBytes) &&
    logBytes >= LOG_BYTES_MIN &&
    logBytes <= LOG_BYTES_MAX &&
    logBytes % PAGE_BYTES === 0
  return sane ? computeGeometry(described) : undefined
}

/**
 * The geometry of a new volume: defaults where nothing is wanted.
 * @throws PlinthError ERR_DEVICE_TOO_SMALL when no room for chunks would remain.
 */
export function planGeometry(wanted: {
  sizeBytes: number
  granuleBytes?: number | undefined
  logBytes?: number | undefined
  /** What mappings of the device must be aligned to. */
  alignBytes: number
}): Geometry {
  const sizeBytes = alignDown(wanted.sizeBytes, Math.max(PAGE_BYTES, wanted.alignBytes))
  if (sizeBytes < VOLUME_BYTES_MIN) {
    throw new PlinthError(
      'ERR_DEVICE_TOO_SMALL',
      `${wanted.sizeBytes} bytes are too few: the smallest volume has ${VOLUME_BYTES_MIN}`,
    )
  }
  const granuleBytes = Math.max(wanted.granuleBytes ?? defaultGranule(sizeBytes), wanted.alignBytes)
  const logBytes = wanted.logBytes ?? defaultLog(sizeBytes)
  const geometry = computeGeometry({ sizeBytes, granuleBytes, logBytes })
  if (geometry === undefined) {
    throw new PlinthError(
      'ERR_DEVICE_TOO_SMALL',
      `a volume of ${sizeBytes} bytes with granules of ${granuleBytes} and a log of ${logBytes} bytes ` +
        `has room for no chunk, or for more than ${GRANULES_MAX} granules; choose other sizes`,
    )
  }
  return geometry
}

/** 4 KiB to 2 MiB, about 2048 granules; beyond 8 TiB it grows, so that there are at most 4 Mi of them. */
function defaultGranule(sizeBytes: number): number {
  const fitting = powerOfTwoFloor(sizeBytes / 2048)
  const usual = Math.min(Math.max(fitting, GRANULE_BYTES_MIN), 2 * MIB)
  let granule = usual
  while (sizeBytes / granule > GRANULES_MAX) granule *= 2
  return granule
}

/** A sixty-fourth of the volume, 64 KiB to 64 MiB. */
function defaultLog(sizeBytes: number): number {
  return Math.min(Math.max(powerOfTwoFloor(sizeBytes / 64), LOG_BYTES_MIN), 64 * MIB)
}

/** Where the two copies of a slot of the chunk table are. */
export function slotPlaces(geometry: Geometry, slot: number): readonly [Offset, Offset] {
  const at = slot * CHUNK_SLOT.bytes
  return [TABLE_AT + at, geometry.tableCopyAt + at]
}

export function granuleToOffset(geometry: Geometry, granule: GranuleIndex): Offset {
  return geometry.dataAt + granule * geometry.granuleBytes
}

/** Granules that hold so many bytes, rounded up. */
export function bytesToGranules(geometry: Geometry, bytes: number): number {
  return Math.ceil(bytes / geometry.granuleBytes)
}
