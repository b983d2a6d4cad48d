/**
 * The chunk table: which granules belong to which chunk, and what it is called. On media it is the
 * only truth about space, kept twice; free granules, free slots and names are indexes made from it
 * when the volume opens.
 *
 *   slot     unused ──claim──▶ chunk ──release──▶ free (keeps its generation) ──claim──▶ chunk …
 *
 * Changes are made here at once and staged as slot entries of a batch; whoever drops the batch
 * undoes them here.
 */

import { assert } from '../base/assert.js'
import { checks } from '../base/checks.js'
import { crc32c } from '../base/checksum.js'
import { PlinthError } from '../base/errors.js'
import type { GranuleIndex } from '../base/units.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  type ChunkSlot,
  chunkSlotSeed,
  decodeChunkSlot,
  GENERATION_MAX,
  SLOTS_MAX,
} from '../layout/chunk-slot.js'
import { type Geometry, TABLE_AT } from '../layout/geometry.js'
import type { Batch } from '../log/batch.js'
import type { Mapping } from '../media/media.js'
import { FreeIndex } from './free-index.js'

/** Text as it is kept: the string and its bytes. */
export interface Text {
  readonly string: string
  readonly bytes: Uint8Array
}

const decoder = new TextDecoder('utf-8', { fatal: true })
const NO_BYTES = new Uint8Array(0)

export interface TablePlaces {
  readonly geometry: Geometry
  readonly seed: number
  readonly head: Mapping
  readonly tail: Mapping
}

export class ChunkTable {
  readonly granules: FreeIndex
  readonly #places: TablePlaces
  readonly #secondAt: number
  readonly #freeSlots: FreeIndex
  readonly #slotByName = new Map<string, number>()
  readonly #names: (Text | undefined)[] = []
  readonly #types: (Text | undefined)[] = []
  readonly #start: Uint32Array
  readonly #length: Uint32Array
  readonly #generation: Uint32Array
  readonly #version: Uint32Array
  #slotsUsed = 0
  #chunks = 0

  constructor(places: TablePlaces) {
    const { geometry, tail } = places
    this.#places = places
    this.#secondAt = geometry.tableCopyAt - tail.offset
    this.granules = new FreeIndex(geometry.granules)
    this.#freeSlots = new FreeIndex(geometry.slots)
    this.#freeSlots.release(0, geometry.slots)
    this.#start = new Uint32Array(geometry.slots)
    this.#length = new Uint32Array(geometry.slots)
    this.#generation = new Uint32Array(geometry.slots)
    this.#version = new Uint32Array(geometry.slots)
  }

  get slotsUsed(): number {
    return this.#slotsUsed
  }

  get chunks(): number {
    return this.#chunks
  }

