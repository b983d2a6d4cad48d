/**
 * From a device to the parts of an open volume: superblock, log, table. Bytes are checked before
 * they are believed; nothing is written before all of them were.
 */
import { performance } from 'node:perf_hooks'
import { ChunkChanges } from '../allocator/chunk-changes.js'
import { ChunkStore } from '../allocator/chunk-store.js'
import { ChunkTable } from '../allocator/chunk-table.js'
import { PlinthError } from '../base/errors.js'
import { alignUp, type Lsn, PAGE_BYTES } from '../base/units.js'
import { HeapDirectory } from '../heap/heap-directory.js'
import { CHECKPOINT_STATE, COUNT_RESTART } from '../layout/checkpoint-header.js'
import { CHUNK_SLOT } from '../layout/chunk-slot.js'
import { type Geometry, SUPERBLOCK_AT } from '../layout/geometry.js'
import { formatUuid, type Superblock, volumeSeed } from '../layout/superblock.js'
import { Diagnostics } from '../log/diagnostics.js'
import { DirtyUnits } from '../log/dirty-units.js'
import { Log } from '../log/log.js'
import { logOf } from '../log/replay.js'
import { TransactionContext } from '../log/transaction-context.js'
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
import { type Extendable, Growth, type GrowthLimits } from './growth.js'
import { badBlock, corrupt, type Found, writeSuperblocks } from './superblocks.js'

/** What recovery found and did when the volume was opened. */
export interface Recovery {
  /** Whether the last user closed the volume. */
  readonly clean: boolean
  readonly recordsReplayed: number
  /** Bytes of log that they took. */
  readonly bytesReplayed: number
  /** Structures that were damaged or behind and were restored from their second copy. */
  readonly repaired: number
  /** What a reader with `salvage` goes without; undefined when all is there. */
  readonly loss?: RecoveryLoss | undefined
  readonly durationMs: number
}

/** What a reader with `salvage` goes without. */
export interface RecoveryLoss {
  /** LSN from which nothing can be replayed. */
  readonly lsn: number
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
  /** Undefined for a reader. */
  readonly growth: Growth | undefined
  readonly chunks: ChunkChanges
  readonly heaps: HeapDirectory
  readonly transaction: Transaction
  readonly recovery: Recovery
}

