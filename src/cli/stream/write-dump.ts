/** A volume as a stream. */
import { createHash } from 'node:crypto'
import type { ChunkInfo, Volume, VolumeLayout } from '../../index.js'
import { DATA_BYTES_MAX, type DumpEnd, encodeFrame, type Frame, KIND, MAGIC } from './frames.js'

/** What the first frame says. */
export interface DumpedVolume {
  readonly uuid: string
  readonly label: string | undefined
  readonly created: string
  readonly size: number
  readonly granule: number
  readonly logSize: number
  /** Where log and chunk table are: chunks keep their offsets only on a volume where they are there too. */
  readonly layout: VolumeLayout
  /** How far it grows by itself, and by how much; undefined for not at all, and for as much as it has. */
  readonly maxSize: number | undefined
  readonly growBy: number | undefined
  readonly chunks: number
  /** Bytes of all chunks. */
  readonly bytes: number
  readonly heaps: number
  readonly dumped: string
}

/** Chunks in one frame of the directory: they are placed in one transaction, which every log can take. */
export const DIRECTORY_CHUNKS = 100
/** Frames that are compressed at the same time, by threads. */
const AHEAD = 4
export const PAGE_BYTES = 4096
/** A run of zeros that is worth a frame of its own: shorter ones cost the compressor next to nothing. */
const GAP_PAGES = 16
const ZERO_PAGE = Buffer.alloc(PAGE_BYTES)

/** The stream of a volume that is open for reading. `advance` hears how many bytes of chunks were looked at. */
export async function* dumpVolume(
  volume: Volume,
  about: DumpedVolume,
  advance: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  const digest = createHash('sha256').update(MAGIC)
  yield MAGIC
  const waiting: Promise<Buffer>[] = []
  let frames = 0
  let dataBytes = 0
  for (const frame of framesOf(volume, about, advance)) {
    const encoded = encodeFrame(frame, frames++)
    // Awaited below; until then a failure is nobody's.
    encoded.catch(() => {})
    if (frame.kind === KIND.DATA) dataBytes += frame.bytes.length
    waiting.push(encoded)
    if (waiting.length >= AHEAD) yield await taken()
  }
  while (waiting.length > 0) yield await taken()
  const end: DumpEnd = { frames, dataBytes, sha256: digest.digest('hex') }
  yield await encodeFrame({ kind: KIND.END, offset: 0, bytes: toJson(end) }, frames)

  async function taken(): Promise<Buffer> {
    const bytes = await waiting.shift()!
    digest.update(bytes)
    return bytes
  }
}

function* framesOf(
  volume: Volume,
  about: DumpedVolume,
  advance: (bytes: number) => void,
): Generator<Frame> {
  yield { kind: KIND.VOLUME, offset: 0, bytes: toJson(about) }
  const chunks = volume.chunks()
  for (let i = 0; i < chunks.length; i += DIRECTORY_CHUNKS) {
    const bytes = toJson(chunks.slice(i, i + DIRECTORY_CHUNKS))
    yield { kind: KIND.DIRECTORY, offset: 0, bytes }
  }
  for (const chunk of chunks) {
    yield* dataOf(volume, chunk, advance)
  }
}

/** The bytes of a chunk without its runs of zeros. */
function* dataOf(
  volume: Volume,
  { id, offset, size }: ChunkInfo,
  advance: (bytes: number) => void,
): Generator<Frame> {
  using chunk = volume.ownedChunk(id)
  const bytes = Buffer.from(chunk.bytes.buffer, chunk.bytes.byteOffset, size)
  let told = 0
  for (const { from, to } of stretches(bytes)) {
    advance(to - told)
    told = to
    // A copy: the mapping goes with the chunk, and a thread compresses it later.
    yield { kind: KIND.DATA, offset: offset + from, bytes: Buffer.from(bytes.subarray(from, to)) }
  }
  advance(size - told)
}

/** What is not zero, in whole pages, at most a frame each. */
export function* stretches(bytes: Buffer): Generator<{ from: number; to: number }> {
  let from = -1
  let to = 0
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
    const end = Math.min(at + PAGE_BYTES, bytes.length)
    if (isZero(bytes, at, end)) continue
    const isFar = from !== -1 && at - to >= GAP_PAGES * PAGE_BYTES
    if (from !== -1 && (isFar || end - from > DATA_BYTES_MAX)) {
      yield { from, to }
      from = -1
    }
    if (from === -1) from = at
    to = end
  }
  if (from !== -1) yield { from, to }
}

function isZero(bytes: Buffer, from: number, to: number): boolean {
  return bytes.compare(ZERO_PAGE, 0, to - from, from, to) === 0
}

export function aboutVolume(volume: Volume, heaps: number): DumpedVolume {
  const { uuid, label, created, size, granule, layout, maxSize, growBy } = volume.info
  const { logBytes, usedBytes, chunks } = volume.stats()
  return {
    uuid,
    label,
    created: created.toISOString(),
    size,
    granule,
    logSize: logBytes,
    layout,
    // JSON knows no infinity.
    maxSize: maxSize && Math.min(maxSize, Number.MAX_SAFE_INTEGER),
    growBy,
    chunks,
    bytes: usedBytes,
    heaps,
    dumped: new Date().toISOString(),
  }
}

function toJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
