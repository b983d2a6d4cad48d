/** Where things are in a new volume, which has one extent of the chunk table, at its ends, and the log behind the first. */
import { alignUp } from '../../src/base/units.js'
import { CHUNK_SLOT } from '../../src/layout/chunk-slot.js'
import type { Geometry } from '../../src/layout/geometry.js'

export interface Places {
  readonly tableAt: number
  readonly tableCopyAt: number
  readonly tableBytes: number
  /** First and last byte that chunks can have, the last excluded. */
  readonly chunksAt: number
  readonly chunksEnd: number
}

export function placesOf({ extents, logAt, logBytes, granuleBytes }: Geometry): Places {
  const [{ slots, firstAt, secondAt }] = extents as readonly [Geometry['extents'][number]]
  return {
    tableAt: firstAt,
    tableCopyAt: secondAt,
    tableBytes: slots * CHUNK_SLOT.bytes,
    chunksAt: alignUp(logAt + logBytes, granuleBytes),
    chunksEnd: secondAt,
  }
}
