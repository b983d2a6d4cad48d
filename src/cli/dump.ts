import { printable } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { isStdout, writeOut } from './files.js'
import { facts, type JsonOption, toJson } from './output.js'
import { progress } from './progress.js'
import { aboutVolume, dumpVolume } from './stream/write-dump.js'
import { formatBytes, plural } from './units.js'
import { openToRead, SALVAGE, type SalvageOption } from './volume.js'

interface Options extends JsonOption, SalvageOption {
  readonly output?: string
  readonly force?: boolean
}

export const dump = defineCommand({
  usage: 'dump <device>',
  summary: 'write a closed volume as a compressed, checksummed stream',
  details:
    'Free space and runs of zeros cost nothing. The report goes to stderr when the stream goes to stdout.',
  examples: [
    'plinth dump /dev/pmem0 --output engine.dump',
    'plinth dump data | ssh other plinth restore /dev/pmem0 --force',
  ],
})
  .option('-o, --output <file>', 'write to a file instead of stdout')
  .option('-f, --force', 'replace the file without asking')
  .option(...SALVAGE)
  .action(
    exitsWith(async (path: string, { json, force, salvage, ...asked }: Options) => {
      const output = isStdout(asked.output) ? undefined : asked.output
      using volume = openToRead(path, { salvage: salvage ?? false })
      const about = aboutVolume(volume, volume.heaps().length)
      const bar = progress('dump', about.bytes, json)
      let streamBytes: number
      try {
        streamBytes = await writeOut(dumpVolume(volume, about, bar.advance), { output, force })
      } finally {
        bar.end()
      }
      const report = output === undefined ? process.stderr : process.stdout
      if (json) {
        report.write(toJson({ volume: about, streamBytes, output }))
      } else {
        const rows: [string, string][] = [
          ['dumped', `${plural(about.chunks, 'chunk')}, ${formatBytes(about.bytes)}`],
          ['stream', `${formatBytes(streamBytes)}${output ? ` in ${printable(output)}` : ''}`],
        ]
        report.write(`${facts(rows)}\n`)
      }
      return undefined
    }),
  )
