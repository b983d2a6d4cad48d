/**
 * The bad blocks that the kernel knows of a device, as stretches of that device.
 *
 *   block device   its own list                             sectors of the device
 *   partition      the list of the disk it is part of       less where it starts
 *   device-dax     the list of its region                   placed by the addresses of both
 *   file           the list of the device below             placed by the file's extents (FIEMAP)
 *
 * A list holds lines of a first sector and a count, in units of 512 bytes (the kernel's block/badblocks.c).
 */
import fs from 'node:fs'
import { dirname } from 'node:path'
import { PlinthError } from '../base/errors.js'
import { BadBlocks, NO_BAD_BLOCKS, type Stretch } from '../media/bad-blocks.js'
import { EXTENT, EXTENT_WORDS, type NativeAddon } from '../native/addon.js'
import type { Identity } from './identify.js'
import { regionOf } from './persistence.js'
import { type Evidence, readNumber, readText, realPath } from './sysfs.js'

const SECTOR_BYTES = 512
/** An attribute ends where a page does: a list as long as this may have been cut. */
const LIST_CHARS_MAX = 4096 - 48

export interface KnownBad {
  readonly badBlocks: BadBlocks
  readonly evidence: readonly Evidence[]
}

/**
 * @throws PlinthError ERR_BAD_BLOCKS when there are some and where is not to be learnt
 */
export function knownBad(
  path: string,
  identity: Identity,
  fd: number,
  addon: NativeAddon | undefined,
): KnownBad {
  const { kind, node } = identity
  if (node === undefined) return { badBlocks: NO_BAD_BLOCKS, evidence: [] }
  const source = kind === 'dax' ? listOfRegion(node) : listOfDisk(node)
  if (source === undefined) return { badBlocks: NO_BAD_BLOCKS, evidence: [] }
  const listed = readList(path, source)
  const found = listed.length === 0 ? [] : place(path, identity, source, listed, fd, addon)
  const badBlocks = new BadBlocks(clip(found, identity.sizeBytes))
  const bytes = listed.reduce((sum, { length }) => sum + length, 0)
  const says =
    bytes === 0 ? 'none' : `${bytes} bytes, ${badBlocks.isEmpty ? 'none' : 'some'} of them here`
  return { badBlocks, evidence: [{ of: 'bad blocks', source, says }] }
}

function listOfRegion(node: string): string | undefined {
  const region = regionOf(node)
  return region === undefined ? undefined : existing(`${region}/badblocks`)
}

/** A partition has no list of its own. */
function listOfDisk(node: string): string | undefined {
  return existing(`${node}/badblocks`) ?? existing(`${dirname(realPath(node) ?? node)}/badblocks`)
}

function existing(path: string): string | undefined {
  return fs.existsSync(path) ? path : undefined
}

function readList(path: string, source: string): Stretch[] {
  const text = readText(source) ?? ''
  if (text.length >= LIST_CHARS_MAX) {
    throw new PlinthError(
      'ERR_BAD_BLOCKS',
      `${path}: ${source} lists more bad blocks than the kernel shows; replace the device`,
    )
  }
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([sector, count]) => Number.isSafeInteger(sector) && Number.isSafeInteger(count))
    .map(([sector, count]) => ({ offset: sector! * SECTOR_BYTES, length: count! * SECTOR_BYTES }))
}

/** From the places of a list to those of the device. */
function place(
  path: string,
  { kind, node }: Identity,
  source: string,
  listed: readonly Stretch[],
  fd: number,
  addon: NativeAddon | undefined,
): Stretch[] {
  if (kind === 'dax') {
    const region = readNumber(`${dirname(source)}/resource`)
    const own = readNumber(`${node}/resource`)
    if (region === undefined || own === undefined) {
      throw notPlaced(path, source, 'the addresses beside it are for root to read')
    }
    return listed.map(({ offset, length }) => ({ offset: offset + region - own, length }))
  }
  const start = (readNumber(`${node}/start`) ?? 0) * SECTOR_BYTES
  const onDisk = listed.map(({ offset, length }) => ({ offset: offset - start, length }))
  if (kind === 'block') return onDisk
  try {
    return throughExtents(onDisk, addon!.extents(fd))
  } catch (cause) {
    throw notPlaced(path, source, 'the filesystem does not say where the file is on it', cause)
  }
}

/** @param extents as the addon gives them */
function throughExtents(onDisk: readonly Stretch[], extents: Float64Array): Stretch[] {
  const bad = new BadBlocks(onDisk.filter(({ offset, length }) => offset + length > 0))
  const found: Stretch[] = []
  for (let i = 0; i < extents.length; i += EXTENT_WORDS) {
    const [inFile, onDevice, length, flags] = [0, 1, 2, 3].map((word) => extents[i + word]!)
    if ((flags! & EXTENT.PLACELESS) !== 0) throw new Error('an extent has no place')
    for (const stretch of bad.within(onDevice!, length!)) {
      found.push({ offset: stretch.offset - onDevice! + inFile!, length: stretch.length })
    }
  }
  return found
}

function clip(found: readonly Stretch[], sizeBytes: number): Stretch[] {
  return found.flatMap(({ offset, length }) => {
    const from = Math.max(0, offset)
    const to = Math.min(sizeBytes, offset + length)
    return from < to ? [{ offset: from, length: to - from }] : []
  })
}

function notPlaced(path: string, source: string, why: string, cause?: unknown): PlinthError {
  return new PlinthError(
    'ERR_BAD_BLOCKS',
    `${path}: ${source} lists bad blocks, and where they are in it cannot be learnt: ${why}`,
    cause === undefined ? {} : { cause },
  )
}
