/**
 * Where everything of a volume lies.
 *
 *   0            4 Ki                first granule behind it                          last 8 Ki      size
 *   ├────────────┼───────────────────┼───────────────────────────────────────────────┼──────────────┤
 *   superblock   checkpoint header   granules: chunks, free runs, and among them      checkpoint
 *                                    the log and the extents of the chunk table       header,
 *                                                                                     superblock
 *   └────────── head ────────────────┘                                                └─── tail ────┘
 *
 * Only head and tail have fixed places, and the tail moves when the volume grows. The log and the extents of
 * the chunk table are granules like those of a chunk; the superblock says which. So nothing follows from the size that
 * a volume had at first. Granules are counted from the start of the device.
 *
 * Everything that is kept twice is kept far apart, at first at both ends: what overwrites the beginning of a
 * device (a partition tool, mkfs) leaves the tail, and the other way round.
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
  TIB,
} from '../base/units.js'
import { CHUNK_SLOT, SLOTS_MAX } from './chunk-slot.js'

/** The smallest volume. */
export const VOLUME_BYTES_MIN = MIB
export const GRANULE_BYTES_MIN = PAGE_BYTES
export const GRANULE_BYTES_MAX = 4 * GIB
/** Granules are counted in 32 bits. */
export const GRANULES_MAX = 2 ** 32 - 1
export const LOG_BYTES_MIN = 64 * KIB
export const LOG_BYTES_MAX = GIB
/** Each is usually as large as all before it: with so many the table has its slots. */
export const TABLE_EXTENTS_MAX = 32
/** Slots of a new volume: more are added when these are used. */
const SLOTS_FIRST = 8192
/** A table extent is whole pages. */
export const SLOTS_STEP = PAGE_BYTES / CHUNK_SLOT.bytes

export const SUPERBLOCK_AT: Offset = 0
export const CHECKPOINT_AT: Offset = PAGE_BYTES
export const HEAD_BYTES = 2 * PAGE_BYTES
export const TAIL_BYTES = 2 * PAGE_BYTES

/** A stretch of the chunk table, and where its two copies are: each begins at a granule. */
export interface TableExtent {
  readonly slots: number
  readonly firstAt: Offset
  readonly secondAt: Offset
}

/** What a superblock says of places. */
export interface Shape {
  readonly sizeBytes: number
  readonly granuleBytes: number
  readonly logAt: Offset
  readonly logBytes: number
  readonly extents: readonly TableExtent[]
}

/** The places of a volume. While it is open there is one, which is changed when the volume grows. */
export interface Geometry extends Shape {
  /** Of all extents. */
  readonly slots: number
  /** First byte behind the head that a chunk can have: a multiple of the granule. */
  readonly dataAt: Offset
  /** Granules before the tail: a chunk's are below this. */
  readonly granules: number
  /** First byte that no chunk can have: a multiple of the granule. */
  readonly tailAt: Offset
  readonly checkpointCopyAt: Offset
  readonly superblockCopyAt: Offset
}

/** A stretch of granules that no chunk can have. */
export interface GranuleRun {
  readonly start: GranuleIndex
  readonly length: number
}

/** The places that follow from a shape. */
export function geometryFor(shape: Shape): Geometry {
  const { sizeBytes, granuleBytes, logAt, logBytes, extents } = shape
  const superblockCopyAt = sizeBytes - PAGE_BYTES
  const tailAt = alignDown(sizeBytes - TAIL_BYTES, granuleBytes)
  return {
    sizeBytes,
    granuleBytes,
    logAt,
    logBytes,
    extents,
    slots: extents.reduce((sum, { slots }) => sum + slots, 0),
    dataAt: alignUp(HEAD_BYTES, granuleBytes),
    granules: tailAt / granuleBytes,
    tailAt,
    checkpointCopyAt: superblockCopyAt - PAGE_BYTES,
    superblockCopyAt,
  }
}

/** The volume has another shape now: whoever has its geometry sees it. */
export function reshape(geometry: Geometry, next: Geometry): void {
  Object.assign(geometry, next)
}

/** A copy of an extent of the chunk table. */
export interface TableCopy {
  /** Its first slot. */
  readonly first: number
  readonly offset: Offset
  readonly bytes: number
}

/** Both copies of each extent of the chunk table. */
export function tableCopies({ extents }: Pick<Shape, 'extents'>): TableCopy[] {
  let first = 0
  return extents.flatMap(({ slots, firstAt, secondAt }) => {
    const bytes = slots * CHUNK_SLOT.bytes
    const both = [firstAt, secondAt].map((offset) => ({ first, offset, bytes }))
    first += slots
    return both
  })
}

/** The granules of log and chunk table, lowest first. */
export function metadataRuns(shape: Shape): GranuleRun[] {
  const { granuleBytes, logAt, logBytes } = shape
  const run = (offset: Offset, bytes: number): GranuleRun => ({
    start: offset / granuleBytes,
    length: Math.ceil(bytes / granuleBytes),
  })
  return [
    run(logAt, logBytes),
    ...tableCopies(shape).map(({ offset, bytes }) => run(offset, bytes)),
  ].sort((a, b) => a.start - b.start)
}

