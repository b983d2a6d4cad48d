/** What a volume tells of itself. */
import type { DeviceKind } from '../device/identify.js'
import type { Backend } from '../device/mapper.js'
import type { Counters, Granularity } from '../media/media.js'
import type { VolumeArea } from './areas.js'

/** Where log and chunk table of a volume are. Bytes from the start of the device. */
export interface VolumeLayout {
  readonly logOffset: number
  /** Whether the length of the log was chosen: then it stays when the volume grows. */
  readonly isLogChosen: boolean
  /** The extents of the chunk table: how many chunks each has slots for, and where its two copies are. */
  readonly tables: readonly {
    readonly slots: number
    readonly first: number
    readonly second: number
  }[]
}

/** What a volume is. Size and layout change when it grows. */
export interface VolumeInfo {
  /** As it was given to `open`. */
  readonly path: string
  readonly uuid: string
  /** Undefined for none. */
  readonly label: string | undefined
  /** Bytes of the volume. */
  readonly size: number
  /** Bytes of a granule. */
  readonly granule: number
  /** Bytes by which it grows by itself at least; undefined for as many as it has. */
  readonly growBy: number | undefined
  /** Bytes up to which it grows by itself; undefined when it does not, `Infinity` without limit. */
  readonly maxSize: number | undefined
  readonly layout: VolumeLayout
  readonly kind: DeviceKind | 'memory'
  readonly granularity: Granularity
  readonly backend: Backend | 'memory'
  readonly readOnly: boolean
  readonly created: Date
}

/** How full a volume is, and what it has done since it was opened. */
export interface VolumeStats {
  /** Bytes that chunks can have, all of them together. */
  readonly dataBytes: number
  /** Bytes of all chunks, reservations included. */
  readonly usedBytes: number
  readonly freeBytes: number
  /** Bytes of granules with known bad blocks that no chunk has and none gets. */
  readonly badBytes: number
  /** The largest chunk that can be allocated now. */
  readonly largestFreeBytes: number
  readonly freeRuns: number
  /** 0: all free bytes in one run; towards 1: in many small ones. */
  readonly fragmentation: number
  readonly chunks: number
  /** Bytes of the redo log. */
  readonly logBytes: number
  /** Bytes of it that a recovery would replay. */
  readonly logUsedBytes: number
  /** Where everything lies, lowest offset first; between and behind them nothing is kept. */
  readonly areas: readonly VolumeArea[]
  /** Since the volume was opened. */
  readonly checkpoints: number
  /** Bytes of mappings kept for closed chunks. */
  readonly warmBytes: number
  /** Since the volume was opened. */
  readonly counters: Counters
}

/** A chunk as the chunk table has it, those of heaps included. */
export interface ChunkInfo {
  readonly id: number
  readonly name: string | undefined
  readonly type: string | undefined
  /** Bytes from the start of the device. */
  readonly offset: number
  /** Bytes, a multiple of the granule. */
  readonly size: number
  /** Name of the heap that it belongs to. Undefined for a chunk of its own. */
  readonly heap?: string
  /** Known bad blocks of it, lowest first: bytes from the chunk's start. Undefined for none. */
  readonly badBlocks?: readonly { readonly offset: number; readonly length: number }[]
  /**
   * Set when the volume was opened with `salvage` and something of it is lost: whether the bytes are those
   * that this chunk had, nothing tells but its owner's own checksums.
   */
  readonly unverified?: boolean
}
