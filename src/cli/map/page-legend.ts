/** The legend of the page of `plinth map --html`. */
import { formatBytes, formatPercent } from '../units.js'
import type { PageMemory } from './page-data.js'
import { countText, data, deviceBytes, FREE, memory, owners } from './page-device.js'
import { element, make, type PageElement } from './page-dom.js'
import { fadeOthers } from './page-view.js'
import { isHatched } from './palette.js'

export function fillLegend(): void {
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
      make('span', formatBytes(bytes) + of, 'faint'),
    )
    entry.addEventListener('pointerenter', () => fadeOthers(index))
    entry.addEventListener('pointerleave', () => fadeOthers(-2))
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
  const share = formatPercent(bytes / deviceBytes)
  entry.replaceChildren(
    line,
    make('b', 'in memory'),
    make('span', `${formatBytes(bytes)} · ${share}`, 'faint'),
  )
  return entry
}

export function swatch(colour: string): PageElement {
  const made = make('i', '', `swatch${isHatched(colour) ? ' hatched' : ''}`)
  made.style.backgroundColor = `var(--${colour})`
  return made
}
