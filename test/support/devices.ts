/**
 * Devices to test on: made when a test asks, gone when it ends, however it ends.
 *
 *   file         the disk's filesystem            page
 *   tmpfs        memory                           page, and forced: cache-line, byte
 *   loop         a block device (root alone)      page
 *
 * Where PMEM_DEVICES names devices of persistent memory, those are tested instead:
 *
 *   devdax       /dev/daxX.Y                      as the platform is: cache-line or byte
 *   ext4dax      a folder on a DAX filesystem     the same
 *   pmem         /dev/pmemX without DAX           page
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Backend, type Granularity, type OpenOptions, Volume } from 'plinth'
import { Device } from '../../src/device/device.js'
import { identify } from '../../src/device/identify.js'
import { readBytes } from '../../src/device/read.js'
import { SIGNATURE_BYTES } from '../../src/layout/signature.js'
import { NO_BAD_BLOCKS } from '../../src/media/bad-blocks.js'
import { EXTENT_WORDS } from '../../src/native/addon.js'
import { loadAddon } from '../../src/native/load.js'

export const MIB = 1024 * 1024
export const PAGE = 4096

/** Memory where there is some: fast, and may be forced to byte-addressable granularities. */
const memory = '/dev/shm'

/** A temporary folder for `body`. */
export function inFolder<T>(body: (folder: string) => T, parent = tmpdir()): T {
  const folder = mkdtempSync(join(parent, 'plinth-test-'))
  const remove = () => rmSync(folder, { recursive: true, force: true })
  let result: T
  try {
    result = body(folder)
  } catch (error) {
    remove()
    throw error
  }
  if (result instanceof Promise) return result.finally(remove) as T
  remove()
  return result
}

/** A temporary folder in memory, or on the disk where there is no tmpfs. */
export function inMemory<T>(body: (folder: string) => T): T {
  return inFolder(body, existsSync(memory) ? memory : tmpdir())
}

/** A loop device of `bytes`, detached whatever happens. */
export function onLoop<T>(bytes: number, body: (path: string) => T): T {
  return inMemory((folder) => {
    const backing = join(folder, 'backing')
    writeFileSync(backing, '')
    truncateSync(backing, bytes)
    const path = execFileSync('losetup', ['--find', '--show', backing], { encoding: 'utf8' }).trim()
    const detach = () => execFileSync('losetup', ['--detach', path])
    let result: T
    try {
      result = body(path)
    } catch (error) {
      detach()
      throw error
    }
    if (result instanceof Promise) return result.finally(detach) as T
    detach()
    return result
  })
}

/** Why there is no filesystem of a type to test on; false where there is. */
export function noFilesystem(type: string): string | false {
  if (process.getuid?.() !== 0) return 'mounting needs root'
  const { error } = spawnSync(`mkfs.${type}`, ['-V'], { stdio: 'ignore' })
  if (error !== undefined) return `mkfs.${type} is not installed`
  const { status } = spawnSync('modprobe', ['--quiet', type], { stdio: 'ignore' })
  const known = readFileSync('/proc/filesystems', 'utf8').includes(`\t${type}\n`)
  return status !== 0 && !known && `this kernel has no ${type}`
}

/** A folder on a new filesystem of `bytes`, unmounted whatever happens. */
export function onFilesystem<T>(type: string, bytes: number, body: (folder: string) => T): T {
  return inFolder((folder) => {
    const backing = join(folder, 'backing')
    writeFileSync(backing, '')
    truncateSync(backing, bytes)
    execFileSync(`mkfs.${type}`, [type.startsWith('ext') ? '-q' : '-f', backing], {
      stdio: 'ignore',
    })
    return mounted(['-o', 'loop', backing], join(folder, 'mount'), body)
  })
}

/** A folder in memory that holds no more than `bytes`; as root. */
export function onSmallTmpfs<T>(bytes: number, body: (folder: string) => T): T {
  return inFolder((folder) =>
    mounted(['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs'], join(folder, 'mount'), body),
  )
}

function mounted<T>(what: readonly string[], at: string, body: (folder: string) => T): T {
  mkdirSync(at)
  execFileSync('mount', [...what, at])
  try {
    return body(at)
  } finally {
    execFileSync('umount', [at])
  }
}

