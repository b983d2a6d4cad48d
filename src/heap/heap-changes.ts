/**
 * Changes of a heap as part of the transaction under way: each stages all of its change or, when it throws,
 * nothing. Whether there is room in the record is asked before memory is touched.
 */
import { HEAP_ROOT_AT } from '../layout/heap.js'
import type { Location } from './pointer-map.js'
import type { SlabChunk } from './slab-chunk.js'
import type { SlabHeap } from './slab-heap.js'
import { STAGED_BYTES } from './slab-staging.js'
import { OP } from './undo-log.js'

/** Contents of a published object up to this travel in the record: a fence of their own costs more. */
const INLINE_BYTES_MAX = 256

/**
 * `at` is the caller's, for places on the way. `isAlone`: nothing else will be in the record, so that behind this only
 * the device can fail, and then nothing is rolled back.
 */
export function allocateObject(
  space: SlabHeap,
  size: number,
  type: number,
  at: Location,
  isAlone: boolean,
): number {
  const kind = space.kindFor(size, type)
  if (kind === undefined || !space.find(kind) || kind.chunk!.entered[kind.unit] === 0) {
    return allocateAnew(space, size, type, at)
  }
  // The plain case: a bit of a slab that exists.
  space.batch.require(STAGED_BYTES.BITS)
  const chunk = kind.chunk!
  const { unit } = kind
  const block = space.take(kind)
  chunk.setLive(unit, block)
  if (!isAlone) space.undoLog.push(OP.ALLOCATE, chunk, unit, block)
  space.staging.bits(chunk, unit, block)
  return chunk.offset + chunk.blocksAt[unit]! + block * kind.blockBytes
}

/** An allocation that takes more than a bit: a new slab, a new chunk. */
function allocateAnew(space: SlabHeap, size: number, type: number, at: Location): number {
  space.batch.require(STAGED_BYTES.PUBLISH)
  const chunk = space.reserve(size, type, at)
  const { unit, block } = at
  space.undoLog.push(OP.TAKE, chunk, unit, block)
  space.stagePublish(chunk, unit, block)
  return chunk.offset + chunk.blocksAt[unit]! + block * chunk.blockBytes[unit]!
}

/** The object's pointer is refused at once; its space can be had again after the commit. */
export function freeObject(space: SlabHeap, pointer: number, at: Location): void {
  const chunk = space.pointers.locate(space, pointer, at)
  space.batch.require(chunk.isLarge ? STAGED_BYTES.FREE_CHUNK : STAGED_BYTES.BITS)
  space.stageFree(chunk, at.unit, at.block)
}

/**
 * A free that is alone in its record. In the plain case, a block that is not its slab's last, returns its chunk: the
 * caller gives the block back once that is committed.
 */
export function freeBlock(space: SlabHeap, pointer: number, at: Location): SlabChunk | undefined {
  const chunk = space.pointers.locate(space, pointer, at)
  if (chunk.used[at.unit] === 1) {
    freeObject(space, pointer, at)
    return undefined
  }
  space.batch.require(STAGED_BYTES.BITS)
  chunk.clearLive(at.unit, at.block)
  space.staging.bits(chunk, at.unit, at.block)
  return chunk
}

/** Makes the contents of a reserved object durable, or part of the record, and stages that it is live. */
export function publishObject(space: SlabHeap, pointer: number, at: Location): void {
  const { log, batch } = space
  const chunk = locateReserved(space, pointer, at)
  const { unit, block } = at
  const length = chunk.blockBytes[unit]!
  const from = chunk.blocksAt[unit]! + block * length
  const isInline = length <= INLINE_BYTES_MAX
  batch.require(STAGED_BYTES.PUBLISH + (isInline ? length + STAGED_BYTES.INLINE : 0))
  if (isInline) {
    batch.write(chunk.mapping, from, chunk.bytes.subarray(from, from + length))
  } else {
    // The contents first, to nobody's space: a crash here leaves it nobody's. From the record's fence on the
    // object exists, and its contents are durable.
    log.persist(chunk.mapping, from, length)
  }
  chunk.notePersisted(from, length)
  space.stagePublish(chunk, unit, block)
}

/** Makes an object the root, 0 for none. */
export function setRootObject(space: SlabHeap, pointer: number, at: Location): void {
  const { rootChunk } = space
  if (pointer !== 0) space.pointers.locate(space, pointer, at)
  if (!rootChunk.loaded) space.load(rootChunk)
  space.batch.setUint64(rootChunk.mapping, HEAP_ROOT_AT, pointer)
  space.undoLog.pushRoot(rootChunk)
  space.root = pointer
}

/** The chunk of a reserved object, by its pointer. */
export function locateReserved(space: SlabHeap, pointer: number, at: Location): SlabChunk {
  const chunk = space.pointers.reach(space, pointer, 0, at)
  const { unit, block, offset } = at
  const isStart = chunk.blocksAt[unit]! + block * chunk.blockBytes[unit]! === offset
  if (isStart && !chunk.isLive(unit, block)) return chunk
  throw space.pointers.badPointer(space, pointer)
}
