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

import { crc32c } from '../base/checksum.js'
import { PlinthError } from '../base/errors.js'
import type { GranuleIndex } from '../base/units.js'
import type { SlotCounts } from '../layout/anchor.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  type ChunkSlot,
  chunkIdOf,
  chunkSlotSeed,
  GENERATION_MAX,
  newerSlot,
  SLOTS_MAX,
  textOf,
  versionOfSlot,
} from '../layout/chunk-slot.js'
import { type Geometry, type GranuleRun, metadataRuns } from '../layout/geometry.js'
import type { Batch } from '../log/batch.js'
import { SlotCopies, SlotPlace, type SlotPlaces } from '../log/slot-copies.js'
import { FreeIndex } from './free-index.js'

/** Text as it is kept: the string and its bytes. */
export interface Text {
  readonly string: string
  readonly bytes: Uint8Array
}

const NO_BYTES = new Uint8Array(0)

/** Where the table is, and the volume that it is of: both grow. */
export interface TablePlaces extends SlotPlaces {
  readonly geometry: Geometry
}

export class ChunkTable {
  readonly granules: FreeIndex
  readonly #places: TablePlaces
  readonly copies: SlotCopies
  readonly #place = new SlotPlace()
  readonly #freeSlots: FreeIndex
  readonly #slotByName = new Map<string, number>()
  readonly #names: (Text | undefined)[] = []
  readonly #types: (Text | undefined)[] = []
  #start: Uint32Array
  #length: Uint32Array
  #generation: Uint32Array
  #version: Uint32Array
  #slotsUsed = 0
  #chunks = 0
  /** Granules with known bad blocks that no chunk has: neither free nor anybody's. */
  readonly keptOut = new Set<GranuleIndex>()
  /** Slots below `#slotsSeen` that were never written, when they were last looked at. */
  readonly #holes: number[] = []
  #slotsSeen = 0
  readonly #counts = { slotsUsed: 0, holes: 0 }