/** The geometry that a superblock describes; undefined when no volume can be so. */
export function geometryOf(described: Shape): Geometry | undefined {
  const { sizeBytes, granuleBytes, logBytes, extents } = described
  const isSane =
    sizeBytes >= VOLUME_BYTES_MIN &&
    Number.isSafeInteger(sizeBytes) &&
    sizeBytes % PAGE_BYTES === 0 &&
    granuleBytes >= GRANULE_BYTES_MIN &&
    granuleBytes <= GRANULE_BYTES_MAX &&
    isPowerOfTwo(granuleBytes) &&
    sizeBytes / granuleBytes <= GRANULES_MAX &&
    logBytes >= LOG_BYTES_MIN &&
    logBytes <= LOG_BYTES_MAX &&
    logBytes % PAGE_BYTES === 0 &&
    extents.length > 0 &&
    extents.length <= TABLE_EXTENTS_MAX &&
    extents.every(({ slots }) => slots > 0 && slots <= SLOTS_MAX && slots % SLOTS_STEP === 0)
  if (!isSane) return undefined
  const geometry = geometryFor(described)
  if (geometry.slots > SLOTS_MAX) return undefined
  // Each within the data area, at a granule, none over another.
  let free = geometry.dataAt / granuleBytes
  for (const { start, length } of metadataRuns(geometry)) {
    if (!Number.isSafeInteger(start) || start < free) return undefined
    free = start + length
  }
  return free <= geometry.granules ? geometry : undefined
}

/**
 * The geometry of a new volume: defaults where nothing is wanted.
 * @throws PlinthError ERR_DEVICE_TOO_SMALL when no room for chunks would remain.
 */
export function planGeometry(wanted: {
  sizeBytes: number
  granuleBytes?: number | undefined
  logBytes?: number | undefined
  /** What it may grow to; the size when it does not. */
  maxBytes?: number | undefined
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
  // Without limit: what granules of the usual size can have.
  const largest = Math.max(sizeBytes, Math.min(wanted.maxBytes ?? 0, 128 * TIB))
  const granuleBytes = Math.max(wanted.granuleBytes ?? defaultGranule(largest), wanted.alignBytes)
  const logBytes = wanted.logBytes ?? defaultLog(sizeBytes)
  // Behind the head the table, then the log; the table's second copy before the tail.
  const dataAt = alignUp(HEAD_BYTES, granuleBytes)
  const tailAt = alignDown(sizeBytes - TAIL_BYTES, granuleBytes)
  const slotsWanted = Math.min(SLOTS_FIRST, Math.floor(sizeBytes / granuleBytes))
  const tableBytes = alignUp(slotsWanted * CHUNK_SLOT.bytes, granuleBytes)
  const secondAt = tailAt - tableBytes
  const logAt = dataAt + tableBytes
  const slots = Math.min(tableBytes / CHUNK_SLOT.bytes, SLOTS_MAX)
  const extents = [{ slots, firstAt: dataAt, secondAt }]
  const room = secondAt - alignUp(logAt + logBytes, granuleBytes)
  const geometry =
    room >= granuleBytes
      ? geometryOf({ sizeBytes, granuleBytes, logAt, logBytes, extents })
      : undefined
  if (geometry === undefined) {
    throw new PlinthError(
      'ERR_DEVICE_TOO_SMALL',
      `a volume of ${sizeBytes} bytes with granules of ${granuleBytes} and a log of ${logBytes} bytes ` +
        `has room for no chunk, or for more than ${GRANULES_MAX} granules; choose other sizes`,
    )
  }
  return geometry
}

/** 4 to 64 KiB, about 2048 granules; beyond 256 TiB it grows, so that they can be counted. */
function defaultGranule(sizeBytes: number): number {
  const fitting = powerOfTwoFloor(sizeBytes / 2048)
  let granule = Math.min(Math.max(fitting, GRANULE_BYTES_MIN), 64 * KIB)
  while (sizeBytes / granule > GRANULES_MAX) granule *= 2
  return granule
}

/** A sixty-fourth of the volume, 64 KiB to 64 MiB. */
export function defaultLog(sizeBytes: number): number {
  return Math.min(Math.max(powerOfTwoFloor(sizeBytes / 64), LOG_BYTES_MIN), 64 * MIB)
}

/** Where the two copies of a slot of the chunk table are. */
export function slotPlaces(
  { extents }: Pick<Geometry, 'extents'>,
  slot: number,
): readonly [Offset, Offset] {
  let first = 0
  let i = 0
  while (i < extents.length - 1 && slot >= first + extents[i]!.slots) first += extents[i++]!.slots
  const at = (slot - first) * CHUNK_SLOT.bytes
  return [extents[i]!.firstAt + at, extents[i]!.secondAt + at]
}

/** The first slot behind the extent that has this one. */
export function extentEnd({ extents }: Pick<Geometry, 'extents'>, slot: number): number {
  let end = 0
  for (const { slots } of extents) {
    end += slots
    if (slot < end) break
  }
  return end
}

export function granuleToOffset(
  { granuleBytes }: Pick<Geometry, 'granuleBytes'>,
  granule: GranuleIndex,
): Offset {
  return granule * granuleBytes
}

/** Granules that hold so many bytes, rounded up. */
export function bytesToGranules(geometry: Geometry, bytes: number): number {
  return Math.ceil(bytes / geometry.granuleBytes)
}
