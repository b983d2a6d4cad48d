/**
 * The chunks among each other: bounds, overlaps, names, and whether all space is accounted for. Where the end
 * of the log was given up, the table may have slots of what was committed behind it: those then have space
 * or names that another has, and are given up as well.
 */
import { isZero } from '../base/bits.js'
import {
  CHUNK_SLOT,
  type ChunkSlot,
  chunkSlotSeed,
  encodeChunkSlot,
  encodeFreeSlot,
  NAME_BYTES_MAX,
  textOf,
} from '../layout/chunk-slot.js'
import { type Geometry, granuleToOffset, metadataRuns, slotPlaces } from '../layout/geometry.js'
import { OWN_TYPE_PREFIX } from '../layout/heap.js'
import type { FindingCode, Place, Problem } from './finding.js'
import type { FoundChunk, Inspection } from './inspection.js'
import { rewritten } from './table.js'

export function* checkDirectory(inspection: Inspection): Iterable<Problem> {
  const { geometry, chunks } = inspection
  if (geometry === undefined || chunks === undefined) return
  yield* checkTexts(inspection, chunks)
  yield* checkSpace(inspection, geometry, chunks)
}

/** The one of two chunks that can be given up: what the log says was committed later. */
function unlogged({ loggedSlots }: Inspection, one: FoundChunk, other: FoundChunk): FoundChunk {
  return loggedSlots.has(other.slot) && !loggedSlots.has(one.slot) ? one : other
}

/** A problem that ends when the chunk does. */
function freed(
  inspection: Inspection,
  code: FindingCode,
  { slot, values }: FoundChunk,
  message: string,
): Problem {
  const bytes = encodeFreeSlot(slot, inspection.seed, values.version + 1, values.generation)
  return {
    code,
    severity: 'error',
    place: placeOf(inspection, slot),
    message: `${message}; repair with dropDamaged gives the chunk in slot ${slot} up`,
    fixes: rewritten(inspection, code, slot, bytes, 'is made free: its chunk is given up'),
  }
}

/** A problem that ends when the chunk has no name. What a heap owns is nothing without. */
function nameless(inspection: Inspection, chunk: FoundChunk, message: string): Problem {
  const code = 'name-twice'
  const { slot, values } = chunk
  if (paddedTextOf(values, 'type')?.startsWith(OWN_TYPE_PREFIX)) {
    return freed(inspection, code, chunk, message)
  }
  const { version } = values
  const bytes = new Uint8Array(CHUNK_SLOT.bytes)
  encodeChunkSlot(
    { ...values, version: version + 1, nameBytes: 0, name: new Uint8Array(NAME_BYTES_MAX) },
    chunkSlotSeed(inspection.seed, slot),
    bytes,
  )
  return {
    code,
    severity: 'error',
    place: placeOf(inspection, slot),
    message: `${message}; repair with dropDamaged takes the name from the chunk in slot ${slot}`,
    fixes: rewritten(inspection, code, slot, bytes, 'has no name any more: another chunk has it'),
  }
}

function placeOf({ geometry }: Inspection, slot: number): Place {
  return { area: 'chunk-table', offset: slotPlaces(geometry!, slot)[0] }
}

function* checkTexts(inspection: Inspection, chunks: readonly FoundChunk[]): Iterable<Problem> {
  const byName = new Map<string, FoundChunk>()
  for (const chunk of chunks) {
    const { slot, values } = chunk
    for (const what of ['name', 'type'] as const) {
      const text = paddedTextOf(values, what)
      if (text === undefined) {
        yield {
          code: 'text-invalid',
          severity: 'error',
          place: placeOf(inspection, slot),
          message: `the ${what} of the chunk in slot ${slot} is not UTF-8, padded with zeros`,
        }
      } else if (what === 'name' && text !== '') {
        const before = byName.get(text)
        if (before !== undefined) {
          const message = `the chunks in slots ${before.slot} and ${slot} are both named '${text}'`
          yield nameless(inspection, unlogged(inspection, before, chunk), message)
        }
        byName.set(text, chunk)
      }
    }
  }
}

/** A text of a slot, which is padded with zeros, empty for none; undefined when it is none. */
function paddedTextOf(values: ChunkSlot, what: 'name' | 'type'): string | undefined {
  return isZero(values[what], values[`${what}Bytes`]) ? textOf(values, what) : undefined
}

function* checkSpace(
  inspection: Inspection,
  geometry: Geometry,
  chunks: readonly FoundChunk[],
): Iterable<Problem> {
  const { granules, granuleBytes, dataAt } = geometry
  const first = dataAt / granuleBytes
  const inOrder = [...chunks].sort((a, b) => a.values.start - b.values.start)
  const metadata = metadataRuns(geometry)
  let used = 0
  let free = 0
  let end = first
  let before: FoundChunk | undefined
  let sound = true
  let next = 0
  // Of log and table, those that begin before a chunk does.
  const passMetadata = (to: number) => {
    for (; next < metadata.length && metadata[next]!.start < to; next++) {
      const { start, length } = metadata[next]!
      free += Math.max(0, start - end)
      end = Math.max(end, start + length)
      used += length
    }
  }
  for (const chunk of inOrder) {
    const { slot, values } = chunk
    const { start, granules: length } = values
    if (start < first || start + length > granules) {
      sound = false
      const message = `the chunk in slot ${slot} has ${length} granules from ${start}; the volume has ${granules}, the first chunk can have ${first}`
      yield freed(inspection, 'chunk-out-of-bounds', chunk, message)
      continue
    }
    const isOver = metadata.find(
      (run) => run.start < start + length && start < run.start + run.length,
    )
    if (isOver !== undefined) {
      sound = false
      const message = `the chunk in slot ${slot} overlaps the log or the chunk table at granule ${isOver.start}`
      yield freed(inspection, 'chunk-overlap', chunk, message)
      continue
    }
    passMetadata(start)
    if (before !== undefined && start < end) {
      sound = false
      const message = `the chunks in slots ${before.slot} and ${slot} overlap at offset ${granuleToOffset(geometry, start)}`
      const worse = unlogged(inspection, before, chunk)
      yield freed(inspection, 'chunk-overlap', worse, message)
      // What is given up is in nobody's way.
      if (worse === chunk) continue
      end = start
    } else free += start - end
    used += length
    if (start + length > end) {
      end = start + length
      before = chunk
    }
  }
  if (!sound) return
  passMetadata(granules)
  free += granules - end
  if (used + free !== granules - first) {
    yield {
      code: 'space-miscounted',
      severity: 'error',
      place: placeOf(inspection, 0),
      message: `${used} granules are used and ${free} free: that is not ${granules - first}`,
    }
  }
}
