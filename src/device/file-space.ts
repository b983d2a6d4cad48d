/**
 * The space of a file: all of it taken before anything is stored there, so that no store meets a full
 * filesystem; what was taken for nothing is given back; and whether overwriting takes new space.
 *
 *   takeSpace   fallocate, or zeros written where the filesystem has none    durable blocks, same bytes
 *   giveBack    holes are holes again, the file as long as it was            the same bytes
 */
import fs from 'node:fs'
import { dirname } from 'node:path'
import { isZero } from '../base/bits.js'
import { PlinthError } from '../base/errors.js'
import { PAGE_BYTES } from '../base/units.js'
import { EXTENT, EXTENT_WORDS, type NativeAddon } from '../native/addon.js'
import { loadAddon } from '../native/load.js'
import { openOrThrow, pathOf, refuseAmongDevices } from './open.js'

const WINDOW_BYTES = 1024 * 1024
/** The smallest block of a filesystem: a hole is no smaller. */
const BLOCK_BYTES = 512

/** Filesystem types of statfs(2), from each one's headers, that write what is overwritten somewhere else. */
const COPY_ON_WRITE = new Map([
  [0x9123683e, 'btrfs'],
  [0x2fc12fc1, 'ZFS'],
  [0xca451a4e, 'bcachefs'],
])
const BTRFS = 0x9123683e
/** FS_NOCOW_FL of the kernel's include/uapi/linux/fs.h. */
const NO_COPY_ON_WRITE = 0x00800000

interface Hole {
  readonly offset: number
  readonly length: number
}

/** Whether blocks of a file may be missing: a store there would take new space. */
export function mayHaveHoles(fd: number): boolean {
  const { size, blocks } = fs.fstatSync(fd)
  return blocks * 512 < size
}

/**
 * Makes a file at least `sizeBytes` long, every byte of it backed, its bytes unchanged. Returns what
 * gives the space back. When it throws, a raw error of the system, everything is as it was.
 */
export function takeSpace(
  fd: number,
  sizeBytes: number,
  addon: NativeAddon | undefined,
): () => void {
  const before = fs.fstatSync(fd).size
  const holes = holesOf(fd, Math.min(before, sizeBytes), addon)
  const giveBack = () => {
    try {
      if (sizeBytes > before) fs.ftruncateSync(fd, before)
      for (const { offset, length } of holes) addon!.punch(fd, offset, length)
    } catch {
      // It follows a failure, and that is what counts.
    }
  }
  try {
    if (!allocates(fd, sizeBytes, addon)) writeHoles(fd, sizeBytes)
  } catch (error) {
    giveBack()
    throw error
  }
  return giveBack
}

/**
 * Makes a file at least so long, every byte behind `from` backed, its bytes unchanged; durable when it returns. When it
 * throws, a raw error of the system, it is as long as it was.
 */
export function lengthen(
  fd: number,
  from: number,
  sizeBytes: number,
  addon: NativeAddon | undefined,
): void {
  const before = fs.fstatSync(fd).size
  try {
    if (!allocates(fd, sizeBytes, addon, from)) writeHoles(fd, sizeBytes, from)
    fs.fsyncSync(fd)
  } catch (error) {
    try {
      if (sizeBytes > before) fs.ftruncateSync(fd, before)
    } catch {
      // It follows a failure, and that is what counts.
    }
    throw error
  }
}

/** False: this filesystem has no fallocate (ext2, many of FUSE), or there is no addon to call it. */
function allocates(
  fd: number,
  sizeBytes: number,
  addon: NativeAddon | undefined,
  from = 0,
): boolean {
  if (addon === undefined) return false
  try {
    addon.allocate(fd, from, sizeBytes - from)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EOPNOTSUPP' || code === 'ENOSYS') return false
    throw error
  }
}

/** Writes zeros where zeros are read: over what is a hole, and to the wanted end. */
function writeHoles(fd: number, sizeBytes: number, begin = 0): void {
  const zeros = Buffer.alloc(WINDOW_BYTES)
  const window = Buffer.alloc(WINDOW_BYTES)
  for (let at = begin; at < sizeBytes; at += WINDOW_BYTES) {
    const length = Math.min(WINDOW_BYTES, sizeBytes - at)
    const read = readUpTo(fd, window, length, at)
    const unit = isZero(window, 0, read) ? WINDOW_BYTES : BLOCK_BYTES
    for (let from = 0; from < length; ) {
      let to = from
      while (to < length && isZero(window, to, Math.min(to + unit, read))) to += unit
      to = Math.min(to, length)
      if (to > from) writeFully(fd, zeros, to - from, at + from)
      from = to + unit
    }
  }
  // What a filesystem takes into its cache it may still refuse to keep.
  fs.fsyncSync(fd)
}

