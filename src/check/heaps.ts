/**
 * The heaps: their headers, which chunks belong to which, and where their roots point.
 *
 *   chunk table ─▶ root chunks ─▶ header ─▶ members, by name ─▶ slabs (slabs.ts) ─▶ root
 *
 * A heap is kept once. What has a checksum (header, slab header, entry) or follows from what has one
 * cannot change unseen, and one flipped bit of it is flipped back. The bitmaps have none, so that an
 * allocation is one word: a flipped bit of a block makes an object or frees one, and nothing can tell.
 * Nor can a root that points to another object be told from what it was.
 */
import { CHUNK_BYTES_MAX } from '../allocator/chunk-store.js'
import type { Offset } from '../base/units.js'
import { SizeClasses } from '../heap/size-classes.js'
import { chunkIdOf, encodeFreeSlot, textOf } from '../layout/chunk-slot.js'
import { type Geometry, granuleToOffset, slotPlaces } from '../layout/geometry.js'
import {
  blockBytesMax,
  chunkUnitsMax,
  decodeHeapHeader,
  defaultClasses,
  encodeHeapHeader,
  HEAP_HEADER,
  HEAP_ROOT_AT,
  HEAP_TYPE,
  heapHeaderChecksum,
  slabLayout,
  TYPE_MAX,
  UNIT_NUMBER_MAX,
  unitBytesFor,
} from '../layout/heap.js'
import { heapNameOf, memberOf } from '../layout/heap-names.js'
import { flippedBitOf } from './bit-flip.js'
import type { PlannedFix, Problem } from './finding.js'
import { heapFix, placeIn } from './heap-fix.js'
import type { FoundChunk, FoundHeap, FoundSlabChunk, Inspection } from './inspection.js'
import { checkSlabs, isLive } from './slabs.js'
import { rewritten } from './table.js'

const CHECKSUM_AT = HEAP_HEADER.fields.checksum[0]

/** A chunk with what its slot says in words. */
interface Member {
  readonly chunk: FoundChunk
  readonly id: number
  readonly offset: Offset
  readonly bytes: number
  readonly name: string
  readonly type: string
}

export function* checkHeaps(inspection: Inspection): Iterable<Problem> {
  const { geometry, chunks } = inspection
  if (geometry === undefined || chunks === undefined) return
  const members = chunks
    .filter(({ values: { start, granules } }) => start + granules <= geometry.granules)
    .map((chunk) => describe(geometry, chunk))
  const damaged = new Set<number>()
  for (const member of members) {
    if (member.type !== HEAP_TYPE.HEAP) continue
    yield* checkHeader(inspection, member)
    if (!inspection.heaps.has(member.id)) damaged.add(member.id)
  }
  for (const member of members) {
    if (member.type === HEAP_TYPE.SLAB || member.type === HEAP_TYPE.LARGE) {
      yield* checkMember(inspection, member, damaged)
    }
  }
  for (const heap of inspection.heaps.values()) {
    yield* checkUnits(heap, geometry)
    for (const chunk of heap.chunks) {
      if (chunk.units <= chunkUnitsMax(heap.unitBytes, geometry.granuleBytes)) {
        yield* checkSlabs(inspection, heap, chunk)
      }
    }
    yield* checkRoot(inspection, heap)
  }
}

function describe(geometry: Geometry, chunk: FoundChunk): Member {
  const { slot, values } = chunk
  return {
    chunk,
    id: chunkIdOf(slot, values.generation),
    offset: granuleToOffset(geometry, values.start),
    bytes: values.granules * geometry.granuleBytes,
    // What is none is a finding of the directory.
    name: textOf(values, 'name') ?? '',
    type: textOf(values, 'type') ?? '',
  }
}