  constructor(places: TablePlaces) {
    const { geometry } = places
    this.#places = places
    this.copies = new SlotCopies(places)
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

  /** For the anchor; valid until the next call. A slot that was taken in memory alone, below one that was written, is a hole. */
  slotCounts(): SlotCounts {
    const holes = this.#holes
    for (; this.#slotsSeen < this.#slotsUsed; this.#slotsSeen++) holes.push(this.#slotsSeen)
    let left = 0
    for (let i = 0; i < holes.length; i++) {
      if (this.copies.isUnwritten(holes[i]!)) holes[left++] = holes[i]!
    }
    while (holes.length > left) holes.pop()
    this.#counts.slotsUsed = this.#slotsUsed
    this.#counts.holes = left
    return this.#counts
  }

  /** The volume has grown: its geometry says how far. What was the tail is free, and what was behind it. */
  addGranules(): void {
    const { granules } = this.#places.geometry
    const before = this.granules.cells
    if (granules === before) return
    this.granules.grow(granules)
    this.granules.release(before, granules - before)
    this.#keepOut(before, granules - before)
  }

  /** The table has another extent: its geometry says how many slots there are. */
  addSlots(): void {
    const { slots } = this.#places.geometry
    const before = this.#start.length
    const more = (from: Uint32Array) => {
      const grown = new Uint32Array(slots)
      grown.set(from)
      return grown
    }
    this.#start = more(this.#start)
    this.#length = more(this.#length)
    this.#generation = more(this.#generation)
    this.#version = more(this.#version)
    this.#freeSlots.grow(slots)
    this.#freeSlots.release(before, slots - before)
  }

  /**
   * Reads the slots that were ever used, as the anchor tells or the log (`logged`), and makes the
   * indexes. Where one copy is damaged or behind, the other counts: `heal` is called with the slot, and
   * which copy to take the place of which, when all was read. With `salvage`, for readers, slots that are
   * damaged or contradict those before them are left out.
   * @returns how many were left out or are lost
   * @throws PlinthError ERR_VOLUME_CORRUPT when both copies of a slot are damaged or gone, or chunks contradict each other.
   */
  load(
    anchor: SlotCounts,
    logged: number,
    heal: (slot: number, from: 0 | 1) => void,
    salvage = false,
  ): number {
    const { geometry } = this.#places
    const copies = this.copies
    const slotsUsed = Math.max(anchor.slotsUsed, logged)
    if (slotsUsed > geometry.slots) throw corrupt(`the anchor names ${slotsUsed} chunk slots`)
    this.#slotsUsed = this.#slotsSeen = slotsUsed
    const used: number[] = []
    const wounds: [slot: number, from: 0 | 1][] = []
    let leftOut = 0
    const refuse = (what: string) => {
      if (!salvage) throw corrupt(what)
      leftOut++
    }
    for (let slot = 0; slot < slotsUsed; slot++) {
      // A volume may have millions of slots that were never written: they are passed by many at a time.
      for (let end = copies.unusedFrom(slot, slotsUsed); slot < end; slot++) this.#holes.push(slot)
      if (slot === slotsUsed) break
      const [first, second] = [copies.read(slot, 0), copies.read(slot, 1)]
      const winner = newerSlot(first, second)
      if (winner === undefined) {
        refuse(`both copies of chunk slot ${slot} are damaged`)
        continue
      }
      const values = winner === 0 ? first! : second!
      if (
        versionOfSlot(first) !== versionOfSlot(second) &&
        !copies.isBad(slot, winner === 0 ? 1 : 0)
      )
        wounds.push([slot, winner])
      if (values === 'unused') {
        this.#holes.push(slot)
        continue
      }
      this.#generation[slot] = values.generation
      this.#version[slot] = values.version
      if (values.state === CHUNK_STATE.FREE) {
        // Its generations are used up: never given out again.
        if (values.generation === GENERATION_MAX) this.#freeSlots.take(slot, 1)
        continue
      }
      if (
        values.start + values.granules > geometry.granules ||
        values.start < geometry.dataAt / geometry.granuleBytes
      ) {
        refuse(`the chunk in slot ${slot} runs past the ends of the volume`)
        continue
      }
      const wrong = this.#setTexts(slot, values)
      if (wrong !== undefined) refuse(wrong)
      this.#start[slot] = values.start
      this.#length[slot] = values.granules
      used.push(slot)
    }
    const holes = this.#holes.findLastIndex((slot) => slot < anchor.slotsUsed) + 1
    if (holes > anchor.holes) {
      const lost = holes - anchor.holes
      refuse(`${lost} chunk slots are empty in both copies: chunks were lost`)
      leftOut += lost - 1
    }
    for (const slot of used) this.#freeSlots.take(slot, 1)
    this.#chunks = used.length
    used.sort((a, b) => this.#start[a]! - this.#start[b]!)
    this.#findFree(used, refuse)
    this.#keepOut(0, geometry.granules)
    for (const [slot, from] of wounds) heal(slot, from)
    return leftOut
  }

  /** What is between chunks (given in order of place), log and table is free. */
  #findFree(used: readonly number[], refuse: (what: string) => void): void {
    const { geometry } = this.#places
    const metadata = metadataRuns(geometry)
    let free: GranuleIndex = geometry.dataAt / geometry.granuleBytes
    const pass = ({ start, length }: GranuleRun, what: () => string) => {
      if (start < free) refuse(what())
      if (start > free) this.granules.release(free, start - free)
      free = Math.max(free, start + length)
    }
    let next = 0
    for (const slot of used) {
      const start = this.#start[slot]!
      while (next < metadata.length && metadata[next]!.start < start) {
        pass(metadata[next++]!, () => 'a chunk overlaps the log or the chunk table')
      }
      const run = { start, length: this.#length[slot]! }
      pass(run, () => `the chunk in slot ${slot} overlaps another, the log or the chunk table`)
    }
    for (; next < metadata.length; next++) {
      pass(metadata[next]!, () => 'a chunk overlaps the log or the chunk table')
    }
    if (free < geometry.granules) this.granules.release(free, geometry.granules - free)
  }

  /** Of these granules, takes the free ones with known bad blocks for good. */
  #keepOut(start: GranuleIndex, length: number): void {
    const { geometry, badBlocks } = this.#places
    if (badBlocks.isEmpty) return
    const { granuleBytes } = geometry
    for (const bad of badBlocks.within(start * granuleBytes, length * granuleBytes)) {
      const end = Math.ceil((bad.offset + bad.length) / granuleBytes)
      for (let granule = Math.floor(bad.offset / granuleBytes); granule < end; granule++) {
        if (!this.granules.isFree(granule, 1)) continue
        this.granules.take(granule, 1)
        this.keptOut.add(granule)
      }
    }
  }

  /** Says why a name or a type cannot be; the chunk is without it then. */
  #setTexts(slot: number, values: ChunkSlot): string | undefined {
    const name = decodeText(values, 'name')
    const type = decodeText(values, 'type')
    if (name !== 'invalid' && type !== 'invalid') {
      this.#types[slot] = type
      if (name !== undefined && this.#slotByName.has(name.string)) {
        return `two chunks are named '${name.string}'`
      }
      this.#names[slot] = name
      if (name !== undefined) this.#slotByName.set(name.string, slot)
      return undefined
    }
    return `a name or a type in chunk slot ${slot} is not UTF-8`
  }

  idOf(slot: number): number {
    return chunkIdOf(slot, this.#generation[slot]!)
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

  /** Takes a slot and granules for a new chunk, in memory alone. Returns the slot; -1 when none is left. */
  claim(
    start: GranuleIndex,
    granules: number,
    name: Text | undefined,
    type: Text | undefined,
  ): number {
    const slot = this.#freeSlots.find(1)
    if (slot === -1) return -1
    this.#take(slot, this.#generation[slot]! + 1, start, granules, name, type)
    return slot
  }

  /**
   * Takes the slot and the generation that an id names: a restored chunk keeps its id. Returns the
   * slot; -1 when the slot, its generation or the granules are taken.
   */
  claimAs(
    id: number,
    start: GranuleIndex,
    granules: number,
    name: Text | undefined,
    type: Text | undefined,
  ): number {
    const slot = id % SLOTS_MAX
    const generation = Math.floor(id / SLOTS_MAX)
    const isFree =
      slot < this.#length.length &&
      this.#length[slot] === 0 &&
      generation > this.#generation[slot]! &&
      generation <= GENERATION_MAX &&
      this.granules.isFree(start, granules)
    if (!isFree) return -1
    this.#take(slot, generation, start, granules, name, type)
    return slot
  }

  #take(
    slot: number,
    generation: number,
    start: GranuleIndex,
    granules: number,
    name: Text | undefined,
    type: Text | undefined,
  ): void {
    this.#freeSlots.take(slot, 1)
    this.granules.take(start, granules)
    if (slot >= this.#slotsUsed) this.#slotsUsed = slot + 1
    this.#start[slot] = start
    this.#length[slot] = granules
    this.#generation[slot] = generation
    this.#types[slot] = type
    this.rename(slot, name)
    this.#chunks++
  }

  /** Gives slot, granules and name back: after its free is committed, or when a claim is cancelled. */
  release(slot: number): void {
    this.granules.release(this.#start[slot]!, this.#length[slot]!)
    this.#keepOut(this.#start[slot]!, this.#length[slot]!)
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

  /** Of the two targets that were staged for a slot, the one in a bad block becomes the other. */
  #avoidBadCopy(slot: number, batch: Batch): void {
    for (const copy of [0, 1] as const) {
      if (!this.copies.isBad(slot, copy)) continue
      const good = copy === 0 ? 1 : 0
      batch.retargetSlot(copy, this.copies.mapping(slot, good))
    }
  }

  /** Stages the slot as it now stands: a chunk, or free. */
  stage(slot: number, batch: Batch, state: number): void {
    const { extents, seed, badBlocks } = this.#places
    const { copies } = this.#place.find(extents, slot)
    const at = batch.slot(slot, copies[0], copies[1], this.#place.offset)
    if (!badBlocks.isEmpty) this.#avoidBadCopy(slot, batch)
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

function decodeText(values: ChunkSlot, what: 'name' | 'type'): Text | 'invalid' | undefined {
  const length = values[`${what}Bytes`]
  if (length === 0) return undefined
  const string = textOf(values, what)
  return string === undefined ? 'invalid' : { string, bytes: values[what].subarray(0, length) }
}

function corrupt(what: string): PlinthError {
  return new PlinthError('ERR_VOLUME_CORRUPT', what)
}
