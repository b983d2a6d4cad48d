/**
 * An open volume's memory against the device: the chunks that it knows are those that recovery would
 * find, and every granule is either a chunk's or in the free index, once.
 */
import type { ChunkTable } from '../allocator/chunk-table.js'
import { CHUNK_SLOT } from '../layout/chunk-slot.js'
import { TABLE_AT } from '../layout/geometry.js'
import type { Problem } from './finding.js'
import type { Inspection } from './inspection.js'

/** What an open volume has in memory. */
export interface Memory {
  readonly table: ChunkTable
  /** Whether a slot is taken in memory alone. */
  readonly isReserved: (slot: number) => boolean
}

export function* checkMemory(inspection: Inspection, memory: Memory): Iterable<Problem> {
  const { chunks } = inspection
  if (chunks === undefined) return
  const { table } = memory
  const known = new Set(table.slotsInOrder())
  for (const { slot, values } of chunks) {
    const isSame =
      known.delete(slot) &&
      table.startOf(slot) === values.start &&
      table.granulesOf(slot) === values.granules &&
      isText(table.nameOf(slot)?.bytes, values.name, values.nameBytes) &&
      isText(table.typeOf(slot)?.bytes, values.type, values.typeBytes)
    if (!isSame) yield differs(slot, `chunk slot ${slot} on the device is not as in memory`)
  }
  for (const slot of known) {
    if (!memory.isReserved(slot)) {
      yield differs(slot, `chunk slot ${slot} holds a chunk in memory, but not on the device`)
    }
  }
  yield* checkFreeIndex(inspection, table)
}

function* checkFreeIndex(inspection: Inspection, table: ChunkTable): Iterable<Problem> {
  const { granules } = inspection.geometry!
  const runs: { start: number; length: number; what: string }[] = []
  for (const slot of table.slotsInOrder()) {
    const start = table.startOf(slot)
    runs.push({ start, length: table.granulesOf(slot), what: `the chunk in slot ${slot}` })
  }
  let free = 0
  table.granules.forEachRun((start, length) => {
    free += length
    runs.push({ start, length, what: 'a free run' })
  })
  runs.sort((a, b) => a.start - b.start)
  let end = 0
  for (const { start, length, what } of runs) {
    if (start !== end) {
      const how = start > end ? `granules ${end} to ${start} are nobody's before` : 'overlaps'
      yield differs(0, `the free index is wrong: ${how} ${what} at granule ${start}`)
      return
    }
    end = start + length
  }
  if (end !== granules || free !== table.granules.free) {
    yield differs(
      0,
      `the free index is wrong: it reaches to granule ${end} of ${granules}, and counts ${table.granules.free} free ones instead of ${free}`,
    )
  }
}

function differs(slot: number, message: string): Problem {
  return {
    code: 'memory-differs',
    severity: 'error',
    place: { area: 'memory', offset: TABLE_AT + slot * CHUNK_SLOT.bytes },
    message: `${message}; close the volume and open it again`,
  }
}

function isText(text: Uint8Array | undefined, bytes: Uint8Array, length: number): boolean {
  return Buffer.compare(text ?? new Uint8Array(0), bytes.subarray(0, length)) === 0
}
