/** Taking a volume off a device, so that nobody finds it again. */
import { PlinthError } from '../base/errors.js'
import { alignDown, alignUp, type Offset, PAGE_BYTES } from '../base/units.js'
import type { Readable } from '../check/inspection.js'
import { findTails } from '../check/tails.js'
import { Device } from '../device/device.js'
import { CHECKPOINT, CHECKPOINT_MAGIC } from '../layout/checkpoint-header.js'
import { CHECKPOINT_AT, SUPERBLOCK_AT } from '../layout/geometry.js'
import {
  hasMagic,
  MAGIC,
  SUPERBLOCK,
  secondSuperblockAt,
  superblockBytes,
} from '../layout/superblock.js'
import type { Stretch } from '../media/bad-blocks.js'
import type { Media } from '../media/media.js'
import { mappingUnit } from './areas.js'
import type { Repairable } from './inspect.js'
import { parseWipeOptions, type WipeOptions } from './options.js'
import { findSuperblock } from './superblocks.js'

export function wipeDevice(path: string, options: WipeOptions | undefined): void {
  const { force } = parseWipeOptions(options)
  const device = new Device({ path, readOnly: false })
  try {
    if (!force) findSuperblock(device, path, false, true)
    const openMedia = (sizeBytes: number) => device.media(sizeBytes)
    if (!wipeVolume({ device, alignBytes: device.alignBytes, openMedia })) {
      throw new PlinthError('ERR_NOT_A_VOLUME', `${path} does not hold a plinth volume`)
    }
  } finally {
    device.close()
  }
}

/**
 * Overwrites superblocks and checkpoint headers, and nothing else: what somebody else has put between them stays.
 * False: there are none. Durable when it returns.
 */
export function wipeVolume({ device, alignBytes, openMedia }: Repairable): boolean {
  const seconds = secondSuperblocks(device)
  const hasFirst = hasSuperblock(device, SUPERBLOCK_AT)
  const checkpointHeaders = [CHECKPOINT_AT, ...seconds.map((at) => at - PAGE_BYTES)].filter((at) =>
    hasCheckpoint(device, at),
  )
  if (seconds.length === 0 && !hasFirst && checkpointHeaders.length === 0) return false
  const media = openMedia(device.sizeBytes)
  const erase = (stretches: Stretch[]) =>
    eraseStretches(media, { sizeBytes: device.sizeBytes, alignBytes }, stretches)
  const firstBytes = hasFirst ? usedBytes(device, SUPERBLOCK_AT) : 0
  // 1. The second superblocks. A crash here leaves the volume, with its first.
  erase(seconds.map((offset) => ({ offset, length: usedBytes(device, offset) })))
  // 2. The magic of the first, a word and so all or nothing: from here on there is no volume.
  if (hasFirst) erase([{ offset: SUPERBLOCK_AT, length: MAGIC.length }])
  // 3. What is left of it, and the checkpoint headers.
  erase([
    ...(hasFirst
      ? [{ offset: SUPERBLOCK_AT + MAGIC.length, length: firstBytes - MAGIC.length }]
      : []),
    ...checkpointHeaders.map((offset) => ({ offset, length: CHECKPOINT.bytes })),
  ])
  return true
}

/**
 * Second superblocks of volumes that are or were on a device: where the first one says, at its end, and
 * where else they are found.
 */
export function secondSuperblocks(device: Readable): Offset[] {
  const { sizeBytes } = device
  if (sizeBytes < 2 * PAGE_BYTES) return []
  const told = SUPERBLOCK.read(device.read(SUPERBLOCK_AT, PAGE_BYTES)).sizeBytes
  const found = [told, sizeBytes]
    .map(secondSuperblockAt)
    .filter((at) => at !== undefined)
    .filter((at) => at > CHECKPOINT_AT && at + PAGE_BYTES <= sizeBytes && hasSuperblock(device, at))
  return [...new Set([...found, ...[...findTails(device)].map(({ offset }) => offset)])]
}

/** Zeros, durable when it returns. One fence. */
export function eraseStretches(
  media: Media,
  { sizeBytes, alignBytes }: { readonly sizeBytes: number; readonly alignBytes: number },
  stretches: readonly Stretch[],
): void {
  if (stretches.length === 0) return
  const unit = mappingUnit(alignBytes)
  for (const { offset, length } of stretches) {
    const start = alignDown(offset, unit)
    const mapping = media.map(start, Math.min(alignUp(offset + length, unit), sizeBytes) - start)
    media.zero(mapping, offset - start, length)
    media.unmap(mapping)
  }
  media.fence()
}

function hasSuperblock(device: Readable, at: Offset): boolean {
  return !device.badBlocks?.touches(at, PAGE_BYTES) && hasMagic(device.read(at, MAGIC.length))
}

function hasCheckpoint(device: Readable, at: Offset): boolean {
  if (at < CHECKPOINT_AT || device.badBlocks?.touches(at, CHECKPOINT.bytes)) return false
  return CHECKPOINT.read(device.read(at, CHECKPOINT.bytes)).magic === CHECKPOINT_MAGIC
}

/** Of a superblock, what is not zero anyway: what somebody else has put behind it stays. */
function usedBytes(device: Readable, at: Offset): number {
  return superblockBytes(SUPERBLOCK.read(device.read(at, PAGE_BYTES)).extentCount)
}
