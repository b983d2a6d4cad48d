/** The map in a terminal: a cell is a stretch of the device, in the colour or with the letter of its owner. */
import { bar, columnsOf, facts, hasColours, padStart, paint, plain, table } from '../output.js'
import { formatBytes, formatCount, formatPercent, plural } from '../units.js'
import { DARK } from './palette.js'
import type { Picture } from './picture.js'

const ROWS_MAX = 20
const PAGE_BYTES = 4096
const LABEL_COLUMNS = 11

export function terminalMap(picture: Picture): string {
  const { info, stats } = picture
  const share = stats.usedBytes / stats.dataBytes
  const { lines, cellBytes } = grid(picture)
  return [
    `${paint.bold(plain(info.label ?? '(no label)'))}  ${plain(info.path)}  ${formatBytes(info.size)}`,
    `${bar(share, 30)} ${formatPercent(share)} used`,
    '',
    ...lines,
    '',
    paint.dim(`a cell is ${formatBytes(cellBytes)}; the granule is ${formatBytes(info.granule)}`),
    '',
    legend(picture),
    '',
    facts([
      ['free', `${formatBytes(stats.freeBytes)} in ${plural(stats.freeRuns, 'run')}`],
      ['largest free', formatBytes(stats.largestFreeBytes)],
      ['fragmentation', formatPercent(stats.fragmentation)],
    ]),
  ].join('\n')
}

function grid(picture: Picture): { lines: string[]; cellBytes: number } {
  const { size } = picture.info
  const columns = 2 ** Math.floor(Math.log2(columnsOf(process.stdout) - LABEL_COLUMNS - 2))
  const least = Math.ceil(size / (columns * ROWS_MAX))
  const cellBytes = Math.max(PAGE_BYTES, 2 ** Math.ceil(Math.log2(least)))
  const cells = cellsOf(picture, cellBytes)
  const lines: string[] = []
  for (let from = 0; from < cells.length; from += columns) {
    const label = padStart(formatBytes(from * cellBytes), LABEL_COLUMNS)
    lines.push(`${paint.dim(label)}  ${draw(cells.slice(from, from + columns), picture)}`)
  }
  return { lines, cellBytes }
}

/** Who has most of a cell, and how much of it is taken. */
interface Cell {
  /** -1: nobody. */
  readonly owner: number
  readonly share: number
}

function cellsOf({ info, stretches, owners }: Picture, cellBytes: number): Cell[] {
  const count = Math.ceil(info.size / cellBytes)
  const taken = new Float64Array(count * owners.length)
  for (const { offset, size, owner } of stretches) {
    const end = offset + size
    for (let cell = Math.floor(offset / cellBytes); cell * cellBytes < end; cell++) {
      const from = Math.max(offset, cell * cellBytes)
      const to = Math.min(end, (cell + 1) * cellBytes)
      taken[cell * owners.length + owner]! += to - from
    }
  }
  return Array.from({ length: count }, (_, cell) => {
    const shares = taken.subarray(cell * owners.length, (cell + 1) * owners.length)
    const total = shares.reduce((sum, bytes) => sum + bytes, 0)
    if (total === 0) return { owner: -1, share: 0 }
    return { owner: shares.indexOf(Math.max(...shares)), share: total / cellBytes }
  })
}

/** Neighbours of one look in one go: an escape sequence for each cell would be slow to print. */
function draw(cells: readonly Cell[], picture: Picture): string {
  let text = ''
  for (let i = 0; i < cells.length; ) {
    const glyph = glyphOf(cells[i]!)
    let end = i + 1
    while (
      end < cells.length &&
      cells[end]!.owner === cells[i]!.owner &&
      glyphOf(cells[end]!) === glyph
    ) {
      end++
    }
    text += coloured(glyph.repeat(end - i), cells[i]!.owner, picture)
    i = end
  }
  return text
}

function glyphOf({ owner, share }: Cell): string {
  if (owner === -1) return '·'
  if (!hasColours) return letterOf(owner)
  if (share > 0.99) return '█'
  return share > 0.5 ? '▓' : '▒'
}

/** `M` metadata, `L` log, then `a`, `b`, … */
function letterOf(owner: number): string {
  return owner === 0 ? 'M' : owner === 1 ? 'L' : String.fromCharCode(95 + owner)
}

function coloured(text: string, owner: number, { owners }: Picture): string {
  return owner === -1 ? paint.dim(text) : paint.hex(DARK[owners[owner]!.colour])(text)
}

function legend(picture: Picture): string {
  const { owners, stats, info } = picture
  const rows = owners.map(({ name, chunks, bytes }, i) => [
    coloured(hasColours ? '██' : letterOf(i), i, picture),
    plain(name),
    chunks === 0 ? '' : formatCount(chunks),
    formatBytes(bytes),
    formatPercent(bytes / info.size),
  ])
  rows.push([
    paint.dim(hasColours ? '··' : '·'),
    'free',
    '',
    formatBytes(stats.freeBytes),
    formatPercent(stats.freeBytes / info.size),
  ])
  return table(
    [
      { title: '' },
      { title: 'OWNER' },
      { title: 'CHUNKS', align: 'right' },
      { title: 'BYTES', align: 'right' },
      { title: 'OF DEVICE', align: 'right' },
    ],
    rows,
  )
}
