import { printable, type Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { isStdout, writeOut } from './files.js'
import { type JsonOption, toJson } from './output.js'
import { progress } from './progress.js'
import { describeChunk } from './rm.js'
import { findChunk, reading, SALVAGE, type SalvageOption } from './volume.js'

interface Options extends JsonOption, SalvageOption {
  readonly output?: string
  readonly force?: boolean
}

const PART_BYTES = 1024 * 1024

export const exportChunk = defineCommand({
  usage: 'export <device> <chunk>',
  summary: 'write the bytes of one chunk to stdout or a file',
  details: 'All of the chunk, as it is: whole granules.',
  examples: ['plinth export data wal --output wal.bin', 'plinth export data index | sha256sum'],
})
  .option('-o, --output <file>', 'write to a file instead of stdout')
  .option('-f, --force', 'replace the file without asking')
  .option(...SALVAGE)
  .action(
    exitsWith((path: string, asked: string, { json, force, salvage, ...target }: Options) => {
      const writeChunk = async (volume: Volume) => {
        const chunk = findChunk(volume, asked)
        const { id, name, size } = chunk
        const output = isStdout(target.output) ? undefined : target.output
        const bar = progress('export', size, json)
        try {
          await writeOut(partsOf(chunk.bytes, bar.advance), { output, force })
        } finally {
          bar.end()
        }
        const report = output === undefined ? process.stderr : process.stdout
        if (json) {
          report.write(toJson({ id, name, size, output }))
        } else if (output !== undefined) {
          report.write(`exported ${describeChunk({ id, name, size })} to ${printable(output)}\n`)
        }
        return undefined
      }
      return reading(path, writeChunk, { salvage: salvage ?? false })
    }),
  )

function* partsOf(bytes: Uint8Array, advance: (bytes: number) => void): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PART_BYTES) {
    // A copy: the stream may hold it when the chunk is closed.
    const part = bytes.slice(at, at + PART_BYTES)
    yield part
    advance(part.length)
  }
}
