/** The volume under a database: opened, or made where there is none. */
import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Granularity, PlinthError, Volume } from '../../index.js'

export interface VolumeOptions {
  /**
   * Bytes of the volume when one is made, from 1 MiB. A file has them all from then on, and does not grow.
   * @default 256 MiB for a file, all of a device
   */
  readonly size?: number | undefined
  /**
   * Bytes of its redo log when one is made: a batch must fit it.
   * @default a 64th of the volume, 64 KiB to 64 MiB
   */
  readonly logSize?: number | undefined
  /** As for `Volume.open`. @default what the device is known to have */
  readonly granularity?: Granularity | undefined
}

const MIB = 2 ** 20
const FILE_BYTES = 256 * MIB
/** A file of less is no volume: what is left when the making of one was interrupted. */
const VOLUME_BYTES_MIN = MIB

/**
 * Opens the volume at a path, or makes one: of a file that does not exist or has nothing, or of a device
 * that has nothing.
 */
export function openVolume(path: string, options: VolumeOptions, createIfMissing: boolean): Volume {
  const { granularity } = options
  try {
    return Volume.open(path, { granularity })
  } catch (error) {
    const code = codeOf(error)
    if (code === 'ERR_VOLUME_BUSY') throw locked(path, error)
    if (code !== 'ERR_DEVICE_MISSING' && code !== 'ERR_NOT_A_VOLUME') throw error
    if (!createIfMissing) {
      throw new PlinthError(code, `a volume does not exist at ${path}`, { cause: error })
    }
  }
  makeVolume(path, options)
  return Volume.open(path, { granularity })
}

function makeVolume(path: string, { size, logSize, granularity }: VolumeOptions): void {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) mkdirSync(dirname(path), { recursive: true })
  const isNewFile = stat === undefined || (stat.isFile() && stat.size < VOLUME_BYTES_MIN)
  Volume.format(path, { size: size ?? (isNewFile ? FILE_BYTES : undefined), logSize, granularity })
}

/** The code by which users of other databases know it. */
function locked(path: string, cause: unknown): Error {
  const error = new Error(`somebody else has ${path} open`, { cause })
  return Object.assign(error, { code: 'LEVEL_LOCKED' })
}

function codeOf(error: unknown): string | undefined {
  return error instanceof PlinthError ? error.code : undefined
}
