/** Moving over the map of the page of `plinth map --html`, with pointer and keys, and what is told of the place below. */
import { formatBytes, formatPercent } from '../units.js'
import {
  chunkOf,
  chunks,
  countText,
  data,
  deviceBytes,
  held,
  holders,
  offsets,
  owners,
  sizes,
  stretchAt,
  titles,
} from './page-device.js'
import { element, make, type PageElement, type PageEvent, window } from './page-dom.js'
import {
  from,
  GUTTER,
  hover,
  map,
  offsetAt,
  ROW_GAP,
  ROW_HEIGHT,
  ROWS,
  show,
  showStretch,
  strip,
  to,
  VIEW_BYTES_MAX,
  zoom,
} from './page-view.js'

export function followPointer(): void {
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

export function followKeys(): void {
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

function point(event: PageEvent): void {
  const offset = offsetAt(event)
  if (offset === undefined) {
    hideTip()
    return
  }
  const index = stretchAt(offset)
  hover(index)
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
  line(`${formatBytes(sizes[index]!)} at ${countText(offsets[index]!)}`)
  if (held[index]! >= 0) {
    const share = formatPercent(held[index]! / sizes[index]!)
    line(`in memory: ${formatBytes(held[index]!)} (${share})`)
  }
  const pixelBytes = (to - from) / ROWS / (map.clientWidth - GUTTER)
  const near = stretchAt(Math.min(deviceBytes - 1, offset + 2 * pixelBytes)) - index
  if (near > 1) line(`and ${countText(near)} more within two pixels: zoom in`)
  else if (holder >= 2 && owners[holder]!.name !== titles[index]) line(`of ${owners[holder]!.name}`)
  return lines
}

export function hideTip(): void {
  element('tip').hidden = true
  hover(-1)
}
