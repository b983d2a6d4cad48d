/** `plinth grow`: a volume that nobody has open gets longer. */
import { Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { infoOf, infoText } from './info.js'
import { type JsonOption, paint, print } from './output.js'
import { parseBytes } from './parse-bytes.js'
import { formatBytes } from './units.js'

interface Options extends JsonOption {
  readonly size?: number
}

export const grow = defineCommand({
  usage: 'grow <device>',
  summary: 'make a volume longer, up to all of its device; a file is made longer with it',
  details:
    'Chunks stay where they are. A volume that somebody has open is grown by its owner: Volume.grow.',
  examples: ['plinth grow /dev/vg0/data', 'plinth grow data --size 8G'],
})
  .option(
    '--size <bytes>',
    'bytes that the volume is to have; default: all of the device',
    parseBytes,
  )
  .action(
    exitsWith((path: string, { json, size }: Options) => {
      using volume = Volume.open(path)
      const before = volume.info.size
      volume.grow(size)
      const value = { ...infoOf(volume), grownBy: volume.info.size - before }
      print({ json }, value, () => {
        const what = value.grownBy === 0 ? 'as it was' : `grown by ${formatBytes(value.grownBy)}`
        return `${paint.green(what)}\n${infoText(value)}`
      })
      return undefined
    }),
  )
