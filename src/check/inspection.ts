/**
 * One look at a volume: the device's bytes, and what the steps of the check have made out so far.
 * Each step fills in what the next one stands on; where it cannot, those behind it have nothing to do.
 *
 *   superblocks ─▶ geometry ─▶ anchors ─▶ anchor ─▶ log ─▶ loggedSlots, changes ─▶ table ─▶ slots ─▶ directory
 *
 * Nothing here writes. What the log says is put over the bytes in memory, as recovery would on the device.
 */
import type { Offset } from '../base/units.js'
import type { Anchor } from '../layout/anchor.js'
import type { ChunkSlot } from '../layout/chunk-slot.js'
import type { Geometry } from '../layout/geometry.js'
import type { Superblock } from '../layout/superblock.js'

/** The bytes of a device. */
export interface Readable {
  readonly sizeBytes: number
  /** A copy of `length` bytes; zeros behind the device's end. */
  read(offset: Offset, length: number): Uint8Array
}

/** A logged change to a chunk that is not in its home place yet. */
interface Change {
  readonly offset: Offset
  readonly bytes: Uint8Array
}

/** A slot that holds a chunk. */
export interface FoundChunk {
  readonly slot: number
  readonly values: ChunkSlot
}

export class Inspection {
  readonly device: Readable
  /** Whether a user has the volume open: then an open anchor and a filled log are as they should be. */
  readonly isOpen: boolean
  /** Bytes of log that are in use, where an open volume knows it. */
  readonly logUsedBytes: number | undefined
  superblock: Superblock | undefined
  geometry: Geometry | undefined
  /** Start value of the checksums of this volume. */
  seed = 0
  anchor: Anchor | undefined
  /** Whether records that were durable cannot be reached: home places may then be ahead of the log. */
  logIsDamaged = false
  /** Slots that the valid part of the log changes: what they are afterwards. */
  readonly loggedSlots = new Map<number, Uint8Array>()
  /** What the log says of chunks, in order. */
  readonly changes: Change[] = []
  /** The chunks, as recovery would leave them; undefined until the table was read. */
  chunks: FoundChunk[] | undefined

  constructor(device: Readable, open?: { logUsedBytes: number }) {
    this.device = device
    this.isOpen = open !== undefined
    this.logUsedBytes = open?.logUsedBytes
  }

  /** Bytes of the data area as recovery would leave them: for what chunks hold that plinth itself owns. */
  readData(offset: Offset, length: number): Uint8Array {
    const bytes = this.device.read(offset, length)
    const end = offset + length
    for (const change of this.changes) {
      const from = Math.max(offset, change.offset)
      const to = Math.min(end, change.offset + change.bytes.length)
      if (from < to) {
        bytes.set(change.bytes.subarray(from - change.offset, to - change.offset), from - offset)
      }
    }
    return bytes
  }
}
