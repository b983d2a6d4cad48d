/** An open heap's memory against the device: the same chunks, slabs, objects and root. */

import { countBits } from '../base/bits.js'
import { type SlabChunk, UNBUILT } from '../heap/slab-chunk.js'
import type { SlabHeap } from '../heap/slab-heap.js'
import type { FoundSlab } from '../heap/slab-reader.js'
import { differs, type Problem } from './finding.js'
import type { FoundHeap, FoundSlabChunk, Inspection } from './inspection.js'

export function* checkHeapMemory(inspection: Inspection, space: SlabHeap): Iterable<Problem> {
  const heap = inspection.heaps.get(space.id)
  // Its header or its chunk is damaged, which is among the findings.
  if (heap === undefined) return
  if (heap.root !== BigInt(space.root)) {
    yield differs(heap.offset, `the root of ${heap.name} on the device is not as in memory`)
  }
  yield* checkChunks(space, heap)
  const known = new Map(space.chunks.map((chunk) => [chunk.chunk.id, chunk]))
  for (const found of heap.chunks) {
    const chunk = known.get(found.id)
    if (chunk?.loaded && found.isSound) yield* checkSlabs(inspection, space, found, chunk)
  }
}

function* checkChunks(space: SlabHeap, heap: FoundHeap): Iterable<Problem> {
  const ids = new Set([...heap.chunks.map(({ id }) => id), ...heap.larges.values()])
  for (const chunk of [...space.chunks, ...space.larges]) {
    if (chunk.durable && !ids.delete(chunk.chunk.id)) {
      yield differs(chunk.offset, `${heap.name} has chunk ${chunk.chunk.id} in memory alone`)
    }
  }
  for (const id of ids) {
    yield differs(heap.offset, `${heap.name} has chunk ${id} on the device, but not in memory`)
  }
}

function* checkSlabs(
  inspection: Inspection,
  space: SlabHeap,
  found: FoundSlabChunk,
  chunk: SlabChunk,
): Iterable<Problem> {
  const { bitmapsAt, bitmapBytes } = found.layout
  const slabs = new Map(found.slabs.map((slab) => [slab.unit, slab]))
  for (let unit = 0; unit < chunk.units; unit++) {
    const slab = slabs.get(unit)
    const begins = chunk.slabOf[unit] === unit || chunk.slabOf[unit] === UNBUILT - unit
    const where = `unit ${unit} of chunk ${found.id}`
    if (!isSame(space, chunk, unit, begins && chunk.entered[unit] !== 0, slab)) {
      yield differs(found.offset, `the slab at ${where} on the device is not as in memory`)
    } else if (chunk.slabOf[unit] === unit) {
      const at = found.offset + bitmapsAt + unit * bitmapBytes
      const bits = new Int32Array(inspection.readData(at, bitmapBytes).buffer)
      const wrong = wrongIn(chunk, unit, bits)
      if (wrong !== undefined) yield differs(at, `${wrong} of ${where}`)
    }
  }
}

function isSame(
  space: SlabHeap,
  chunk: SlabChunk,
  unit: number,
  isEntered: boolean,
  slab: FoundSlab | undefined,
): boolean {
  if (slab === undefined || !isEntered) return slab === undefined && !isEntered
  return (
    chunk.blockBytes[unit] === slab.blockBytes &&
    chunk.blocks[unit] === slab.blocks &&
    chunk.blocksAt[unit] === slab.blocksAt &&
    space.typeOf(chunk, unit) === slab.type
  )
}

/** What memory has wrong of a slab whose bits were read: against the device, or its own counts. */
function wrongIn(chunk: SlabChunk, unit: number, bits: Int32Array): string | undefined {
  const { live, reserved, taken } = chunk
  const blocks = chunk.blocks[unit]!
  const first = unit * chunk.unitWords
  let used = 0
  let reservations = 0
  let free = 0
  for (let i = 0; i < (blocks + 31) >>> 5; i++) {
    const at = first + i
    if (live[at] !== bits[i]) return 'the objects in memory are not those on the device:'
    if ((live[at]! | reserved[at]!) & ~taken[at]! || live[at]! & reserved[at]!) {
      return 'an object is both free and not:'
    }
    used += countBits(live[at]!)
    reservations += countBits(reserved[at]!)
    free += countBits(~taken[at]!)
  }
  const isRight =
    used === chunk.used[unit] &&
    reservations === chunk.reservations[unit] &&
    free === chunk.free[unit] &&
    used + reservations + free === blocks
  return isRight ? undefined : 'the counts in memory are wrong:'
}
