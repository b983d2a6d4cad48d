/** The two mappings of a volume's metadata, for as long as it is open. */
import { alignDown, alignUp, PAGE_BYTES } from '../base/units.js'
import { ANCHOR_AT, type Geometry } from '../layout/geometry.js'
import { Anchors } from '../log/anchors.js'
import type { Mapping, Media } from '../media/media.js'

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