const noAddon = loadAddon() === undefined && 'the addon does not load here'
const noTmpfs = !existsSync(memory) && 'there is no tmpfs at /dev/shm'
const noLoop = whyNoLoop()
export const noMmapIo: string | false = whyNoMmapIo()

function whyNoLoop(): string | false {
  if (process.getuid?.() !== 0) return 'loop devices need root'
  const { status } = spawnSync('losetup', ['--find'], { stdio: 'ignore' })
  return status !== 0 && 'there is no free loop device'
}

function whyNoMmapIo(): string | false {
  try {
    createRequire(import.meta.url)('mmap-io')
    return false
  } catch {
    return 'mmap-io does not load here'
  }
}

/** One kind of device as one backend sees it. */
export interface Place {
  readonly name: string
  readonly skip: string | false
  /** What `info` must say. */
  readonly granularity: Granularity
  readonly backend: Backend
  /** What `format` and `open` have to be given. */
  readonly options: { backend: Backend; granularity?: Granularity }
  readonly isFile: boolean
  /** What `info` must say of a device that is no file. */
  readonly kind?: 'block' | 'dax'
  /** Gives `body` a path: a file that does not exist yet, or a zeroed device. */
  with<T>(bytes: number, body: (path: string) => T): T
}

const onFile = <T>(_bytes: number, body: (path: string) => T): T =>
  inFolder((folder) => body(join(folder, 'device')))
const onTmpfs = <T>(_bytes: number, body: (path: string) => T): T =>
  inMemory((folder) => body(join(folder, 'device')))

function place(
  kind: 'file' | 'tmpfs' | 'loop',
  backend: Backend,
  forced?: 'byte' | 'cache-line',
): Place {
  const skip = kind === 'loop' ? noLoop : kind === 'tmpfs' ? noTmpfs : false
  return {
    name: `${kind}, ${forced ?? 'page'}, ${backend}`,
    skip: skip || (backend === 'native' ? noAddon : noMmapIo),
    granularity: forced ?? 'page',
    backend,
    options: forced === undefined ? { backend } : { backend, granularity: forced },
    isFile: kind !== 'loop',
    kind: 'block',
    with: kind === 'loop' ? onLoop : kind === 'tmpfs' ? onTmpfs : onFile,
  }
}

const usual: readonly Place[] = [
  place('file', 'native'),
  place('file', 'mmap-io'),
  place('tmpfs', 'native'),
  place('tmpfs', 'mmap-io'),
  place('tmpfs', 'native', 'cache-line'),
  place('tmpfs', 'native', 'byte'),
  place('loop', 'native'),
  place('loop', 'mmap-io'),
]

/** A place by its name, on whatever is tested otherwise. */
export function usualPlace(name: string): Place {
  return usual.find((at) => at.name === name)!
}

/** The quick two: one of each way to make stores durable. */
export const tmpfsPage: Place = usual[2]!
export const tmpfsLine: Place = usual[4]!

/** Whether a store to DAX must be written back here, or the platform saves the caches. */
const daxGranularity = process.env.PMEM_PERSISTENCE === 'cpu_cache' ? 'byte' : 'cache-line'

/** A place of the machine of scripts/pmem-vm.mjs: MODE or MODE:ALIGN, '=', a path. */
function pmemPlace(described: string): Place {
  const [name, path] = described.split('=') as [string, string]
  const mode = name.split(':')[0]
  const granularity = mode === 'pmem' ? 'page' : daxGranularity
  const isFile = mode === 'ext4dax'
  return {
    name: `${name}, ${granularity}, native`,
    skip: false,
    granularity,
    backend: 'native',
    options: { backend: 'native' },
    isFile,
    kind: mode === 'pmem' ? 'block' : 'dax',
    with: (bytes, body) => {
      if (isFile) return inFolder((folder) => body(join(folder, 'device')), path)
      emptyDevice(path, bytes)
      return body(path)
    },
  }
}

const described = (process.env.PMEM_DEVICES ?? '').trim().split(/\s+/).filter(Boolean)
/** Devices of real or emulated persistent memory; none on most machines. */
export const pmemPlaces: readonly Place[] = described.map(pmemPlace)

const takesSmall = ({ name }: Place) => !/^devdax:(?:2M|1G)/.test(name)
export const places: readonly Place[] =
  pmemPlaces.length > 0 ? pmemPlaces.filter(takesSmall) : usual

