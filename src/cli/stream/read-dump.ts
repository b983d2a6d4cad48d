/**
 * A stream as a volume: the directory first, so that it is known what will be needed, then the data.
 *
 * What is in memory of it is the directory: some 90 bytes a chunk, up to 200 with a long name and a type. A volume
 * has at most 16 Mi chunks, and a stream no more of them than its first frame says there are.
 */
import type { Readable } from 'node:stream'
import type { ChunkInfo, VolumeLayout } from '../../index.js'
import { decodeFrames, type Frame, KIND, parseJson, senseless } from './frames.js'
import { DIRECTORY_CHUNKS, type DumpedVolume, PAGE_BYTES } from './write-dump.js'

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

/** What a volume can be: see FORMAT.md. Sizes in bytes. */
const LIMIT = {
  GRANULES: 2 ** 32 - 1,
  CHUNKS: 2 ** 24,
  TABLES: 32,
  /** Slots of a table are whole pages. */
  SLOTS_STEP: 32,
  SLOT: 128,
  /** Two pages at either end. */
  END: 8192,
  GRANULE: 4 * 2 ** 30,
  CHUNK: 4 * 2 ** 30,
  VOLUME_MIN: 2 ** 20,
  LOG_MIN: 65_536,
  LOG: 2 ** 30,
  LABEL: 64,
  NAME: 64,
  TYPE: 16,
} as const

/** @throws CommandError when the stream is none, is damaged, ends early or makes no sense; so does `data` */
export async function readDump(input: Readable): Promise<Dump> {
  const frames = decodeFrames(input)
  const first = await frames.next()
  if (first.done || first.value.kind !== KIND.VOLUME) throw senseless()
  const about = parseVolume(first.value)
  const chunks: ChunkInfo[] = []
  let frame = await frames.next()
  while (!frame.done && frame.value.kind === KIND.DIRECTORY) {
    addDirectory(frame.value, about, chunks)
    frame = await frames.next()
  }
  checkDirectory(about, chunks)
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
    const isSane =
      kind === KIND.DATA &&
      offset >= reached &&
      offset % PAGE_BYTES === 0 &&
      bytes.length > 0 &&
      bytes.length % PAGE_BYTES === 0
    if (!isSane) throw senseless()
    reached = offset + bytes.length
    while (index < chunks.length && chunks[index]!.offset + chunks[index]!.size <= offset) index++
    const chunk = chunks[index]
    if (chunk === undefined || offset < chunk.offset || reached > chunk.offset + chunk.size) {
      throw senseless()
    }
    yield { index, offset: offset - chunk.offset, bytes }
  }
}

/** What the first frame says. Nothing else of it is taken over. */
const FIELDS: { readonly [name in keyof DumpedVolume]: (value: unknown) => boolean } = {
  uuid: isUuid,
  label: (value) => value === undefined || isText(value, LIMIT.LABEL),
  created: isDate,
  size: isCount,
  granule: isCount,
  logSize: isCount,
  layout: isLayout,
  maxSize: (value) => value === undefined || isCount(value),
  growBy: (value) => value === undefined || isCount(value),
  chunks: isCount,
  bytes: isCount,
  heaps: isCount,
  dumped: isDate,
}

function parseVolume(frame: Frame): DumpedVolume {
  const told = parseJson(frame.bytes, 0) as Record<string, unknown>
  const fields = Object.entries(FIELDS).map(([name, isRight]) => {
    if (!isRight(told[name])) throw senseless()
    return [name, told[name]]
  })
  const about: DumpedVolume = Object.fromEntries(fields)
  const { size, granule, logSize, maxSize, growBy, chunks, bytes, heaps } = about
  const isSane =
    size >= LIMIT.VOLUME_MIN &&
    (maxSize === undefined || maxSize >= size) &&
    (growBy === undefined || growBy >= PAGE_BYTES) &&
    logSize >= LIMIT.LOG_MIN &&
    logSize <= LIMIT.LOG &&
    logSize % PAGE_BYTES === 0 &&
    granule >= PAGE_BYTES &&
    granule <= LIMIT.GRANULE &&
    Number.isInteger(Math.log2(granule)) &&
    size / granule <= LIMIT.GRANULES &&
    bytes <= size &&
    chunks <= LIMIT.CHUNKS &&
    chunks <= bytes / granule &&
    heaps <= chunks &&
    isPossible(about)
  if (!isSane) throw senseless()
  return { ...about, layout: copyOf(about.layout) }
}

