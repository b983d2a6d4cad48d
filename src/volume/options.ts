/** Options of format and open: read, checked, completed. */
import {
  checkBoolean,
  checkInteger,
  checkOptions,
  checkPowerOfTwo,
  describe,
  encodeText,
} from '../base/arguments.js'
import { argumentTypeError, argumentValueError, rangeError } from '../base/errors.js'
import { MIB, PAGE_BYTES } from '../base/units.js'
import type { RepairOptions } from '../check/repair.js'
import type { Backend } from '../device/mapper.js'
import {
  GRANULE_BYTES_MAX,
  GRANULE_BYTES_MIN,
  LOG_BYTES_MAX,
  LOG_BYTES_MIN,
  VOLUME_BYTES_MIN,
} from '../layout/geometry.js'
import { LABEL_BYTES_MAX } from '../layout/superblock.js'
import type { Granularity } from '../media/media.js'

/** Options of `Volume.format`. */
export interface FormatOptions {
  /**
   * Bytes of the volume, from 1 MiB. A file that does not exist is created (mode 0600); a device may be larger.
   * Rounded down to whole pages. @default all of the device; 16 MiB for a file that is created, which grows by itself
   */
  readonly size?: number | undefined
  /** For people; 1 to 64 bytes of UTF-8. @default none */
  readonly label?: string | undefined
  /**
   * Bytes of one cell of the allocation grid: a power of two from 4 KiB to 4 GiB, never below the
   * device's alignment. @default a 2048th of what the volume may grow to, 4 KiB to 64 KiB
   */
  readonly granule?: number | undefined
  /**
   * Bytes of the redo log: a multiple of 4096, 64 KiB to 1 GiB. It stays as long then.
   * @default a 64th of the volume, 64 KiB to 64 MiB; a volume that has outgrown it gets a longer one
   */
  readonly logSize?: number | undefined
  /**
   * Bytes up to which the volume grows by itself when no chunk fits any more; a file becomes longer then.
   * @default without limit for a file that is created without `size`; else it keeps its size until `grow`
   */
  readonly maxSize?: number | undefined
  /** Bytes by which it grows by itself, at least. @default as many as it has, at most 1 GiB */
  readonly growBy?: number | undefined
  /** Overwrite whatever is there. @default false: a device that holds something is refused */
  readonly force?: boolean | undefined
  /** What maps the device. @default 'native' where it loads */
  readonly backend?: Backend | undefined
  /** As for `open`. */
  readonly granularity?: Granularity | undefined
  /** As for `open`. */
  readonly unsafeGranularity?: Granularity | undefined
}

/** Options of `Volume.open`. */
export interface OpenOptions {
  /** Read alone: nothing on the device changes, not even by recovery. @default false */
  readonly readOnly?: boolean | undefined
  /** What maps the device. @default 'native' where it loads */
  readonly backend?: Backend | undefined
  /**
   * The unit in which stores become durable. One that would lose data on the device is refused; on
   * tmpfs, which a power loss empties whatever is asked, any will do: the way of persistent memory can
   * be tried and measured there.
   * @default what the device is known to have
   */
  readonly granularity?: Granularity | undefined
  /**
   * The same, on your word: nothing is checked, and where you are wrong a power loss takes or tears
   * what was acknowledged. For platforms whose firmware does not say what they save.
   * @default none; not together with `granularity`
   */
  readonly unsafeGranularity?: Granularity | undefined
  /**
   * With `readOnly`, known bad blocks of chunks are shown as zeros, so that the rest of such a chunk can
   * be copied. @default false: a chunk with bad blocks is refused with ERR_BAD_BLOCKS
   */
  readonly zeroBadBlocks?: boolean | undefined
  /**
   * Leave the holes of a sparse file as they are. A store to one then takes space, and where none is left
   * it fails the volume or, in memory (tmpfs), kills the process.
   * @default false: holes are filled, or opening is refused
   */
  readonly sparse?: boolean | undefined
  /**
   * With `readOnly`, go without what is damaged in the log and in the chunk table: `recovery.loss` says what
   * that is. The rest is as of the last transaction before the damage; bytes of chunks may be newer, or
   * those of a chunk that came later, and what has no checksum of its own cannot be trusted (`unverified` of
   * `chunks()`).
   * @default false: a volume whose log or table is damaged is refused with ERR_VOLUME_CORRUPT
   */
  readonly salvage?: boolean | undefined
  /** As for `format`, while the volume is open. @default what it was formatted with */
  readonly maxSize?: number | undefined
  /** As for `format`, while the volume is open. @default what it was formatted with */
  readonly growBy?: number | undefined
  /** Bytes of mappings kept for chunks that were closed. @default 64 MiB */
  readonly warmBytes?: number | undefined
}

/** Options of `Volume.wipe`. */
export interface WipeOptions {
  /**
   * Also on a device that somebody else has now, whose bytes are left alone, and where the volume is too
   * damaged or too new to be opened. @default false: these are refused
   */
  readonly force?: boolean | undefined
}

const DEVICE_OPTIONS = ['backend', 'granularity', 'unsafeGranularity']
const GROWTH_OPTIONS = ['maxSize', 'growBy']
export const FORMAT_OPTIONS = [
  'size',
  'label',
  'granule',
  'logSize',
  'force',
  ...GROWTH_OPTIONS,
  ...DEVICE_OPTIONS,
]
const REPAIR_OPTIONS = ['dryRun', 'dropDamaged', 'force']
const WIPE_OPTIONS = ['force']
const OPEN_OPTIONS = [
  'readOnly',
  'warmBytes',
  'zeroBadBlocks',
  'salvage',
  'sparse',
  ...GROWTH_OPTIONS,
  ...DEVICE_OPTIONS,
]
const WARM_BYTES_DEFAULT = 64 * MIB
const GRANULARITIES = ['byte', 'cache-line', 'page']

