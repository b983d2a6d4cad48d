/**
 * What runs in the page of `plinth map --html`, in a browser: draws the device in rows, and follows
 * pointer and keys. It is put into the page as text, together with the files that it imports (html.ts).
 *
 * The view is a range of the device, [from, to). A row is a fixed share of it. Stretches narrower than
 * a pixel are drawn as the fraction that they cover, so that fifty thousand of them look like what they are.
 */
import type { PageData, PageMemory } from './page-data.js'
import type {
  Box,
  Canvas2D,
  PageCanvas,
  PageDocument,
  PageElement,
  PageEvent,
  PageWindow,
} from './page-dom.js'
import { drawMemory, LINE_HEIGHT } from './page-memory.js'
import { bytesText, countText, percentText } from './page-text.js'

const { document, window } = globalThis as unknown as {
  document: PageDocument
  window: PageWindow
}

const data = JSON.parse(element('data').textContent) as PageData
const { size: deviceBytes, owners, chunks, memory } = data
const chunkCount = chunks.offset.length

const GUTTER = 92
const ROW_HEIGHT = 21
/** Room for a line that is told apart from its row and from the next. */
const ROW_GAP = memory === undefined ? 5 : 8
/** A row of the whole device is a power of two, so that offsets are round; 12 to 24 rows have it all. */
const ROW_BYTES = 2 ** Math.ceil(Math.log2(deviceBytes / 24))
const ROWS = Math.ceil(deviceBytes / ROW_BYTES)
/** The rows of the whole device; the last one may end behind it. */
const VIEW_BYTES_MAX = ROWS * ROW_BYTES
const LIST_ROW = 30
/** Nothing smaller is worth filling the view with. */
const VIEW_BYTES_MIN = Math.min(deviceBytes, data.granule * 4)

// Everything on the device, in order: what plinth keeps, chunks, and free runs between them.
const FREE = -1
const offsets: number[] = []
const sizes: number[] = []
const holders: number[] = []
/** Index of the chunk; -1 for another. */
const chunkOf: number[] = []
const titles: string[] = []
/** Bytes in memory; -1 where nobody tells. */
const held: number[] = []
layOut()

const map = element('map') as PageCanvas
const strip = element('strip') as PageCanvas
let from = 0
let to = VIEW_BYTES_MAX
let colours: Record<string, string> = {}
/** The owner that the legend points at; the others fade. */
let shown = -2
/** Index of the stretch under the pointer. */
let hovered = -1

function layOut(): void {
  const add = (
    offset: number,
    size: number,
    holder: number,
    chunk: number,
    title: string,
    inMemory = -1,
  ) => {
    offsets.push(offset)
    sizes.push(size)
    holders.push(holder)
    chunkOf.push(chunk)
    titles.push(title)
    held.push(inMemory)
  }
  const areas = [...data.areas]
  const heldByAreas = [...(memory?.areas ?? [])]
  let at = 0
  let chunk = 0
  while (at < deviceBytes) {
    const area = areas[0]?.offset ?? deviceBytes
    const next = chunk < chunkCount ? chunks.offset[chunk]! : deviceBytes
    const start = Math.min(area, next)
    if (start > at) add(at, start - at, FREE, -1, 'free')
    if (start === deviceBytes) return
    if (area <= next) {
      const { name, offset, size, owner } = areas.shift()!
      add(offset, size, owner, -1, name, heldByAreas.shift())
      at = offset + size
    } else {
      const title = chunks.name[chunk]! || `chunk ${chunks.id[chunk]}`
      const inMemory = memory?.chunks[chunk]
      add(next, chunks.size[chunk]!, chunks.owner[chunk]!, chunk, title, inMemory)
      at = next + chunks.size[chunk]!
      chunk++
    }
  }
}

function element(id: string): PageElement {
  return document.getElementById(id)!
}

/** Index of the stretch that has a byte of the device. */
function stretchAt(offset: number): number {
  let low = 0
  let high = offsets.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (offsets[middle]! <= offset) low = middle
    else high = middle - 1
  }
  return low
}

// Drawing

function readColours(): void {
  const style = window.getComputedStyle(document.documentElement)
  const shades = owners.flatMap(({ colour }) => [colour, `on-${colour}`])
  const names = ['free', 'text', 'faint', 'card', ...shades]
  colours = Object.fromEntries(
    names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  )
}

