/**
 * The head of a chunk with slabs: slab header, entries, bitmaps.
 *
 *   unit      0        1        2        3
 *   entry     slab A   zero     slab B   zero
 *   bitmap    bits A   zero     bits B   zero        beyond the last block of a slab: zero
 *
 * All of the header follows from the chunk table, so it can be written anew. An entry has a checksum;
 * one that is damaged and whose bitmap is zero had no object and can go. Bits where no block can be are
 * damage; bits of a unit that could have a slab and has none may be all that is left of one.
 */
import { bitsIn } from '../base/bits.js'
import { crc32c } from '../base/checksum.js'
import { type FoundSlab, readSlab } from '../heap/slab-reader.js'
import { encodeSlabHeader, SLAB_ENTRY, SLAB_HEADER, slabEntrySeed } from '../layout/heap.js'
import { flippedBitOf } from './bit-flip.js'
import type { PlannedFix, Problem } from './finding.js'
import { heapFix, placeIn } from './heap-fix.js'
import type { FoundHeap, FoundSlabChunk, Inspection } from './inspection.js'

const ENTRY_BYTES = SLAB_ENTRY.bytes

/** Fills in the chunk's slabs. */
export function* checkSlabs(
  inspection: Inspection,
  heap: FoundHeap,
  chunk: FoundSlabChunk,
): Iterable<Problem> {
  const { layout, offset } = chunk
  const head = inspection.readData(offset, layout.headBytes)
  yield* checkSlabHeader(inspection, heap, chunk, head)
  let next = 0
  for (let unit = 0; unit < chunk.units; unit++) {
    const at = layout.entriesAt + unit * ENTRY_BYTES
    const seed = slabEntrySeed(inspection.seed, chunk.id, unit)
    const entry = head.slice(at, at + ENTRY_BYTES)
    let slab = readSlab(chunk, heap.classes, unit, entry, 0, seed)
    if (slab === 'damaged' || (slab !== 'none' && unit < next)) {
      const repaired = slab === 'damaged' ? repairEntry(heap, chunk, unit, entry, seed) : undefined
      yield damagedEntry(inspection, chunk, head, unit, entry, repaired)
      chunk.isSound = false
      if (repaired === undefined) continue
      slab = readSlab(chunk, heap.classes, unit, repaired, 0, seed)
    }
    if (slab === 'none' || slab === 'damaged') {
      yield* checkNoBits(inspection, chunk, head, unit, unit < next)
      continue
    }
    chunk.slabs.push(slab)
    next = unit + slab.units
    yield* checkBitsBeyond(inspection, chunk, head, slab)
  }
}

function* checkSlabHeader(
  inspection: Inspection,
  heap: FoundHeap,
  chunk: FoundSlabChunk,
  head: Uint8Array,
): Iterable<Problem> {
  const { id, firstUnit, units, unitBytes, layout } = chunk
  const { headerAt } = layout
  const bytes = encodeSlabHeader(
    { heap: heap.id, chunk: id, firstUnit, units, unitBytes },
    inspection.seed,
  )
  const found = head.subarray(headerAt, headerAt + SLAB_HEADER.bytes)
  if (Buffer.compare(found, bytes) === 0) return
  const offset = chunk.offset + headerAt
  yield {
    code: 'slab-header-damaged',
    severity: 'error',
    place: placeIn(offset),
    message: `the header of chunk ${id} of ${heap.name} is damaged: its objects cannot be reached`,
    fixes: heapFix(inspection, {
      code: 'slab-header-damaged',
      offset,
      bytes,
      message: `the header of chunk ${id} is written as the chunk table tells it`,
      drops: false,
    }),
  }
}

/** The entry with the flipped bit flipped back; undefined when it was not one bit. */
function repairEntry(
  heap: FoundHeap,
  chunk: FoundSlabChunk,
  unit: number,
  bytes: Uint8Array,
  seed: number,
): Uint8Array | undefined {
  const set = bytes.reduce(
    (sum, byte) => sum + (byte === 0 ? 0 : (byte & (byte - 1)) === 0 ? 1 : 2),
    0,
  )
  // No slab's entry has a single bit: it was zero.
  if (set === 1) return new Uint8Array(ENTRY_BYTES)
  const stored = new DataView(bytes.buffer).getUint32(0, true)
  const bit = flippedBitOf(crc32c(seed, bytes, 4) ^ stored, 0, ENTRY_BYTES)
  if (bit === undefined) return undefined
  const repaired = bytes.slice()
  repaired[bit >>> 3]! ^= 1 << (bit & 7)
  const slab = readSlab(chunk, heap.classes, unit, repaired, 0, seed)
  return typeof slab === 'string' ? undefined : repaired
}

function bitmapOf({ layout }: FoundSlabChunk, head: Uint8Array, unit: number): Uint8Array {
  const { bitmapsAt, bitmapBytes } = layout
  return head.subarray(bitmapsAt + unit * bitmapBytes, bitmapsAt + (unit + 1) * bitmapBytes)
}

