/**
 * What the page of `plinth map --html` shows of the device, drawn in rows and as a strip.
 *
 * The view is a range of the device, [from, to). A row is a fixed share of it. Stretches narrower than
 * a pixel are drawn as the fraction that they cover, so that fifty thousand of them look like what they are.
 */
import { formatBytes } from '../units.js'
import {
  countText,
  data,
  deviceBytes,
  FREE,
  held,
  holders,
  memory,
  offsets,
  owners,
  sizes,
  stretchAt,
  titles,
} from './page-device.js'
import {
  type Box,
  type Canvas2D,
  document,
  element,
  type PageCanvas,
  type PageEvent,
  window,
} from './page-dom.js'
import { drawMemory, LINE_HEIGHT } from './page-memory.js'
import { isHatched } from './palette.js'

export const GUTTER = 92
export const ROW_HEIGHT = 21
/** Room for a line that is told apart from its row and from the next. */
export const ROW_GAP = memory === undefined ? 5 : 8
/** A row of the whole device is a power of two, so that offsets are round; 12 to 24 rows have it all. */
const ROW_BYTES = 2 ** Math.ceil(Math.log2(deviceBytes / 24))
export const ROWS = Math.ceil(deviceBytes / ROW_BYTES)
/** The rows of the whole device; the last one may end behind it. */
export const VIEW_BYTES_MAX = ROWS * ROW_BYTES
/** Nothing smaller is worth filling the view with. */
const VIEW_BYTES_MIN = Math.min(deviceBytes, data.granule * 4)

export const map = element('map') as PageCanvas
export const strip = element('strip') as PageCanvas
export let from = 0
export let to = VIEW_BYTES_MAX
let colours: Record<string, string> = {}
/** The owner that the legend points at; the others fade. */
let shown = -2
/** Index of the stretch under the pointer. */
export let hovered = -1

export function readColours(): void {
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

export function draw(): void {
  drawMap()
  drawStrip()
  const all = to - from === VIEW_BYTES_MAX
  element('range').textContent = all
    ? `all of ${formatBytes(deviceBytes)}, a row is ${formatBytes(ROW_BYTES)}`
    : `${formatBytes(to - from)} from ${countText(Math.round(from))}, a row is ${formatBytes((to - from) / ROWS)}`
}

let waiting = false
/** Draws once before the next frame, however often it is asked. */
export function redraw(): void {
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
    ? formatBytes(Math.round(start))
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

export function show(newFrom: number, newTo: number): void {
  const bytes = Math.min(VIEW_BYTES_MAX, Math.max(VIEW_BYTES_MIN, newTo - newFrom))
  from = Math.max(0, Math.min(VIEW_BYTES_MAX - bytes, newFrom))
  to = from + bytes
  redraw()
}

export function zoom(factor: number, around: number): void {
  const share = (around - from) / (to - from)
  const bytes = Math.min(VIEW_BYTES_MAX, Math.max(VIEW_BYTES_MIN, (to - from) * factor))
  show(around - share * bytes, around + (1 - share) * bytes)
}

export function showStretch(index: number): void {
  const margin = Math.max(sizes[index]! * 0.25, data.granule)
  show(offsets[index]! - margin, offsets[index]! + sizes[index]! + margin)
}

/** Marks a stretch; -1 for none. */
export function hover(index: number): void {
  if (index === hovered) return
  hovered = index
  redraw()
}

/** Lets all owners but one fade; -2 for none. */
export function fadeOthers(owner: number): void {
  shown = owner
  redraw()
}

/** The byte of the device at a place of the map; undefined beside the rows. */
export function offsetAt({ offsetX, offsetY }: PageEvent): number | undefined {
  const width = map.clientWidth - GUTTER
  const row = Math.floor(offsetY / (ROW_HEIGHT + ROW_GAP))
  const share = (offsetX - GUTTER) / width
  if (share < 0 || share >= 1 || row < 0 || row >= ROWS) return undefined
  const offset = from + ((row + share) * (to - from)) / ROWS
  return offset < deviceBytes ? offset : undefined
}
