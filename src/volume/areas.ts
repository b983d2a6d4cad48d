/** Where everything of a volume lies, and the two mappings of its metadata while it is open. */
import { alignDown, alignUp, PAGE_BYTES } from '../base/units.js'
import { ANCHOR_AT, type Geometry, SUPERBLOCK_AT, TABLE_AT } from '../layout/geometry.js'
import { Anchors } from '../log/anchors.js'
import type { Mapping, Media } from '../media/media.js'

/** A part of a volume and its place. */
export interface VolumeArea {
  readonly name: 'superblock' | 'anchor' | 'chunk table' | 'log' | 'data'
  /** Bytes from the start of the device. */
  readonly offset: number
  readonly size: number
}

/** Lowest offset first. Between and behind them nothing is kept. */
export function areasOf(geometry: Geometry): VolumeArea[] {
  const { tableBytes, granules, granuleBytes } = geometry
  return [
    { name: 'superblock', offset: SUPERBLOCK_AT, size: PAGE_BYTES },
    { name: 'anchor', offset: ANCHOR_AT, size: PAGE_BYTES },
    { name: 'chunk table', offset: TABLE_AT, size: tableBytes },
    { name: 'log', offset: geometry.logAt, size: geometry.logBytes },
    { name: 'data', offset: geometry.dataAt, size: granules * granuleBytes },
    { name: 'chunk table', offset: geometry.tableCopyAt, size: tableBytes },
    { name: 'anchor', offset: geometry.anchorCopyAt, size: PAGE_BYTES },
    { name: 'superblock', offset: geometry.superblockCopyAt, size: PAGE_BYTES },
  ]
}

export interface Areas {
  readonly head: Mapping
  readonly tail: Mapping
  readonly anchors: Anchors
  /** Where the second copies are within the tail's mapping. */
  readonly tableCopyAt: number
  readonly anchorCopyAt: number
  readonly superblockCopyAt: number
  /** The ring of the log within the head's mapping. */
  readonly ring: Uint8Array
}

export function mapAreas(
  media: Media,
  geometry: Geometry,
  seed: number,
  alignBytes: number,
): Areas {
  const unit = Math.max(PAGE_BYTES, alignBytes)
  const { logAt, logBytes, sizeBytes } = geometry
  const head = media.map(0, alignUp(logAt + logBytes, unit))
  const tailAt = alignDown(geometry.tableCopyAt, unit)
  const tail = media.map(tailAt, sizeBytes - tailAt)
  const anchorCopyAt = geometry.anchorCopyAt - tailAt
  return {
    head,
    tail,
    anchors: new Anchors(media, seed, [
      { mapping: head, offset: ANCHOR_AT },
      { mapping: tail, offset: anchorCopyAt },
    ]),
    tableCopyAt: geometry.tableCopyAt - tailAt,
    anchorCopyAt,
    superblockCopyAt: geometry.superblockCopyAt - tailAt,
    ring: head.bytes.subarray(logAt, logAt + logBytes),
  }
}
