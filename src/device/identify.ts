/** Which kind of device a path is, how large, and how its mappings must be aligned. Opens nothing for writing. */
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import { PAGE_BYTES } from '../base/units.js'

/** `dax` is device-dax; a file on a filesystem with DAX is found out by mapping it, when it is opened. */
export type DeviceKind = 'file' | 'tmpfs' | 'block' | 'dax' | 'fsdax'

export interface Identity {
  readonly kind: DeviceKind
  /** Bytes of the device or file. */
  readonly sizeBytes: number
  /** What offset and length of a mapping must be multiples of. */
  readonly alignBytes: number
  /** Where the platform says that CPU caches survive a power loss. */
  readonly persistsCaches: boolean
}

const TMPFS_MAGIC = 0x01021994
const RAMFS_MAGIC = 0x858458f6

/**
 * @throws PlinthError ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO
 */
export function identify(path: string, sysfs = '/sys'): Identity {
  const stat = statOf(path)
  if (stat === undefined) {
    throw new PlinthError('ERR_DEVICE_MISSING', `nothing is at ${path}`)
  }
  if (stat.isFile()) {
    const { type } = fs.statfsSync(path)
    const kind = type === TMPFS_MAGIC || type === RAMFS_MAGIC ? 'tmpfs' : 'file'
    return { kind, sizeBytes: stat.size, alignBytes: PAGE_BYTES, persistsCaches: false }
  }
  const number = `${(stat.rdev >>> 8) & 0xfff}:${(stat.rdev & 0xff) | ((stat.rdev >>> 12) & 0xfff00)}`
  if (stat.isBlockDevice()) {
    // In units of 512 bytes, whatever the device's own sectors are.
    const sectors = readNumber(`${sysfs}/dev/block/${number}/size`)
    if (sectors === undefined) throw unreadable(path, `${sysfs}/dev/block/${number}/size`)
    return {
      kind: 'block',
      sizeBytes: sectors * 512,
      alignBytes: PAGE_BYTES,
      persistsCaches: false,
    }
  }
  const node = `${sysfs}/dev/char/${number}`
  if (stat.isCharacterDevice() && linkOf(`${node}/subsystem`)?.endsWith('/bus/dax')) {
    const sizeBytes = readNumber(`${node}/size`)
    if (sizeBytes === undefined) throw unreadable(path, `${node}/size`)
    return {
      kind: 'dax',
      sizeBytes,
      alignBytes: readNumber(`${node}/align`) ?? 2 ** 21,
      persistsCaches: regionPersistsCaches(node, sysfs),
    }
  }
  const what = stat.isDirectory() ? 'a directory' : 'neither a file, a block device nor a DAX node'
  throw new PlinthError('ERR_DEVICE_KIND', `${path} is ${what}`)
}

/** The stat, or undefined when nothing is there. */
export function statOf(path: string): fs.Stats | undefined {
  try {
    return fs.statSync(path)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new PlinthError(
      'ERR_DEVICE_IO',
      `${path} cannot be looked at: ${(cause as Error).message}`,
      {
        cause,
      },
    )
  }
}

/** Documentation/ABI/testing/sysfs-bus-nd of the kernel: cpu_cache is eADR. */
function regionPersistsCaches(node: string, sysfs: string): boolean {
  try {
    const region = /\/(region\d+)\//.exec(`${fs.realpathSync(node)}/`)?.[1]
    if (region === undefined) return false
    const domain = `${sysfs}/bus/nd/devices/${region}/persistence_domain`
    return fs.readFileSync(domain, 'utf8').trim() === 'cpu_cache'
  } catch {
    // Firmware that does not say gets the safe answer.
    return false
  }
}

function readNumber(path: string): number | undefined {
  try {
    const value = Number(fs.readFileSync(path, 'utf8').trim())
    return Number.isSafeInteger(value) ? value : undefined
  } catch {
    return undefined
  }
}

function linkOf(path: string): string | undefined {
  try {
    return fs.realpathSync(path)
  } catch {
    return undefined
  }
}

function unreadable(path: string, attribute: string): PlinthError {
  return new PlinthError('ERR_DEVICE_IO', `${path}: its size cannot be read from ${attribute}`)
}
