/**
 * What a transaction and a heap's own durable calls put into a batch: each of these stages all of its
 * change or, when it throws, nothing, so that a caller who catches may go on.
 */
import { HEAP_ROOT_AT } from '../layout/heap.js'
import type { HeapChunk } from './heap-chunk.js'
import type { HeapSpace, Kind } from './heap-space.js'
import { OP } from './journal.js'

/** Contents of a published object up to this travel in the record: a fence of their own costs more. */
const INLINE_BYTES_MAX = 256

/** Stages an allocation: all of it or, when it throws, nothing. */
export function stageAllocate(space: HeapSpace, size: number, type: number): number {
  const { heaps } = space
  const { journal } = heaps
  const { batch } = space
  const { bytes, targetCount } = batch.staging
  const before = journal.length
  const kind = space.kindFor(size, type)
  if (kind !== undefined && space.find(kind) && kind.chunk!.entered[kind.unit] !== 0) {
    return stageBlock(space, kind)
  }
  const chunk = space.reserve(size, type)
  const { unit, block } = heaps
  journal.push(OP.TAKE, chunk, unit, block)
  try {
    space.stagePublish(chunk, unit, block)
  } catch (error) {
    batch.rewind(bytes, targetCount)
    journal.rollback(before)
    throw error
  }
  return chunk.offset + chunk.blocksAt[unit]! + block * chunk.blockBytes[unit]!
}

/** The plain case: a bit of a slab that exists. */
function stageBlock(space: HeapSpace, kind: Kind): number {
  const chunk = kind.chunk!
  const { unit } = kind
  const block = space.take(kind)
  chunk.setLive(unit, block)
  try {
    space.stageBits(chunk, unit, block)
  } catch (error) {
    chunk.clearLive(unit, block)
    space.give(chunk, unit, block)
    throw error
  }
  space.heaps.journal.push(OP.ALLOCATE, chunk, unit, block)
  return chunk.offset + chunk.blocksAt[unit]! + block * kind.blockBytes
}

/** Stages a free: all of it or, when it throws, nothing. */
export function stageFree(space: HeapSpace, pointer: number): void {
  const { heaps } = space
  const { journal } = heaps
  const { batch } = space
  const chunk = heaps.locate(space, pointer)
  const { bytes, targetCount } = batch.staging
  const before = journal.length
  try {
    space.stageFree(chunk, heaps.unit, heaps.block)
  } catch (error) {
    batch.rewind(bytes, targetCount)
    journal.rollback(before)
    throw error
  }
}

/** Makes the contents of a reserved object durable, or part of the batch, and stages that it is live. */
export function stagePublish(space: HeapSpace, pointer: number): void {
  const { heaps } = space
  const { journal } = heaps
  const { log, batch } = space
  const chunk = locateReserved(space, pointer)
  const { unit, block } = heaps
  const length = chunk.blockBytes[unit]!
  const from = chunk.blocksAt[unit]! + block * length
  if (length > INLINE_BYTES_MAX) {
    // 1. The contents, to nobody's space. A crash here leaves it nobody's.
    if (log.flush(chunk.mapping, from, length)) log.fence()
    if (chunk.isLarge) chunk.unexpose()
  }
  // 2. The record. From its fence on the object exists, and its contents are durable or in it.
  const { bytes, targetCount } = batch.staging
  const before = journal.length
  try {
    if (length <= INLINE_BYTES_MAX) {
      batch.write(chunk.mapping, from, chunk.bytes.subarray(from, from + length))
    }
    space.stagePublish(chunk, unit, block)
  } catch (error) {
    batch.rewind(bytes, targetCount)
    journal.rollback(before)
    throw error
  }
}

export function stageRoot(space: HeapSpace, pointer: number): void {
  const { heaps, rootChunk } = space
  if (pointer !== 0) heaps.locate(space, pointer)
  if (!rootChunk.loaded) space.load(rootChunk)
  space.batch.setUint64(rootChunk.mapping, HEAP_ROOT_AT, pointer)
  heaps.journal.pushRoot(rootChunk)
  space.root = pointer
}

/** The chunk of a reserved object, by its pointer. */
export function locateReserved(space: HeapSpace, pointer: number): HeapChunk {
  const { heaps } = space
  const chunk = heaps.reach(space, pointer, 0)
  const { unit, block, offset } = heaps
  const isStart = chunk.blocksAt[unit]! + block * chunk.blockBytes[unit]! === offset
  if (isStart && !chunk.isLive(unit, block)) return chunk
  throw heaps.badPointer(space, pointer)
}
