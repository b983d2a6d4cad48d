/** Reading a device before anything is known of a volume on it. */
import fs from 'node:fs'
import { alignDown, alignUp } from '../base/units.js'
import { MAP, type NativeAddon } from '../native/addon.js'
import type { DeviceKind, Identity } from './identify.js'

/** Bytes of a device, zeros behind its end. Device-dax has no read and is mapped for it. */
export function readBytes(
  fd: number,
  {
    kind,
    sizeBytes,
    alignBytes,
  }: Pick<Identity, 'sizeBytes' | 'alignBytes'> & { kind: DeviceKind },
  addon: NativeAddon | undefined,
  offset: number,
  length: number,
): Uint8Array {
  const bytes = new Uint8Array(length)
  if (kind === 'dax') {
    if (addon === undefined) return bytes
    const start = alignDown(offset, alignBytes)
    const end = Math.min(alignUp(offset + length, alignBytes), sizeBytes)
    const slot = addon.map(fd, start, end - start, MAP.READ_ONLY)
    bytes.set(new Uint8Array(addon.buffer(slot), offset - start, length))
    addon.unmap(slot)
    return bytes
  }
  for (let done = 0; done < length; ) {
    const read = fs.readSync(fd, bytes, done, length - done, offset + done)
    if (read === 0) break
    done += read
  }
  return bytes
}
