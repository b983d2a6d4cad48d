/** Reading the head of a slab chunk: nothing of it counts before all of it was checked. */
import { PlinthError } from '../base/errors.js'
import {
  decodeSlabEntry,
  encodeSlabHeader,
  SLAB_ENTRY,
  SLAB_HEADER,
  type SlabShape,
  slabEntrySeed,
  slabPlace,
  TYPE_MAX,
} from '../layout/heap.js'
import type { SizeClasses } from './size-classes.js'
import type { SlabChunk } from './slab-chunk.js'

/** A slab whose entry is whole. */
export interface FoundSlab {
  readonly unit: number
  readonly units: number
  /** Index of its class. */
  readonly index: number
  readonly blockBytes: number
  readonly blocks: number
  readonly type: number
  /** Of block 0, within the chunk. */
  readonly blocksAt: number
}

/** What the head of a chunk has to agree with. */
export interface SlabFacts {
  /** Id of the heap's root chunk. */
  readonly heap: number
  readonly name: string
  readonly unitBytes: number
  readonly classes: SizeClasses
  /** Of the volume's checksums. */
  readonly seed: number
}

/**
 * The slabs of a chunk, as its head tells.
 * @throws PlinthError ERR_VOLUME_CORRUPT when it contradicts itself, the heap or the chunk table
 */
export function readSlabs(chunk: SlabChunk, bytes: Uint8Array, facts: SlabFacts): FoundSlab[] {
  const { heap, name, unitBytes, classes, seed } = facts
  const { firstUnit, units } = chunk
  const { id } = chunk.chunk
  const { headerAt, entriesAt } = chunk.layout
  // All of it is known beforehand.
  const header = encodeSlabHeader({ heap, chunk: id, firstUnit, units, unitBytes }, seed)
  if (Buffer.compare(header, bytes.subarray(headerAt, headerAt + SLAB_HEADER.bytes)) !== 0) {
    throw corrupt(chunk, name, 'its header is damaged or is not that of this chunk')
  }
  const found: FoundSlab[] = []
  let next = 0
  for (let unit = 0; unit < units; unit++) {
    const at = entriesAt + unit * SLAB_ENTRY.bytes
    const slab = readSlab(chunk, classes, unit, bytes, at, slabEntrySeed(seed, id, unit))
    if (slab === 'none') continue
    if (slab === 'damaged' || unit < next) {
      throw corrupt(chunk, name, `the entry of unit ${unit} is damaged, or no slab can begin there`)
    }
    next = unit + slab.units
    found.push(slab)
  }
  return found
}

/** The slab that begins at a unit of a chunk, as the entry at `bytes[at]` tells. */
export function readSlab(
  shape: SlabShape,
  classes: SizeClasses,
  unit: number,
  bytes: Uint8Array,
  at: number,
  seed: number,
): FoundSlab | 'none' | 'damaged' {
  const entry = decodeSlabEntry(bytes, at, seed)
  if (entry === 'none') return 'none'
  if (entry === undefined || entry.type >= TYPE_MAX) return 'damaged'
  const { blockBytes, type } = entry
  const index = classes.indexOf(blockBytes)
  const place = index === -1 ? undefined : slabPlace(shape, unit, blockBytes)
  if (place?.units !== entry.units || place.blocks !== entry.blocks) return 'damaged'
  const { units, base, blocks } = place
  return { unit, units, index, blockBytes, blocks, type, blocksAt: unit * shape.unitBytes + base }
}

function corrupt(chunk: SlabChunk, heap: string, what: string): PlinthError {
  return new PlinthError('ERR_VOLUME_CORRUPT', `chunk ${chunk.chunk.id} of heap '${heap}': ${what}`)
}
