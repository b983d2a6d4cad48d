/**
 * One look at a volume: the device's bytes, and what the steps of the check have made out so far.
 * Each step fills in what the next one stands on; where it cannot, those behind it have nothing to do.
 *
 *   superblocks ─▶ geometry ─▶ checkpoint headers ─▶ checkpointHeader ─▶ log
 *     ─▶ loggedSlots, changes ─▶ table ─▶ chunks ─▶ directory, heaps
 *
 * Nothing here writes. What the log says is put over the bytes in memory, as recovery would on the device.
 */
import type { Offset } from '../base/units.js'
import type { SizeClasses } from '../heap/size-classes.js'
import type { FoundSlab } from '../heap/slab-reader.js'
import type { CheckpointHeader } from '../layout/checkpoint-header.js'
import type { ChunkSlot } from '../layout/chunk-slot.js'
import type { Geometry } from '../layout/geometry.js'
import type { SlabShape } from '../layout/heap.js'
import type { Superblock } from '../layout/superblock.js'
import type { Changes } from '../log/changes.js'
import type { LogLoss } from '../log/replay.js'
import type { BadBlocks } from '../media/bad-blocks.js'

/** The bytes of a device. */
export interface Readable {
  readonly sizeBytes: number
  /** Known bad blocks, which are read as zeros. */
  readonly badBlocks?: BadBlocks | undefined
  /** A copy of `length` bytes; zeros behind the device's end. */
  read(offset: Offset, length: number): Uint8Array
}

/** The same where what cannot be read is zeros, and known. */
export interface Inspected extends Readable {
  /** Known ones, and those that a read has failed for. */
  readonly badBlocks: BadBlocks
  /** Those alone that a read has failed for so far. */
  readonly unreadable: BadBlocks
}

/** A slot that holds a chunk. */
export interface FoundChunk {
  readonly slot: number
  readonly values: ChunkSlot
}

/** A chunk with slabs. */
export interface FoundSlabChunk extends SlabShape {
  readonly id: number
  readonly offset: Offset
  readonly firstUnit: number
  readonly slabs: FoundSlab[]
  /** Whether all of its entries are whole. */
  isSound: boolean
}

/** A heap whose header is whole, or can be repaired. */
export interface FoundHeap {
  readonly id: number
  readonly offset: Offset
  /** In words. */
  readonly name: string
  /** All 64 bits. */
  readonly root: bigint
  readonly unitBytes: number
  readonly classes: SizeClasses
  /** The root chunk first, then by number of their first unit. */
  readonly chunks: FoundSlabChunk[]
  /** Offsets of the large objects, with the ids of their chunks. */
  readonly larges: Map<Offset, number>
}

export class Inspection {
  readonly device: Inspected
  /** Whether a user has the volume open: then an open checkpoint header and a filled log are as they should be. */
  readonly isOpen: boolean
  /** Bytes of log that are in use, where an open volume knows it. */
  readonly logUsedBytes: number | undefined
  /** Whether what somebody else has put in the place of metadata is to be looked past, and overwritten. */
  readonly takesBack: boolean
  superblock: Superblock | undefined
  geometry: Geometry | undefined
  /** Start value of the checksums of this volume. */
  seed = 0
  checkpointHeader: CheckpointHeader | undefined
  /** What was durable in the log and cannot be reached: in-place locations may then be ahead of the log. */
  loss: LogLoss | undefined
  /**
   * Whether nothing vouches for the log, so that repairing the rest without a word would hide that commits are
   * lost: all that is written then gives something up.
   */
  logIsGone = false
  /** Slots that the valid part of the log changes: what they are afterwards. */
  readonly loggedSlots = new Map<number, Uint8Array>()
  /** What the valid part of the log says of chunks; undefined for nothing. */
  changes: Changes | undefined
  /** The chunks, as recovery would leave them; undefined until the table was read. */
  chunks: FoundChunk[] | undefined
  /** By id of the root chunk. */
  readonly heaps = new Map<number, FoundHeap>()

  constructor(device: Inspected, open?: { logUsedBytes: number }, takesBack = false) {
    this.device = device
    this.takesBack = takesBack
    this.isOpen = open !== undefined
    this.logUsedBytes = open?.logUsedBytes
  }

  /** Bytes of the data area as recovery would leave them: for what chunks hold that plinth itself owns. */
  readData(offset: Offset, length: number): Uint8Array {
    const bytes = this.device.read(offset, length)
    this.changes?.applyTo(bytes, offset)
    return bytes
  }

  /** Whether recovery would write to some of these bytes. */
  isLogged(offset: Offset, length: number): boolean {
    let is = false
    this.changes?.forEach(offset, offset + length, () => {
      is = true
    })
    return is
  }
}