function* checkHeader(inspection: Inspection, member: Member): Iterable<Problem> {
  const geometry = inspection.geometry!
  const { id, offset, name } = member
  const place = placeIn(offset)
  const heapName = heapNameOf(name, member.type)
  if (heapName === undefined || member.bytes > CHUNK_BYTES_MAX) {
    yield {
      code: 'heap-chunk-invalid',
      severity: 'error',
      place,
      message: `chunk ${id} has the type of a heap, and the name '${name}' and ${member.bytes} bytes`,
    }
    return
  }
  const who = `heap '${heapName}'`
  const bytes = inspection.readData(offset, HEAP_HEADER.bytes)
  const rootBytes = bytes.slice(HEAP_ROOT_AT, HEAP_ROOT_AT + 8)
  // The root is no part of the checksum: it is looked at when all objects are known.
  bytes.fill(0, HEAP_ROOT_AT, HEAP_ROOT_AT + 8)
  const decode = (from: Uint8Array) => {
    const found = decodeHeapHeader(from, inspection.seed)
    if (typeof found === 'string') return found
    return found.id === id && found.unitBytes <= geometry.granuleBytes ? found : 'damaged'
  }
  let header = decode(bytes)
  if (header === 'newer') {
    yield {
      code: 'format-too-new',
      severity: 'error',
      place,
      message: `${who} has a format of a later version`,
    }
    return
  }
  if (header === 'damaged') {
    const repaired = repairHeader(inspection, id, bytes)
    header = repaired === undefined ? 'damaged' : decode(repaired)
    yield {
      code: 'heap-damaged',
      severity: 'error',
      place,
      message: `the header of ${who} is damaged: it cannot be opened`,
      fixes: repaired === undefined ? [] : headerFixes(inspection, offset, bytes, repaired),
    }
    if (typeof header === 'string') return
  }
  const { unitBytes } = header
  const heap: FoundHeap = {
    id,
    offset,
    name: who,
    root: new DataView(rootBytes.buffer).getBigUint64(0, true),
    unitBytes,
    classes: new SizeClasses(header.sizes),
    chunks: [],
    larges: new Map(),
  }
  heap.chunks.push(slabChunk(heap, member, 0, true))
  inspection.heaps.set(id, heap)
}

function slabChunk(
  { unitBytes }: FoundHeap,
  { id, offset, bytes }: Member,
  firstUnit: number,
  isRoot: boolean,
): FoundSlabChunk {
  const units = bytes / unitBytes
  const layout = slabLayout(units, unitBytes, isRoot)
  return { id, offset, firstUnit, units, unitBytes, layout, slabs: [], isSound: true }
}

/** The header as it was, where that is certain: one bit is flipped back, or all but the classes is known and those are the default ones. */
function repairHeader(
  { seed, geometry }: Inspection,
  id: number,
  bytes: Uint8Array,
): Uint8Array | undefined {
  const stored = new DataView(bytes.buffer).getUint32(CHECKSUM_AT, true)
  const bit = flippedBitOf(heapHeaderChecksum(bytes, seed) ^ stored, CHECKSUM_AT, bytes.length)
  if (bit !== undefined) {
    const repaired = bytes.slice()
    repaired[bit >>> 3]! ^= 1 << (bit & 7)
    return typeof decodeHeapHeader(repaired, seed) === 'string' ? undefined : repaired
  }
  const { granuleBytes } = geometry!
  const unitBytes = unitBytesFor(granuleBytes)
  const sizes = defaultClasses(blockBytesMax(unitBytes, granuleBytes))
  const usual = encodeHeapHeader({ id, unitBytes, sizes }, seed)
  const isUsual = new DataView(usual.buffer).getUint32(CHECKSUM_AT, true) === stored
  return isUsual ? usual : undefined
}

/** The bytes that differ, but for the root: the checksum stands, so a crash between leaves the same to do. */
function headerFixes(
  inspection: Inspection,
  offset: Offset,
  bytes: Uint8Array,
  repaired: Uint8Array,
): PlannedFix[] {
  const stretches = [
    [0, HEAP_ROOT_AT],
    [HEAP_ROOT_AT + 8, repaired.length],
  ] as const
  return stretches.flatMap(([from, to]) => {
    const [first, end] = difference(bytes, repaired, from, to)
    if (first === end) return []
    return heapFix(inspection, {
      code: 'heap-damaged',
      offset: offset + first,
      bytes: repaired.slice(first, end),
      message: `the header of the heap at offset ${offset} is made what its checksum says`,
      drops: false,
    })
  })
}

/** Where in a stretch two byte arrays differ; empty when they do not. */
function difference(a: Uint8Array, b: Uint8Array, from: number, to: number): [number, number] {
  let first = from
  let end = to
  while (first < end && a[first] === b[first]) first++
  while (end > first && a[end - 1] === b[end - 1]) end--
  return [first, end]
}

