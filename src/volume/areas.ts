/** Where everything of a volume lies, and the mappings of its metadata while it is open. */
import { alignDown, alignUp, PAGE_BYTES } from '../base/units.js'
import { CHUNK_SLOT } from '../layout/chunk-slot.js'
import {
  CHECKPOINT_AT,
  type Geometry,
  HEAD_BYTES,
  SUPERBLOCK_AT,
  type TableExtent,
  tableCopies,
} from '../layout/geometry.js'
import { CheckpointHeaders } from '../log/checkpoint-headers.js'
import type { MappedExtent } from '../log/slot-copies.js'
import type { Mapping, Media } from '../media/media.js'

/** A part of a volume and its place. */
export interface VolumeArea {
  readonly name: 'superblock' | 'checkpoint header' | 'chunk table' | 'log' | 'data'
  /** Bytes from the start of the device. */
  readonly offset: number
  readonly size: number
}

/** Lowest offset first. Between and behind them nothing is kept. */
export function areasOf(geometry: Geometry): VolumeArea[] {
  const { granuleBytes, dataAt, tailAt, logAt, logBytes } = geometry
  const inside: VolumeArea[] = [
    { name: 'log' as const, offset: logAt, size: logBytes },
    ...tableCopies(geometry).map(({ offset, bytes }) => ({
      name: 'chunk table' as const,
      offset,
      size: bytes,
    })),
  ].sort((a, b) => a.offset - b.offset)
  const areas: VolumeArea[] = [
    { name: 'superblock', offset: SUPERBLOCK_AT, size: PAGE_BYTES },
    { name: 'checkpoint header', offset: CHECKPOINT_AT, size: PAGE_BYTES },
  ]
  let from = dataAt
  for (const area of inside) {
    if (area.offset > from) areas.push({ name: 'data', offset: from, size: area.offset - from })
    areas.push(area)
    from = alignUp(area.offset + area.size, granuleBytes)
  }
  if (tailAt > from) areas.push({ name: 'data', offset: from, size: tailAt - from })
  areas.push(
    { name: 'checkpoint header', offset: geometry.checkpointCopyAt, size: PAGE_BYTES },
    { name: 'superblock', offset: geometry.superblockCopyAt, size: PAGE_BYTES },
  )
  return areas
}

/** What mappings of metadata begin and end at, on a device whose mappings are aligned to so much. */
export function mappingUnit(alignBytes: number): number {
  return Math.max(PAGE_BYTES, alignBytes)
}

/** One end of a volume: superblock and checkpoint header, and where they are in its mapping. */
export interface End {
  readonly mapping: Mapping
  readonly superblockAt: number
  readonly checkpointAt: number
}

export interface Areas {
  readonly head: End
  /** Another one when the volume has grown. */
  tail: End
  readonly checkpointHeaders: CheckpointHeaders
  /** The ring. Another one when it is replaced. */
  log: Mapping
  /** In the order of the geometry. */
  readonly extents: MappedExtent[]
}

export function mapAreas(
  media: Media,
  geometry: Geometry,
  seed: number,
  alignBytes: number,
): Areas {
  const headMapping = media.map(0, alignUp(HEAD_BYTES, mappingUnit(alignBytes)))
  const head = { mapping: headMapping, superblockAt: SUPERBLOCK_AT, checkpointAt: CHECKPOINT_AT }
  const tail = mapTail(media, geometry, alignBytes)
  return {
    head,
    tail,
    checkpointHeaders: new CheckpointHeaders(media, seed, [
      checkpointPlace(head),
      checkpointPlace(tail),
    ]),
    log: mapLog(media, geometry, alignBytes),
    extents: geometry.extents.map((extent) => mapExtent(media, extent, alignBytes)),
  }
}

export function checkpointPlace({ mapping, checkpointAt }: End) {
  return { mapping, offset: checkpointAt }
}

export function mapTail(
  media: Media,
  { checkpointCopyAt, superblockCopyAt, sizeBytes }: Geometry,
  alignBytes: number,
): End {
  const at = alignDown(checkpointCopyAt, mappingUnit(alignBytes))
  return {
    mapping: media.map(at, sizeBytes - at),
    superblockAt: superblockCopyAt - at,
    checkpointAt: checkpointCopyAt - at,
  }
}

export function mapLog(
  media: Media,
  { logAt, logBytes }: Pick<Geometry, 'logAt' | 'logBytes'>,
  alignBytes: number,
): Mapping {
  return media.map(logAt, alignUp(logBytes, mappingUnit(alignBytes)))
}

export function mapExtent(
  media: Media,
  { slots, firstAt, secondAt }: TableExtent,
  alignBytes: number,
): MappedExtent {
  const bytes = alignUp(slots * CHUNK_SLOT.bytes, mappingUnit(alignBytes))
  const first = media.map(firstAt, bytes)
  try {
    return { slots, copies: [first, media.map(secondAt, bytes)] }
  } catch (error) {
    media.unmap(first)
    throw error
  }
}

/** Every mapping of metadata. */
export function mappingsOf({ head, tail, log, extents }: Areas): Mapping[] {
  return [head.mapping, log, ...extents.flatMap(({ copies }) => copies), tail.mapping]
}
