/** `plinth format`: a volume is made, and what to know of the device is told. */

import { existsSync } from 'node:fs'
import { type FormatOptions, printable, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { confirm } from './confirm.js'
import { infoOf, infoText } from './info.js'
import { type JsonOption, next, PLINTH, paint, print, shell } from './output.js'
import { parseBytes } from './parse-bytes.js'
import { contentsOf, reading } from './volume.js'

export const format = defineCommand({
  usage: 'format <device>',
  summary: 'make a volume of a device, a DAX node or a file',
  details:
    'A file that does not exist is created; without --size it begins small and grows by itself. A device that holds something is named and overwritten only after a yes.',
  examples: [
    'plinth format /var/lib/engine/data --label engine',
    'plinth format /var/lib/engine/data --size 4G --max-size 64G',
    'plinth format /dev/pmem0 --granule 2M',
  ],
})
  .option(
    '--size <bytes>',
    'bytes of the volume, such as 4G; default: all of the device, or of a file that grows',
    parseBytes,
  )
  .option('--max-size <bytes>', 'so far it grows by itself, where it is a file', parseBytes)
  .option('--grow-by <bytes>', 'by so much at least', parseBytes)
  .option('--label <text>', 'a name for people, up to 64 bytes')
  .option('--granule <bytes>', 'a cell of the allocation grid, a power of two', parseBytes)
  .option('--log-size <bytes>', 'bytes of the redo log', parseBytes)
  .option('--backend <name>', 'what maps the device: native or mmap-io')
  .option(
    '--granularity <unit>',
    'byte, cache-line or page, to format with; not kept: Volume.open wants it as well',
  )
  .option('-f, --force', 'overwrite what is there without asking')
  .action(
    exitsWith(async (path: string, { json, ...options }: FormatOptions & JsonOption) => {
      const contents = existsSync(path) ? contentsOf(path) : undefined
      if (contents !== undefined) {
        await confirm(
          `${path} holds ${contents}, which format overwrites`,
          'Format it?',
          options.force,
        )
      }
      Volume.format(path, { ...options, force: contents !== undefined })
      await reading(path, (volume) => {
        const value = infoOf(volume)
        print({ json }, value, () => {
          const { granularity } = options
          const opening = granularity === undefined ? '' : `, { granularity: '${granularity}' }`
          const use = `const volume = Volume.open(${printable(JSON.stringify(path))}${opening})`
          return `${paint.green('formatted')}\n${infoText(value)}${notesOf(path)}${next(`${use}, or ${PLINTH} info ${shell(path)}`)}`
        })
      })
      return undefined
    }),
  )

/** What else to know of the device, in yellow: most have nothing. */
function notesOf(path: string): string {
  return Volume.probe(path)
    .notes.map((note) => `\n${paint.yellow(printable(note))}`)
    .join('')
}
