/**
 * From raw bytes to a consistent volume: runs at every open, is bounded by the log, and may be cut
 * short anywhere and begun again.
 *
 *   1  walk the log: longest valid prefix, revocations         reads
 *   2  store what the records say in their in-place locations  visible only
 *   3  make the in-place locations durable                     a crash before 4 repeats it all
 *   4  (the caller) write checkpoint headers, new log salt     records of this run never pass again
 *
 * The log salt is what makes the end of the prefix final: a record that lay behind a torn one can
 * never follow the records of a later run.
 */
import { PlinthError } from '../base/errors.js'
import { alignDown, type Lsn, MIB, type Offset } from '../base/units.js'
import { CHUNK_SLOT, chunkSlotSeed, decodeChunkSlot, versionOfSlot } from '../layout/chunk-slot.js'
import { type Geometry, metadataRuns } from '../layout/geometry.js'
import { type Changes, readLog } from '../log/changes.js'
import { DirtyUnits } from '../log/dirty-units.js'
import { findLoss, type LogBytes, type LogLoss, walkLog, walkPrefix } from '../log/replay.js'
import { type MappedExtent, SlotCopies } from '../log/slot-copies.js'
import type { Mapping, Media } from '../media/media.js'

/**
 * Data is mapped in windows of this much, and at most so many at a time. Large ones, because V8 takes what is mapped for
 * memory of its own, and collects garbage with nearly every mapping.
 */
const WINDOW_BYTES = 256 * MIB
const WINDOWS_MAX = 4

export interface Replayed {
  readonly end: Lsn
  readonly records: number
  readonly bytes: number
  /** Chunk slots that the log has touched: at least so many are in use. */
  readonly slotsUsed: number
}

/** What a reader has of a log. */
export interface Read extends Replayed {
  /** To be put over what is read of chunks. */
  readonly changes: Changes
  /** What was durable and cannot be reached, when it was asked to go without. */
  readonly loss: LogLoss | undefined
}

export interface ReplayParts {
  readonly media: Media
  readonly geometry: Geometry
  readonly extents: readonly MappedExtent[]
  readonly log: LogBytes
  /** Start value of the checksums of this volume. */
  readonly seed: number
}

/** Replays the log into the device: durable when it returns. */
export function replay(parts: ReplayParts): Replayed {
  const { media, log } = parts
  const dirtyUnits = new DirtyUnits(media)
  const windows = new Windows(media, parts.geometry, dirtyUnits)
  const { changes, ...replayed } = read(parts, dirtyUnits, false)
  changes.forEachByPlace((offset, from, length) => {
    // What went bad since is lost, and its chunk is reported.
    for (const good of media.badBlocks.around(offset, length)) {
      const at = from + (good.offset - offset)
      windows.store(good.offset, log.bytes.subarray(at, at + good.length))
    }
  })
  dirtyUnits.persist()
  windows.close()
  return replayed
}

/**
 * Replays the log for a reader: the chunk table as it should be, in memory; changes of chunks to be put over
 * what is read. Nothing is written. With `salvage` what is damaged keeps nobody from what stands before it.
 */
export function replayToMemory(parts: ReplayParts, salvage: boolean): Read {
  return read(parts, new DirtyUnits(parts.media), salvage)
}

/** What the log says; slots of the table are stored in both of their places. */
function read(parts: ReplayParts, dirtyUnits: DirtyUnits, salvage: boolean): Read {
  const { media, log } = parts
  const copies = new SlotCopies({ ...parts, badBlocks: media.badBlocks })
  const { prefix, slots, changes } = readLog(log, salvage ? walkPrefix : walkLog)
  if (!salvage) refuseNewerSlots(parts, copies, slots)
  let slotsUsed = 0
  for (const [slot, from] of slots) {
    for (const copy of [0, 1] as const) {
      if (copies.isBad(slot, copy)) continue
      copies.store(dirtyUnits, slot, copy, log.bytes.subarray(from, from + CHUNK_SLOT.bytes))
    }
    slotsUsed = Math.max(slotsUsed, slot + 1)
  }
  return {
    end: prefix.end,
    records: prefix.records,
    bytes: prefix.end - log.head,
    slotsUsed,
    changes,
    loss: salvage ? findLoss(log, prefix) : undefined,
  }
}

/**
 * A slot is written to its in-place location after its record was durable. One that is newer than the log knows
 * says that a record was durable and is damaged: a shorter log would undo what was acknowledged.
 */
function refuseNewerSlots(
  { log, seed }: ReplayParts,
  copies: SlotCopies,
  slots: ReadonlyMap<number, number>,
): void {
  for (const [slot, from] of slots) {
    const logged = versionOfSlot(decodeChunkSlot(log.bytes, from, chunkSlotSeed(seed, slot)))
    const inPlace = [copies.read(slot, 0), copies.read(slot, 1)].map(versionOfSlot)
    if (Math.max(...inPlace) > logged) {
      throw new PlinthError(
        'ERR_VOLUME_CORRUPT',
        `chunk slot ${slot} is newer than the log knows: a record that changed it was durable and is damaged`,
      )
    }
  }
}

/** Stretches of the data area, mapped as replay comes by, which it does in order of place. */
class Windows {
  readonly #media: Media
  readonly #dirtyUnits: DirtyUnits
  readonly #windowBytes: number
  /** Ends of the stretches that have chunks alone, each one's start and its end in turn: no two mappings overlap. */
  readonly #stretches: Float64Array
  readonly #open = new Map<number, Mapping>()
  #last: Mapping | undefined

  constructor(media: Media, geometry: Geometry, dirtyUnits: DirtyUnits) {
    this.#media = media
    this.#dirtyUnits = dirtyUnits
    this.#windowBytes = Math.max(WINDOW_BYTES, geometry.granuleBytes)
    const { dataAt, tailAt, granuleBytes } = geometry
    const ends = metadataRuns(geometry).flatMap(({ start, length }) => [start, start + length])
    this.#stretches = Float64Array.of(dataAt, ...ends.map((each) => each * granuleBytes), tailAt)
  }

  store(offset: Offset, bytes: Uint8Array): void {
    let done = 0
    while (done < bytes.length) {
      const mapping = this.#at(offset + done)
      const at = offset + done - mapping.offset
      const length = Math.min(bytes.length - done, mapping.length - at)
      const part = length === bytes.length ? bytes : bytes.subarray(done, done + length)
      this.#dirtyUnits.store(mapping, at, part)
      done += length
    }
  }

  #at(offset: Offset): Mapping {
    const last = this.#last
    if (last !== undefined && offset >= last.offset && offset < last.offset + last.length) {
      return last
    }
    const stretches = this.#stretches
    let i = 0
    while (offset >= stretches[i + 1]!) i += 2
    const start = Math.max(stretches[i]!, alignDown(offset, this.#windowBytes))
    let mapping = this.#open.get(start)
    if (mapping === undefined) {
      // Each window comes once; a bounded number of them is mapped, and written in place when it is reached.
      if (this.#open.size === WINDOWS_MAX) {
        this.#dirtyUnits.persist()
        this.close()
      }
      const end = Math.min(
        stretches[i + 1]!,
        alignDown(offset, this.#windowBytes) + this.#windowBytes,
      )
      mapping = this.#media.map(start, end - start)
      this.#open.set(start, mapping)
    }
    this.#last = mapping
    return mapping
  }

  close(): void {
    for (const mapping of this.#open.values()) this.#media.unmap(mapping)
    this.#open.clear()
    this.#last = undefined
  }
}