function readUpTo(fd: number, into: Buffer, length: number, position: number): number {
  let done = 0
  while (done < length) {
    const read = fs.readSync(fd, into, done, length - done, position + done)
    if (read === 0) break
    done += read
  }
  return done
}

function writeFully(fd: number, bytes: Buffer, length: number, position: number): void {
  for (let done = 0; done < length; ) {
    done += fs.writeSync(fd, bytes, done, length - done, position + done)
  }
}

/** What no extent covers of the first `end` bytes; none where the filesystem does not say. */
function holesOf(fd: number, end: number, addon: NativeAddon | undefined): Hole[] {
  const extents = end === 0 ? undefined : extentsOf(fd, addon)
  if (extents === undefined) return []
  const holes: Hole[] = []
  let at = 0
  for (let i = 0; i < extents.length && at < end; i += EXTENT_WORDS) {
    const offset = Math.min(extents[i]!, end)
    if (offset > at) holes.push({ offset: at, length: offset - at })
    at = offset + extents[i + 2]!
  }
  if (at < end) holes.push({ offset: at, length: end - at })
  return holes
}

function extentsOf(fd: number, addon: NativeAddon | undefined): Float64Array | undefined {
  try {
    return addon?.extents(fd)
  } catch {
    return undefined
  }
}

/**
 * Why overwriting what the file has takes new space, in a sentence; undefined when it does not, as far
 * as the kernel tells.
 */
export function whyCopiedOnWrite(
  path: string,
  fd: number,
  addon: NativeAddon | undefined,
): string | undefined {
  const { type } = fs.statfsSync(path)
  const name = COPY_ON_WRITE.get(type)
  if (name !== undefined && !(type === BTRFS && (flagsOf(fd, addon) & NO_COPY_ON_WRITE) !== 0)) {
    const help = type === BTRFS ? '; a file that format creates is exempt (chattr +C)' : ''
    return `${name} writes what is overwritten to new space${help}`
  }
  const extents = extentsOf(fd, addon)
  for (let i = 0; extents !== undefined && i < extents.length; i += EXTENT_WORDS) {
    if ((extents[i + 3]! & EXTENT.SHARED) !== 0) {
      return 'the file shares blocks with another one (a reflink or a snapshot), and the first write to each takes new space'
    }
  }
  return undefined
}

/**
 * Makes a file of a page of zeros that its owner alone may use, overwritten in place where btrfs is asked for that.
 * Its name is durable when it returns. What it returns tells it from whatever has its name later.
 * @throws PlinthError as `openOrThrow`, and as `refuseAmongDevices`
 */
export function createFile(path: string): fs.Stats {
  refuseAmongDevices(path)
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants
  const fd = openOrThrow(path, O_RDWR | O_CREAT | O_EXCL, 0o600)
  try {
    // Of a file with bytes it is not taken any more.
    if (fs.statfsSync(pathOf(fd, path)).type === BTRFS) overwriteInPlace(fd)
    // Of an empty file nobody can say whether it maps as DAX.
    fs.ftruncateSync(fd, PAGE_BYTES)
    syncFolder(dirname(path))
    return fs.fstatSync(fd)
  } catch (cause) {
    fs.rmSync(path)
    const { message } = cause as Error
    throw new PlinthError('ERR_DEVICE_IO', `${path} cannot be made: ${message}`, { cause })
  } finally {
    fs.closeSync(fd)
  }
}

/** Which names a folder has is durable when that folder is synced, whatever is synced of its files (fsync(2)). */
function syncFolder(path: string): void {
  const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

function overwriteInPlace(fd: number): void {
  const addon = loadAddon()
  try {
    addon?.setFileFlags(fd, addon.fileFlags(fd) | NO_COPY_ON_WRITE)
  } catch {
    // The probe tells of it.
  }
}

function flagsOf(fd: number, addon: NativeAddon | undefined): number {
  try {
    return addon?.fileFlags(fd) ?? 0
  } catch {
    return 0
  }
}
