/** A stream becomes a volume, which says that it is incomplete until all of it is durable. */
import { type Chunk, type FormatOptions, printable, type Restore, Volume } from '../../index.js'
import type { Dump } from './read-dump.js'

export type Layout = 'same' | 'new'

/**
 * Formats the device and writes all chunks. Durable when it resolves. `advance` hears how many bytes of chunks
 * were written.
 * @throws CommandError, PlinthError; the device is left as one that says that it is incomplete
 */
export async function fillVolume(
  path: string,
  dump: Dump,
  layout: Layout,
  format: FormatOptions,
  advance: (bytes: number) => void,
): Promise<void> {
  const { uuid, created, layout: places } = dump.about
  const like = layout === 'same' ? { uuid, created: new Date(created), layout: places } : undefined
  const target = Volume.restore(path, { ...format, like })
  try {
    const chunks = layout === 'same' ? placeAll(target, dump) : allocateAll(target, dump)
    await writeAll(target.volume, chunks, dump, advance)
    target.finish()
  } catch (error) {
    target.abandon()
    throw incomplete(error, path)
  }
}

/** What failed, and what that means for the target. */
function incomplete(error: unknown, path: string): unknown {
  if (!(error instanceof Error)) return error
  error.message += `; ${printable(path)} is left incomplete and says so`
  return error
}

/** Chunks in one transaction: every log can take them. */
const CHUNKS_AT_ONCE = 100

/** Ids of the chunks in the new volume, in the order of the directory. */
function placeAll({ place }: Restore, { chunks }: Dump): number[] {
  for (const some of inGroups(chunks)) place(some)
  return chunks.map(({ id }) => id)
}

function allocateAll({ volume }: Restore, { chunks }: Dump): number[] {
  const ids: number[] = []
  // The largest first: what is left over between them fits the small ones.
  const order = chunks.map((_, i) => i).sort((a, b) => chunks[b]!.size - chunks[a]!.size)
  for (const some of inGroups(order)) {
    volume.transact(() => {
      for (const index of some) {
        const { name, type, size } = chunks[index]!
        const chunk = volume.allocate({ size, name, type })
        ids[index] = chunk.id
      }
    })
  }
  return ids
}

function inGroups<T>(all: readonly T[]): T[][] {
  const groups: T[][] = []
  for (let i = 0; i < all.length; i += CHUNKS_AT_ONCE) groups.push(all.slice(i, i + CHUNKS_AT_ONCE))
  return groups
}

async function writeAll(
  volume: Volume,
  ids: readonly number[],
  { data }: Dump,
  advance: (bytes: number) => void,
): Promise<void> {
  let index = -1
  let chunk: Chunk | undefined
  let reached = 0
  // Ends the chunk that is being written, and those that have no data at all.
  const moveTo = (wanted: number) => {
    while (index < wanted) {
      if (chunk !== undefined) {
        advance(clear(chunk, reached, chunk.size))
        chunk.close()
      }
      index++
      reached = 0
      chunk = index < ids.length ? volume.ownedChunk(ids[index]!) : undefined
    }
  }
  for await (const stretch of data) {
    moveTo(stretch.index)
    advance(clear(chunk!, reached, stretch.offset))
    chunk!.write(stretch.offset, stretch.bytes)
    reached = stretch.offset + stretch.bytes.length
    advance(stretch.bytes.length)
  }
  moveTo(ids.length)
}

const ZEROS = Buffer.alloc(1024 * 1024)

/** Makes a range zero. What is zero already, as in a new file, is not written. Returns its bytes. */
function clear(chunk: Chunk, from: number, to: number): number {
  const { bytes } = chunk
  for (let at = from; at < to; at += ZEROS.length) {
    const zeros = ZEROS.subarray(0, Math.min(ZEROS.length, to - at))
    if (zeros.compare(bytes, at, at + zeros.length) !== 0) chunk.write(at, zeros)
  }
  return to - from
}
