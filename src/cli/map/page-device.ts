/** The device as the page of `plinth map --html` was given it: everything on it, in order of offsets. */
import { formatCount } from '../units.js'
import type { PageData } from './page-data.js'
import { element } from './page-dom.js'

export const data = JSON.parse(element('data').textContent) as PageData
export const { size: deviceBytes, owners, chunks, memory } = data
export const chunkCount = chunks.offset.length

// Everything on the device, in order: what plinth keeps, chunks, and free runs between them.
export const FREE = -1
export const offsets: number[] = []
export const sizes: number[] = []
export const holders: number[] = []
/** Index of the chunk; -1 for another. */
export const chunkOf: number[] = []
export const titles: string[] = []
/** Bytes in memory; -1 where nobody tells. */
export const held: number[] = []
layOut()

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

/** Index of the stretch that has a byte of the device. */
export function stretchAt(offset: number): number {
  let low = 0
  let high = offsets.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (offsets[middle]! <= offset) low = middle
    else high = middle - 1
  }
  return low
}

/** With spaces that end no line. */
export function countText(count: number): string {
  return formatCount(count, '\u202f')
}
