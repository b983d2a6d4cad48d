/**
 * `plinth restore`: the directory of the stream first, so that everything that can be refused is refused
 * before the target is touched; then the volume is filled.
 */

import { existsSync } from 'node:fs'
import { printable, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { confirm } from './confirm.js'
import { CommandError, EXIT, usage } from './errors.js'
import { inputOf } from './files.js'
import { facts, type JsonOption, next, PLINTH, print, shell } from './output.js'
import { parseBytes } from './parse-bytes.js'
import { progress } from './progress.js'
import { fillVolume, type Layout } from './stream/fill-volume.js'
import { type Dump, readDump } from './stream/read-dump.js'
import type { DumpedVolume } from './stream/write-dump.js'
import { formatBytes, formatDate, plural } from './units.js'
import { contentsOf } from './volume.js'

interface Options extends JsonOption {
  readonly input?: string
  readonly layout: string
  readonly size?: number
  readonly granule?: number
  readonly logSize?: number
  readonly label?: string
  readonly dryRun?: boolean
  readonly force?: boolean
}

/** What will be formatted. */
interface Plan {
  readonly layout: Layout
  readonly size: number | undefined
  readonly granule: number
  readonly logSize: number | undefined
  readonly label: string | undefined
  /** What the target holds now; undefined for nothing. */
  readonly contents: string | undefined
  readonly maxSize?: number | undefined
  readonly growBy?: number | undefined
}

export const restore = defineCommand({
  usage: 'restore <device>',
  summary: 'make a volume of a device from a stream of plinth dump',
  details:
    'Where the volume fits as it was, chunks keep their ids and offsets, and heaps their pointers. ' +
    'On a device that is smaller, or with other sizes, chunks get new ids and offsets; that is refused ' +
    'for a volume with heaps, whose objects point to each other by offset. ' +
    'A restore that ends early leaves a device that says so.',
  examples: [
    'plinth restore /dev/pmem1 --input engine.dump',
    'plinth dump a | plinth restore b',
    'plinth restore b --input engine.dump --layout new --size 8G',
  ],
})
  .option('-i, --input <file>', 'read from a file instead of stdin')
  .option('--layout <how>', 'same, new, or auto: same where the volume fits as it was', 'auto')
  .option('--size <bytes>', 'bytes of the new volume (layout new)', parseBytes)
  .option('--granule <bytes>', 'its granule (layout new)', parseBytes)
  .option('--log-size <bytes>', 'its redo log (layout new)', parseBytes)
  .option('--label <text>', 'another label')
  .option('-n, --dry-run', 'verify the stream and say what would be done')
  .option('-f, --force', 'overwrite what is there without asking')
  .action(
    exitsWith(async (path: string, options: Options) => {
      const input = inputOf(options.input)
      try {
        const dump = await readDump(input)
        const plan = planFor(path, dump, options)
        if (options.dryRun) await verify(dump, options)
        else await fill(path, dump, plan, options)
        const value = { ...plan, dryRun: options.dryRun ?? false, from: dump.about }
        print(options, value, () => resultText(path, value))
      } finally {
        input.destroy()
      }
      return undefined
    }),
  )

function planFor(path: string, { about, chunks }: Dump, options: Options): Plan {
  const target = existsSync(path) ? Volume.probe(path) : undefined
  const layout = chooseLayout(about, target, options)
  const common = {
    layout,
    label: options.label ?? about.label,
    contents: target === undefined ? undefined : contentsOf(path),
  }
  if (layout === 'same') {
    const { size, granule, logSize, maxSize, growBy } = about
    return { ...common, size, granule, logSize, maxSize, growBy }
  }
  const size = options.size ?? (target === undefined ? about.size : undefined)
  const granule = options.granule ?? about.granule
  const needed = chunks.reduce((sum, chunk) => sum + Math.ceil(chunk.size / granule) * granule, 0)
  const room = size ?? target!.size
  if (needed >= room) {
    throw tooSmall(`${formatBytes(needed)} of chunks do not fit ${formatBytes(room)}`)
  }
  return { ...common, size, granule, logSize: options.logSize }
}

function chooseLayout(
  about: DumpedVolume,
  target: ReturnType<typeof Volume.probe> | undefined,
  { layout, size, granule, logSize }: Options,
): Layout {
  if (!['auto', 'same', 'new'].includes(layout)) throw usage('--layout is same, new or auto')
  const sized = size !== undefined || granule !== undefined || logSize !== undefined
  if (layout === 'same' && sized) {
    throw usage('--size, --granule and --log-size are for --layout new')
  }
  const why = whyNotSame(about, target)
  if (layout === 'same' && why !== undefined) throw tooSmall(why)
  const isNew = layout === 'new' || (layout === 'auto' && (sized || why !== undefined))
  const chosen = isNew ? 'new' : 'same'
  if (chosen === 'new' && about.heaps > 0) {
    throw new CommandError(
      EXIT.DEVICE,
      'ERR_LAYOUT',
      `the volume has ${plural(about.heaps, 'heap')}: pointers are offsets, so its chunks must keep theirs. ${
        why ?? 'Leave --layout new, --size, --granule and --log-size out'
      }`,
    )
  }
  return chosen
}

/** Why the volume cannot be on the target as it was. */
function whyNotSame(
  about: DumpedVolume,
  target: ReturnType<typeof Volume.probe> | undefined,
): string | undefined {
  if (target === undefined) return undefined
  const canGrow = target.kind === 'file' || target.kind === 'tmpfs' || target.kind === 'fsdax'
  if (target.size < about.size && !canGrow) {
    return `The volume has ${formatBytes(about.size)}, the device ${formatBytes(target.size)}`
  }
  if (about.granule % target.align !== 0 || about.size % target.align !== 0) {
    return `The device maps to ${formatBytes(target.align)}; the volume's size and granule are no multiples of that`
  }
  return undefined
}

function tooSmall(message: string): CommandError {
  return new CommandError(EXIT.DEVICE, 'ERR_DEVICE_TOO_SMALL', message)
}

/** Reads all of the stream. */
async function verify({ about, data }: Dump, { json }: Options): Promise<void> {
  const bar = progress('verify', about.bytes, json)
  try {
    for await (const { bytes } of data) bar.advance(bytes.length)
  } finally {
    bar.end()
  }
}

async function fill(path: string, dump: Dump, plan: Plan, options: Options): Promise<void> {
  const { layout, contents, ...shape } = plan
  if (contents !== undefined) {
    await confirm(
      `${path} holds ${contents}, which the restore overwrites`,
      'Restore to it?',
      options.force,
    )
  }
  const format = { ...shape, force: contents !== undefined }
  const bar = progress('restore', dump.about.bytes, options.json)
  try {
    await fillVolume(path, dump, layout, format, bar.advance)
  } finally {
    bar.end()
  }
}

function resultText(path: string, value: Plan & { dryRun: boolean; from: DumpedVolume }): string {
  const { from, layout, dryRun } = value
  const text = facts([
    [
      dryRun ? 'verified' : 'restored',
      `${plural(from.chunks, 'chunk')}, ${formatBytes(from.bytes)}, ${plural(from.heaps, 'heap')}`,
    ],
    ['volume', printable(value.label ?? '(no label)')],
    ['dumped', formatDate(new Date(from.dumped))],
    ['layout', layout === 'same' ? LAYOUT_SAME : LAYOUT_NEW],
  ])
  return text + next(dryRun ? 'the same without --dry-run' : `${PLINTH} check ${shell(path)}`)
}

const LAYOUT_SAME = 'same: uuid, ids, offsets and pointers are those of the source'
const LAYOUT_NEW = 'new: chunks have their names, and other ids and offsets'