/** A canvas with as many pixels as the screen has there. */
function prepare(canvas: PageCanvas, height: number): { context: Canvas2D; width: number } {
  const ratio = window.devicePixelRatio || 1
  const width = canvas.clientWidth
  canvas.style.height = `${height}px`
  canvas.width = Math.round(width * ratio)
  canvas.height = Math.round(height * ratio)
  const context = canvas.getContext('2d')
  context.setTransform(ratio, 0, 0, ratio, 0, 0)
  return { context, width }
}

function draw(): void {
  drawMap()
  drawStrip()
  const all = to - from === VIEW_BYTES_MAX
  element('range').textContent = all
    ? `all of ${bytesText(deviceBytes)}, a row is ${bytesText(ROW_BYTES)}`
    : `${bytesText(to - from)} from ${countText(Math.round(from))}, a row is ${bytesText((to - from) / ROWS)}`
}

let waiting = false
/** Draws once before the next frame, however often it is asked. */
function redraw(): void {
  if (waiting) return
  waiting = true
  window.requestAnimationFrame(() => {
    waiting = false
    draw()
  })
}

function drawMap(): void {
  const { context, width } = prepare(map, ROWS * (ROW_HEIGHT + ROW_GAP) - 2)
  const rowBytes = (to - from) / ROWS
  const rowWidth = width - GUTTER
  context.textBaseline = 'middle'
  for (let row = 0; row < ROWS; row++) {
    const start = from + row * rowBytes
    const y = row * (ROW_HEIGHT + ROW_GAP)
    context.fillStyle = colours.faint!
    context.font = '11px ui-monospace, Menlo, Consolas, monospace'
    context.textAlign = 'right'
    if (start < deviceBytes)
      context.fillText(rowLabel(start), GUTTER - 12, y + ROW_HEIGHT / 2 + 0.5)
    drawStretches(context, { x: GUTTER, y, width: rowWidth, height: ROW_HEIGHT }, start, rowBytes)
    const line = { x: GUTTER, y: y + ROW_HEIGHT + 2, width: rowWidth, height: LINE_HEIGHT }
    drawLine(context, line, start, rowBytes)
  }
}

/** In units that keep the labels of neighbouring rows apart. */
function rowLabel(start: number): string {
  const rowBytes = (to - from) / ROWS
  return rowBytes >= 1024 * 1024 || start === 0
    ? bytesText(Math.round(start))
    : countText(Math.round(start))
}

function drawStretches(context: Canvas2D, box: Box, start: number, bytes: number): void {
  const { x, y, width, height } = box
  const scale = width / bytes
  context.fillStyle = colours.free!
  const end = Math.min(start + bytes, deviceBytes)
  context.fillRect(x, y, Math.max(0, (end - start) * scale), height)
  for (let i = stretchAt(start); i < offsets.length && offsets[i]! < end; i++) {
    const holder = holders[i]!
    if (holder === FREE && i !== hovered) continue
    const left = Math.max(0, (offsets[i]! - start) * scale)
    const right = Math.min(width, (offsets[i]! + sizes[i]! - start) * scale)
    const room = right - left
    // A line between neighbours, where there is room for one.
    const shownWidth = room > 5 ? room - 1 : room
    context.globalAlpha = shown === -2 || shown === holder ? 1 : 0.18
    if (holder !== FREE) {
      const { colour } = owners[holder]!
      context.fillStyle = colours[colour]!
      context.fillRect(x + left, y, shownWidth, height)
      if (isHatched(colour) && room > 2)
        hatch(context, { x: x + left, y, width: shownWidth, height })
    }
    if (i === hovered && room > 1) outline(context, { x: x + left, y, width: shownWidth, height })
    if (room > 54 && height === ROW_HEIGHT)
      label(context, i, { x: x + left, y, width: shownWidth, height })
  }
  context.globalAlpha = 1
}

function drawLine(context: Canvas2D, box: Box, start: number, bytes: number): void {
  if (memory === undefined) return
  const end = Math.min(start + bytes, deviceBytes)
  context.fillStyle = colours.text!
  const part = { start, end, scale: box.width / bytes, first: stretchAt(start) }
  drawMemory(context, box, part, memory, { offsets, sizes, held })
}

function isHatched(colour: string): boolean {
  return colour === 'metadata' || colour === 'log'
}

function hatch(context: Canvas2D, { x, y, width, height }: Box): void {
  context.save()
  context.beginPath()
  context.rect(x, y, width, height)
  context.clip()
  context.strokeStyle = 'rgba(255,255,255,.3)'
  context.lineWidth = 2
  context.beginPath()
  for (let at = x - height; at < x + width; at += 7) {
    context.moveTo(at, y + height)
    context.lineTo(at + height, y)
  }
  context.stroke()
  context.restore()
}

