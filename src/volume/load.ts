/**
 * From a device to the parts of an open volume: superblock, log, table. Bytes are checked before
 * they are believed; nothing is written before all of them were.
 */
import { performance } from 'node:perf_hooks'
import { ChunkChanges } from '../allocator/chunk-changes.js'
import { ChunkStore } from '../allocator/chunk-store.js'
import { ChunkTable } from '../allocator/chunk-table.js'
import { PlinthError } from '../base/errors.js'
import { alignUp, type LogPosition, type Offset, PAGE_BYTES } from '../base/units.js'
import type { Readable } from '../check/inspection.js'
import { findIntruder, nameBoth } from '../check/intruder.js'
import { HeapDirectory } from '../heap/heap-directory.js'
import { ANCHOR, ANCHOR_STATE, decodeAnchor, POSITION_RESTART } from '../layout/anchor.js'
import { ANCHOR_AT, type Geometry, SUPERBLOCK_AT, TABLE_AT } from '../layout/geometry.js'
import { followSuperblock, unwritableFeatures } from '../layout/refusal.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  formatUuid,
  isSameSuperblock,
  type Superblock,
  type SuperblockDefect,
  secondSuperblockAt,
  volumeSeed,
} from '../layout/superblock.js'
import { Diagnostics } from '../log/diagnostics.js'
import { Home } from '../log/home.js'
import { Log } from '../log/log.js'
import { logOf } from '../log/replay.js'
import { TransactionContext } from '../log/transaction-context.js'
import type { Stretch } from '../media/bad-blocks.js'
import type { Lifecycle } from '../media/lifecycle.js'
import type { Media } from '../media/media.js'
import {
  type Read,
  type Replayed,
  type ReplayParts,
  replay,
  replayToMemory,
} from '../recovery/recover.js'
import { Transaction } from '../transaction/transaction.js'
import { type Areas, mapAreas } from './areas.js'

/** What recovery found and did when the volume was opened. */
export interface Recovery {
  /** Whether the last user closed the volume. */
  readonly clean: boolean
  readonly recordsReplayed: number
  /** Bytes of log that they took. */
  readonly bytesReplayed: number
  /** Structures that were damaged or behind and were restored from their second copy. */
  readonly healed: number
  /** What a reader with `salvage` goes without; undefined when all is there. */
  readonly loss?: RecoveryLoss | undefined
  readonly durationMs: number
}

/** What a reader with `salvage` goes without. */
export interface RecoveryLoss {
  /** Log position from which nothing can be replayed. */
  readonly position: number
  /** Bytes of log from there to the end of the last whole record that is seen; at least so many are lost. */
  readonly bytes: number
  /** Whole records that are seen behind it; at least so many transactions are lost. */
  readonly records: number
  /** Slots of the chunk table that are damaged or contradict others: their chunks are not shown. */
  readonly slots: number
}

export interface Loaded {
  readonly superblock: Superblock
  readonly geometry: Geometry
  readonly lifecycle: Lifecycle
  readonly log: Log
  readonly table: ChunkTable
  readonly context: TransactionContext
  readonly store: ChunkStore
  readonly chunks: ChunkChanges
  readonly heaps: HeapDirectory
  readonly transaction: Transaction
  readonly recovery: Recovery
}

export interface Found {
  readonly superblock: Superblock
  readonly geometry: Geometry
  /** Whether one copy is to be written from the other: it is damaged, and the device can read and write both. */
  readonly isHealable: boolean
}

const REFUSED = {
  newer: 'ERR_FORMAT_TOO_NEW',
  restoring: 'ERR_VOLUME_INCOMPLETE',
  impossible: 'ERR_VOLUME_CORRUPT',
  truncated: 'ERR_DEVICE_TRUNCATED',
} as const

/**
 * Finds the superblock of a volume whose device is still its own. A copy that cannot be read is done without.
 * @throws PlinthError ERR_NOT_A_VOLUME, ERR_VOLUME_CORRUPT, ERR_FORMAT_TOO_NEW, ERR_DEVICE_TRUNCATED,
 *   ERR_DEVICE_IN_USE, ERR_DEVICE_IO, ERR_VOLUME_INCOMPLETE unless `restoring`
 */