function* checkMember(
  inspection: Inspection,
  member: Member,
  damaged: ReadonlySet<number>,
): Iterable<Problem> {
  const geometry = inspection.geometry!
  const { id, offset, name } = member
  const isLarge = member.type === HEAP_TYPE.LARGE
  const told = memberOf(name, isLarge)
  const invalid = (why: string): Problem => ({
    code: 'heap-chunk-invalid',
    severity: 'error',
    place: placeIn(offset),
    message: `chunk ${id} has the type '${member.type}', and ${why}`,
  })
  if (told === undefined) {
    yield invalid(`no name that tells of which heap it is ('${name}'): no heap can be opened`)
    return
  }
  if (damaged.has(told.heap)) return
  const heap = inspection.heaps.get(told.heap)
  if (heap === undefined) {
    yield orphan(inspection, member, told.heap)
  } else if (isLarge) {
    const start = (offset / geometry.granuleBytes).toString(36)
    heap.larges.set(offset, id)
    if (told.number >= TYPE_MAX || !name.endsWith(`:${start}`)) {
      yield invalid(`the name '${name}', which is not that of an object at ${offset}`)
    }
  } else if (member.bytes > CHUNK_BYTES_MAX) {
    yield invalid(`${member.bytes} bytes: it cannot be mapped`)
  } else {
    heap.chunks.push(slabChunk(heap, member, told.number, false))
  }
}

/** A chunk that nobody can reach or free. Its heap's root chunk was given up. */
function orphan(inspection: Inspection, member: Member, heap: number): Problem {
  const { geometry, seed } = inspection
  const { slot, values } = member.chunk
  const bytes = encodeFreeSlot(slot, seed, values.version + 1, values.generation)
  return {
    code: 'heap-orphan',
    severity: 'warning',
    place: { area: 'chunk-table', offset: slotPlaces(geometry!, slot)[0] },
    message:
      `chunk ${member.id} ('${member.name}') belongs to a heap with id ${heap}, which is not there: ` +
      'nobody can use its bytes; repair with dropDamaged frees them',
    fixes: rewritten(
      inspection,
      'heap-orphan',
      slot,
      bytes,
      'is made free: the heap of its chunk is gone',
    ),
  }
}

/** Unit numbers of a heap's chunks are apart. */
function* checkUnits(
  { name, chunks, unitBytes }: FoundHeap,
  { granuleBytes }: Geometry,
): Iterable<Problem> {
  chunks.sort((a, b) => a.firstUnit - b.firstUnit || a.offset - b.offset)
  let next = 0
  for (const { id, offset, firstUnit, units } of chunks) {
    const tooMany = units > chunkUnitsMax(unitBytes, granuleBytes)
    if (firstUnit < next || firstUnit + units > UNIT_NUMBER_MAX || tooMany) {
      yield {
        code: 'heap-chunk-invalid',
        severity: 'error',
        place: placeIn(offset),
        message: `chunk ${id} of ${name} has units from ${firstUnit}, which another has or which are too many: the heap cannot be opened`,
      }
    }
    next = firstUnit + units
  }
}

function* checkRoot(inspection: Inspection, heap: FoundHeap): Iterable<Problem> {
  const { root, offset, name } = heap
  const pointer = Number(root)
  if (root === 0n) return
  const isImpossible = !Number.isSafeInteger(pointer)
  const isSound = heap.chunks.every((chunk) => chunk.isSound)
  if (!isImpossible && (!isSound || isLive(inspection, heap, pointer))) return
  // No pointer has bits so high: without them it is what it was, or there is no telling.
  const low = root & BigInt(Number.MAX_SAFE_INTEGER)
  const isKnown = isImpossible && isLive(inspection, heap, Number(low))
  const bytes = new Uint8Array(8)
  if (isKnown) new DataView(bytes.buffer).setBigUint64(0, low, true)
  yield {
    code: 'heap-root',
    severity: isImpossible ? 'error' : 'warning',
    place: placeIn(offset + HEAP_ROOT_AT),
    message: isImpossible
      ? `the root of ${name} is no pointer: the heap cannot be opened`
      : `the root of ${name}, ${pointer}, is not the pointer of a live object: it is damaged, or its object was freed`,
    fixes: isImpossible
      ? heapFix(inspection, {
          code: 'heap-root',
          offset: offset + HEAP_ROOT_AT,
          bytes,
          message: isKnown
            ? `the root of ${name} is made ${low}: no pointer has more bits`
            : `the root of ${name} is made 0: what it was is not known`,
          drops: !isKnown,
        })
      : [],
  }
}
