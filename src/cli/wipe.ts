/** `plinth wipe`: after a yes, nobody finds the volume again. */
import { printable, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { confirm } from './confirm.js'
import { type JsonOption, paint, print } from './output.js'
import { contentsOf } from './volume.js'

interface Options extends JsonOption {
  readonly force?: boolean
}

export const wipe = defineCommand({
  usage: 'wipe <device>',
  summary: 'take a volume off a device, so that nobody finds it again',
  details:
    'Overwrites every copy of superblock and checkpoint header; what chunks held is not erased. A device that somebody else has now, or a volume that does not open, needs --force.',
  examples: ['plinth wipe /dev/pmem0', 'plinth wipe /dev/pmem0 --force'],
})
  .option(
    '-f, --force',
    'do not ask; also where somebody else has the device, or the volume does not open',
  )
  .action(
    exitsWith(async (path: string, { json, force }: Options) => {
      const contents = contentsOf(path)
      if (contents !== undefined) {
        await confirm(
          `${path} holds ${contents}; nobody finds a volume there afterwards`,
          'Wipe it?',
          force,
        )
      }
      Volume.wipe(path, { force: force ?? false })
      print(
        { json },
        { path, wiped: contents },
        () => `${paint.green('wiped')}  ${printable(path)} held ${contents}`,
      )
      return undefined
    }),
  )