/** A formatted and opened volume of a place, closed whatever happens. */
export function withVolume<T>(
  at: Place,
  body: (volume: Volume, path: string) => T,
  { size = MIB, ...open }: OpenOptions & { size?: number } = {},
): T {
  return at.with(size, (path) => {
    Volume.format(path, { size, ...at.options })
    const volume = Volume.open(path, { ...at.options, ...open })
    let result: T
    try {
      result = body(volume, path)
    } catch (error) {
      try {
        volume.close()
      } catch {
        // What failed first is what counts.
      }
      throw error
    }
    if (result instanceof Promise) return result.finally(() => volume.close()) as T
    volume.close()
    return result
  })
}

/** Runs `body` on what the device has now, as if the process had ended without a word. */
export function afterCrash<T>(at: Place, path: string, body: (volume: Volume) => T): T {
  const copy = `${path}.crashed`
  // A block device keeps its neighbours in another folder.
  const where = at.isFile ? copy : join('/dev/shm', `plinth-test-${process.pid}-crashed`)
  try {
    copyDevice(path, where)
    const volume = Volume.open(where, at.isFile ? at.options : { backend: at.backend })
    try {
      return body(volume)
    } finally {
      volume.close()
    }
  } finally {
    rmSync(where, { force: true })
  }
}

/** Bytes of a device or file beside any mapping of it, and whoever has it open. */
export function readAt(path: string, offset: number, length: number): Uint8Array {
  const fd = openSync(path, 'r')
  try {
    const source = { path, ...identify(path), badBlocks: NO_BAD_BLOCKS }
    return readBytes(fd, source, loadAddon(), offset, length)
  } finally {
    closeSync(fd)
  }
}

/** Where a place of a file is on the device below; throws where the filesystem does not say. */
export function placeOf(path: string, offset: number): number {
  const fd = openSync(path, 'r')
  try {
    const extents = loadAddon()!.extents(fd)
    for (let i = 0; i < extents.length; i += EXTENT_WORDS) {
      const into = offset - extents[i]!
      if (into >= 0 && into < extents[i + 2]!) return extents[i + 1]! + into
    }
    throw new Error(`${path} has no extent at ${offset}`)
  } finally {
    closeSync(fd)
  }
}

/** Writes to a device that nobody has open. */
export function writeAt(path: string, offset: number, bytes: Uint8Array): void {
  // Device-dax has neither read nor write: the device is used as the library itself does.
  const device = new Device({ path, readOnly: false })
  try {
    const { alignBytes } = device
    const media = device.media(device.sizeBytes)
    const from = offset - (offset % alignBytes)
    const end = Math.ceil((offset + bytes.length) / alignBytes) * alignBytes
    const mapping = media.map(from, end - from)
    media.write(mapping, offset - from, bytes)
    media.fence()
  } finally {
    device.close()
  }
}

/** Zeros where a test will be, and at the end, where another volume may have left something. */
function emptyDevice(path: string, bytes: number): void {
  const { sizeBytes } = identify(path)
  writeAt(path, 0, new Uint8Array(Math.min(bytes + MIB, sizeBytes)))
  writeAt(path, sizeBytes - SIGNATURE_BYTES, new Uint8Array(SIGNATURE_BYTES))
}

export function copyDevice(from: string, to: string): void {
  if (statSync(from).isFile()) copyFileSync(from, to)
  else writeFileSync(to, readDevice(from))
}

/** More of a device than a test uses: the rest of a large one is not looked at. */
const DEVICE_BYTES_MAX = 4 * MIB

/** All bytes of a file or block device; the first of one that is not made for the test. */
export function readDevice(path: string): Uint8Array {
  if (!statSync(path).isFile() && pmemPlaces.length > 0) return readAt(path, 0, DEVICE_BYTES_MAX)
  const fd = openSync(path, 'r')
  try {
    const parts: Uint8Array[] = []
    for (;;) {
      const part = new Uint8Array(MIB)
      const read = readSync(fd, part, 0, part.length, null)
      if (read === 0) return Buffer.concat(parts)
      parts.push(part.subarray(0, read))
    }
  } finally {
    closeSync(fd)
  }
}

export function hashOf(path: string): string {
  return createHash('sha256').update(readDevice(path)).digest('hex')
}
