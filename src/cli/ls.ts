/** `plinth ls`: chunks and heaps in columns. */
import { type HeapStats, printable, type Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { type JsonOption, next, PLINTH, paint, print, shell, table } from './output.js'
import { formatBytes, formatCount, formatPercent, plural } from './units.js'
import { reading, SALVAGE, type SalvageOption } from './volume.js'

interface LsOptions extends JsonOption, SalvageOption {
  readonly all?: boolean
}

export const ls = defineCommand({
  usage: 'ls <device>',
  summary: 'list chunks and heaps, lowest offset first',
  examples: ['plinth ls /dev/pmem0', 'plinth ls data --all --json'],
})
  .option('-a, --all', 'list the chunks that belong to heaps too')
  .option(...SALVAGE)
  .action(
    exitsWith((path: string, options: LsOptions) =>
      reading(
        path,
        (volume) => {
          const value = listOf(volume, options.all ?? false)
          print(options, value, () => listText(value, path))
          return undefined
        },
        options,
      ),
    ),
  )

function listOf(volume: Volume, all: boolean) {
  const chunks = volume.chunks()
  const heaps = volume.heaps().map((name) => ({ name, ...volume.heap(name).stats() }))
  return { chunks: chunks.filter(({ heap }) => all || heap === undefined), heaps }
}

function listText({ chunks, heaps }: ReturnType<typeof listOf>, path: string): string {
  if (chunks.length === 0 && heaps.length === 0) {
    const first = next(`${PLINTH} import ${shell(path)} <name> puts a first chunk there`)
    return `nothing is allocated${first}`
  }
  const parts: string[] = []
  if (chunks.length > 0) {
    parts.push(
      table(
        [
          { title: 'CHUNK' },
          { title: 'TYPE' },
          { title: 'SIZE', align: 'right' },
          { title: 'OFFSET', align: 'right' },
          { title: 'ID', align: 'right' },
        ],
        chunks.map(({ name, type, heap, size, offset, id }) => [
          name === undefined ? paint.dim('(no name)') : printable(name),
          heap === undefined ? printable(type ?? '') : paint.dim(`of heap ${printable(heap)}`),
          formatBytes(size),
          String(offset),
          String(id),
        ]),
      ),
    )
  }
  if (heaps.length > 0) parts.push(heapTable(heaps))
  const total = chunks.reduce((sum, { size }) => sum + size, 0)
  const summary = [`${plural(chunks.length, 'chunk')}, ${formatBytes(total)}`]
  if (heaps.length > 0) summary.push(plural(heaps.length, 'heap'))
  const tail = `${summary.join('; ')}${next(`${PLINTH} map ${shell(path)} draws where they are`)}`
  return [...parts, tail].join('\n\n')
}

function heapTable(heaps: readonly ({ name: string } & HeapStats)[]): string {
  return table(
    [
      { title: 'HEAP' },
      { title: 'OBJECTS', align: 'right' },
      { title: 'USED', align: 'right' },
      { title: 'DEVICE', align: 'right' },
      { title: 'FILL', align: 'right' },
      { title: 'CHUNKS', align: 'right' },
      { title: 'LARGE', align: 'right' },
    ],
    heaps.map(({ name, objects, usedBytes, deviceBytes, slabChunks, largeObjects }) => [
      printable(name),
      formatCount(objects),
      formatBytes(usedBytes),
      formatBytes(deviceBytes),
      formatPercent(usedBytes / deviceBytes),
      formatCount(slabChunks + largeObjects),
      formatCount(largeObjects),
    ]),
  )
}
