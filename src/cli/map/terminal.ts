/** The map in a terminal: a cell is a stretch of the device, in the colour or with the letter of its owner. */
import { printable } from '../../index.js'
import { bar, columnsOf, facts, hasColours, padStart, paint, table } from '../output.js'
import { formatBytes, formatCount, formatPercent, plural } from '../units.js'
import { DARK } from './palette.js'
import type { Picture } from './picture.js'
import { inMemoryText, type Residency } from './residency.js'

const ROWS_MAX = 20
const PAGE_BYTES = 4096
const LABEL_COLUMNS = 11
const LEVELS = '▁▂▃▄▅▆▇█'

export function terminalMap(picture: Picture): string {
  const { info, stats, residency } = picture
  const share = stats.usedBytes / stats.dataBytes
  const { lines, cellBytes } = grid(picture)
  return [
    `${paint.bold(printable(info.label ?? '(no label)'))}  ${printable(info.path)}  ${formatBytes(info.size)}`,
    `${bar(share, 30)} ${formatPercent(share)} used`,
    '',
    ...lines,
    '',
    ...(residency === undefined ? [] : [strip(residency), '']),
    paint.dim(
      [
        `a cell is ${formatBytes(cellBytes)}`,
        `the granule is ${formatBytes(info.granule)}`,
        ...(residency === undefined ? [] : ["'in memory' is all of the device in one line"]),
      ].join('; '),
    ),
    '',
    legend(picture),
    '',
    facts([
      ['free', `${formatBytes(stats.freeBytes)} in ${plural(stats.freeRuns, 'run')}`],
      ['largest free', formatBytes(stats.largestFreeBytes)],
      ['fragmentation', formatPercent(stats.fragmentation)],
      residency && ['in memory', inMemoryText(residency, info.size)],
    ]),
  ].join('\n')
}

function grid(picture: Picture): { lines: string[]; cellBytes: number } {
  const { size } = picture.info
  const columns = gridColumns()
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

function gridColumns(): number {
  return 2 ** Math.floor(Math.log2(columnsOf(process.stdout) - LABEL_COLUMNS - 2))
}

/** All of the device in one line: how much of each part is in memory. */
function strip({ cells }: Residency): string {
  const each = Math.ceil(cells.length / gridColumns())
  let text = ''
  for (let from = 0; from < cells.length; from += each) {
    const part = cells.slice(from, from + each)
    const share = part.reduce((sum, cell) => sum + cell, 0) / part.length
    text +=
      share === 0 ? '·' : LEVELS[Math.min(LEVELS.length - 1, Math.floor(share * LEVELS.length))]
  }
  return `${paint.dim(padStart('in memory', LABEL_COLUMNS))}  ${text}`
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
  const { owners, stats, info, stretches, residency } = picture
  const held = new Array<number>(owners.length).fill(0)
  stretches.forEach(({ owner }, i) => {
    held[owner]! += residency?.stretches[i] ?? 0
  })
  const rows = owners.map(({ name, chunks, bytes }, i) => [
    coloured(hasColours ? '██' : letterOf(i), i, picture),
    printable(name),
    chunks === 0 ? '' : formatCount(chunks),
    formatBytes(bytes),
    formatPercent(bytes / info.size),
    ...(residency === undefined ? [] : [shareOf(held[i]!, bytes)]),
  ])
  rows.push([
    paint.dim(hasColours ? '··' : '·'),
    'free',
    '',
    formatBytes(stats.freeBytes),
    formatPercent(stats.freeBytes / info.size),
    ...(residency === undefined ? [] : [shareOf(residency.freeBytes, stats.freeBytes)]),
  ])
  return table(
    [
      { title: '' },
      { title: 'OWNER' },
      { title: 'CHUNKS', align: 'right' },
      { title: 'BYTES', align: 'right' },
      { title: 'OF DEVICE', align: 'right' },
      ...(residency === undefined ? [] : [{ title: 'IN MEMORY', align: 'right' as const }]),
    ],
    rows,
  )
}

function shareOf(bytes: number, of: number): string {
  return of === 0 ? '' : formatPercent(bytes / of)
}
