/**
 * Opening what is at a path, once: whatever else is asked or opened of it goes through that descriptor, so
 * that a link which is switched meanwhile never mixes two devices.
 */
import fs from 'node:fs'
import { dirname, resolve } from 'node:path'
import { PlinthError } from '../base/errors.js'
import { realPath } from './sysfs.js'

/**
 * Opens a path; what the system says becomes an error with a code. Never waits: not for the other end of a
 * pipe, which a path may have become.
 * @throws PlinthError ERR_DEVICE_MISSING, ERR_DEVICE_IO, ERR_VOLUME_BUSY, ERR_READ_ONLY
 */
export function openOrThrow(path: string, flags: number, mode?: number): number {
  try {
    return fs.openSync(path, flags | (fs.constants.O_NONBLOCK ?? 0), mode)
  } catch (cause) {
    throw refusalOf(path, cause)
  }
}

/**
 * Opens once more what a descriptor has open, whatever its path leads to now.
 * @throws PlinthError as `openOrThrow`; ERR_DEVICE_IO where there is no /proc and the path leads elsewhere
 */
export function openAgain(fd: number, path: string, flags: number): number {
  const before = fs.fstatSync(fd)
  let again: number
  try {
    again = fs.openSync(namedByDescriptor(fd) ?? path, flags)
  } catch (cause) {
    throw refusalOf(path, cause)
  }
  if (isSame(before, fs.fstatSync(again))) return again
  fs.closeSync(again)
  throw switched(path)
}

/** A path that leads to what a descriptor has open, for calls that take no descriptor. */
export function pathOf(fd: number, path: string): string {
  const name = namedByDescriptor(fd)
  if (name !== undefined) return name
  if (!isSame(fs.fstatSync(fd), fs.statSync(path))) throw switched(path)
  return path
}

/** The descriptor's entry of /proc; undefined where there is none, or what is there is not that. */
function namedByDescriptor(fd: number): string | undefined {
  const name = `/proc/self/fd/${fd}`
  try {
    return isSame(fs.fstatSync(fd), fs.statSync(name)) ? name : undefined
  } catch {
    return undefined
  }
}

/** Whether two are one file, or one node of a device. */
export function isSame(one: fs.Stats, other: fs.Stats): boolean {
  return one.dev === other.dev && one.ino === other.ino && one.rdev === other.rdev
}

export function switched(path: string): PlinthError {
  return new PlinthError(
    'ERR_DEVICE_IO',
    `${path} leads to something else than when it was opened; open it again`,
  )
}

function refusalOf(path: string, cause: unknown): PlinthError {
  const { code, message } = cause as NodeJS.ErrnoException
  if (code === 'EBUSY') return busy(path, cause)
  if (code === 'ENOENT' || code === 'ENOTDIR') return missing(path, cause)
  if (code === 'EROFS') return readOnlyDevice(path, 'is on a filesystem that is read-only', cause)
  return new PlinthError('ERR_DEVICE_IO', `${path} cannot be opened: ${message}`, { cause })
}

export function readOnlyDevice(path: string, why: string, cause?: unknown): PlinthError {
  return new PlinthError('ERR_READ_ONLY', `${path} ${why}; it can be opened with readOnly`, {
    cause,
  })
}

export function busy(path: string, cause?: unknown): PlinthError {
  return new PlinthError(
    'ERR_VOLUME_BUSY',
    `${path} is in use: a volume on it is open, or it is mounted; close that first`,
    cause === undefined ? {} : { cause },
  )
}

/** Says what it is that is not there: the name, its folder, what a link leads to. */
export function missing(path: string, cause?: unknown): PlinthError {
  let why = ''
  let folder = dirname(resolve(path))
  const target = linkAt(path)
  if (target !== undefined) {
    why = `: it is a link to ${target}, where nothing is`
  } else if (!fs.existsSync(folder)) {
    while (!fs.existsSync(dirname(folder))) folder = dirname(folder)
    why = `: there is no folder ${folder}`
  }
  return new PlinthError('ERR_DEVICE_MISSING', `nothing is at ${path}${why}`, { cause })
}

/** What a link says; undefined for what is none. */
function linkAt(path: string): string | undefined {
  try {
    return fs.readlinkSync(path)
  } catch {
    return undefined
  }
}

/** The stat, or undefined when nothing is there. */
export function statOf(path: string): fs.Stats | undefined {
  try {
    return fs.statSync(path)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new PlinthError('ERR_DEVICE_IO', `${path} cannot be looked at: ${message}`, { cause })
  }
}

/**
 * A name among the nodes of devices that leads to nothing is one that was mistyped, or whose device is gone: a
 * file there would be in memory, and in the device's way. What is mounted below (/dev/shm) is no such place.
 * @throws PlinthError ERR_DEVICE_MISSING
 */
export function refuseAmongDevices(path: string): void {
  const folder = realPath(dirname(resolve(path)))
  if (folder === undefined || !/^\/dev(?:\/|$)/.test(folder)) return
  if (fs.statSync(folder).dev !== fs.statSync('/dev').dev) return
  throw new PlinthError(
    'ERR_DEVICE_MISSING',
    `no device is at ${path}, and among devices no file is created`,
  )
}
