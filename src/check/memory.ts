/**
 * An open volume's memory against the device: the chunks that it knows are those that recovery would
 * find, every granule is either a chunk's or in the free index, once, and heaps have the same objects.
 */
import type { ChunkTable } from '../allocator/chunk-table.js'
import type { SlabHeap } from '../heap/slab-heap.js'
import { type Geometry, metadataRuns, slotPlaces } from '../layout/geometry.js'
import { differs, type Problem } from './finding.js'
import { checkHeapMemory } from './heap-memory.js'
import type { Inspection } from './inspection.js'

/** What an open volume has in memory. */
export interface Memory {
  readonly table: ChunkTable
  /** Whether a slot is taken in memory alone. */
  readonly isReserved: (slot: number) => boolean
  /** Of the heaps that are open. */
  readonly heaps: Iterable<SlabHeap>
}

export function* checkMemory(inspection: Inspection, memory: Memory): Iterable<Problem> {
  const { chunks, geometry } = inspection
  if (chunks === undefined || geometry === undefined) return
  const { table } = memory
  const known = new Set(table.slotsInOrder())
  for (const { slot, values } of chunks) {
    const isSame =
      known.delete(slot) &&
      table.startOf(slot) === values.start &&
      table.granulesOf(slot) === values.granules &&
      isText(table.nameOf(slot)?.bytes, values.name, values.nameBytes) &&
      isText(table.typeOf(slot)?.bytes, values.type, values.typeBytes)
    if (!isSame)
      yield differs(
        slotPlaces(geometry, slot)[0],
        `chunk slot ${slot} on the device is not as in memory`,
      )
  }
  for (const slot of known) {
    if (!memory.isReserved(slot)) {
      yield differs(
        slotPlaces(geometry, slot)[0],
        `chunk slot ${slot} holds a chunk in memory, but not on the device`,
      )
    }
  }
  yield* checkFreeIndex(geometry, table)
  for (const space of memory.heaps) yield* checkHeapMemory(inspection, space)
}

function* checkFreeIndex(geometry: Geometry, table: ChunkTable): Iterable<Problem> {
  const { granules, dataAt, granuleBytes } = geometry
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
  for (const run of metadataRuns(geometry)) runs.push({ ...run, what: 'log or chunk table' })
  for (const start of table.quarantined) runs.push({ start, length: 1, what: 'a bad granule' })
  runs.sort((a, b) => a.start - b.start)
  let end = dataAt / granuleBytes
  for (const { start, length, what } of runs) {
    if (start !== end) {
      const how = start > end ? `granules ${end} to ${start} are nobody's before` : 'overlaps'
      yield differs(
        slotPlaces(geometry, 0)[0],
        `the free index is wrong: ${how} ${what} at granule ${start}`,
      )
      return
    }
    end = start + length
  }
  if (end !== granules || free !== table.granules.free) {
    yield differs(
      slotPlaces(geometry, 0)[0],
      `the free index is wrong: it reaches to granule ${end} of ${granules}, and counts ${table.granules.free} free ones instead of ${free}`,
    )
  }
}

function isText(text: Uint8Array | undefined, bytes: Uint8Array, length: number): boolean {
  return Buffer.compare(text ?? new Uint8Array(0), bytes.subarray(0, length)) === 0
}
