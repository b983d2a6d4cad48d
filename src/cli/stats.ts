/** `plinth stats`: what is counted, and the counts that the maps show too. */
import { type ChunkInfo, type Probe, printable, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { bar, facts, type JsonOption, paint, print, table } from './output.js'
import { formatBytes, formatCount, formatPercent, plural } from './units.js'
import { dataAreas, reading } from './volume.js'

export const stats = defineCommand({
  usage: 'stats <device>',
  summary: 'count: space, fragmentation, log, what each type and heap takes',
  examples: ['plinth stats /dev/pmem0', 'plinth stats data --json | jq .stats.fragmentation'],
}).action(
  exitsWith((path: string, options: JsonOption) =>
    reading(path, (volume) => {
      const chunks = volume.chunks()
      const value = {
        stats: volume.stats(),
        owners: ownersOf(chunks),
        freeRuns: freeRunsOf(volume, chunks, badBlocksOf(volume)),
      }
      print(options, value, () => statsText(value))
      return undefined
    }),
  ),
)

export interface OwnerCount {
  readonly kind: 'heap' | 'type'
  /** Undefined: chunks without a type. */
  readonly name: string | undefined
  readonly chunks: number
  readonly bytes: number
}

/** Chunks and bytes by heap and by type, the largest first. */
export function ownersOf(chunks: readonly ChunkInfo[]): OwnerCount[] {
  const owners = new Map<string, OwnerCount>()
  for (const chunk of chunks) {
    const { heap } = chunk
    const kind = heap === undefined ? 'type' : 'heap'
    const name = heap ?? chunk.type
    const key = `${kind}:${name}`
    const before = owners.get(key)
    owners.set(key, {
      kind,
      name,
      chunks: (before?.chunks ?? 0) + 1,
      bytes: (before?.bytes ?? 0) + chunk.size,
    })
  }
  return [...owners.values()].sort((a, b) => b.bytes - a.bytes)
}

export interface RunCount {
  /** Runs of at least so many bytes, and less than twice as many. */
  readonly fromBytes: number
  readonly runs: number
  readonly bytes: number
}

/** What is known to be bad of the volume's device; nothing is asked where nothing of it is quarantined. */
export function badBlocksOf(volume: Volume): Probe['badBlocks'] {
  return volume.stats().badBytes === 0 ? [] : Volume.probe(volume.info.path).badBlocks
}

/** Free runs by powers of two, the smallest first: neither chunks nor granules with bad blocks. */
export function freeRunsOf(
  volume: Volume,
  chunks: readonly ChunkInfo[],
  badBlocks: Probe['badBlocks'],
): RunCount[] {
  const { areas } = volume.stats()
  const { granule } = volume.info
  const bad = badBlocks.map(({ offset, length }) => ({
    offset: Math.floor(offset / granule) * granule,
    size: Math.ceil((offset + length) / granule) * granule - Math.floor(offset / granule) * granule,
  }))
  const taken = [...chunks, ...bad].sort((a, b) => a.offset - b.offset)
  const runs: number[] = []
  let next = 0
  for (const data of dataAreas(areas)) {
    const end = data.offset + data.size
    let at = data.offset
    for (; next < taken.length && taken[next]!.offset < end; next++) {
      const { offset, size } = taken[next]!
      runs.push(offset - at)
      at = Math.max(at, offset + size)
    }
    runs.push(end - at)
  }
  return byPowerOfTwo(runs.filter((bytes) => bytes > 0))
}

export function byPowerOfTwo(sizes: readonly number[]): RunCount[] {
  const counts = new Map<number, { runs: number; bytes: number }>()
  for (const bytes of sizes) {
    const fromBytes = 2 ** Math.floor(Math.log2(bytes))
    const before = counts.get(fromBytes) ?? { runs: 0, bytes: 0 }
    counts.set(fromBytes, { runs: before.runs + 1, bytes: before.bytes + bytes })
  }
  return [...counts].sort(([a], [b]) => a - b).map(([fromBytes, of]) => ({ fromBytes, ...of }))
}

function statsText(value: {
  stats: ReturnType<Volume['stats']>
  owners: OwnerCount[]
  freeRuns: RunCount[]
}): string {
  const { stats, owners, freeRuns } = value
  const parts = [
    facts([
      ['data', formatBytes(stats.dataBytes)],
      ['used', `${formatBytes(stats.usedBytes)} in ${plural(stats.chunks, 'chunk')}`],
      ['free', `${formatBytes(stats.freeBytes)} in ${plural(stats.freeRuns, 'run')}`],
      ['largest free', formatBytes(stats.largestFreeBytes)],
      ['fragmentation', formatPercent(stats.fragmentation)],
      ['log', `${formatBytes(stats.logUsedBytes)} of ${formatBytes(stats.logBytes)} in use`],
    ]),
  ]
  if (owners.length > 0) {
    parts.push(
      table(
        [
          { title: 'OWNER' },
          { title: 'CHUNKS', align: 'right' },
          { title: 'BYTES', align: 'right' },
          { title: 'SHARE', align: 'right' },
          { title: '' },
        ],
        owners.map(({ kind, name, chunks, bytes }) => [
          name === undefined
            ? paint.dim('(no type)')
            : `${printable(name)}${kind === 'heap' ? paint.dim(' heap') : ''}`,
          formatCount(chunks),
          formatBytes(bytes),
          formatPercent(bytes / stats.dataBytes),
          bar(bytes / stats.dataBytes, 24),
        ]),
      ),
    )
  }
  if (freeRuns.length > 0) {
    parts.push(
      table(
        [
          { title: 'FREE RUNS FROM' },
          { title: 'RUNS', align: 'right' },
          { title: 'BYTES', align: 'right' },
          { title: '' },
        ],
        freeRuns.map(({ fromBytes, runs, bytes }) => [
          formatBytes(fromBytes),
          formatCount(runs),
          formatBytes(bytes),
          bar(bytes / stats.freeBytes, 24),
        ]),
      ),
    )
  }
  return parts.join('\n\n')
}
