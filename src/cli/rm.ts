import { type ChunkInfo, printable, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { confirm } from './confirm.js'
import { type JsonOption, print } from './output.js'
import { formatBytes, plural } from './units.js'
import { describeVolume, findChunk } from './volume.js'

interface Options extends JsonOption {
  readonly force?: boolean
}

export const rm = defineCommand({
  usage: 'rm <device> <chunk...>',
  summary: 'free chunks, all of them in one transaction',
  details: 'Chunks are named by name or id. Those of a heap cannot be freed one by one.',
  examples: ['plinth rm data old-index', 'plinth rm data wal-1 wal-2 --force'],
})
  .option('-f, --force', 'do not ask')
  .action(
    exitsWith(async (path: string, asked: string[], options: Options) => {
      const volume = Volume.open(path)
      try {
        const chunks = [...new Set(asked.map((each) => findChunk(volume, each)))]
        const freed: ChunkInfo[] = chunks.map(({ id, name, type, offset, size }) => ({
          id,
          name,
          type,
          offset,
          size,
        }))
        const list = freed.map(describeChunk).join(', ')
        await confirm(
          `${describeVolume(volume.info.label)} on ${path} holds ${list}; what is in ${freed.length === 1 ? 'it' : 'them'} is lost`,
          `Free ${plural(freed.length, 'chunk')}?`,
          options.force,
        )
        volume.transact(() => {
          for (const chunk of chunks) volume.free(chunk)
        })
        print(options, { freed }, () => `freed ${list}`)
      } finally {
        volume.close()
      }
      return undefined
    }),
  )

export function describeChunk({ id, name, size }: Omit<ChunkInfo, 'offset' | 'type'>): string {
  return `${name === undefined ? `chunk ${id}` : `'${printable(name)}'`} (${formatBytes(size)})`
}