function outline(context: Canvas2D, { x, y, width, height }: Box): void {
  context.strokeStyle = colours.text!
  context.lineWidth = 2
  context.strokeRect(x + 1, y + 1, Math.max(1, width - 2), height - 2)
}

function label(context: Canvas2D, index: number, { x, y, width, height }: Box): void {
  if (holders[index] === FREE) return
  const room = Math.floor((width - 12) / 6.1)
  const title = titles[index]!
  const text = title.length > room ? `${title.slice(0, Math.max(1, room - 1))}…` : title
  context.fillStyle = colours[`on-${owners[holders[index]!]!.colour}`]!
  context.font = '600 11px ui-sans-serif, system-ui, "Segoe UI", sans-serif'
  context.textAlign = 'left'
  context.fillText(text, x + 6, y + height / 2 + 0.5)
}

function drawStrip(): void {
  const height = 26
  const { context, width } = prepare(strip, height)
  drawStretches(context, { x: 0, y: 5, width, height: 16 }, 0, deviceBytes)
  drawLine(context, { x: 0, y: 23, width, height: LINE_HEIGHT }, 0, deviceBytes)
  if (to - from === VIEW_BYTES_MAX) return
  const left = (from / deviceBytes) * width
  const right = Math.min(width, Math.max(left + 4, (to / deviceBytes) * width))
  context.fillStyle = colours.card!
  context.globalAlpha = 0.6
  context.fillRect(0, 5, left, 16)
  context.fillRect(right, 5, width - right, 16)
  context.globalAlpha = 1
  context.strokeStyle = colours.text!
  context.lineWidth = 2
  context.strokeRect(left + 1, 2, right - left - 2, height - 4)
}

// Moving

function show(newFrom: number, newTo: number): void {
  const bytes = Math.min(VIEW_BYTES_MAX, Math.max(VIEW_BYTES_MIN, newTo - newFrom))
  from = Math.max(0, Math.min(VIEW_BYTES_MAX - bytes, newFrom))
  to = from + bytes
  redraw()
}

function zoom(factor: number, around: number): void {
  const share = (around - from) / (to - from)
  const bytes = Math.min(VIEW_BYTES_MAX, Math.max(VIEW_BYTES_MIN, (to - from) * factor))
  show(around - share * bytes, around + (1 - share) * bytes)
}

function showStretch(index: number): void {
  const margin = Math.max(sizes[index]! * 0.25, data.granule)
  show(offsets[index]! - margin, offsets[index]! + sizes[index]! + margin)
}

/** The byte of the device at a place of the map; undefined beside the rows. */
function offsetAt({ offsetX, offsetY }: PageEvent): number | undefined {
  const width = map.clientWidth - GUTTER
  const row = Math.floor(offsetY / (ROW_HEIGHT + ROW_GAP))
  const share = (offsetX - GUTTER) / width
  if (share < 0 || share >= 1 || row < 0 || row >= ROWS) return undefined
  const offset = from + ((row + share) * (to - from)) / ROWS
  return offset < deviceBytes ? offset : undefined
}

function followPointer(): void {
  let drag: { x: number; y: number; from: number; moved: boolean } | undefined
  map.addEventListener('pointerdown', (event) => {
    drag = { x: event.clientX, y: event.clientY, from, moved: false }
    map.setPointerCapture(event.pointerId)
  })
  map.addEventListener('pointermove', (event) => {
    if (drag === undefined) {
      point(event)
      return
    }
    const rowBytes = (to - from) / ROWS
    const dx = ((event.clientX - drag.x) / (map.clientWidth - GUTTER)) * rowBytes
    const dy = Math.round((event.clientY - drag.y) / (ROW_HEIGHT + ROW_GAP)) * rowBytes
    if (Math.abs(event.clientX - drag.x) + Math.abs(event.clientY - drag.y) > 4) drag.moved = true
    if (drag.moved) {
      hideTip()
      show(drag.from - dx - dy, drag.from - dx - dy + (to - from))
    }
  })
  map.addEventListener('pointerup', (event) => {
    const offset = offsetAt(event)
    if (drag?.moved === false && offset !== undefined) showStretch(stretchAt(offset))
    drag = undefined
  })
  map.addEventListener('pointerleave', hideTip)
  map.addEventListener('wheel', (event) => {
    const offset = offsetAt(event)
    if (offset === undefined) return
    event.preventDefault()
    zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), offset)
  })
  const jump = (event: PageEvent) => {
    if (event.buttons === 0) return
    const at = (event.offsetX / strip.clientWidth) * deviceBytes
    const bytes = to - from === VIEW_BYTES_MAX ? deviceBytes / 10 : to - from
    show(at - bytes / 2, at + bytes / 2)
  }
  strip.addEventListener('pointerdown', jump)
  strip.addEventListener('pointermove', jump)
  element('in').addEventListener('click', () => zoom(0.5, (from + to) / 2))
  element('out').addEventListener('click', () => zoom(2, (from + to) / 2))
  element('all').addEventListener('click', () => show(0, VIEW_BYTES_MAX))
}

