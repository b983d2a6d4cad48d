/**
 * A volume becomes larger while it is used: at its end, in the number of its chunks, in the length of its log.
 *
 *   longer        device longer ─▶ new tail ─▶ first superblock ─▶ old tail erased ─▶ granules are free
 *   more slots    checkpoint ─▶ both copies of the extent zero ─▶ superblocks ─▶ slots are free
 *   longer log    new ring zero ─▶ old log retired ─▶ superblocks ─▶ new log salt in the new ring ─▶ old ring is free
 *
 * Each arrow is a fence. A power cut at any of them leaves the volume as it was or as it will be, and space
 * that is nobody's: what a superblock does not name is free. Space changes hands only after both superblocks say so. None of it is
 * part of a transaction: it is not rolled back.
 */
import type { RoomMaker } from '../allocator/chunk-store.js'
import type { ChunkTable } from '../allocator/chunk-table.js'
import { argumentValueError, PlinthError, rangeError } from '../base/errors.js'
import { alignDown, alignUp, GIB, PAGE_BYTES } from '../base/units.js'
import { CHUNK_SLOT, SLOTS_MAX } from '../layout/chunk-slot.js'
import {
  defaultLog,
  type Geometry,
  GRANULES_MAX,
  geometryFor,
  HEAD_BYTES,
  reshape,
  type Shape,
  TABLE_EXTENTS_MAX,
  TAIL_BYTES,
} from '../layout/geometry.js'
import { SUPERBLOCK_FLAG, type Superblock, shapeFields } from '../layout/superblock.js'
import type { TransactionContext } from '../log/transaction-context.js'
import type { Stretch } from '../media/bad-blocks.js'
import type { Mapping } from '../media/media.js'
import { type Areas, checkpointPlace, mapExtent, mapLog, mappingUnit, mapTail } from './areas.js'
import { writeSuperblocks } from './superblocks.js'

/** A log that is too short by this is replaced. */
const LOG_TIMES = 4
/** A volume that grows by itself as much as it has is longer by at most this each time. */
const STEP_BYTES_MAX = GIB

/** What a volume is on. */
export interface Extendable {
  /** Bytes of the device, now. */
  readonly sizeBytes: number
  /**
   * Makes the device at least so long, every byte behind `from` backed, and learns what of it is bad; durable when it
   * returns.
   * @throws PlinthError ERR_DEVICE_TOO_SMALL when it is no file, ERR_NO_SPACE when its filesystem is full, ERR_DEVICE_IO
   */
  extend(from: number, sizeBytes: number): void
}

export interface GrowthLimits {
  /** So far it grows by itself. */
  readonly maxBytes?: number | undefined
  /** By so much at least. */
  readonly growBytes?: number | undefined
}

export interface GrowthParts {
  readonly alignBytes: number
  readonly areas: Areas
  readonly context: TransactionContext
  readonly device: Extendable
  readonly geometry: Geometry
  readonly limits: GrowthLimits | undefined
  readonly superblock: Superblock
  readonly table: ChunkTable
}

export class Growth implements RoomMaker {
  readonly #parts: GrowthParts
  #superblock: Superblock
  readonly maxBytes: number | undefined
  readonly #stepBytes: number

  constructor(parts: GrowthParts) {
    const { superblock, limits } = parts
    this.#parts = parts
    this.#superblock = superblock
    const maxBytes = limits?.maxBytes ?? superblock.maxBytes
    this.maxBytes = maxBytes === 0 ? undefined : maxBytes
    this.#stepBytes = limits?.growBytes ?? superblock.growBytes
  }

  /** Larger sizes are no volume's: granules are counted in 32 bits. */
  get #bytesMax(): number {
    return Math.min(GRANULES_MAX * this.#parts.geometry.granuleBytes, Number.MAX_SAFE_INTEGER)
  }