  /**
   * Reads the slots that were ever used and makes the indexes. Where one copy is damaged or behind,
   * the other counts: `heal` is called with the slot, and which copy to take the place of which.
   * @throws PlinthError ERR_VOLUME_CORRUPT when both copies of a slot are damaged, or chunks contradict each other.
   */
  load(slotsUsed: number, heal: (slot: number, from: 0 | 1) => void): void {
    const { geometry, head, tail } = this.#places
    if (slotsUsed > geometry.slots) throw corrupt(`the anchor names ${slotsUsed} chunk slots`)
    this.#slotsUsed = slotsUsed
    const used: number[] = []
    for (let slot = 0; slot < slotsUsed; slot++) {
      const seed = chunkSlotSeed(this.#places.seed, slot)
      const first = decodeChunkSlot(head.bytes, TABLE_AT + slot * CHUNK_SLOT.bytes, seed)
      const second = decodeChunkSlot(tail.bytes, this.#secondAt + slot * CHUNK_SLOT.bytes, seed)
      const winner = newer(first, second)
      if (winner === undefined) throw corrupt(`both copies of chunk slot ${slot} are damaged`)
      const values = winner === 0 ? first! : second!
      if (versionOf(first) !== versionOf(second)) heal(slot, winner)
      if (values === 'unused') continue
      this.#generation[slot] = values.generation
      this.#version[slot] = values.version
      if (values.state === CHUNK_STATE.FREE) {
        // Its generations are used up: never given out again.
        if (values.generation === GENERATION_MAX) this.#freeSlots.take(slot, 1)
        continue
      }
      if (values.start + values.granules > geometry.granules) {
        throw corrupt(`the chunk in slot ${slot} runs past the end of the volume`)
      }
      this.#start[slot] = values.start
      this.#length[slot] = values.granules
      this.#setTexts(slot, values)
      used.push(slot)
    }
    for (const slot of used) this.#freeSlots.take(slot, 1)
    this.#chunks = used.length
    used.sort((a, b) => this.#start[a]! - this.#start[b]!)
    let free: GranuleIndex = 0
    for (const slot of used) {
      const start = this.#start[slot]!
      if (checks.tableOverlap && start < free)
        throw corrupt(`the chunk in slot ${slot} overlaps another`)
      if (start > free) this.granules.release(free, start - free)
      free = start + this.#length[slot]!
    }
    if (free < geometry.granules) this.granules.release(free, geometry.granules - free)
  }

  #setTexts(slot: number, values: ChunkSlot): void {
    const name = decodeText(values.name.subarray(0, values.nameBytes))
    if (name !== undefined) {
      if (this.#slotByName.has(name.string)) throw corrupt(`two chunks are named '${name.string}'`)
      this.#slotByName.set(name.string, slot)
    }
    this.#names[slot] = name
    this.#types[slot] = decodeText(values.type.subarray(0, values.typeBytes))
  }

  idOf(slot: number): number {
    return this.#generation[slot]! * SLOTS_MAX + slot
  }

  /** The slot of a chunk that exists, by its id; -1 for none. */
  slotOfId(id: number): number {
    const slot = id % SLOTS_MAX
    return slot < this.#slotsUsed && this.#length[slot]! > 0 && this.idOf(slot) === id ? slot : -1
  }

  slotOfName(name: string): number {
    return this.#slotByName.get(name) ?? -1
  }

  startOf(slot: number): GranuleIndex {
    return this.#start[slot]!
  }

  granulesOf(slot: number): number {
    return this.#length[slot]!
  }

  nameOf(slot: number): Text | undefined {
    return this.#names[slot]
  }

  typeOf(slot: number): Text | undefined {
    return this.#types[slot]
  }

  /** Slots of all chunks, lowest offset first. */
  slotsInOrder(): number[] {
    const slots: number[] = []
    for (let slot = 0; slot < this.#slotsUsed; slot++) if (this.#length[slot]! > 0) slots.push(slot)
    return slots.sort((a, b) => this.#start[a]! - this.#start[b]!)
  }

  /** Takes a slot and granules for a new chunk, in memory alone. Returns the slot. */
  claim(
    start: GranuleIndex,
    granules: number,
    name: Text | undefined,
    type: Text | undefined,
  ): number {
    const slot = this.#freeSlots.find(1)
    assert(slot !== -1, 'there is a slot for each granule')
    this.#freeSlots.take(slot, 1)
    this.granules.take(start, granules)
    if (slot >= this.#slotsUsed) this.#slotsUsed = slot + 1
    this.#start[slot] = start
    this.#length[slot] = granules
    this.#generation[slot] = this.#generation[slot]! + 1
    this.#types[slot] = type
    this.rename(slot, name)
    this.#chunks++
    return slot
  }

  /** Gives slot, granules and name back: after its free is committed, or when a claim is cancelled. */
  release(slot: number): void {
    this.granules.release(this.#start[slot]!, this.#length[slot]!)
    this.rename(slot, undefined)
    this.#types[slot] = undefined
    this.#length[slot] = 0
    this.#chunks--
    // A slot whose generations are used up is never given out again.
    if (this.#generation[slot]! < GENERATION_MAX) this.#freeSlots.release(slot, 1)
  }

  /** Changes the name in memory. The caller has seen that nobody else has it. */
  rename(slot: number, name: Text | undefined): void {
    const before = this.#names[slot]
    // Undoing a transaction may have given the name back to the chunk that had it before.
    if (before !== undefined && this.#slotByName.get(before.string) === slot) {
      this.#slotByName.delete(before.string)
    }
    if (name !== undefined) this.#slotByName.set(name.string, slot)
    this.#names[slot] = name
  }

  /** Stages the slot as it now stands: a chunk, or free. */
  stage(slot: number, batch: Batch, state: number): void {
    const { head, tail, seed } = this.#places
    const offset = slot * CHUNK_SLOT.bytes
    const at = batch.slot(head, TABLE_AT + offset, tail, this.#secondAt + offset)
    const { u8, u32 } = batch.staging
    const isChunk = state === CHUNK_STATE.CHUNK
    const name = isChunk ? (this.#names[slot]?.bytes ?? NO_BYTES) : NO_BYTES
    const type = isChunk ? (this.#types[slot]?.bytes ?? NO_BYTES) : NO_BYTES
    const version = (this.#version[slot]! + 1) >>> 0
    this.#version[slot] = version
    // The hand-written form of CHUNK_SLOT.write; a test holds the two together.
    const word = at >>> 2
    for (let i = word; i < word + CHUNK_SLOT.bytes / 4; i++) u32[i] = 0
    u32[word + 1] = version
    u32[word + 2] = this.#generation[slot]!
    u32[word + 3] = state | (name.length << 16)
    if (isChunk) {
      u32[word + 4] = this.#start[slot]!
      u32[word + 5] = this.#length[slot]!
      u32[word + 6] = type.length
      if (type.length > 0) u8.set(type, at + 32)
      if (name.length > 0) u8.set(name, at + 48)
    }
    u32[word] = crc32c(chunkSlotSeed(seed, slot), u8, at + 4, at + CHUNK_SLOT.bytes)
  }
}

function versionOf(slot: ChunkSlot | 'unused' | undefined): number {
  if (slot === undefined) return -1
  return slot === 'unused' ? 0 : slot.version
}

/** Which copy counts: the valid one, of two valid ones the newer. */
function newer(
  first: ChunkSlot | 'unused' | undefined,
  second: ChunkSlot | 'unused' | undefined,
): 0 | 1 | undefined {
  if (first === undefined && second === undefined) return undefined
  return versionOf(first) >= versionOf(second) || !checks.slotNewer ? 0 : 1
}

function decodeText(bytes: Uint8Array): Text | undefined {
  if (bytes.length === 0) return undefined
  try {
    return { string: decoder.decode(bytes), bytes }
  } catch (cause) {
    throw new PlinthError('ERR_VOLUME_CORRUPT', 'a name in the chunk table is not UTF-8', { cause })
  }
}

function corrupt(what: string): PlinthError {
  return new PlinthError('ERR_VOLUME_CORRUPT', what)
}
