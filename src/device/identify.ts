/** Which kind of device a path is, how large, and how its mappings must be aligned. Opens nothing for writing. */
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import { PAGE_BYTES } from '../base/units.js'
import { loadAddon } from '../native/load.js'
import { missing, pathOf, statOf } from './open.js'
import { type Persistence, persistenceOf } from './persistence.js'
import { type Evidence, nodeOf, readNumber, realPath } from './sysfs.js'

/** `dax` is device-dax; a file on a filesystem with DAX is found out by mapping it, when it is opened. */
export type DeviceKind = 'file' | 'tmpfs' | 'block' | 'dax' | 'fsdax'

export interface Identity {
  readonly kind: DeviceKind
  /** Bytes of the device or file. */
  readonly sizeBytes: number
  /** What offset and length of a mapping must be multiples of. */
  readonly alignBytes: number
  /** Of the memory below it; `none` for what is not seen to stand on persistent memory. */
  readonly persistence: Persistence
  /** The kernel's entry of the device, or of the one that the file's filesystem is on; undefined for none. */
  readonly node: string | undefined
  readonly evidence: readonly Evidence[]
}

/** The alignment of device-dax where the kernel does not say. */
const DAX_ALIGN_BYTES = 2 ** 21
/** From the kernel's include/uapi/linux/magic.h. */
const MEMORY_FILESYSTEMS = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
])

/**
 * What is at a path, or what a descriptor has open: then the path is for messages.
 * @throws PlinthError ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO
 */
export function identify(path: string, fd?: number): Identity {
  const stat = fd === undefined ? statOf(path) : fs.fstatSync(fd)
  if (stat === undefined) throw missing(path)
  if (stat.isFile()) {
    return identifyFile(fd === undefined ? path : pathOf(fd, path), stat)
  }
  if (stat.isBlockDevice()) return identifyBlock(path, nodeOf('block', stat.rdev))
  const node = nodeOf('char', stat.rdev)
  if (stat.isCharacterDevice() && realPath(`${node}/subsystem`)?.endsWith('/bus/dax')) {
    return identifyDax(path, node)
  }
  const what = stat.isDirectory() ? 'a directory' : 'neither a file, a block device nor a DAX node'
  throw new PlinthError('ERR_DEVICE_KIND', `${path} is ${what}`)
}

function identifyFile(path: string, stat: fs.Stats): Identity {
  const memory = MEMORY_FILESYSTEMS.get(fs.statfsSync(path).type)
  // The device below the filesystem, where it is on one alone.
  const below = nodeOf('block', stat.dev)
  const node = memory === undefined && fs.existsSync(below) ? below : undefined
  const { persistence, evidence } =
    node === undefined ? { persistence: 'none' as const, evidence: undefined } : persistenceOf(node)
  return {
    kind: memory === undefined ? 'file' : 'tmpfs',
    sizeBytes: stat.size,
    alignBytes: systemPageBytes(),
    persistence,
    node,
    evidence: [
      { of: 'kind', source: 'statfs', says: memory === undefined ? 'a regular file' : memory },
      { of: 'size', source: 'stat', says: `${stat.size}` },
      // Where it decides nothing, it is no evidence.
      ...(evidence === undefined || persistence === 'none' ? [] : [evidence]),
    ],
  }
}

function identifyBlock(path: string, node: string): Identity {
  // In units of 512 bytes, whatever the device's own sectors are.
  const sectors = readNumber(`${node}/size`)
  if (sectors === undefined) throw unreadable(path, `${node}/size`)
  const { persistence } = persistenceOf(node)
  return {
    kind: 'block',
    sizeBytes: sectors * 512,
    alignBytes: systemPageBytes(),
    persistence,
    node,
    evidence: [
      { of: 'kind', source: 'stat', says: 'a block device' },
      { of: 'size', source: `${node}/size`, says: `${sectors} sectors of 512` },
    ],
  }
}

function identifyDax(path: string, node: string): Identity {
  const sizeBytes = readNumber(`${node}/size`)
  if (sizeBytes === undefined) throw unreadable(path, `${node}/size`)
  const align = readNumber(`${node}/align`)
  const { persistence, evidence } = persistenceOf(node)
  return {
    kind: 'dax',
    sizeBytes,
    alignBytes: align ?? DAX_ALIGN_BYTES,
    persistence,
    node,
    evidence: [
      { of: 'kind', source: `${node}/subsystem`, says: 'bus/dax' },
      { of: 'size', source: `${node}/size`, says: `${sizeBytes}` },
      { of: 'align', source: `${node}/align`, says: `${align ?? 'not there: 2 MiB is assumed'}` },
      evidence,
    ],
  }
}

/** A mapping begins at a page of the kernel's, which has 16 or 64 KiB on some arm64. */
function systemPageBytes(): number {
  return loadAddon()?.pageBytes ?? PAGE_BYTES
}

function unreadable(path: string, attribute: string): PlinthError {
  return new PlinthError('ERR_DEVICE_IO', `${path}: its size cannot be read from ${attribute}`)
}