  #aligned(bytes: number): number {
    return alignDown(bytes, mappingUnit(this.#parts.alignBytes))
  }

  /**
   * What somebody asks for: this size, or undefined for all that the device has and `maxSize` allows.
   * @throws RangeError ERR_OUT_OF_RANGE, TypeError ERR_INVALID_ARG_VALUE, PlinthError as `#growTo`
   */
  grow(size: number | undefined): void {
    const { geometry } = this.#parts
    if (size === undefined) {
      this.#growTo(Math.min(this.#parts.device.sizeBytes, this.#most))
    } else {
      if (size > this.#bytesMax) {
        throw rangeError(
          `size must be at most ${this.#bytesMax} with granules of ${geometry.granuleBytes} bytes, not ${size}`,
        )
      }
      if (size < geometry.sizeBytes) {
        throw argumentValueError(
          `the volume has ${geometry.sizeBytes} bytes: it does not grow to ${size}`,
        )
      }
      if (size > this.#most) {
        throw argumentValueError(`the volume grows to no more than its maxSize of ${this.maxBytes}`)
      }
      this.#growTo(size)
    }
    this.roomTaken()
  }

  /** No more than this. */
  get #most(): number {
    return Math.min(this.maxBytes ?? this.#bytesMax, this.#bytesMax)
  }

  /**
   * Makes the volume `sizeBytes` long, rounded down to whole pages; by less than two pages it does not grow. Durable when
   * it returns.
   * @throws PlinthError ERR_NO_SPACE, ERR_DEVICE_TOO_SMALL, ERR_DEVICE_IO, ERR_BAD_BLOCKS; the volume is as it was then
   */
  #growTo(sizeBytes: number): void {
    const { context, geometry } = this.#parts
    const size = this.#aligned(sizeBytes)
    // Two tails that share a page would be one.
    if (size < geometry.sizeBytes + Math.max(TAIL_BYTES, this.#parts.alignBytes)) return
    const { diagnostics } = context.log
    const step = diagnostics.begin('grow')
    try {
      this.#lengthen(size)
    } finally {
      diagnostics.end(step)
    }
  }

  #lengthen(size: number): void {
    const { context, device, geometry, table } = this.#parts
    const { log } = context
    const { media } = log
    // 1. The device. A crash leaves a device that is longer than its volume.
    device.extend(geometry.sizeBytes, size)
    media.extend(Math.max(size, device.sizeBytes))
    const next = geometryFor({ ...geometry, sizeBytes: size })
    this.#refuseBad(next)
    // 2. All of the volume as it will be. What is appended is written first: its block ends there.
    log.makeDurable()
    this.#moveTail(next)
    // 3. It is longer: what was its tail is a chunk's to have, and what is behind it.
    table.addGranules()
  }

  /** Superblocks and checkpoint headers are written twice, or not at all. */
  #refuseBad(next: Geometry): void {
    const bad = this.#badEnd(next)
    if (bad === undefined) return
    throw new PlinthError(
      'ERR_BAD_BLOCKS',
      `the volume does not grow to ${next.sizeBytes} bytes: ${bad.length} bytes at ${bad.offset} are known to be bad, where its superblocks and checkpoint headers would be`,
    )
  }