/** Of what kind it is; whether it can be is known with the sizes. */
function isLayout(layout: unknown): layout is VolumeLayout {
  const { logOffset, isLogChosen, tables } = (layout ?? {}) as Partial<VolumeLayout>
  return (
    isCount(logOffset) &&
    typeof isLogChosen === 'boolean' &&
    Array.isArray(tables) &&
    tables.length > 0 &&
    tables.length <= LIMIT.TABLES &&
    tables.every((each) => [each?.slots, each?.first, each?.second].every(isCount))
  )
}

/** Whether log and tables are at granules between the ends of the volume, none over another. */
function isPossible({ size, granule, logSize, layout: { logOffset, tables } }: DumpedVolume) {
  const areas = [{ at: logOffset, bytes: logSize }]
  let all = 0
  for (const { slots, first, second } of tables) {
    if (slots === 0 || slots % LIMIT.SLOTS_STEP !== 0) return false
    all += slots
    for (const at of [first, second]) areas.push({ at, bytes: slots * LIMIT.SLOT })
  }
  let reached: number = LIMIT.END
  for (const { at, bytes } of areas.sort((one, other) => one.at - other.at)) {
    if (at % granule !== 0 || at < reached) return false
    reached = at + Math.ceil(bytes / granule) * granule
  }
  const volumeBytes = size - (size % PAGE_BYTES)
  return all <= LIMIT.CHUNKS && reached <= volumeBytes - LIMIT.END
}

function copyOf({ logOffset, isLogChosen, tables }: VolumeLayout): VolumeLayout {
  return {
    logOffset,
    isLogChosen,
    tables: tables.map(({ slots, first, second }) => ({ slots, first, second })),
  }
}

/** Adds the chunks of a frame, each behind the one before it and within the volume. */
function addDirectory({ bytes }: Frame, about: DumpedVolume, chunks: ChunkInfo[]): void {
  const list: unknown = parseJson(bytes, 0)
  if (!Array.isArray(list) || list.length === 0 || list.length > DIRECTORY_CHUNKS) throw senseless()
  const { granule } = about
  const last = chunks.at(-1)
  let reached = last === undefined ? 0 : last.offset + last.size
  for (const each of list) {
    const { id, name, type, offset, size } = (each ?? {}) as ChunkInfo
    const isSane =
      [id, offset, size].every(isCount) &&
      id > 0 &&
      offset >= reached &&
      offset % granule === 0 &&
      size > 0 &&
      size <= LIMIT.CHUNK &&
      size % granule === 0 &&
      offset + size <= about.size &&
      (name === undefined || isText(name, LIMIT.NAME)) &&
      (type === undefined || isText(type, LIMIT.TYPE)) &&
      (type !== HEAP || /^heap:./s.test(name ?? '')) &&
      chunks.length < about.chunks
    if (!isSane) throw senseless()
    reached = offset + size
    chunks.push({ id, name, type, offset, size })
  }
}

/**
 * What is known when all chunks are: their counts and sums, that no id and no name comes twice, and that where there
 * is no heap there is nothing of a heap.
 */
function checkDirectory(about: DumpedVolume, chunks: readonly ChunkInfo[]): void {
  let bytes = 0
  let heaps = 0
  let own = 0
  const names: string[] = []
  for (const { name, type, size } of chunks) {
    bytes += size
    if (type === HEAP) heaps++
    if (type?.startsWith(OWN_PREFIX)) own++
    if (name !== undefined) names.push(name)
  }
  const ids = Float64Array.from(chunks, ({ id }) => id).sort()
  names.sort()
  const isSane =
    chunks.length === about.chunks &&
    bytes === about.bytes &&
    heaps === about.heaps &&
    (heaps > 0 || own === 0) &&
    ids.every((id, i) => id !== ids[i - 1]) &&
    names.every((name, i) => name !== names[i - 1])
  if (!isSane) throw senseless()
}

/** Types of chunks that are the library's own, and of the root of a heap. */
const OWN_PREFIX = 'plinth.'
const HEAP = 'plinth.heap'

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/** What a volume can have as a label, a name or a type. */
function isText(value: unknown, bytesMax: number): boolean {
  if (typeof value !== 'string' || value === '' || value.includes('\0')) return false
  return value.isWellFormed() && Buffer.byteLength(value) <= bytesMax
}

function isUuid(value: unknown): boolean {
  return typeof value === 'string' && /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value)
}

/** As a date writes itself, from 1970 on. */
function isDate(value: unknown): boolean {
  if (typeof value !== 'string') return false
  const time = Date.parse(value)
  return time >= 0 && new Date(time).toISOString() === value
}
