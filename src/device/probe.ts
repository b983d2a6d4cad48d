/** Looking at a device without changing it: what it is, what is on it, whether somebody has it. */
import fs from 'node:fs'
import { PAGE_BYTES } from '../base/units.js'
import type { Granularity } from '../media/media.js'
import { MAP, type NativeAddon } from '../native/addon.js'
import { loadAddon } from '../native/load.js'
import { type DeviceKind, type Identity, identify } from './identify.js'
import { openOrThrow } from './lock.js'
import { readBytes } from './read.js'
import { identifyContents, SIGNATURE_BYTES } from './signature.js'

export interface DeviceProbe {
  readonly kind: DeviceKind
  readonly sizeBytes: number
  readonly alignBytes: number
  readonly granularity: Granularity
  /** A writer has it open, or it is mounted. */
  readonly busy: boolean
  /** What is on it, in words; undefined: zeros. */
  readonly contents: string | undefined
  /** Bytes of it. */
  read(offset: number, length: number): Uint8Array
  close(): void
}

/**
 * @param own what a plinth volume begins with
 * @throws PlinthError ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO
 */
export function probeDevice(path: string, own: Uint8Array): DeviceProbe {
  const identity = identify(path)
  const addon = loadAddon()
  const fd = openOrThrow(path, fs.constants.O_RDONLY)
  try {
    const isDax =
      identity.kind === 'dax' || (identity.kind === 'file' && mapsSync(fd, identity, addon))
    const kind: DeviceKind = identity.kind === 'file' && isDax ? 'fsdax' : identity.kind
    const read = (offset: number, length: number) => readBytes(fd, identity, addon, offset, length)
    const { sizeBytes, alignBytes } = identity
    const ends = Math.min(SIGNATURE_BYTES, sizeBytes)
    return {
      kind,
      sizeBytes,
      alignBytes,
      granularity: !isDax ? 'page' : identity.persistsCaches ? 'byte' : 'cache-line',
      busy: isBusy(path, fd, identity, addon),
      contents: identifyContents(read(0, ends), read(sizeBytes - ends, ends), own),
      read,
      close: () => fs.closeSync(fd),
    }
  } catch (error) {
    fs.closeSync(fd)
    throw error
  }
}

function mapsSync(fd: number, { sizeBytes }: Identity, addon: NativeAddon | undefined): boolean {
  if (addon === undefined || sizeBytes < PAGE_BYTES) return false
  try {
    addon.unmap(addon.map(fd, 0, PAGE_BYTES, MAP.SYNC | MAP.READ_ONLY))
    return true
  } catch {
    return false
  }
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
