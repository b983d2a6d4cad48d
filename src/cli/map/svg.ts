/**
 * The map as one SVG: the device in rows, what is too small to be seen drawn together with its
 * neighbours, so that it stays small however many chunks there are. Follows the reader's light or dark.
 */
import { formatBytes, formatCount, formatPercent, plural } from '../units.js'
import { DARK, GROUND, isHatched, LIGHT, textOn } from './palette.js'
import type { Colour, Owner, Picture } from './picture.js'
import type { Stretch } from './residency.js'
import { inMemoryText, type Residency } from './residency.js'

const WIDTH = 1200
const MARGIN = 40
const LABEL = 84
/** A row is a power of two, so that offsets are round: half as many rows at least. */
const ROWS_MAX = 32
const ROW_HEIGHT = 15
const ROW_GAP = 4
/** Below a row, where it is known what of it is in memory. */
const LINE_HEIGHT = 2.5
const LINE_GAP = 3
const MAP_TOP = 112
/** Narrower stretches share their column with their neighbours, and have no title of their own. */
const COLUMN = 2
const MAP_WIDTH = WIDTH - 2 * MARGIN - LABEL
const NAME_WIDTH_MIN = 56

export function svgMap(picture: Picture): string {
  const { info, stats } = picture
  const rowBytes = 2 ** Math.ceil(Math.log2(info.size / ROWS_MAX))
  const rows = Math.ceil(info.size / rowBytes)
  const mapHeight = rows * rowPitch(picture)
  const legendTop = MAP_TOP + mapHeight + 28
  const perLine = 3
  const legendLines = Math.ceil(
    (picture.owners.length + (picture.residency === undefined ? 1 : 2)) / perLine,
  )
  const height = legendTop + legendLines * 24 + 24
  const share = stats.usedBytes / stats.dataBytes
  const subtitle = [
    `${formatPercent(share)} of ${formatBytes(stats.dataBytes)} used by ${plural(stats.chunks, 'chunk')}`,
    `free ${formatBytes(stats.freeBytes)} in ${plural(stats.freeRuns, 'run')}, the largest ${formatBytes(stats.largestFreeBytes)}`,
    `fragmentation ${formatPercent(stats.fragmentation)}`,
  ].join('  ·  ')
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Map of the volume ${escapeText(info.label ?? info.path)}">
<style>${style()}</style>
<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V6" stroke="#fff" stroke-opacity=".35" stroke-width="3"/></pattern></defs>
<rect class="page" width="${WIDTH}" height="${height}"/>
<text class="title" x="${MARGIN}" y="52">${escapeText(info.label ?? '(no label)')}</text>
<text class="faint" x="${WIDTH - MARGIN}" y="52" text-anchor="end">${escapeText(info.path)}, ${formatBytes(info.size)}</text>
<text class="faint" x="${MARGIN}" y="80">${escapeText(subtitle)}</text>
${mapRows(picture, rowBytes)}
${legend(picture, legendTop, perLine)}
</svg>
`
}

function rowPitch({ residency }: Picture): number {
  return ROW_HEIGHT + ROW_GAP + (residency === undefined ? 0 : LINE_GAP)
}

function style(): string {
  const rules = (dark: boolean) => {
    const ground = dark ? GROUND.dark : GROUND.light
    const shades = Object.entries(dark ? DARK : LIGHT)
      .map(([name, colour]) => `.${name}{fill:${colour}}text.on-${name}{fill:${textOn(colour)}}`)
      .join('')
    return `.page{fill:${ground.card}}.free{fill:${ground.free}}.memory{fill:${ground.text}}text{fill:${ground.text}}text.faint{fill:${ground.faint}}${shades}`
  }
  return (
    `text{font:13px ui-sans-serif,system-ui,"Segoe UI",Helvetica,Arial,sans-serif}` +
    `text.title{font-size:24px;font-weight:650}text.at{font:11px ui-monospace,Menlo,Consolas,monospace}` +
    `text.name{font-size:10.5px;font-weight:600;pointer-events:none}.hatched{fill:url(#hatch);pointer-events:none}` +
    `${rules(false)}@media(prefers-color-scheme:dark){${rules(true)}}`
  )
}

function mapRows(picture: Picture, rowBytes: number): string {
  const { info, stretches, residency } = picture
  const parts: string[] = []
  let first = 0
  for (let row = 0; row * rowBytes < info.size; row++) {
    const y = MAP_TOP + row * rowPitch(picture)
    const from = row * rowBytes
    const to = from + rowBytes
    while (first < stretches.length && stretches[first]!.offset + stretches[first]!.size <= from)
      first++
    const here: Placed[] = []
    for (let i = first; i < stretches.length && stretches[i]!.offset < to; i++)
      here.push({ ...stretches[i]!, resident: residency?.stretches[i] })
    const x = MARGIN + LABEL
    const width = MAP_WIDTH * Math.min(1, (info.size - from) / rowBytes)
    parts.push(
      `<text class="at faint" x="${x - 12}" y="${y + 11.5}" text-anchor="end">${formatBytes(Math.round(from))}</text>`,
      `<rect class="free" x="${x}" y="${y}" width="${round(width)}" height="${ROW_HEIGHT}" rx="2"/>`,
      drawRow(here, { x, y, from, rowBytes }, picture),
    )
    if (residency !== undefined) parts.push(memoryLine(residency, { x, y, from, rowBytes }))
  }
  return parts.join('\n')
}

interface Row {
  readonly x: number
  readonly y: number
  readonly from: number
  readonly rowBytes: number
}

interface Placed extends Stretch {
  /** Bytes in memory; undefined where nobody tells. */
  readonly resident: number | undefined
}

/** What of a row is in memory, in a line below it: as strong as much of it is, in quarters. */
function memoryLine({ cells, cellBytes }: Residency, { x, y, from, rowBytes }: Row): string {
  const width = (MAP_WIDTH * cellBytes) / rowBytes
  const paths = new Map<number, string>()
  const first = Math.floor(from / cellBytes)
  const end = Math.min(cells.length, Math.floor((from + rowBytes) / cellBytes))
  const level = (cell: number) => Math.ceil(4 * cells[cell]!)
  for (let cell = first; cell < end; ) {
    const here = level(cell)
    let next = cell + 1
    while (next < end && level(next) === here) next++
    if (here > 0) {
      const box = `M${round(x + (cell - first) * width)} ${y + ROW_HEIGHT + 1.5}h${round((next - cell) * width)}v${LINE_HEIGHT}h-${round((next - cell) * width)}z`
      paths.set(here, (paths.get(here) ?? '') + box)
    }
    cell = next
  }
  return [...paths]
    .map(([here, path]) => `<path class="memory" opacity="${here / 4}" d="${path}"/>`)
    .join('')
}

function drawRow(here: readonly Placed[], row: Row, { owners, info }: Picture): string {
  const { x, y, from, rowBytes } = row
  const scale = MAP_WIDTH / rowBytes
  const large: string[] = []
  const columns: Float64Array[] = []
  for (const { offset, size, owner, name, resident } of here) {
    const left = Math.max(0, (offset - from) * scale)
    const right = Math.min(MAP_WIDTH, (offset + size - from) * scale)
    const { colour } = owners[owner]!
    if (right - left >= COLUMN) {
      const width = right - left - (right - left > 4 ? 1 : 0)
      const box = `x="${round(x + left)}" y="${y}" width="${round(width)}" height="${ROW_HEIGHT}"`
      large.push(
        `<rect class="${colour}" ${box} rx="1.5"><title>${escapeText(name)}\n${formatBytes(size)} at ${offset}${resident === undefined ? '' : `\n${formatBytes(resident)} in memory`}</title></rect>`,
      )
      if (isHatched(colour)) large.push(`<rect class="hatched" ${box} rx="1.5"/>`)
      else if (width > NAME_WIDTH_MIN) large.push(nameOf(name, colour, x + left, y, width))
    } else {
      const column = Math.floor(left / COLUMN)
      columns[column] ??= new Float64Array(owners.length)
      columns[column][owner]! +=
        Math.min(offset + size, from + rowBytes, info.size) - Math.max(offset, from)
    }
  }
  return [...drawColumns(columns, row, owners), ...large].join('')
}

/** Columns of many small stretches: the colour of whom has most, as strong as the column is full. */
function* drawColumns(
  columns: readonly (Float64Array | undefined)[],
  { x, y, rowBytes }: Row,
  owners: readonly Owner[],
): Generator<string> {
  const columnBytes = (rowBytes * COLUMN) / MAP_WIDTH
  const paths = new Map<string, string>()
  for (let i = 0; i < columns.length; ) {
    const look = lookOf(columns[i], columnBytes, owners)
    let end = i + 1
    while (end < columns.length && lookOf(columns[end], columnBytes, owners) === look) end++
    if (look !== '') {
      const width = (end - i) * COLUMN
      paths.set(
        look,
        `${paths.get(look) ?? ''}M${round(x + i * COLUMN)} ${y}h${width}v${ROW_HEIGHT}h-${width}z`,
      )
    }
    i = end
  }
  for (const [look, path] of paths) {
    const [colour, opacity] = look.split(' ')
    yield `<path class="${colour}" opacity="${opacity}" d="${path}"/>`
  }
}

function lookOf(
  shares: Float64Array | undefined,
  columnBytes: number,
  owners: readonly Owner[],
): string {
  if (shares === undefined) return ''
  const total = shares.reduce((sum, bytes) => sum + bytes, 0)
  const { colour } = owners[shares.indexOf(Math.max(...shares))]!
  return `${colour} ${Math.max(0.25, Math.min(1, Math.round((4 * total) / columnBytes) / 4))}`
}

function nameOf(name: string, colour: Colour, x: number, y: number, width: number): string {
  const room = Math.floor((width - 8) / 6)
  const text = name.length > room ? `${name.slice(0, Math.max(1, room - 1))}…` : name
  return `<text class="name on-${colour}" x="${round(x + 5)}" y="${y + 11}">${escapeText(text)}</text>`
}

function legend({ owners, stats, info, residency }: Picture, top: number, perLine: number): string {
  const entries: { name: string; colour: Colour | 'free'; chunks: number; bytes: number }[] = [
    ...owners,
    { name: 'free', colour: 'free', chunks: 0, bytes: stats.freeBytes },
  ]
  const width = (WIDTH - 2 * MARGIN) / perLine
  const placeOf = (i: number) => ({
    x: MARGIN + (i % perLine) * width,
    y: top + Math.floor(i / perLine) * 24,
  })
  const lines = entries.map(({ name, colour, chunks, bytes }, i) => {
    const { x, y } = placeOf(i)
    const box = `x="${x}" y="${y}" width="14" height="14" rx="3"`
    const hatch = isHatched(colour) ? `<rect class="hatched" ${box}/>` : ''
    const count = chunks > 0 ? `, ${formatCount(chunks)} ${chunks === 1 ? 'chunk' : 'chunks'}` : ''
    const short = name.length > 28 ? `${name.slice(0, 27)}…` : name
    return `<rect class="${colour}" ${box}/>${hatch}${legendText(x, y, short, formatBytes(bytes) + count)}`
  })
  if (residency !== undefined) {
    const { x, y } = placeOf(entries.length)
    const box = `x="${x}" y="${y + 6}" width="14" height="${LINE_HEIGHT}"`
    lines.push(
      `<rect class="memory" ${box}/>${legendText(x, y, 'in memory', inMemoryText(residency, info.size))}`,
    )
  }
  return lines.join('\n')
}

function legendText(x: number, y: number, name: string, rest: string): string {
  return `<text x="${x + 22}" y="${y + 11.5}">${escapeText(name)} <tspan fill-opacity=".65">${rest}</tspan></text>`
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}

/** Text within XML; what XML cannot hold is replaced. */
export function escapeText(text: string): string {
  return (
    text
      .replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '\ufffd')
  )
}
