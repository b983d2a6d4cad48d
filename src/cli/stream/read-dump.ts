/** A stream as a volume: the directory first, so that it is known what will be needed, then the data. */
import type { Readable } from 'node:stream'
import type { ChunkInfo } from '../../index.js'
import { badStream } from '../errors.js'
import { decodeFrames, type Frame, KIND, parseJson } from './frames.js'
import type { DumpedVolume } from './write-dump.js'

export interface Dump {
  readonly about: DumpedVolume
  /** Lowest offset first, none over another. */
  readonly chunks: readonly ChunkInfo[]
  /** Stretches of data in ascending order; ends when all of the stream was verified. */
  readonly data: AsyncGenerator<Stretch>
}

export interface Stretch {
  /** Which of the chunks. */
  readonly index: number
  /** Bytes from the start of the chunk. */
  readonly offset: number
  readonly bytes: Buffer
}

/** @throws CommandError when the stream is none, is damaged or ends early; so does `data` */
export async function readDump(input: Readable): Promise<Dump> {
  const frames = decodeFrames(input)
  const first = await frames.next()
  if (first.done || first.value.kind !== KIND.VOLUME) throw unexpected()
  const about = parseVolume(first.value)
  const chunks: ChunkInfo[] = []
  let frame = await frames.next()
  while (!frame.done && frame.value.kind === KIND.DIRECTORY) {
    for (const chunk of parseDirectory(frame.value)) {
      const last = chunks.at(-1)
      if (last !== undefined && chunk.offset < last.offset + last.size) throw unexpected()
      chunks.push(chunk)
    }
    frame = await frames.next()
  }
  if (chunks.length !== about.chunks) throw unexpected()
  return { about, chunks, data: dataOf(frames, frame, chunks) }
}

async function* dataOf(
  frames: AsyncGenerator<Frame>,
  first: IteratorResult<Frame>,
  chunks: readonly ChunkInfo[],
): AsyncGenerator<Stretch> {
  let index = 0
  let reached = 0
  for (let frame = first; !frame.done; frame = await frames.next()) {
    const { kind, offset, bytes } = frame.value
    if (kind === KIND.END) continue
    if (kind !== KIND.DATA || offset < reached) throw unexpected()
    reached = offset + bytes.length
    while (index < chunks.length && chunks[index]!.offset + chunks[index]!.size <= offset) index++
    const chunk = chunks[index]
    if (chunk === undefined || offset < chunk.offset || reached > chunk.offset + chunk.size) {
      throw unexpected()
    }
    yield { index, offset: offset - chunk.offset, bytes }
  }
}

function parseVolume({ bytes }: Frame): DumpedVolume {
  const about = parseJson(bytes, 0) as DumpedVolume
  const numbers = [
    about.size,
    about.granule,
    about.logSize,
    about.dataOffset,
    about.chunks,
    about.bytes,
    about.heaps,
  ]
  const texts = [about.uuid, about.created, about.dumped]
  const isSane =
    numbers.every(isCount) &&
    texts.every((text) => typeof text === 'string') &&
    (about.label === undefined || typeof about.label === 'string') &&
    !Number.isNaN(Date.parse(about.created))
  if (!isSane) throw unexpected()
  return about
}

function parseDirectory({ bytes }: Frame): ChunkInfo[] {
  const chunks = parseJson(bytes, 0)
  if (!Array.isArray(chunks)) throw unexpected()
  return chunks.map((chunk: ChunkInfo) => {
    const { id, name, type, offset, size } = chunk
    const isSane =
      [id, offset, size].every(isCount) &&
      size > 0 &&
      [name, type].every((text) => text === undefined || typeof text === 'string')
    if (!isSane) throw unexpected()
    return { id, name, type, offset, size }
  })
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function unexpected(): Error {
  return badStream(
    'the stream passes its checksums and makes no sense: it was not made by plinth dump',
  )
}
