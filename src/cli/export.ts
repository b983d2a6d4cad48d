import { defineCommand, exitsWith } from './command.js'
import { writeOut } from './files.js'
import type { JsonOption } from './output.js'
import { plain } from './output.js'
import { progress } from './progress.js'
import { describeChunk } from './rm.js'
import { findChunk, reading } from './volume.js'

interface Options extends JsonOption {
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
  .action(
    exitsWith((path: string, asked: string, { json, ...target }: Options) =>
      reading(path, async (volume) => {
        const chunk = findChunk(volume, asked)
        const { id, name, size } = chunk
        const bar = progress('export', size, json)
        try {
          await writeOut(partsOf(chunk.bytes, bar.advance), target)
        } finally {
          bar.end()
        }
        const report = target.output === undefined ? process.stderr : process.stdout
        if (json) {
          report.write(
            `${JSON.stringify({ id, name, size, output: target.output }, undefined, 2)}\n`,
          )
        } else if (target.output !== undefined) {
          report.write(`exported ${describeChunk({ id, name, size })} to ${plain(target.output)}\n`)
        }
        return undefined
      }),
    ),
  )

function* partsOf(bytes: Uint8Array, advance: (bytes: number) => void): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PART_BYTES) {
    // A copy: the stream may hold it when the chunk is closed.
    const part = bytes.slice(at, at + PART_BYTES)
    yield part
    advance(part.length)
  }
}
