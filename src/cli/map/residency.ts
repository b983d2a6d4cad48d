/** How much of a volume is in memory, for the maps: of each stretch, and of cells all over the device. */
import type { Volume } from '../../index.js'
import { formatBytes, formatPercent } from '../units.js'
import { dataAreas } from '../volume.js'

/** A stretch of the device that somebody has. */
export interface Stretch {
  readonly offset: number
  readonly size: number
  /** Index in `owners`. */
  readonly owner: number
  /** Index in `chunks`; -1 for what plinth keeps. */
  readonly chunk: number
  readonly name: string
}

export interface Residency {
  /** Bytes of the whole volume that are in the page cache. */
  readonly bytes: number
  /** Of what no chunk has. */
  readonly freeBytes: number
  /** Of each stretch of the picture. */
  readonly stretches: readonly number[]
  readonly cellBytes: number
  /** The share of each cell, from the start of the device on; the last one may be a part of one. */
  readonly cells: readonly number[]
}

/** So many cells are finer than what a screen shows of a device, and cheap to keep in a page. */
const CELLS_MAX = 8192
const CELL_BYTES_MIN = 4096

/** Undefined where the kernel does not tell. All is asked at once, which is one pass over the device. */
export function residencyOf(volume: Volume, stretches: readonly Stretch[]): Residency | undefined {
  const { size } = volume.info
  const cellBytes = Math.max(CELL_BYTES_MIN, 2 ** Math.ceil(Math.log2(size / CELLS_MAX)))
  const cells = Array.from({ length: Math.ceil(size / cellBytes) }, (_, i) => ({
    offset: i * cellBytes,
    size: Math.min(cellBytes, size - i * cellBytes),
  }))
  const data = dataAreas(volume.stats().areas)
  const asked = volume.residentBytes([{ offset: 0, size }, ...data, ...cells, ...stretches])
  if (asked === undefined) return undefined
  const bytes = asked[0]!
  const dataBytes = asked.slice(1, 1 + data.length).reduce((sum, each) => sum + each, 0)
  const rest = asked.slice(1 + data.length)
  const ofStretches = rest.slice(cells.length)
  return {
    bytes,
    freeBytes: stretches.reduce(
      (left, { chunk }, i) => (chunk === -1 ? left : left - ofStretches[i]!),
      dataBytes,
    ),
    stretches: ofStretches,
    cellBytes,
    cells: cells.map((cell, i) => rest[i]! / cell.size),
  }
}

/** `12.3 MiB of 256 MiB (4.8 %)`. */
export function inMemoryText({ bytes }: Residency, size: number): string {
  return `${formatBytes(bytes)} of ${formatBytes(size)} (${formatPercent(bytes / size)})`
}
