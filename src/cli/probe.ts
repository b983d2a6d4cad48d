/** `plinth probe`: all that `Volume.probe` tells, for people. */
import { type Probe, printable, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { facts, type JsonOption, next, paint, print } from './output.js'
import { formatBytes } from './units.js'

export const probe = defineCommand({
  usage: 'probe <device>',
  summary: 'tell what a device is, what is on it, and what to do next',
  details: 'Opens nothing for writing and changes nothing.',
  examples: ['plinth probe /dev/pmem0', 'plinth probe /var/lib/engine/data --json'],
}).action(
  exitsWith((path: string, options: JsonOption) => {
    const found = Volume.probe(path)
    print(options, found, () => probeText(found))
    return undefined
  }),
)

function probeText(found: Probe): string {
  const { kind, size, align, granularity, contents, volume, evidence, badBlocks, notes } = found
  const label = volume?.label ? ` '${printable(volume.label)}'` : ''
  const rows: [string, string][] = [
    ['device', `${printable(found.path)}, ${KINDS[kind]}`],
    ['size', `${formatBytes(size)}, mapped in multiples of ${formatBytes(align)}`],
    [
      'granularity',
      `${GRANULARITIES[granularity]}\n${found.granularityIsProven ? '' : paint.yellow('not proven: ')}${found.granularityBecause}`,
    ],
    ['evidence', evidence.map(evidenceText).join('\n')],
    [
      'bad blocks',
      badBlocks.length === 0 ? 'none known' : paint.red(badBlocks.map(stretchText).join('\n')),
    ],
    [
      'holds',
      volume === undefined
        ? (contents ?? 'nothing: both ends are zero')
        : `a plinth volume${label}, ${formatBytes(volume.size)}`,
    ],
    [
      'in use',
      found.busy ? paint.yellow(`yes${found.owner ? `, by ${printable(found.owner)}` : ''}`) : 'no',
    ],
  ]
  if (notes.length > 0) rows.push(['notes', notes.map(printable).join('\n')])
  return facts(rows) + next(printable(found.advice))
}

function stretchText({ offset, length }: Probe['badBlocks'][number]): string {
  return `${formatBytes(length)} at ${offset}`
}

/** What said so, dim: it is for who doubts the rest. */
function evidenceText({ of, source, says }: Probe['evidence'][number]): string {
  return paint.dim(printable(`${of}: ${source} says ${says}`))
}

export const KINDS = {
  file: 'file on a filesystem',
  tmpfs: 'file in memory (tmpfs): gone at reboot',
  block: 'block device',
  dax: 'device-dax: persistent memory without a filesystem',
  fsdax: 'file on a filesystem with DAX: persistent memory',
} as const

export const GRANULARITIES = {
  byte: 'byte: the platform flushes CPU caches at power loss',
  'cache-line': 'cache line: written back and fenced from user space',
  page: 'page: written by system calls and barriers of the device',
} as const