  /** The tail at its new place, then the first superblock, then none at the old place. */
  #moveTail(next: Geometry): void {
    const { areas, alignBytes, context, geometry } = this.#parts
    const { media } = context.log
    const before = areas.tail
    areas.tail = mapTail(media, next, alignBytes)
    // Nothing else is in the pages, whatever the device had there.
    media.zero(areas.tail.mapping, areas.tail.superblockAt, PAGE_BYTES)
    media.zero(areas.tail.mapping, areas.tail.checkpointAt, PAGE_BYTES)
    // A crash up to here, or while the second superblock is written, leaves the volume with its old tail.
    areas.checkpointHeaders.moveSecond(checkpointPlace(areas.tail))
    media.fence()
    this.#write(next)
    // The first superblock says where the second is: nobody looks here. Until it is erased nothing else is.
    media.zero(before.mapping, before.superblockAt, PAGE_BYTES)
    media.zero(before.mapping, before.checkpointAt, PAGE_BYTES)
    media.fence()
    media.unmap(before.mapping)
    reshape(geometry, next)
  }

  /** Both superblocks, which say that the volume is so. */
  #write(shape: Shape): void {
    const { areas, context } = this.#parts
    const superblock = {
      ...this.#superblock,
      ...shapeFields(shape),
      sequence: this.#superblock.sequence + 1,
    }
    writeSuperblocks(context.log.media, areas, superblock)
    this.#superblock = superblock
  }

  makeRoom(granules: number, align: number): boolean {
    const { geometry, table, device } = this.#parts
    if (this.maxBytes === undefined) return false
    const { granuleBytes, sizeBytes } = geometry
    // The tail's granule is free once it has moved, and so is a run before it.
    const start = Math.ceil(this.#freeEnd() / align) * align
    const end = (start + granules) * granuleBytes + TAIL_BYTES
    const needed = alignUp(end, mappingUnit(this.#parts.alignBytes))
    const most = this.#aligned(this.#most)
    if (needed > most) return false
    const step = this.#stepBytes === 0 ? Math.min(sizeBytes, STEP_BYTES_MAX) : this.#stepBytes
    // What the device has already is taken as it is; no more than that of one that is no file.
    const deviceBytes = this.#aligned(device.sizeBytes)
    const wanted = Math.min(Math.max(needed, this.#aligned(sizeBytes + step)), most)
    for (const size of [wanted, Math.min(most, deviceBytes), needed]) {
      if (size < needed) continue
      try {
        this.#growTo(size)
        return table.granules.find(granules, align) !== -1
      } catch (error) {
        const code = (error as Partial<PlinthError>).code
        const isSmall = code === 'ERR_NO_SPACE' || code === 'ERR_DEVICE_TOO_SMALL'
        if (!isSmall || (size === needed && code === 'ERR_NO_SPACE')) throw error
      }
    }
    return false
  }

  /** Whoever wanted the room has it: the log may have of what is left. */
  roomTaken(): void {
    this.#lengthenLog()
  }

  /** First granule of the free run before the tail; the tail's first where there is none. */
  #freeEnd(): number {
    const { geometry, table } = this.#parts
    const start = table.granules.runStart(geometry.granules - 1)
    return start === -1 ? geometry.granules : start
  }

  makeSlots(): boolean {
    const { areas, alignBytes, context, geometry, table } = this.#parts
    const { granuleBytes, extents } = geometry
    if (extents.length === TABLE_EXTENTS_MAX) return false
    const { log } = context
    const { granules } = table
    if (this.#badEnd(geometry) !== undefined) return false
    // As many as there are, or as there is room for: twice, the second as far off as can be.
    const doubled = Math.min(geometry.slots, SLOTS_MAX - geometry.slots) * CHUNK_SLOT.bytes
    let run = Math.floor(doubled / granuleBytes)
    let firstAt = -1
    let secondAt = -1
    const find = () => {
      firstAt = granules.find(run)
      secondAt = granules.findLast(run)
      return firstAt !== -1 && firstAt + run <= secondAt
    }
    // A volume that can grow does so before its table has a small part: there are not many.
    if (run > 0 && !find()) this.makeRoom(2 * run, 1)
    while (run > 0 && !find()) run = Math.floor(run / 2)
    if (run === 0) return false
    const extent = {
      slots: (run * granuleBytes) / CHUNK_SLOT.bytes,
      firstAt: firstAt * granuleBytes,
      secondAt: secondAt * granuleBytes,
    }
    const { media } = log
    const mapped = mapExtent(media, extent, alignBytes)
    granules.take(firstAt, run)
    granules.take(secondAt, run)
    // 1. No record names what becomes part of the table, and what was freed is free for good.
    log.checkpoint()
    // 2. An empty extent. A crash leaves it as free space.
    for (const mapping of mapped.copies) media.zero(mapping, 0, mapping.length)
    media.fence()
    // 3. It is part of the table.
    const next = geometryFor({ ...geometry, extents: [...extents, extent] })
    this.#write(next)
    areas.extents.push(mapped)
    reshape(geometry, next)
    table.addSlots()
    return true
  }

  /** What is known to be bad in head or tail: a superblock that cannot be written twice stays as it is. */
  #badEnd({ checkpointCopyAt, sizeBytes }: Geometry): Stretch | undefined {
    const { badBlocks } = this.#parts.context.log.media
    return (
      badBlocks.within(0, HEAD_BYTES)[0] ??
      badBlocks.within(checkpointCopyAt, sizeBytes - checkpointCopyAt)[0]
    )
  }

  /** A log that its volume has outgrown is replaced, unless its length was chosen or no run is free for it. */
  #lengthenLog(): void {
    const { areas, alignBytes, context, geometry, table } = this.#parts
    const { log } = context
    const { granuleBytes, logAt, logBytes } = geometry
    if ((this.#superblock.flags & SUPERBLOCK_FLAG.LOG_IS_CHOSEN) !== 0) return
    const wanted = defaultLog(geometry.sizeBytes)
    if (wanted < LOG_TIMES * logBytes || this.#badEnd(geometry) !== undefined) return
    const granules = Math.ceil(wanted / granuleBytes)
    const start = table.granules.find(granules)
    if (start === -1) return
    const { media } = log
    const ring = { logAt: start * granuleBytes, logBytes: wanted }
    if (media.badBlocks.touches(ring.logAt, wanted)) return
    let mapping: Mapping
    try {
      mapping = mapLog(media, ring, alignBytes)
    } catch {
      // Not now: the log that is there serves.
      return
    }
    table.granules.take(start, granules)
    // 1. The new ring, empty; no record names its place.
    log.checkpoint()
    media.zero(mapping, 0, mapping.length)
    media.fence()
    // 2. The old one, of no account. A crash leaves a volume that is closed, with either.
    log.retire()
    const next = geometryFor({ ...geometry, ...ring })
    this.#write(next)
    // 3. A new log salt in the new one.
    log.restart(mapping, wanted)
    media.unmap(areas.log)
    areas.log = mapping
    reshape(geometry, next)
    table.granules.release(logAt / granuleBytes, Math.ceil(logBytes / granuleBytes))
  }
}
