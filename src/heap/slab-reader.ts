/** Reading the head of a slab chunk: nothing of it counts before all of it was checked. */
import { PlinthError } from '../base/errors.js'
import {
  decodeSlabEntry,
  decodeSlabHeader,
  SLAB_ENTRY,
  slabBase,
  slabEntrySeed,
  slabUnits,
  TYPE_MAX,
} from '../layout/heap.js'
import type { SizeClasses } from './size-classes.js'
import type { SlabChunk } from './slab-chunk.js'

export interface FoundSlab {
  readonly unit: number
  /** Index of its class. */
  readonly index: number
  readonly type: number
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
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
  const { seed } = facts
  const { id } = chunk.chunk
  const header = decodeSlabHeader(bytes, chunk.layout.headerAt, seed)
  if (
    header === undefined ||
    header.heap !== facts.heap ||
    header.chunk !== id ||
    header.firstUnit !== chunk.firstUnit ||
    header.units !== chunk.units ||
    header.unitBytes !== facts.unitBytes
  ) {
    throw corrupt(chunk, facts.name, 'its header is damaged or is not that of this chunk')
  }
  const found: FoundSlab[] = []
  let next = 0
  for (let unit = 0; unit < chunk.units; unit++) {
    const at = chunk.layout.entriesAt + unit * SLAB_ENTRY.bytes
    const entry = decodeSlabEntry(bytes, words, at, slabEntrySeed(seed, id, unit))
    if (entry === 'none') continue
    const index = entry === undefined ? -1 : facts.classes.indexOf(entry.blockBytes)
    if (entry === undefined || index === -1 || entry.type >= TYPE_MAX) {
      throw corrupt(chunk, facts.name, `the entry of unit ${unit} is damaged`)
    }
    const place = placeOf(chunk, unit, entry.blockBytes)
    if (
      place === undefined ||
      unit < next ||
      place.units !== entry.units ||
      place.blocks !== entry.blocks
    ) {
      throw corrupt(chunk, facts.name, `the slab at unit ${unit} cannot be there`)
    }
    next = unit + place.units
    found.push({ unit, index, type: entry.type })
  }
  return found
}

function corrupt(chunk: SlabChunk, heap: string, what: string): PlinthError {
  return new PlinthError('ERR_VOLUME_CORRUPT', `chunk ${chunk.chunk.id} of heap '${heap}': ${what}`)
}

/** Where a slab and its blocks would be (`base` counts from its start); undefined where none can begin. */
export function placeOf(
  chunk: Pick<SlabChunk, 'units' | 'unitBytes' | 'layout'>,
  unit: number,
  blockBytes: number,
): { units: number; base: number; blocks: number } | undefined {
  const { unitBytes } = chunk
  const { headBytes } = chunk.layout
  if (unit < Math.floor(headBytes / unitBytes)) return undefined
  const base = slabBase(unit, unitBytes, headBytes, blockBytes)
  const units = slabUnits(blockBytes, unitBytes)
  if (base === undefined || unit + units > chunk.units) return undefined
  return { units, base, blocks: Math.floor((units * unitBytes - base) / blockBytes) }
}
