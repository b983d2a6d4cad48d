/** Volumes on images in memory. */
import { MIB } from '../base/units.js'
import { planGeometry } from '../layout/geometry.js'
import { Lifecycle } from '../media/lifecycle.js'
import { writeVolume } from '../volume/format.js'
import { findSuperblock, loadVolume } from '../volume/load.js'
import { Volume } from '../volume/volume.js'
import { SimulatedMedia } from './simulated-media.js'

/** The shape of a volume; as for `Volume.format`. */
export interface ImageOptions {
  /** Bytes of the volume. @default 1 MiB */
  readonly size?: number
  readonly granule?: number
  readonly logSize?: number
}

/** The image of a new volume: the same each time. */
export function makeImage(options: ImageOptions = {}): Uint8Array {
  const geometry = planGeometry({
    sizeBytes: options.size ?? MIB,
    granuleBytes: options.granule,
    logBytes: options.logSize,
    alignBytes: 4096,
  })
  const media = new SimulatedMedia('cache-line', new Uint8Array(geometry.sizeBytes))
  writeVolume(media, geometry, {
    alignBytes: 4096,
    label: new Uint8Array(0),
    uuid: Uint8Array.from({ length: 16 }, (_, i) => i + 1),
    created: 0,
  })
  return media.durable
}

/** Opens the volume on simulated media; recovery runs, and is seen by `onPoint`. */
export function openSimulated(media: SimulatedMedia, readOnly = false): Volume {
  const readable = {
    sizeBytes: media.sizeBytes,
    read: (offset: number, length: number) => media.read(offset, length),
  }
  const found = findSuperblock(readable, 'the simulated device', readOnly)
  const lifecycle = new Lifecycle(media, readOnly)
  media.opening = true
  try {
    const path = ':memory:'
    return new Volume({
      ...loadVolume({ path, lifecycle, found, alignBytes: 4096, warmBytes: 0 }),
      standing: {
        path,
        kind: 'memory',
        backend: 'memory',
        readable,
        residentBytes: () => undefined,
        close: () => media.close(),
      },
      ownedAreReachable: readOnly,
    })
  } finally {
    media.opening = false
  }
}
