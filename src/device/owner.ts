/**
 * Who has a device: told by what the kernel shows. Only where that shows nobody, a moment's claim asks whether
 * there is somebody whom it does not show: in another container.
 */
import fs from 'node:fs'
import { basename } from 'node:path'
import { printable } from '../base/printable.js'
import type { NativeAddon } from '../native/addon.js'
import type { Identity } from './identify.js'
import { openAgain } from './open.js'
import { formatDeviceNumber, readText } from './sysfs.js'

export interface Owner {
  readonly busy: boolean
  /** Who it is, in words; undefined when nobody is, or the kernel does not tell. */
  readonly who: string | undefined
}

/** Of a command line so much is shown. */
const COMMAND_CHARS_MAX = 160

export function ownerOf(
  path: string,
  fd: number,
  identity: Identity,
  addon: NativeAddon | undefined,
): Owner {
  const stat = fs.fstatSync(fd)
  const who = mountOf(stat) ?? holderOf(identity.node) ?? lockerOf(stat)
  return { busy: who !== undefined || isClaimed(path, fd, identity, addon), who }
}

/** Asks for what a reader or a mount would ask for, and gives it back at once. */
function isClaimed(
  path: string,
  fd: number,
  { kind }: Identity,
  addon: NativeAddon | undefined,
): boolean {
  const { O_RDONLY, O_EXCL } = fs.constants
  try {
    const claim = openAgain(fd, path, kind === 'block' ? O_RDONLY | O_EXCL : O_RDONLY)
    try {
      return addon !== undefined && !addon.lock(claim, false)
    } finally {
      fs.closeSync(claim)
    }
  } catch (error) {
    return (error as { code?: string }).code === 'ERR_VOLUME_BUSY'
  }
}

/** Where a block device is mounted (proc_pid_mountinfo(5): its number is the third field, the place the fifth). */
function mountOf(stat: fs.Stats): string | undefined {
  if (!stat.isBlockDevice()) return undefined
  const number = formatDeviceNumber(stat.rdev)
  for (const line of (readText('/proc/self/mountinfo') ?? '').split('\n')) {
    const fields = line.split(' ')
    if (fields[2] === number) return `mounted at ${fields[4]}`
  }
  return undefined
}

/** A device that is made of this one: device-mapper, RAID. */
function holderOf(node: string | undefined): string | undefined {
  try {
    const holders = fs.readdirSync(`${node}/holders`)
    return holders.length === 0 ? undefined : `part of ${holders.join(', ')}`
  } catch {
    return undefined
  }
}

/** The process with an exclusive lock on the file (proc_locks(5): process, then MAJOR:MINOR:INODE in hexadecimal). */
function lockerOf({ dev, ino }: fs.Stats): string | undefined {
  const [major, minor] = formatDeviceNumber(dev).split(':').map(Number)
  const hex = (number: number) => number.toString(16).padStart(2, '0')
  const file = `${hex(major!)}:${hex(minor!)}:${ino}`
  for (const line of (readText('/proc/locks') ?? '').split('\n')) {
    const [, kind, , access, process, place] = line.trim().split(/\s+/)
    if (kind !== 'FLOCK' || access !== 'WRITE' || place !== file) continue
    const program = describeProcess(process!)
    // A process of another namespace is shown as 0 or not at all.
    if (program !== undefined) return `process ${process} (${program})`
  }
  return undefined
}

/** `node: node server.js --port 80`: its program, and how it was called. */
function describeProcess(process: string): string | undefined {
  const folder = `/proc/${process}`
  const called = readText(`${folder}/cmdline`)
  const name = readText(`${folder}/comm`)
  if (called === undefined || name === undefined) return undefined
  // A name of a thread says little of a program: that of Node's main thread is MainThread.
  const words = called.split('\0').filter((word) => word !== '')
  const program = basename(programOf(folder) ?? words[0] ?? name)
  const line = printable(words.join(' '))
  const shown = line.length > COMMAND_CHARS_MAX ? `${line.slice(0, COMMAND_CHARS_MAX)}…` : line
  return `${printable(program)}${shown === '' ? '' : `: ${shown}`}`
}

/** The file that a process runs, where this user may know. */
function programOf(folder: string): string | undefined {
  try {
    return fs.readlinkSync(`${folder}/exe`).replace(/ \(deleted\)$/, '')
  } catch {
    return undefined
  }
}
