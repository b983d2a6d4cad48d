/** How the demo says things: sizes, latencies, a map of the volume. */
import type { Volume } from 'plinth'

export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  const [unit, name] =
    bytes < 1024 ** 2 ? [1024, 'KiB'] : bytes < 1024 ** 3 ? [1024 ** 2, 'MiB'] : [1024 ** 3, 'GiB']
  const value = bytes / unit
  return `${value.toFixed(value < 10 && !Number.isInteger(value) ? 1 : 0)} ${name}`
}

/** Value below which this part of the sorted values lies. */
export function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
}

const CELLS_MAX = 64

/**
 * The volume as text, a letter for each chunk, up to the end of the last one. Only what is public is
 * drawn: the first chunk begins where the data area does, and the log lies right before it.
 */
export function drawMap(volume: Volume): string[] {
  const { size, granule } = volume.info
  const { dataBytes, logBytes, largestFreeBytes } = volume.stats()
  const chunks = volume.chunks()
  const last = chunks.at(-1)
  const dataAt = chunks[0]?.offset ?? size - dataBytes
  const end = last === undefined ? dataAt : last.offset + last.size
  let cell = granule
  while (end / cell > CELLS_MAX) cell *= 2
  const map = new Array<string>(Math.ceil(end / cell)).fill('.')
  // Each has one letter at least.
  const draw = (letter: string, from: number, to: number) => {
    const first = Math.round(from / cell)
    map.fill(letter, first, Math.max(first + 1, Math.round(to / cell)))
  }
  draw('m', 0, dataAt - logBytes)
  draw('L', dataAt - logBytes, dataAt)
  const names = chunks.map(({ name, id, offset, size: bytes }, i) => {
    const letter = String.fromCharCode('A'.charCodeAt(0) + (i % 26))
    draw(letter, offset, offset + bytes)
    return `${letter} ${name ?? `chunk ${id}`} (${formatBytes(bytes)})`
  })
  return [
    `${map.join('')} ... ${formatBytes(largestFreeBytes)} free ... m`,
    `m metadata, L log (${formatBytes(logBytes)}), ${names.join(', ')}; a letter is ${formatBytes(cell)}`,
  ]
}