export function findSuperblock(
  device: Readable,
  path: string,
  readOnly: boolean,
  restoring = false,
): Found {
  const { sizeBytes } = device
  if (sizeBytes < PAGE_BYTES) {
    throw new PlinthError('ERR_NOT_A_VOLUME', `${path} has ${sizeBytes} bytes: it holds no volume`)
  }
  let unreadable: unknown
  const read = (at: Offset, copy: 0 | 1): Superblock | SuperblockDefect => {
    try {
      return decodeSuperblock(device.read(at, PAGE_BYTES), copy)
    } catch (error) {
      unreadable ??= error
      return 'no-magic'
    }
  }
  const first = read(SUPERBLOCK_AT, 0)
  // The first copy tells where the second is; without it, it is looked for at the device's end.
  const secondAt = secondSuperblockAt(typeof first === 'string' ? sizeBytes : first.sizeBytes)
  const isThere = secondAt !== undefined && secondAt + PAGE_BYTES <= sizeBytes
  const second = isThere ? read(secondAt, 1) : 'no-magic'
  const superblock = typeof first === 'string' ? second : first
  if (typeof superblock === 'string') {
    if (unreadable !== undefined) throw unreadable
    const bad = device.badBlocks?.within(SUPERBLOCK_AT, PAGE_BYTES)[0]
    if (bad !== undefined) {
      throw badBlock(
        bad,
        `the first superblock of ${path}, and no second one is where it should be`,
      )
    }
    if (first === 'no-magic' && second === 'no-magic') {
      throw new PlinthError('ERR_NOT_A_VOLUME', `${path} does not hold a plinth volume`)
    }
    throw corrupt(`${path}: both superblocks are damaged`)
  }
  const geometry = followSuperblock(superblock, sizeBytes, restoring)
  if ('why' in geometry)
    throw new PlinthError(REFUSED[geometry.why], `${path}: ${geometry.message}`)
  if (unwritableFeatures(superblock) !== 0 && !readOnly) {
    throw new PlinthError(
      'ERR_FORMAT_TOO_NEW',
      `${path}: the volume has features that this version cannot write; it can be opened with readOnly`,
    )
  }
  const intruder = findIntruder(device, superblock, geometry)
  if (intruder !== undefined) {
    throw new PlinthError(
      'ERR_DEVICE_IN_USE',
      `${path} holds ${nameBoth(intruder, superblock)}: it was given to somebody else, or wiped; ` +
        'only repair with force takes it back for the volume',
    )
  }
  const areSame =
    typeof first !== 'string' && typeof second !== 'string' && isSameSuperblock(first, second)
  return { superblock, geometry, isHealable: unreadable === undefined && !areSame }
}

/** A device with a page cache before it. */
interface Cached extends Readable {
  /** Past the page cache. */
  readStored(offset: Offset, length: number): Uint8Array
  /** From now on everything is read from the device. */
  dropCache(): void
}

/**
 * Finds the superblock that the device has, and makes sure that what is read of the volume from now on is what
 * the device has too: that is what recovery trusts.
 * @throws PlinthError as `findSuperblock`
 */
export function findStored(
  device: Cached,
  path: string,
  readOnly: boolean,
  restoring: boolean,
): Found {
  const stored: Readable = {
    sizeBytes: device.sizeBytes,
    badBlocks: device.badBlocks,
    read: (offset, length) => device.readStored(offset, length),
  }
  const found = findSuperblock(stored, path, readOnly, restoring)
  if (!wasClosed(stored, found)) device.dropCache()
  return found
}

/** Whether the last user closed the volume: then everything before was durable. */
function wasClosed(device: Readable, { superblock, geometry }: Found): boolean {
  const seed = volumeSeed(superblock.uuid)
  return [ANCHOR_AT, geometry.anchorCopyAt].every((at) => {
    try {
      return decodeAnchor(device.read(at, ANCHOR.bytes), seed)?.state === ANCHOR_STATE.CLOSED
    } catch {
      return false
    }
  })
}

export interface LoadOptions {
  /** Of the device, as messages name it. */
  readonly path: string
  readonly lifecycle: Lifecycle
  readonly found: Found
  readonly alignBytes: number
  readonly warmBytes: number
  /** A reader's chunks with bad blocks are shown, not refused. */
  readonly zeroBadBlocks?: boolean
  /** A reader goes without what is damaged. */
  readonly salvage?: boolean
}

