/**
 * Devices to test on: made when a test asks, gone when it ends, however it ends.
 *
 *   file         the disk's filesystem            page
 *   tmpfs        memory                           page, and forced: cache-line, byte
 *   loop         a block device (root alone)      page
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
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
    with: kind === 'loop' ? onLoop : kind === 'tmpfs' ? onTmpfs : onFile,
  }
}

export const places: readonly Place[] = [
  place('file', 'native'),
  place('file', 'mmap-io'),
  place('tmpfs', 'native'),
  place('tmpfs', 'mmap-io'),
  place('tmpfs', 'native', 'cache-line'),
  place('tmpfs', 'native', 'byte'),
  place('loop', 'native'),
  place('loop', 'mmap-io'),
]

/** The quick two: one of each way to make stores durable. */
export const tmpfsPage: Place = places[2]!
export const tmpfsLine: Place = places[4]!

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

export function copyDevice(from: string, to: string): void {
  if (statSync(from).isFile()) copyFileSync(from, to)
  else writeFileSync(to, readDevice(from))
}

/** All bytes of a file or block device. */
export function readDevice(path: string): Uint8Array {
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
