/** The table of chunks of the page of `plinth map --html`: rows exist while they can be seen. */
import { formatBytes, formatPercent } from '../units.js'
import { chunkCount, chunks, countText, data, memory, owners, stretchAt } from './page-device.js'
import { element, make, type PageElement } from './page-dom.js'
import { swatch } from './page-legend.js'
import { hideTip } from './page-pointer.js'
import { hover, showStretch } from './page-view.js'

const LIST_ROW = 30
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

export function list(): void {
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

export function fillRows(): void {
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
    make('span', formatBytes(chunks.size[chunk]!)),
    ...(memory === undefined
      ? []
      : [make('span', formatPercent(memory.chunks[chunk]! / chunks.size[chunk]!))]),
    make('span', countText(chunks.offset[chunk]!), 'mono'),
    make('span', String(chunks.id[chunk]), 'mono faint'),
  )
  row.addEventListener('click', () => showStretch(stretchAt(chunks.offset[chunk]!)))
  row.addEventListener('pointerenter', () => hover(stretchAt(chunks.offset[chunk]!)))
  row.addEventListener('pointerleave', hideTip)
  return row
}