/** Recovers the volume on media and makes its parts. */
export function loadVolume(options: LoadOptions): Loaded {
  const started = performance.now()
  const { path, lifecycle, found, salvage = false } = options
  const { media, readOnly } = lifecycle
  const { superblock, geometry } = found
  const diagnostics = new Diagnostics(lifecycle, { path, uuid: formatUuid(superblock.uuid) })
  const step = diagnostics.begin('recovery')
  if (geometry.granuleBytes % options.alignBytes !== 0) {
    throw new PlinthError(
      'ERR_BACKEND_LIMIT',
      `the volume's granule of ${geometry.granuleBytes} bytes is not a multiple of the ${options.alignBytes} to which this device maps`,
    )
  }
  const seed = volumeSeed(superblock.uuid)
  const areas = mapAreas(media, geometry, seed, options.alignBytes)
  const { head, tail } = areas
  refuseBadMetadata(media, geometry, areas, readOnly)
  const anchors = areas.anchors.read()
  if (anchors === undefined) throw corrupt('both anchors are damaged')
  const { anchor } = anchors
  const parts: ReplayParts = {
    media,
    geometry,
    seed,
    head,
    tail,
    log: logOf(geometry, areas.ring, anchor, seed),
  }
  // 1. The log, into its home places. Nothing else may be read before.
  const read = readOnly ? replayToMemory(parts, salvage) : undefined
  const replayed: Replayed = read ?? replay(parts)
  // 2. The table, and the copies that are damaged or behind.
  const table = new ChunkTable({ geometry, seed, head, tail, badBlocks: media.badBlocks })
  let healed = anchors.damaged.filter(Boolean).length
  const home = new Home(media)
  const heal = (slot: number, from: 0 | 1) => {
    healed++
    table.copies.mend(home, slot, from)
  }
  const slots = table.load(anchor, replayed.slotsUsed, heal, salvage)
  const epoch = (anchor.epoch + 1) >>> 0
  const position = positionAfter(replayed.end, media.appendBytes, geometry)
  if (!readOnly) {
    home.persist()
    if (found.isHealable && !hasBadSuperblock(media, geometry)) {
      healed++
      writeSuperblocks(media, areas, superblock)
    }
    // 3. A new epoch: what is left of the old log never counts again, and nothing of it is needed.
    areas.anchors.write({
      epoch,
      state: ANCHOR_STATE.OPEN,
      head: position,
      ...table.slotCounts(),
    })
  }
  const log = new Log({
    lifecycle,
    diagnostics,
    geometry,
    anchors: areas.anchors,
    seed,
    epoch,
    head,
    position,
    slotCounts: () => table.slotCounts(),
  })
  const context = new TransactionContext(log)
  const store = new ChunkStore({
    geometry,
    table,
    context,
    warmBytes: options.warmBytes,
    zeroBadBlocks: options.zeroBadBlocks ?? false,
    onMap: read && ((mapping) => read.changes.applyTo(mapping.bytes, mapping.offset)),
  })
  const heaps = new HeapDirectory(store, context, geometry, seed)
  diagnostics.end(step)
  return {
    superblock,
    geometry,
    lifecycle,
    log,
    table,
    context,
    store,
    chunks: new ChunkChanges(store, context),
    heaps,
    transaction: new Transaction(store, heaps, context),
    recovery: {
      clean: anchor.state === ANCHOR_STATE.CLOSED && replayed.records === 0,
      recordsReplayed: replayed.records,
      bytesReplayed: replayed.bytes,
      healed,
      loss: lossOf(read, slots),
      durationMs: performance.now() - started,
    },
  }
}

/** What a volume cannot do without; the rest of its metadata is used from the other copy. */
function refuseBadMetadata(
  { badBlocks }: Media,
  { logAt, logBytes, tableBytes, tableCopyAt }: Geometry,
  { anchors }: Areas,
  readOnly: boolean,
): void {
  const inLog = badBlocks.within(logAt, logBytes)[0]
  if (inLog !== undefined) throw badBlock(inLog, 'the log, of which there is no second copy')
  for (const inTable of badBlocks.within(TABLE_AT, tableBytes)) {
    const copyAt = inTable.offset - TABLE_AT + tableCopyAt
    if (badBlocks.touches(copyAt, inTable.length)) {
      throw badBlock(inTable, 'the chunk table, and so is the same part of its second copy')
    }
  }
  const bad = ([0, 1] as const).filter((copy) => anchors.isBad(copy))
  if (bad.length === 0 || (bad.length === 1 && readOnly)) return
  throw new PlinthError(
    'ERR_BAD_BLOCKS',
    bad.length === 2
      ? 'both anchors are in known bad blocks: where replay begins is lost'
      : 'one anchor is in a known bad block, and a power loss while the other is written could tear it; ' +
          'clear the block, then opening restores it from the other, or open with readOnly',
  )
}

function hasBadSuperblock({ badBlocks }: Media, { superblockCopyAt }: Geometry): boolean {
  return [SUPERBLOCK_AT, superblockCopyAt].some((at) => badBlocks.touches(at, PAGE_BYTES))
}

function badBlock({ offset, length }: Stretch, where: string): PlinthError {
  return new PlinthError(
    'ERR_BAD_BLOCKS',
    `${length} bytes at ${offset} are known to be bad, in ${where}`,
  )
}

/** Writes both copies. */
export function writeSuperblocks(media: Media, areas: Areas, superblock: Superblock): void {
  // The damaged one first or the whole one again, the same either way: one is whole at any instant.
  media.write(areas.tail, areas.superblockCopyAt, encodeSuperblock({ ...superblock, copy: 1 }))
  media.fence()
  media.write(areas.head, SUPERBLOCK_AT, encodeSuperblock({ ...superblock, copy: 0 }))
  media.fence()
}

/**
 * First position of a new epoch. Records of earlier ones never pass, so positions that come near their end
 * begin anew, at the same place of the ring.
 */
function positionAfter(end: LogPosition, unit: number, { logBytes }: Geometry): LogPosition {
  const position = alignUp(end, unit)
  return position < POSITION_RESTART ? position : position % logBytes
}

function lossOf(read: Read | undefined, slots: number): RecoveryLoss | undefined {
  if (read === undefined || (read.loss === undefined && slots === 0)) return undefined
  const { position, bytes, records } = read.loss ?? { position: read.end, bytes: 0, records: 0 }
  return { position, bytes, records, slots }
}

function corrupt(what: string): PlinthError {
  return new PlinthError('ERR_VOLUME_CORRUPT', what)
}
