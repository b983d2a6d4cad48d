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

export interface FormatOptions {
  /**
   * Bytes of the volume, from 1 MiB. A file that does not exist is created with it (mode 0600); a
   * device may be larger. Rounded down to whole pages. @default all of the device
   */
  readonly size?: number | undefined
  /** For people; 1 to 64 bytes of UTF-8. @default none */
  readonly label?: string | undefined
  /**
   * Bytes of one cell of the allocation grid: a power of two from 4 KiB to 4 GiB, never below the
   * device's alignment. @default a 2048th of the volume, 4 KiB to 2 MiB
   */
  readonly granule?: number | undefined
  /** Bytes of the redo log: a multiple of 4096, 64 KiB to 1 GiB. @default a 64th of the volume, 64 KiB to 64 MiB */
  readonly logSize?: number | undefined
  /** Overwrite whatever is there. @default false: a device that holds something is refused */
  readonly force?: boolean | undefined
  /** What maps the device. @default 'native' where it loads */
  readonly backend?: Backend | undefined
  /** As for `open`. */
  readonly granularity?: Granularity | undefined
}

export interface OpenOptions {
  /** Read alone: nothing on the device changes, not even by recovery. @default false */
  readonly readOnly?: boolean | undefined
  /** What maps the device. @default 'native' where it loads */
  readonly backend?: Backend | undefined
  /**
   * The unit in which stores become durable. One that would lose data on the device is refused;
   * on tmpfs `cache-line` may be forced, to develop and measure the way of persistent memory.
   * @default what the device is known to have
   */
  readonly granularity?: Granularity | undefined
  /** Bytes of mappings kept for chunks that were closed. @default 64 MiB */
  readonly warmBytes?: number | undefined
}

const FORMAT_OPTIONS = ['size', 'label', 'granule', 'logSize', 'force', 'backend', 'granularity']
const REPAIR_OPTIONS = ['dryRun', 'dropDamaged']
const OPEN_OPTIONS = ['readOnly', 'backend', 'granularity', 'warmBytes']
const WARM_BYTES_DEFAULT = 64 * MIB

export function parseFormatOptions(options: FormatOptions | undefined) {
  checkOptions(options, FORMAT_OPTIONS, 'Volume.format')
  const { size, label, granule, logSize, force, backend, granularity } = options ?? {}
  if (size !== undefined) checkInteger(size, 'size', VOLUME_BYTES_MIN)
  if (granule !== undefined) {
    checkPowerOfTwo(granule, 'granule', GRANULE_BYTES_MIN, GRANULE_BYTES_MAX)
  }
  if (logSize !== undefined) {
    checkInteger(logSize, 'logSize', LOG_BYTES_MIN, LOG_BYTES_MAX)
    if (logSize % PAGE_BYTES !== 0) throw rangeError(`logSize must be a multiple of ${PAGE_BYTES}`)
  }
  if (force !== undefined) checkBoolean(force, 'force')
  checkBackend(backend)
  checkGranularity(granularity)
  return {
    size,
    label: label === undefined ? new Uint8Array(0) : encodeText(label, 'label', LABEL_BYTES_MAX),
    granule,
    logSize,
    force: force ?? false,
    backend,
    granularity,
  }
}

export function parseOpenOptions(options: OpenOptions | undefined) {
  checkOptions(options, OPEN_OPTIONS, 'Volume.open')
  const { readOnly, backend, granularity, warmBytes } = options ?? {}
  if (readOnly !== undefined) checkBoolean(readOnly, 'readOnly')
  checkBackend(backend)
  checkGranularity(granularity)
  if (warmBytes !== undefined) checkInteger(warmBytes, 'warmBytes', 0)
  return {
    readOnly: readOnly ?? false,
    backend,
    granularity,
    warmBytes: warmBytes ?? WARM_BYTES_DEFAULT,
  }
}

export function parseRepairOptions(options: RepairOptions | undefined) {
  checkOptions(options, REPAIR_OPTIONS, 'Volume.repair')
  const { dryRun, dropDamaged } = options ?? {}
  if (dryRun !== undefined) checkBoolean(dryRun, 'dryRun')
  if (dropDamaged !== undefined) checkBoolean(dropDamaged, 'dropDamaged')
  return { dryRun: dryRun ?? true, dropDamaged: dropDamaged ?? false }
}

function checkBackend(value: unknown): void {
  checkOneOf(value, 'backend', ['native', 'mmap-io'])
}

function checkGranularity(value: unknown): void {
  checkOneOf(value, 'granularity', ['byte', 'cache-line', 'page'])
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
