/**
 * Filling a new volume from a copy of another. The device is refused by everybody else, with
 * ERR_VOLUME_INCOMPLETE, from the moment it is formatted until all of it is durable.
 *
 *   format with the bit RESTORING ──▶ place or allocate, write ──▶ finish: close, superblocks without the bit
 */
import { isDate } from 'node:util/types'
import { checkBoolean, checkInteger, checkOptions, describe } from '../base/arguments.js'
import { argumentTypeError, argumentValueError } from '../base/errors.js'
import { alignDown, PAGE_BYTES } from '../base/units.js'
import { Device } from '../device/device.js'
import { switched } from '../device/open.js'
import { geometryOf, type Shape } from '../layout/geometry.js'
import { HEAP_TYPE } from '../layout/heap.js'
import { HEAP_PREFIX, heapNameOf } from '../layout/heap-names.js'
import { formatUuid, INCOMPATIBLE, volumeSeed } from '../layout/superblock.js'
import { mapAreas } from './areas.js'
import { formatDevice, type Identity } from './format.js'
import type { ChunkInfo, VolumeLayout } from './info.js'
import { FORMAT_OPTIONS, type FormatOptions } from './options.js'
import { findSuperblock, writeSuperblocks } from './superblocks.js'

/** Options of `Volume.restore`. */
export interface RestoreOptions extends FormatOptions {
  /**
   * The volume that this one shall be like: with its `size`, `granule` and `logSize`, chunks can then
   * be placed where they were. Heaps need that: their checksums and pointers depend on it.
   * @default a uuid and a time of its own
   */
  readonly like?:
    | {
        readonly uuid: string
        readonly created: Date
        /** Where log and chunk table were: without it they are where a new volume has them. */
        readonly layout?: VolumeLayout | undefined
      }
    | undefined
}

/** Formats the device as one that is being restored. */
export function formatIncomplete(path: string, options: RestoreOptions | undefined): void {
  checkOptions(options, [...FORMAT_OPTIONS, 'like'], 'Volume.restore')
  const { like, ...format } = options ?? {}
  formatDevice(path, format, {
    ...(like === undefined ? {} : parseIdentity(like, format)),
    incompatible: INCOMPATIBLE.RESTORING,
  })
}

/** What `place` was given. */
export function checkPlaced(chunks: unknown): asserts chunks is readonly ChunkInfo[] {
  if (!Array.isArray(chunks)) {
    throw argumentTypeError(`chunks must be an array, not ${describe(chunks)}`)
  }
  for (const chunk of chunks as unknown[]) {
    if (chunk === null || typeof chunk !== 'object') {
      throw argumentTypeError(`a chunk must be an object, not ${describe(chunk)}`)
    }
    const { name, type } = chunk as Partial<ChunkInfo>
    if (type === HEAP_TYPE.HEAP && !heapNameOf(name, type)) {
      throw argumentValueError(`the name of a heap's chunk must begin with ${HEAP_PREFIX}`)
    }
  }
}

/** Takes the bit from a volume that is closed and durable. Durable when it returns. */
export function complete(
  path: string,
  uuid: string,
  { backend, granularity, unsafeGranularity }: FormatOptions,
): void {
  const device = new Device({
    path,
    backend,
    granularity,
    unsafeGranularity,
    readOnly: false,
  })
  try {
    const { superblock, geometry, source } = findSuperblock(device, path, false, true)
    if (formatUuid(superblock.uuid) !== uuid) throw switched(path)
    const media = device.media(geometry.sizeBytes)
    const areas = mapAreas(media, geometry, volumeSeed(superblock.uuid), device.alignBytes)
    const incompatible = superblock.incompatible & ~INCOMPATIBLE.RESTORING
    // The one that counts last: a crash between the two leaves it incomplete.
    writeSuperblocks(media, areas, { ...superblock, incompatible }, source)
  } finally {
    device.close()
  }
}

function parseIdentity(
  like: unknown,
  format: FormatOptions,
): Pick<Identity, 'uuid' | 'created'> & Partial<Pick<Identity, 'shape' | 'isLogChosen'>> {
  checkOptions(like, ['uuid', 'created', 'layout'], 'like')
  const { uuid, created, layout } = like as Partial<NonNullable<RestoreOptions['like']>>
  if (!isDate(created)) {
    throw argumentTypeError(`like.created must be a Date, not ${describe(created)}`)
  }
  const time = created.getTime()
  // The device has no place for a time before 1970.
  if (!(time >= 0)) throw argumentValueError('like.created must be a valid date from 1970 on')
  const identity = { uuid: parseUuid(uuid), created: time }
  if (layout === undefined) return identity
  const { isLogChosen } = layout as Partial<VolumeLayout>
  if (isLogChosen !== undefined) checkBoolean(isLogChosen, 'like.layout.isLogChosen')
  return { ...identity, shape: parseLayout(layout, format), isLogChosen: isLogChosen ?? false }
}

/** With the sizes that a layout is for. */
function parseLayout(layout: unknown, { size, granule, logSize }: FormatOptions): Shape {
  checkOptions(layout, ['logOffset', 'isLogChosen', 'tables'], 'like.layout')
  const { logOffset, tables } = layout as Partial<VolumeLayout>
  checkInteger(size, 'size', 1)
  checkInteger(granule, 'granule', 1)
  checkInteger(logSize, 'logSize', 1)
  checkInteger(logOffset, 'like.layout.logOffset', 0)
  if (!Array.isArray(tables)) throw argumentTypeError('like.layout.tables must be an array')
  const extents = tables.map((each: unknown) => {
    const { slots, first, second } = (each ?? {}) as Partial<VolumeLayout['tables'][number]>
    checkInteger(slots, 'slots', 1)
    checkInteger(first, 'first', 0)
    checkInteger(second, 'second', 0)
    return { slots, firstAt: first, secondAt: second }
  })
  const shape = {
    sizeBytes: alignDown(size, PAGE_BYTES),
    granuleBytes: granule,
    logAt: logOffset,
    logBytes: logSize,
    extents,
  }
  if (geometryOf(shape) === undefined) {
    throw argumentValueError(
      'like.layout is not one that a volume of this size, granule and log can have',
    )
  }
  return shape
}

function parseUuid(text: unknown): Uint8Array {
  if (typeof text !== 'string') {
    throw argumentTypeError(`like.uuid must be a string, not ${describe(text)}`)
  }
  const hex = text.replaceAll('-', '')
  if (!/^[0-9a-f]{32}$/i.test(hex)) throw argumentValueError('like.uuid must be a uuid')
  return Uint8Array.from(Buffer.from(hex, 'hex'))
}