export function parseFormatOptions(options: FormatOptions | undefined) {
  checkOptions(options, FORMAT_OPTIONS, 'Volume.format')
  const { size, label, granule, logSize, force } = options ?? {}
  if (size !== undefined) checkInteger(size, 'size', VOLUME_BYTES_MIN)
  if (granule !== undefined) {
    checkPowerOfTwo(granule, 'granule', GRANULE_BYTES_MIN, GRANULE_BYTES_MAX)
  }
  if (logSize !== undefined) {
    checkInteger(logSize, 'logSize', LOG_BYTES_MIN, LOG_BYTES_MAX)
    if (logSize % PAGE_BYTES !== 0) throw rangeError(`logSize must be a multiple of ${PAGE_BYTES}`)
  }
  if (force !== undefined) checkBoolean(force, 'force')
  const { maxSize } = options ?? {}
  if (typeof maxSize === 'number' && size !== undefined && maxSize < size) {
    throw argumentValueError(`maxSize must be at least the size of ${size} bytes, not ${maxSize}`)
  }
  return {
    size,
    label: label === undefined ? new Uint8Array(0) : encodeText(label, 'label', LABEL_BYTES_MAX),
    granule,
    logSize,
    force: force ?? false,
    ...parseGrowthOptions(options ?? {}),
    ...parseDeviceOptions(options ?? {}),
  }
}

export function parseOpenOptions(options: OpenOptions | undefined) {
  checkOptions(options, OPEN_OPTIONS, 'Volume.open')
  const { readOnly, warmBytes, zeroBadBlocks, salvage, sparse } = options ?? {}
  if (readOnly !== undefined) checkBoolean(readOnly, 'readOnly')
  if (warmBytes !== undefined) checkInteger(warmBytes, 'warmBytes', 0)
  if (zeroBadBlocks !== undefined) checkBoolean(zeroBadBlocks, 'zeroBadBlocks')
  if (sparse !== undefined) checkBoolean(sparse, 'sparse')
  if (salvage !== undefined) checkBoolean(salvage, 'salvage')
  for (const [name, value] of [
    ['zeroBadBlocks', zeroBadBlocks],
    ['salvage', salvage],
  ] as const) {
    if (value === true && readOnly !== true) {
      throw argumentValueError(`${name} is for readers: it needs readOnly`)
    }
  }
  return {
    readOnly: readOnly ?? false,
    warmBytes: warmBytes ?? WARM_BYTES_DEFAULT,
    zeroBadBlocks: zeroBadBlocks ?? false,
    sparse: sparse ?? false,
    salvage: salvage ?? false,
    ...parseGrowthOptions(options ?? {}),
    ...parseDeviceOptions(options ?? {}),
  }
}

export function parseWipeOptions(options: WipeOptions | undefined) {
  checkOptions(options, WIPE_OPTIONS, 'Volume.wipe')
  const { force } = options ?? {}
  if (force !== undefined) checkBoolean(force, 'force')
  return { force: force ?? false }
}

/** What `format` and `open` both say of growing. `Infinity` is no limit. */
function parseGrowthOptions({ maxSize, growBy }: Pick<OpenOptions, 'maxSize' | 'growBy'>) {
  if (maxSize !== undefined && maxSize !== Number.POSITIVE_INFINITY) {
    checkInteger(maxSize, 'maxSize', VOLUME_BYTES_MIN)
  }
  if (growBy !== undefined) checkInteger(growBy, 'growBy', PAGE_BYTES)
  return { maxSize, growBy }
}

/** What `format` and `open` both say of a device. */
function parseDeviceOptions(
  options: Pick<OpenOptions, 'backend' | 'granularity' | 'unsafeGranularity'>,
) {
  const { backend, granularity, unsafeGranularity } = options
  checkOneOf(backend, 'backend', ['native', 'mmap-io'])
  checkOneOf(granularity, 'granularity', GRANULARITIES)
  checkOneOf(unsafeGranularity, 'unsafeGranularity', GRANULARITIES)
  if (granularity !== undefined && unsafeGranularity !== undefined) {
    throw argumentValueError('give granularity or unsafeGranularity, not both')
  }
  return { backend, granularity, unsafeGranularity }
}

export function parseRepairOptions(options: RepairOptions | undefined) {
  checkOptions(options, REPAIR_OPTIONS, 'Volume.repair')
  const { dryRun, dropDamaged, force } = options ?? {}
  if (dryRun !== undefined) checkBoolean(dryRun, 'dryRun')
  if (dropDamaged !== undefined) checkBoolean(dropDamaged, 'dropDamaged')
  if (force !== undefined) checkBoolean(force, 'force')
  return { dryRun: dryRun ?? true, dropDamaged: dropDamaged ?? false, force: force ?? false }
}

function checkOneOf(value: unknown, what: string, values: readonly string[]): void {
  if (value === undefined) return
  if (typeof value !== 'string') {
    throw argumentTypeError(`${what} must be a string, not ${describe(value)}`)
  }
  if (!values.includes(value)) {
    throw argumentValueError(`${what} must be one of ${values.join(', ')}`)
  }
}
