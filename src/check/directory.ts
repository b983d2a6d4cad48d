/** The chunks among each other: bounds, overlaps, names, and whether all space is accounted for. */
import type { ChunkSlot } from '../layout/chunk-slot.js'
import { CHUNK_SLOT } from '../layout/chunk-slot.js'
import { type Geometry, granuleToOffset, TABLE_AT } from '../layout/geometry.js'
import type { Place, Problem } from './finding.js'
import type { FoundChunk, Inspection } from './inspection.js'

const decoder = new TextDecoder('utf-8', { fatal: true })

export function* checkDirectory(inspection: Inspection): Iterable<Problem> {
  const { geometry, chunks } = inspection
  if (geometry === undefined || chunks === undefined) return
  yield* checkTexts(chunks)
  yield* checkSpace(geometry, chunks)
}

function placeOf(slot: number): Place {
  return { area: 'chunk-table', offset: TABLE_AT + slot * CHUNK_SLOT.bytes }
}

function* checkTexts(chunks: readonly FoundChunk[]): Iterable<Problem> {
  const slotByName = new Map<string, number>()
  for (const { slot, values } of chunks) {
    for (const what of ['name', 'type'] as const) {
      const text = textOf(values, what)
      if (text === undefined) {
        yield {
          code: 'text-invalid',
          severity: 'error',
          place: placeOf(slot),
          message: `the ${what} of the chunk in slot ${slot} is not UTF-8, padded with zeros`,
        }
      } else if (what === 'name' && text !== '') {
        const before = slotByName.get(text)
        if (before !== undefined) {
          yield {
            code: 'name-twice',
            severity: 'error',
            place: placeOf(slot),
            message: `the chunks in slots ${before} and ${slot} are both named '${text}'`,
          }
        }
        slotByName.set(text, slot)
      }
    }
  }
}

/** A text of a slot, empty for none; undefined when it is none. */
function textOf(values: ChunkSlot, what: 'name' | 'type'): string | undefined {
  const bytes = values[what]
  const length = what === 'name' ? values.nameBytes : values.typeBytes
  if (bytes.subarray(length).some((byte) => byte !== 0)) return undefined
  try {
    return decoder.decode(bytes.subarray(0, length))
  } catch {
    return undefined
  }
}

function* checkSpace(geometry: Geometry, chunks: readonly FoundChunk[]): Iterable<Problem> {
  const { granules, granuleBytes, dataAt, tailAt, sizeBytes } = geometry
  const inOrder = [...chunks].sort((a, b) => a.values.start - b.values.start)
  let used = 0
  let free = 0
  let end = 0
  let before = -1
  let sound = true
  for (const { slot, values } of inOrder) {
    const { start, granules: length } = values
    if (start + length > granules) {
      sound = false
      yield {
        code: 'chunk-out-of-bounds',
        severity: 'error',
        place: placeOf(slot),
        message: `the chunk in slot ${slot} has ${length} granules from ${start}; the volume has ${granules}`,
      }
    }
    if (start < end) {
      sound = false
      yield {
        code: 'chunk-overlap',
        severity: 'error',
        place: placeOf(slot),
        message: `the chunks in slots ${before} and ${slot} overlap at offset ${granuleToOffset(geometry, start)}`,
      }
    } else free += start - end
    used += length
    if (start + length > end) {
      end = start + length
      before = slot
    }
  }
  if (!sound) return
  free += granules - end
  const metadata = dataAt + (sizeBytes - tailAt)
  if ((used + free) * granuleBytes + metadata !== sizeBytes) {
    yield {
      code: 'space-miscounted',
      severity: 'error',
      place: { area: 'chunk-table', offset: TABLE_AT },
      message: `${used} granules are used, ${free} free and ${metadata} bytes metadata: that is not ${sizeBytes}`,
    }
  }
}