export interface LoadOptions {
  /** Of the device, as messages name it. */
  readonly path: string
  readonly lifecycle: Lifecycle
  readonly found: Found
  readonly alignBytes: number
  readonly warmBytes: number
  /** What a writer's volume is on, so that it can grow. */
  readonly device: Extendable
  /** How far it grows by itself; what its superblock says unless it is given. */
  readonly limits?: GrowthLimits
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
  const { geometry } = found
  let { superblock } = found
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
  const { extents } = areas
  refuseBadMetadata(media, geometry, areas, readOnly)
  const checkpointHeaders = areas.checkpointHeaders.read()
  if (checkpointHeaders === undefined) throw corrupt('both checkpoint headers are damaged')
  const { header } = checkpointHeaders
  const parts: ReplayParts = {
    media,
    geometry,
    seed,
    extents,
    log: logOf(geometry, areas.log.bytes.subarray(0, geometry.logBytes), header, seed),
  }
  // 1. The log, into its in-place locations. Nothing else may be read before.
  const read = readOnly ? replayToMemory(parts, salvage) : undefined
  const replayed: Replayed = read ?? replay(parts)
  // 2. The table, and the copies that are damaged or behind.
  const table = new ChunkTable({
    geometry,
    seed,
    extents,
    // Another list once the device is longer.
    get badBlocks() {
      return media.badBlocks
    },
  })
  let repaired = checkpointHeaders.damaged.filter(Boolean).length
  const dirtyUnits = new DirtyUnits(media)
  const repair = (slot: number, from: 0 | 1) => {
    repaired++
    table.copies.repair(dirtyUnits, slot, from)
  }
  const slots = table.load(header, replayed.slotsUsed, repair, salvage)
  const logSalt = (header.logSalt + 1) >>> 0
  const lsn = lsnAfter(replayed.end, media.appendBytes, geometry)
  if (!readOnly) {
    dirtyUnits.persist()
    const isOpen = header.state === CHECKPOINT_STATE.OPEN
    if ((isOpen || found.isRepairable) && !hasBadSuperblock(media, geometry)) {
      if (found.isRepairable) repaired++
      // A growth that was cut short may have left a tail that is one change ahead: none of it counts any more.
      if (isOpen) superblock = { ...superblock, sequence: superblock.sequence + 2 }
      writeSuperblocks(media, areas, superblock, found.source)
    }
    // 3. A new log salt: what is left of the old log never counts again, and nothing of it is needed.
    areas.checkpointHeaders.write({
      logSalt,
      state: CHECKPOINT_STATE.OPEN,
      head: lsn,
      ...table.slotCounts(),
    })
  }
  const log = new Log({
    lifecycle,
    diagnostics,
    geometry,
    checkpointHeaders: areas.checkpointHeaders,
    seed,
    logSalt,
    ring: areas.log,
    lsn,
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
  const growth = readOnly
    ? undefined
    : new Growth({
        alignBytes: options.alignBytes,
        areas,
        context,
        device: options.device,
        geometry,
        limits: options.limits,
        superblock,
        table,
      })
  store.rooms = growth
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
    growth,
    chunks: new ChunkChanges(store, context),
    heaps,
    transaction: new Transaction(store, heaps, context),
    recovery: {
      clean: header.state === CHECKPOINT_STATE.CLOSED && replayed.records === 0,
      recordsReplayed: replayed.records,
      bytesReplayed: replayed.bytes,
      repaired,
      loss: lossOf(read, slots),
      durationMs: performance.now() - started,
    },
  }
}

/** What a volume cannot do without; the rest of its metadata is used from the other copy. */
function refuseBadMetadata(
  { badBlocks }: Media,
  { logAt, logBytes, extents }: Geometry,
  { checkpointHeaders }: Areas,
  readOnly: boolean,
): void {
  const inLog = badBlocks.within(logAt, logBytes)[0]
  if (inLog !== undefined) throw badBlock(inLog, 'the log, of which there is no second copy')
  for (const { slots, firstAt, secondAt } of extents) {
    for (const inTable of badBlocks.within(firstAt, slots * CHUNK_SLOT.bytes)) {
      if (badBlocks.touches(inTable.offset - firstAt + secondAt, inTable.length)) {
        throw badBlock(inTable, 'the chunk table, and so is the same part of its second copy')
      }
    }
  }
  const bad = ([0, 1] as const).filter((copy) => checkpointHeaders.isBad(copy))
  if (bad.length === 0 || (bad.length === 1 && readOnly)) return
  throw new PlinthError(
    'ERR_BAD_BLOCKS',
    bad.length === 2
      ? 'both checkpoint headers are in known bad blocks: where replay begins is lost'
      : 'one checkpoint header is in a known bad block, and a power loss while the other is written could tear it; ' +
          'clear the block, then opening restores it from the other, or open with readOnly',
  )
}

function hasBadSuperblock({ badBlocks }: Media, { superblockCopyAt }: Geometry): boolean {
  return [SUPERBLOCK_AT, superblockCopyAt].some((at) => badBlocks.touches(at, PAGE_BYTES))
}

/**
 * First LSN under a new log salt. Records of earlier ones never pass, so LSNs that come near their end
 * begin anew, at the same place of the ring.
 */
function lsnAfter(end: Lsn, unit: number, { logBytes }: Geometry): Lsn {
  const lsn = alignUp(end, unit)
  return lsn < COUNT_RESTART ? lsn : lsn % logBytes
}

function lossOf(read: Read | undefined, slots: number): RecoveryLoss | undefined {
  if (read === undefined || (read.loss === undefined && slots === 0)) return undefined
  const { lsn, bytes, records } = read.loss ?? { lsn: read.end, bytes: 0, records: 0 }
  return { lsn, bytes, records, slots }
}
