import { printable } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { writeOut } from './files.js'
import { htmlMap } from './map/html.js'
import { type Picture, pictureOf } from './map/picture.js'
import { svgMap } from './map/svg.js'
import { terminalMap } from './map/terminal.js'
import { type JsonOption, print } from './output.js'
import { reading } from './volume.js'

interface Options extends JsonOption {
  readonly svg?: string
  readonly html?: string
  readonly force?: boolean
}

export const map = defineCommand({
  usage: 'map <device>',
  summary: 'draw who has which part of the device',
  details:
    'In the terminal, or as files: an SVG, or a page of its own with zoom, search and a table of all chunks.',
  examples: ['plinth map /dev/pmem0', 'plinth map data --html map.html --svg map.svg'],
})
  .option('--svg <file>', 'write an SVG')
  .option('--html <file>', 'write a page that needs no other file')
  .option('-f, --force', 'replace files without asking')
  .action(
    exitsWith(async (path: string, options: Options) => {
      const picture = await reading(path, pictureOf)
      const files: string[] = []
      for (const [output, draw] of [
        [options.svg, svgMap],
        [options.html, htmlMap],
      ] as const) {
        if (output === undefined) continue
        await writeOut([Buffer.from(draw(picture))], { output, force: options.force })
        files.push(output)
      }
      print(options, { ...dataOf(picture), files }, () =>
        files.length > 0 ? `drawn in ${files.map(printable).join(' and ')}` : terminalMap(picture),
      )
      return undefined
    }),
  )

function dataOf({ info, stats, owners, stretches, freeRuns, residency }: Picture) {
  return {
    volume: info,
    stats,
    // Where the kernel does not tell, null here and nothing at the stretches.
    residentBytes: residency?.bytes ?? null,
    owners,
    stretches: stretches.map((stretch, i) => ({
      ...stretch,
      ...(residency !== undefined && { residentBytes: residency.stretches[i] }),
    })),
    freeRuns,
  }
}