function damagedEntry(
  inspection: Inspection,
  chunk: FoundSlabChunk,
  head: Uint8Array,
  unit: number,
  entry: Uint8Array,
  repaired: Uint8Array | undefined,
): Problem {
  const code = 'slab-entry-damaged'
  const offset = chunk.offset + chunk.layout.entriesAt + unit * ENTRY_BYTES
  const objects = bitsIn(bitmapOf(chunk, head, unit))
  const what = `the entry of unit ${unit} of chunk ${chunk.id}`
  const fixes: PlannedFix[] = []
  if (repaired !== undefined) {
    const at = repaired.findIndex((byte, i) => byte !== entry[i])
    fixes.push(
      ...heapFix(inspection, {
        code,
        offset: offset + at,
        bytes: repaired.slice(at, at + 1),
        message: `a bit of ${what} is flipped back: it is whole then`,
        drops: false,
      }),
    )
  } else {
    const drops = objects > 0
    fixes.push(
      ...heapFix(inspection, {
        code,
        offset,
        bytes: new Uint8Array(ENTRY_BYTES),
        message: drops
          ? `${what} is zeroed: its ${objects} objects are lost`
          : `${what} is zeroed: it has no objects`,
        drops,
      }),
    )
    if (drops) fixes.push(...zeroedBits(inspection, chunk, head, unit, code, drops))
  }
  return {
    code,
    severity: 'error',
    place: placeIn(offset),
    message:
      `${what} is damaged: none of the chunk's objects can be reached` +
      (repaired === undefined && objects > 0
        ? `; repair with dropDamaged gives the ${objects} objects of this slab up, so that the others can`
        : ''),
    fixes,
  }
}

function zeroedBits(
  inspection: Inspection,
  chunk: FoundSlabChunk,
  head: Uint8Array,
  unit: number,
  code: Problem['code'],
  drops: boolean,
): PlannedFix[] {
  const { bitmapsAt, bitmapBytes } = chunk.layout
  const bytes = bitmapOf(chunk, head, unit)
  const first = bytes.findIndex((byte) => byte !== 0)
  return heapFix(inspection, {
    code,
    offset: chunk.offset + bitmapsAt + unit * bitmapBytes + first,
    bytes: new Uint8Array(bytes.findLastIndex((byte) => byte !== 0) + 1 - first),
    message: `the bitmap of unit ${unit} of chunk ${chunk.id} is zeroed`,
    drops,
  })
}

/** Where no slab begins there are no bits. `isInside`: another slab has the unit. */
function* checkNoBits(
  inspection: Inspection,
  chunk: FoundSlabChunk,
  head: Uint8Array,
  unit: number,
  isInside: boolean,
): Iterable<Problem> {
  const code = 'slab-bits-impossible'
  const { bitmapsAt, bitmapBytes, headBytes } = chunk.layout
  const objects = bitsIn(bitmapOf(chunk, head, unit))
  if (objects === 0) return
  const mayBeLost = !isInside && (unit + 1) * chunk.unitBytes > headBytes
  yield {
    code,
    severity: mayBeLost ? 'error' : 'warning',
    place: placeIn(chunk.offset + bitmapsAt + unit * bitmapBytes),
    message: mayBeLost
      ? `the bitmap of unit ${unit} of chunk ${chunk.id} has ${objects} objects, and no slab begins there: its entry is lost, or the bits are damage; repair with dropDamaged zeroes them`
      : `the bitmap of unit ${unit} of chunk ${chunk.id} has ${objects} objects, and no slab can begin there`,
    fixes: zeroedBits(inspection, chunk, head, unit, code, mayBeLost),
  }
}

function* checkBitsBeyond(
  inspection: Inspection,
  chunk: FoundSlabChunk,
  head: Uint8Array,
  { unit, blocks }: FoundSlab,
): Iterable<Problem> {
  const bitmap = bitmapOf(chunk, head, unit)
  const right = bitmap.slice()
  right.fill(0, (blocks + 7) >>> 3)
  if ((blocks & 7) !== 0) right[blocks >>> 3]! &= (1 << (blocks & 7)) - 1
  const first = right.findIndex((byte, i) => byte !== bitmap[i])
  if (first === -1) return
  const code = 'slab-bits-impossible'
  const end = right.findLastIndex((byte, i) => byte !== bitmap[i]) + 1
  const { bitmapsAt, bitmapBytes } = chunk.layout
  const offset = chunk.offset + bitmapsAt + unit * bitmapBytes + first
  chunk.isSound = false
  yield {
    code,
    severity: 'error',
    place: placeIn(offset),
    message: `the bitmap of unit ${unit} of chunk ${chunk.id} has objects beyond the slab's ${blocks} blocks: those of the slab cannot be reached`,
    fixes: heapFix(inspection, {
      code,
      offset,
      bytes: right.slice(first, end),
      message: `the bits beyond the last block of unit ${unit} of chunk ${chunk.id} are zeroed`,
      drops: false,
    }),
  }
}

/** Whether a pointer is that of a live object of the heap. */
export function isLive(inspection: Inspection, heap: FoundHeap, pointer: number): boolean {
  if (heap.larges.has(pointer)) return true
  const chunk = heap.chunks.find(
    ({ offset, units, unitBytes }) => pointer >= offset && pointer < offset + units * unitBytes,
  )
  if (chunk === undefined) return false
  const at = pointer - chunk.offset
  const slab = chunk.slabs.findLast(({ blocksAt }) => blocksAt <= at)
  if (slab === undefined) return false
  const block = (at - slab.blocksAt) / slab.blockBytes
  if (!Number.isInteger(block) || block >= slab.blocks) return false
  const { bitmapsAt, bitmapBytes } = chunk.layout
  const byteAt = chunk.offset + bitmapsAt + slab.unit * bitmapBytes + (block >>> 3)
  return (inspection.readData(byteAt, 1)[0]! & (1 << (block & 7))) !== 0
}
