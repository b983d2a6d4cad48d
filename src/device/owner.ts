/** Who has a device: asked of the kernel, without taking anything for longer than a moment. */
import fs from 'node:fs'
import type { NativeAddon } from '../native/addon.js'
import type { Identity } from './identify.js'
import { formatDeviceNumber, readText } from './sysfs.js'

export interface Owner {
  readonly busy: boolean
  /** Who it is, in words; undefined when nobody is, or the kernel does not tell. */
  readonly who: string | undefined
}

export function ownerOf(
  path: string,
  fd: number,
  identity: Identity,
  addon: NativeAddon | undefined,
): Owner {
  if (!isBusy(path, fd, identity, addon)) return { busy: false, who: undefined }
  const stat = fs.statSync(path)
  const who = mountOf(stat) ?? holderOf(identity.node) ?? lockerOf(stat)
  return { busy: true, who }
}

/** Asks for what a reader or a mount would ask for, and gives it back at once. */
function isBusy(
  path: string,
  fd: number,
  { kind }: Identity,
  addon: NativeAddon | undefined,
): boolean {
  if (kind === 'block') {
    try {
      fs.closeSync(fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_EXCL))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EBUSY') return true
    }
  }
  // The lock goes with the descriptor, which the probe closes.
  return addon !== undefined && !addon.lock(fd, false)
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

/** The process with a lock on the file (proc_locks(5): process, then MAJOR:MINOR:INODE in hexadecimal). */
function lockerOf({ dev, ino }: fs.Stats): string | undefined {
  const [major, minor] = formatDeviceNumber(dev).split(':').map(Number)
  const hex = (number: number) => number.toString(16).padStart(2, '0')
  const file = `${hex(major!)}:${hex(minor!)}:${ino}`
  for (const line of (readText('/proc/locks') ?? '').split('\n')) {
    const [, kind, , , process, place] = line.trim().split(/\s+/)
    if (kind !== 'FLOCK' || place !== file) continue
    const name = readText(`/proc/${process}/comm`)
    // A process of another namespace is shown as 0 or not at all.
    if (name !== undefined) return `process ${process} (${name})`
  }
  return undefined
}
