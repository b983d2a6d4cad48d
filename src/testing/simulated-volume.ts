/** Volumes on images in memory. */
import { PlinthError } from '../base/errors.js'
import { MIB } from '../base/units.js'
import { geometryFor, planGeometry, type TableExtent } from '../layout/geometry.js'
import { Lifecycle } from '../media/lifecycle.js'
import { writeVolume } from '../volume/format.js'
import { loadVolume } from '../volume/load.js'
import { findSuperblock } from '../volume/superblocks.js'
import { Volume } from '../volume/volume.js'
import { SimulatedMedia } from './simulated-media.js'

/** The shape of a volume; as for `Volume.format`. */
export interface ImageOptions {
  /** Bytes of the volume. @default 1 MiB */
  readonly size?: number
  /** Bytes of the device: what is beyond the volume it can grow to. @default size */
  readonly deviceSize?: number
  /** So far it grows by itself. @default it does not */
  readonly maxSize?: number
  /** Chunks that the table has slots for at first, a multiple of 32. @default as `format` */
  readonly slots?: number
  readonly granule?: number
  readonly logSize?: number
}

/** The image of a new volume: the same each time. */
export function makeImage(options: ImageOptions = {}): Uint8Array {
  const planned = planGeometry({
    sizeBytes: options.size ?? MIB,
    granuleBytes: options.granule,
    logBytes: options.logSize,
    alignBytes: 4096,
  })
  const { slots } = options
  const [{ firstAt, secondAt }] = planned.extents as readonly [TableExtent]
  const geometry =
    slots === undefined
      ? planned
      : geometryFor({ ...planned, extents: [{ slots, firstAt, secondAt }] })
  const deviceBytes = options.deviceSize ?? geometry.sizeBytes
  const media = new SimulatedMedia('cache-line', new Uint8Array(deviceBytes))
  writeVolume(media, geometry, {
    alignBytes: 4096,
    label: new Uint8Array(0),
    uuid: Uint8Array.from({ length: 16 }, (_, i) => i + 1),
    created: 0,
    maxBytes: options.maxSize ?? 0,
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
    const { sizeBytes } = media
    const extend = (_from: number, wanted: number) => {
      if (wanted <= sizeBytes) return
      throw new PlinthError('ERR_DEVICE_TOO_SMALL', `the image is shorter than ${wanted} bytes`)
    }
    const device = { sizeBytes, extend }
    return new Volume({
      ...loadVolume({ path, lifecycle, found, device, alignBytes: 4096, warmBytes: 0 }),
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