function followKeys(): void {
  const step = () => (to - from) / ROWS
  const keys: Record<string, () => void> = {
    '+': () => zoom(0.5, (from + to) / 2),
    '=': () => zoom(0.5, (from + to) / 2),
    '-': () => zoom(2, (from + to) / 2),
    '0': () => show(0, VIEW_BYTES_MAX),
    ArrowUp: () => show(from - step(), to - step()),
    ArrowDown: () => show(from + step(), to + step()),
    ArrowLeft: () => show(from - step() / 8, to - step() / 8),
    ArrowRight: () => show(from + step() / 8, to + step() / 8),
  }
  map.addEventListener('keydown', (event) => {
    const act = keys[event.key]
    if (act === undefined) return
    event.preventDefault()
    act()
  })
}

// What is under the pointer

function point(event: PageEvent): void {
  const offset = offsetAt(event)
  if (offset === undefined) {
    hideTip()
    return
  }
  const index = stretchAt(offset)
  if (index !== hovered) {
    hovered = index
    redraw()
  }
  const tip = element('tip')
  tip.replaceChildren(...tipLines(index, offset))
  tip.hidden = false
  const { innerWidth, innerHeight } = window
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 12)}px`
  const below = event.clientY + 18
  tip.style.top = `${below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below}px`
}

function tipLines(index: number, offset: number): PageElement[] {
  const holder = holders[index]!
  const lines = [make('b', titles[index]!)]
  const line = (text: string) => lines.push(make('div', text))
  const chunk = chunkOf[index]!
  if (chunk >= 0) {
    const type = data.types[chunks.type[chunk]!]!
    line(`${type === '' ? 'no type' : `type ${type}`} · id ${chunks.id[chunk]}`)
  }
  line(`${bytesText(sizes[index]!)} at ${countText(offsets[index]!)}`)
  if (held[index]! >= 0) {
    const share = percentText(held[index]!, sizes[index]!)
    line(`in memory: ${bytesText(held[index]!)} (${share})`)
  }
  const pixelBytes = (to - from) / ROWS / (map.clientWidth - GUTTER)
  const near = stretchAt(Math.min(deviceBytes - 1, offset + 2 * pixelBytes)) - index
  if (near > 1) line(`and ${countText(near)} more within two pixels: zoom in`)
  else if (holder >= 2 && owners[holder]!.name !== titles[index]) line(`of ${owners[holder]!.name}`)
  return lines
}

function hideTip(): void {
  element('tip').hidden = true
  if (hovered !== -1) {
    hovered = -1
    redraw()
  }
}

function make(tag: string, text: string, classes = ''): PageElement {
  const made = document.createElement(tag)
  made.textContent = text
  made.className = classes
  return made
}

function swatch(colour: string): PageElement {
  const made = make('i', '', `swatch${isHatched(colour) ? ' hatched' : ''}`)
  made.style.backgroundColor = `var(--${colour})`
  return made
}

function fillLegend(): void {
  const entries = [
    ...owners.map((owner, index) => ({ ...owner, index })),
    { name: 'free', colour: 'free', chunks: 0, bytes: data.freeBytes, index: FREE },
  ]
  for (const { name, colour, bytes, chunks: count, index } of entries) {
    const entry = make('li', '')
    const of = count > 0 ? ` · ${countText(count)} ${count === 1 ? 'chunk' : 'chunks'}` : ''
    entry.title = name
    entry.replaceChildren(
      swatch(colour),
      make('b', name),
      make('span', bytesText(bytes) + of, 'faint'),
    )
    entry.addEventListener('pointerenter', () => {
      shown = index
      redraw()
    })
    entry.addEventListener('pointerleave', () => {
      shown = -2
      redraw()
    })
    element('legend').append(entry)
  }
  if (memory !== undefined) element('legend').append(memoryEntry(memory))
}

function memoryEntry({ bytes }: PageMemory): PageElement {
  const entry = make('li', '')
  const line = swatch('text')
  line.className += ' line'
  entry.title =
    'the line below each row: pages of the device in the page cache when the map was drawn'
  const share = percentText(bytes, deviceBytes)
  entry.replaceChildren(
    line,
    make('b', 'in memory'),
    make('span', `${bytesText(bytes)} · ${share}`, 'faint'),
  )
  return entry
}

// The table: rows exist while they can be seen

type Column = 'Name' | 'Type' | 'Size' | 'In memory' | 'Offset' | 'Id'
const COLUMNS: readonly Column[] =
  memory === undefined
    ? ['Name', 'Type', 'Size', 'Offset', 'Id']
    : ['Name', 'Type', 'Size', 'In memory', 'Offset', 'Id']
const collator = new Intl.Collator(undefined, { numeric: true })
const compare: Record<Column, (a: number, b: number) => number> = {
  Name: (a, b) => collator.compare(chunks.name[a]!, chunks.name[b]!),
  Type: (a, b) => chunks.type[a]! - chunks.type[b]!,
  Size: (a, b) => chunks.size[b]! - chunks.size[a]!,
  'In memory': (a, b) => memory!.chunks[b]! - memory!.chunks[a]!,
  Offset: (a, b) => chunks.offset[a]! - chunks.offset[b]!,
  Id: (a, b) => chunks.id[a]! - chunks.id[b]!,
}
let sortedBy: Column = 'Offset'
let isReversed = false
let listed: number[] = []

function list(): void {
  const wanted = element('search').value.trim().toLowerCase()
  listed = []
  for (let i = 0; i < chunkCount; i++) {
    const isWanted =
      wanted === '' ||
      chunks.name[i]!.toLowerCase().includes(wanted) ||
      data.types[chunks.type[i]!]!.toLowerCase().includes(wanted) ||
      String(chunks.id[i]) === wanted
    if (isWanted) listed.push(i)
  }
  const sign = isReversed ? -1 : 1
  listed.sort((a, b) => sign * compare[sortedBy](a, b))
  element('count').textContent =
    listed.length === chunkCount
      ? `${countText(chunkCount)}`
      : `${countText(listed.length)} of ${countText(chunkCount)}`
  element('rows').style.height = `${listed.length * LIST_ROW}px`
  element('scroll').scrollTop = 0
  fillHead()
  fillRows()
}

function fillHead(): void {
  const buttons = COLUMNS.map((column) => {
    const arrow = column === sortedBy ? (isReversed ? ' ↑' : ' ↓') : ''
    const button = make('button', column + arrow)
    button.addEventListener('click', () => {
      isReversed = column === sortedBy && !isReversed
      sortedBy = column
      list()
    })
    return button
  })
  element('head').replaceChildren(...buttons)
}

function fillRows(): void {
  const { scrollTop, clientHeight } = element('scroll')
  const first = Math.max(0, Math.floor(scrollTop / LIST_ROW) - 5)
  const last = Math.min(listed.length, Math.ceil((scrollTop + clientHeight) / LIST_ROW) + 5)
  const rows: PageElement[] = []
  for (let i = first; i < last; i++) rows.push(listRow(listed[i]!, i))
  element('rows').replaceChildren(...rows)
}

function listRow(chunk: number, at: number): PageElement {
  const row = make('div', '', 'row')
  row.style.top = `${at * LIST_ROW}px`
  const name = make('span', '')
  const title = chunks.name[chunk]! || '(no name)'
  name.append(
    swatch(owners[chunks.owner[chunk]!]!.colour),
    make('span', title, chunks.name[chunk] ? '' : 'faint'),
  )
  name.title = title
  row.append(
    name,
    make('span', data.types[chunks.type[chunk]!]!, 'faint'),
    make('span', bytesText(chunks.size[chunk]!)),
    ...(memory === undefined
      ? []
      : [make('span', percentText(memory.chunks[chunk]!, chunks.size[chunk]!))]),
    make('span', countText(chunks.offset[chunk]!), 'mono'),
    make('span', String(chunks.id[chunk]), 'mono faint'),
  )
  row.addEventListener('click', () => showStretch(stretchAt(chunks.offset[chunk]!)))
  row.addEventListener('pointerenter', () => {
    hovered = stretchAt(chunks.offset[chunk]!)
    redraw()
  })
  row.addEventListener('pointerleave', hideTip)
  return row
}

readColours()
draw()
fillLegend()
list()
followPointer()
followKeys()
element('scroll').addEventListener('scroll', fillRows)
element('search').addEventListener('input', list)
window.addEventListener('resize', redraw)
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  readColours()
  redraw()
})
