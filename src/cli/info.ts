/** `plinth info`: the volume in a few lines. */
import { printable, type Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { bar, facts, type JsonOption, next, PLINTH, paint, print, shell } from './output.js'
import { GRANULARITIES, KINDS } from './probe.js'
import { formatBytes, formatDate, formatPercent, plural } from './units.js'
import { metadataBytes, reading, SALVAGE, type SalvageOption } from './volume.js'

export const info = defineCommand({
  usage: 'info <device>',
  summary: 'tell what volume is on a device, how full it is and how it was left',
  details: 'Opens the volume for reading; nobody may have it open for writing.',
  examples: ['plinth info /dev/pmem0', 'plinth info data --json | jq .volume.uuid'],
})
  .option(...SALVAGE)
  .action(
    exitsWith((path: string, options: JsonOption & SalvageOption) =>
      reading(
        path,
        (volume) => {
          const value = infoOf(volume)
          print(options, value, () => infoText(value) + next(`${PLINTH} ls ${shell(path)}`))
          return undefined
        },
        options,
      ),
    ),
  )

export function infoOf(volume: Volume) {
  return {
    volume: volume.info,
    recovery: volume.recovery,
    stats: volume.stats(),
    heaps: volume.heaps().length,
  }
}

export function infoText({ volume, recovery, stats, heaps }: ReturnType<typeof infoOf>): string {
  const { usedBytes, dataBytes, freeBytes, freeRuns, largestFreeBytes, chunks } = stats
  const share = usedBytes / dataBytes
  const kind = volume.kind === 'memory' ? 'memory' : KINDS[volume.kind]
  const metadata = metadataBytes(stats.areas)
  const padding = volume.size - dataBytes - stats.logBytes - metadata
  return facts([
    ['volume', paint.bold(printable(volume.label ?? '(no label)'))],
    ['uuid', volume.uuid],
    ['device', `${printable(volume.path)}, ${kind}`],
    ['granularity', GRANULARITIES[volume.granularity]],
    ['backend', volume.backend],
    ['created', formatDate(volume.created)],
    [
      'size',
      `${formatBytes(volume.size)}: data ${formatBytes(dataBytes)}, log ${formatBytes(stats.logBytes)}, metadata ${formatBytes(metadata)}${padding > 0 ? `, padding ${formatBytes(padding)}` : ''}`,
    ],
    ['grows', growsText(volume)],
    ['granule', formatBytes(volume.granule)],
    [
      'used',
      `${bar(share, 24)} ${formatPercent(share)}, ${formatBytes(usedBytes)} in ${plural(chunks, 'chunk')}${heaps > 0 ? `, ${plural(heaps, 'heap')}` : ''}`,
    ],
    [
      'free',
      `${formatBytes(freeBytes)} in ${plural(freeRuns, 'run')}, the largest ${formatBytes(largestFreeBytes)}`,
    ],
    ['left', leftText(recovery)],
  ])
}

function growsText({ maxSize }: Volume['info']): string {
  if (maxSize === undefined) return `not by itself: ${PLINTH} grow`
  return maxSize === Number.POSITIVE_INFINITY
    ? 'by itself, as far as its filesystem has space'
    : `by itself, up to ${formatBytes(maxSize)}`
}

function leftText({ clean, recordsReplayed, repaired }: Volume['recovery']): string {
  const repairing =
    repaired > 0 ? `; ${plural(repaired, 'structure')} read from the second copy` : ''
  if (clean) return `closed${repairing}`
  return `not closed: the next opening replays ${plural(recordsReplayed, 'record')} of the log${repairing}`
}
