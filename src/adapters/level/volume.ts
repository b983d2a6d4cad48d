/** The volume under a database: opened, or made where there is none. */
import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Granularity, PlinthError, Volume } from '../../index.js'

export interface VolumeOptions {
  /**
   * Bytes of the volume when one is made, from 1 MiB; it keeps them unless `maxSize` is more.
   * @default a file begins with 16 MiB and grows by itself; all of a device
   */
  readonly size?: number | undefined
  /** Bytes up to which it grows by itself. @default as far as its filesystem has space; `size` where that is given */
  readonly maxSize?: number | undefined
  /**
   * Bytes of its redo log when one is made: a batch must fit it. It stays as long then.
   * @default 4 MiB in a file that grows, and more when it has grown; else a 64th of the volume, 64 KiB to 64 MiB
   */
  readonly logSize?: number | undefined
  /** As for `Volume.open`. @default what the device is known to have */
  readonly granularity?: Granularity | undefined
}

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

function makeVolume(path: string, { size, maxSize, logSize, granularity }: VolumeOptions): void {
  if (!existsSync(path)) mkdirSync(dirname(path), { recursive: true })
  Volume.format(path, { size, maxSize, logSize, granularity })
}

/** The code by which users of other databases know it. */
function locked(path: string, cause: unknown): Error {
  const error = new Error(`somebody else has ${path} open`, { cause })
  return Object.assign(error, { code: 'LEVEL_LOCKED' })
}

function codeOf(error: unknown): string | undefined {
  return error instanceof PlinthError ? error.code : undefined
}
