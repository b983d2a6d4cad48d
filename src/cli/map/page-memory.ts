/** The line below a row of the page of `plinth map --html`. */
import type { PageMemory } from './page-data.js'
import type { Box, Canvas2D } from './page-dom.js'

export const LINE_HEIGHT = 2
/** So many shades it has. */
const LEVELS = 8

/** What of the device a line is about. */
export interface LinePart {
  readonly start: number
  readonly end: number
  /** Pixels a byte. */
  readonly scale: number
  /** Index of the stretch at its start. */
  readonly first: number
}

/** Everything on the device, in order of offsets. */
export interface LineStretches {
  readonly offsets: readonly number[]
  readonly sizes: readonly number[]
  /** Bytes in memory; -1 for what only its cells know, as free runs. */
  readonly held: readonly number[]
}

/**
 * What of a part of the device is in memory: at each pixel as strong as much is. Stretches that are smaller
 * than a cell are known more exactly than their cell.
 */
export function drawMemory(
  context: Canvas2D,
  { x, y, width, height }: Box,
  part: LinePart,
  memory: PageMemory,
  stretches: LineStretches,
): void {
  // A page that is not laid out yet has less than the labels take.
  if (width <= 0) return
  const pixels = sharesOf(Math.ceil(width), part, memory, stretches)
  // Less than a hundredth of a level is what rounding left.
  const levelAt = (pixel: number) => Math.min(LEVELS, Math.ceil(pixels[pixel]! * LEVELS - 0.01))
  for (let pixel = 0; pixel < pixels.length; ) {
    const level = levelAt(pixel)
    let next = pixel + 1
    while (next < pixels.length && levelAt(next) === level) next++
    if (level > 0) {
      context.globalAlpha = level / LEVELS
      context.fillRect(x + pixel, y, next - pixel, height)
    }
    pixel = next
  }
  context.globalAlpha = 1
}

/** Added up a pixel at a time: the seams of pieces that end within one would be seen. */
function sharesOf(
  width: number,
  { start, end, scale, first }: LinePart,
  { cellBytes, cells }: PageMemory,
  { offsets, sizes, held }: LineStretches,
): Float64Array {
  const pixels = new Float64Array(width)
  const add = (from: number, to: number, share: number) => {
    if (share === 0) return
    const left = (from - start) * scale
    const right = Math.min(width, (to - start) * scale)
    for (let pixel = Math.floor(left); pixel < right; pixel++)
      pixels[pixel]! += share * (Math.min(right, pixel + 1) - Math.max(left, pixel))
  }
  for (let i = first; i < offsets.length && offsets[i]! < end; i++) {
    const from = Math.max(start, offsets[i]!)
    const to = Math.min(end, offsets[i]! + sizes[i]!)
    if (held[i]! >= 0 && sizes[i]! <= cellBytes) {
      add(from, to, held[i]! / sizes[i]!)
      continue
    }
    for (let cell = Math.floor(from / cellBytes); cell * cellBytes < to; cell++) {
      const cellFrom = Math.max(from, cell * cellBytes)
      add(cellFrom, Math.min(to, (cell + 1) * cellBytes), cells[cell]! / 100)
    }
  }
  return pixels
}
