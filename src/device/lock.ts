/**
 * One owner for each device. The claim lives on a descriptor of its own that is never mapped: a
 * mapping would keep it after close, until the memory goes.
 *
 *   block device   O_EXCL: mount and mkfs respect it too
 *   everywhere     flock, exclusive for a writer, shared for readers: also within one process
 *
 * Without the addon there is no flock in Node; a file beside the device names the owner then.
 */
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import type { NativeAddon } from '../native/addon.js'
import type { DeviceKind } from './identify.js'

export interface Lock {
  release(): void
}

export function lockDevice(wanted: {
  path: string
  kind: DeviceKind
  readOnly: boolean
  addon: NativeAddon | undefined
}): Lock {
  const { path, kind, readOnly, addon } = wanted
  const { O_RDONLY, O_RDWR, O_EXCL } = fs.constants
  const access = readOnly ? O_RDONLY : O_RDWR
  const fd = openOrThrow(path, kind === 'block' && !readOnly ? access | O_EXCL : access)
  try {
    if (addon === undefined) {
      const beside = lockBeside(path, readOnly)
      return {
        release() {
          beside.release()
          fs.closeSync(fd)
        },
      }
    }
    if (!addon.lock(fd, !readOnly)) throw busy(path)
    return { release: () => fs.closeSync(fd) }
  } catch (error) {
    fs.closeSync(fd)
    throw error
  }
}

/** Opens a path; what the system says becomes an error with a code. */
export function openOrThrow(path: string, flags: number, mode?: number): number {
  try {
    return fs.openSync(path, flags, mode)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    if (code === 'EBUSY') throw busy(path, cause)
    if (code === 'ENOENT') {
      throw new PlinthError('ERR_DEVICE_MISSING', `nothing is at ${path}`, { cause })
    }
    throw new PlinthError('ERR_DEVICE_IO', `${path} cannot be opened: ${message}`, { cause })
  }
}

function busy(path: string, cause?: unknown): PlinthError {
  return new PlinthError(
    'ERR_VOLUME_BUSY',
    `${path} is in use: a volume on it is open, or it is mounted; close that first`,
    cause === undefined ? {} : { cause },
  )
}

function lockBeside(path: string, readOnly: boolean): Lock {
  const lockPath = `${fs.realpathSync(path)}.plinth-lock`
  for (let attempt = 0; ; attempt++) {
    try {
      fs.writeFileSync(lockPath, String(process.pid), { flag: 'wx', mode: 0o600 })
      return { release: () => fs.rmSync(lockPath, { force: true }) }
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      if (code !== 'EEXIST') {
        // Nowhere to write beside a reader's volume: a reader goes without.
        if (readOnly) return { release() {} }
        throw new PlinthError('ERR_DEVICE_IO', `${lockPath} cannot be written`, { cause })
      }
      if (attempt > 0 || isAlive(Number(fs.readFileSync(lockPath, 'utf8')))) throw busy(path)
      fs.rmSync(lockPath, { force: true })
    }
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
