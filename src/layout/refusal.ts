/** Why a volume whose superblock is whole is one that this version cannot follow. */
import { type Geometry, geometryOf } from './geometry.js'
import {
  FEATURES_KNOWN,
  FORMAT_VERSION,
  INCOMPATIBLE,
  type Superblock,
  shapeOf,
} from './superblock.js'

export interface Refusal {
  readonly why: 'newer' | 'older' | 'restoring' | 'impossible' | 'truncated'
  /** Begins with what is refused: the volume, the superblock, a restore. */
  readonly message: string
}

/** The volume's geometry, on a device of so many bytes; or why there is none. `restoring` lets one pass that is not complete. */
export function followSuperblock(
  superblock: Superblock,
  deviceBytes: number,
  restoring = false,
): Geometry | Refusal {
  const { version } = superblock
  if (version < FORMAT_VERSION) {
    return {
      why: 'older',
      message: `the volume has format ${version}, from before the first release; this version knows format ${FORMAT_VERSION} alone`,
    }
  }
  const unknown = (superblock.incompatible & ~FEATURES_KNOWN.incompatible) >>> 0
  if (version > FORMAT_VERSION || unknown !== 0) {
    return {
      why: 'newer',
      message: `the volume has format ${version} with features ${unknown}, from a later version; this one knows format ${FORMAT_VERSION}`,
    }
  }
  if ((superblock.incompatible & INCOMPATIBLE.RESTORING) !== 0 && !restoring) {
    return {
      why: 'restoring',
      message: 'a restore to this volume did not end; restore it again',
    }
  }
  const geometry = geometryOf(shapeOf(superblock))
  if (geometry === undefined) {
    return { why: 'impossible', message: 'the superblock describes an impossible volume' }
  }
  if (deviceBytes < geometry.sizeBytes) {
    return {
      why: 'truncated',
      message: `the device has ${deviceBytes} bytes, the volume ${geometry.sizeBytes}: it was truncated, or copied in part`,
    }
  }
  return geometry
}

/** Features that this version can read past and not write; 0 for none. */
export function unwritableFeatures({ readOnlyCompatible }: Superblock): number {
  return (readOnlyCompatible & ~FEATURES_KNOWN.readOnlyCompatible) >>> 0
}
