/** Reading a device before anything is known of a volume on it. */
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import { alignDown, alignUp } from '../base/units.js'
import type { BadBlocks } from '../media/bad-blocks.js'
import { MAP, type NativeAddon } from '../native/addon.js'
import type { DeviceKind, Identity } from './identify.js'

/** What is read. */
export interface Source extends Pick<Identity, 'sizeBytes' | 'alignBytes'> {
  /** For messages. */
  readonly path: string
  readonly kind: DeviceKind
  readonly badBlocks: BadBlocks
}

/**
 * Bytes of a device; zeros behind its end, and for bad blocks, which are not touched.
 * @throws PlinthError ERR_DEVICE_IO
 */
export function readBytes(
  fd: number,
  source: Source,
  addon: NativeAddon | undefined,
  offset: number,
  length: number,
): Uint8Array {
  const bytes = new Uint8Array(length)
  for (const good of source.badBlocks.around(offset, length)) {
    const from = good.offset - offset
    try {
      const into = bytes.subarray(from, from + good.length)
      if (source.kind === 'dax') readMapped(fd, source, addon, into, good.offset)
      else readFile(fd, into, good.offset)
    } catch (cause) {
      throw new PlinthError(
        'ERR_DEVICE_IO',
        `${good.length} bytes at ${good.offset} of ${source.path} cannot be read: ${(cause as Error).message}`,
        { cause },
      )
    }
  }
  return bytes
}

/** Device-dax has no read and is mapped for it. */
function readMapped(
  fd: number,
  { sizeBytes, alignBytes }: Source,
  addon: NativeAddon | undefined,
  into: Uint8Array,
  offset: number,
): void {
  const from = alignDown(offset, alignBytes)
  const end = Math.min(alignUp(offset + into.length, alignBytes), sizeBytes)
  const length = Math.min(into.length, sizeBytes - offset)
  if (addon === undefined || length <= 0) return
  const slot = addon.map(fd, from, end - from, MAP.READ_ONLY)
  into.set(new Uint8Array(addon.buffer(slot), offset - from, length))
  addon.unmap(slot)
}

function readFile(fd: number, into: Uint8Array, offset: number): void {
  for (let done = 0; done < into.length; ) {
    const read = fs.readSync(fd, into, done, into.length - done, offset + done)
    if (read === 0) break
    done += read
  }
}
