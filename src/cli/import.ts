/** `plinth import`: the bytes go into a reservation, which one transaction then makes a chunk. */

import { statSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { type Chunk, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { confirm } from './confirm.js'
import { CommandError, EXIT } from './errors.js'
import { inputOf } from './files.js'
import { type JsonOption, next, PLINTH, print, shell } from './output.js'
import { parseBytes } from './parse-bytes.js'
import { progress } from './progress.js'
import { describeChunk } from './rm.js'
import { describeVolume } from './volume.js'

interface Options extends JsonOption {
  readonly input?: string
  readonly type?: string
  readonly size?: number
  readonly replace?: boolean
  readonly force?: boolean
}

export const importChunk = defineCommand({
  usage: 'import <device> <name>',
  summary: 'make a chunk from the bytes of a file or of stdin',
  details:
    'The chunk appears with its name when all of its bytes are durable. What is left of its last granule is zero.',
  examples: [
    'plinth import data wal --input wal.bin --type log',
    'plinth export a x | plinth import b x',
  ],
})
  .option('-i, --input <file>', 'read from a file instead of stdin')
  .option('--type <text>', 'the type of the chunk')
  .option(
    '--size <bytes>',
    'exactly the bytes that come; without it a pipe is held in memory until it ends',
    parseBytes,
  )
  .option('--replace', 'take the place of a chunk that has the name')
  .option('-f, --force', 'replace without asking')
  .action(
    exitsWith(async (path: string, name: string, options: Options) => {
      const input = inputOf(options.input)
      try {
        await importFrom(input, path, name, options)
      } finally {
        input.destroy()
      }
      return undefined
    }),
  )

async function importFrom(
  input: Readable,
  path: string,
  name: string,
  options: Options,
): Promise<void> {
  using volume = Volume.open(path)
  const old = volume.findChunk(name)
  if (old !== undefined) await mayReplace(volume, path, old, options)
  const { size, parts } = await sized(input, options)
  const chunk = volume.reserve({ size: Math.max(size, 1), type: options.type ?? old?.type })
  const bytes = await fill(chunk, parts, size, options)
  volume.transact(() => {
    if (old !== undefined) volume.free(old)
    volume.publish(chunk)
    volume.rename(chunk, name)
  })
  const { id, offset, size: chunkSize } = chunk
  const value = { id, name, offset, size: chunkSize, bytes, replaced: old !== undefined }
  print(options, value, () => {
    const what = `imported ${describeChunk({ id, name, size: chunkSize })}`
    return `${what}${old === undefined ? '' : ', the old one is freed'}${next(`${PLINTH} ls ${shell(path)}`)}`
  })
}

async function mayReplace(
  volume: Volume,
  path: string,
  old: Chunk,
  options: Options,
): Promise<void> {
  const what = `${describeVolume(volume.info.label)} on ${path} holds ${describeChunk(old)}`
  if (!options.replace) {
    throw new CommandError(EXIT.DEVICE, 'ERR_CHUNK_EXISTS', `${what}; --replace takes its place`)
  }
  await confirm(`${what}, which would be freed`, 'Replace it?', options.force)
}

/** The bytes to come, and how many: of a pipe that is known when it has ended. */
async function sized(
  input: Readable,
  { input: file, size }: Options,
): Promise<{ size: number; parts: AsyncIterable<Buffer> | Buffer[] }> {
  const told = size ?? (file === undefined ? undefined : sizeOf(file))
  if (told !== undefined) return { size: told, parts: input as AsyncIterable<Buffer> }
  const parts: Buffer[] = await input.toArray()
  return { size: parts.reduce((sum, part) => sum + part.length, 0), parts }
}

/** Undefined for a pipe or a device, which tell no size. */
function sizeOf(file: string): number | undefined {
  const stats = statSync(file)
  return stats.isFile() ? stats.size : undefined
}

async function fill(
  chunk: Chunk,
  parts: AsyncIterable<Buffer> | Buffer[],
  size: number,
  { json, input, size: asked }: Options,
): Promise<number> {
  const bar = progress('import', input === undefined ? 0 : size, json)
  const source = input === undefined ? 'stdin' : input
  let at = 0
  try {
    for await (const part of parts) {
      if (at + part.length > size) {
        throw new CommandError(
          EXIT.DEVICE,
          'ERR_STREAM',
          `${source} has more than the ${size} bytes ${asked === undefined ? 'that it had' : 'of --size'}`,
        )
      }
      chunk.write(at, part)
      at += part.length
      bar.advance(part.length)
    }
  } finally {
    bar.end()
  }
  if (at < size) {
    throw new CommandError(
      EXIT.DEVICE,
      'ERR_STREAM',
      `${source} ended after ${at} of ${size} bytes`,
    )
  }
  chunk.bytes.fill(0, at)
  chunk.persist(at, chunk.size - at)
  return at
}
