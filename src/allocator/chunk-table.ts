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
import { isUtf8 } from 'node:buffer'
import { crc32c } from '../base/checksum.js'
import { PlinthError } from '../base/errors.js'
import type { GranuleIndex } from '../base/units.js'
import type { SlotCounts } from '../layout/checkpoint-header.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkIdOf,
  chunkSlotSeed,
  GENERATION_MAX,
  judgeChunkSlot,
  newerSlot,
  SLOT_IS,
  SLOTS_MAX,
  versionOfSlot,
} from '../layout/chunk-slot.js'
import { type Geometry, type GranuleRun, metadataRuns } from '../layout/geometry.js'
import type { Batch } from '../log/batch.js'
import { SlotCopies, SlotPlace, type SlotPlaces } from '../log/slot-copies.js'
import { FreeIndex } from './free-index.js'
import { NameIndex } from './name-index.js'

/** Text as it is kept: the string and its bytes. */
export interface Text {
  readonly string: string
  readonly bytes: Uint8Array
}

const NO_BYTES = new Uint8Array(0)
const decoder = new TextDecoder('utf-8', { fatal: true })
/** Where the name of a slot stands: nowhere, in the table on the device as it was read, in memory. */
const NAMING = { NONE: 0, STORED: 1, KEPT: 2 } as const

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
  readonly #slotByName = new NameIndex((slot) => this.#nameBytes(slot))
  readonly #names: (Text | undefined)[] = []
  /** `NAMING` of each slot. */
  #naming: Uint8Array
  readonly #typeByName = new Map<string, Text>()
  #lastType: Text | undefined
  readonly #types: (Text | undefined)[] = []
  #start: Uint32Array
  #length: Uint32Array
  #generation: Uint32Array
  #version: Uint32Array
  #slotsUsed = 0
  #chunks = 0
  /** Granules with known bad blocks that no chunk has: neither free nor anybody's. */
  readonly quarantined = new Set<GranuleIndex>()
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
    this.#naming = new Uint8Array(geometry.slots)
  }

  get slotsUsed(): number {
    return this.#slotsUsed
  }

  get chunks(): number {
    return this.#chunks
  }

  /** For the checkpoint header; valid until the next call. A slot that was taken in memory alone, below one that was written, is a hole. */
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
    this.#quarantine(before, granules - before)
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
    const naming = new Uint8Array(slots)
    naming.set(this.#naming)
    this.#naming = naming
    this.#freeSlots.grow(slots)
    this.#freeSlots.release(before, slots - before)
  }

  /**
   * Reads the slots that were ever used, as the checkpoint header tells or the log (`logged`), and makes the
   * indexes. Where one copy is damaged or behind, the other counts: `repair` is called with the slot, and
   * which copy to take the place of which, when all was read. With `salvage`, for readers, slots that are
   * damaged or contradict those before them are left out.
   * @returns how many were left out or are lost
   * @throws PlinthError ERR_VOLUME_CORRUPT when both copies of a slot are damaged or gone, or chunks contradict each other.
   */
  load(
    header: SlotCounts,
    logged: number,
    repair: (slot: number, from: 0 | 1) => void,
    salvage = false,
  ): number {
    const { geometry } = this.#places
    const copies = this.copies
    const slotsUsed = Math.max(header.slotsUsed, logged)
    if (slotsUsed > geometry.slots)
      throw corrupt(`the checkpoint header names ${slotsUsed} chunk slots`)
    this.#slotsUsed = this.#slotsSeen = slotsUsed
    const used: number[] = []
    const toRepair: [slot: number, from: 0 | 1][] = []
    let leftOut = 0
    const refuse = (what: string) => {
      if (!salvage) throw corrupt(what)
      leftOut++
    }
    for (let slot = 0; slot < slotsUsed; ) {
      // A volume may have millions of slots that were never written: they are passed by many at a time.
      for (let end = copies.unusedFrom(slot, slotsUsed); slot < end; slot++) this.#holes.push(slot)
      if (slot === slotsUsed) break
      // And millions of chunks, whose two copies are the same nearly always.
      const end = copies.sameUntil(slot, slotsUsed)
      if (end > slot) {
        this.#takeSame(slot, end, used, refuse)
        slot = end
        continue
      }
      const [first, second] = [copies.read(slot, 0), copies.read(slot, 1)]
      const winner = newerSlot(first, second)
      const values = winner === 0 ? first : second
      if (winner === undefined) {
        refuse(`both copies of chunk slot ${slot} are damaged`)
      } else {
        const isDifferent = versionOfSlot(first) !== versionOfSlot(second)
        if (isDifferent && !copies.isBad(slot, winner === 0 ? 1 : 0)) toRepair.push([slot, winner])
        if (values === 'unused') this.#holes.push(slot)
        else {
          const { generation, version, state, start, granules } = values!
          const isChunk = state === CHUNK_STATE.CHUNK
          if (this.#takeSlot(slot, generation, version, isChunk, start, granules, refuse)) {
            const bytes = copies.bytes(slot, winner).slice()
            const wrong = this.#takeTexts(slot, bytes, 0, false)
            if (wrong !== undefined) refuse(wrong)
            used.push(slot)
          }
        }
      }
      slot++
    }
    const holes = this.#holes.findLastIndex((slot) => slot < header.slotsUsed) + 1
    if (holes > header.holes) {
      const lost = holes - header.holes
      refuse(`${lost} chunk slots are empty in both copies: chunks were lost`)
      leftOut += lost - 1
    }
    this.#takeSlots(used)
    this.#chunks = used.length
    this.#sortByPlace(used)
    this.#findFree(used, refuse)
    this.#quarantine(0, geometry.granules)
    for (const [slot, from] of toRepair) repair(slot, from)
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
  #quarantine(start: GranuleIndex, length: number): void {
    const { geometry, badBlocks } = this.#places
    if (badBlocks.isEmpty) return
    const { granuleBytes } = geometry
    for (const bad of badBlocks.within(start * granuleBytes, length * granuleBytes)) {
      const end = Math.ceil((bad.offset + bad.length) / granuleBytes)
      for (let granule = Math.floor(bad.offset / granuleBytes); granule < end; granule++) {
        if (!this.granules.isFree(granule, 1)) continue
        this.granules.take(granule, 1)
        this.quarantined.add(granule)
      }
    }
  }

  /** Takes slots whose two copies are the same: without an object for each. */
  #takeSame(from: number, end: number, used: number[], refuse: (what: string) => void): void {
    const { copies } = this
    const { bytes } = copies.mapping(from, 0)
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
    const { seed } = this.#places
    let at = copies.at(from)
    for (let slot = from; slot < end; slot++, at += CHUNK_SLOT.bytes) {
      const judgment = judgeChunkSlot(bytes, words, at, chunkSlotSeed(seed, slot))
      if (judgment === SLOT_IS.UNUSED) this.#holes.push(slot)
      else if (judgment === SLOT_IS.DAMAGED) {
        refuse(`both copies of chunk slot ${slot} are damaged`)
      } else {
        const word = at >>> 2
        const isChunk = (words[word + 3]! & 0xffff) === CHUNK_STATE.CHUNK
        const [generation, version] = [words[word + 2]!, words[word + 1]!]
        const [start, granules] = [words[word + 4]!, words[word + 5]!]
        if (this.#takeSlot(slot, generation, version, isChunk, start, granules, refuse)) {
          const wrong = this.#takeTexts(slot, bytes, at, true)
          if (wrong !== undefined) refuse(wrong)
          used.push(slot)
        }
      }
    }
  }

  /** What a whole slot says. True for a chunk that can be. */
  #takeSlot(
    slot: number,
    generation: number,
    version: number,
    isChunk: boolean,
    start: GranuleIndex,
    granules: number,
    refuse: (what: string) => void,
  ): boolean {
    const { geometry } = this.#places
    this.#generation[slot] = generation
    this.#version[slot] = version
    if (!isChunk) {
      // Its generations are used up: never given out again.
      if (generation === GENERATION_MAX) this.#freeSlots.take(slot, 1)
      return false
    }
    const first = geometry.dataAt / geometry.granuleBytes
    if (start < first || start + granules > geometry.granules) {
      refuse(`the chunk in slot ${slot} runs past the ends of the volume`)
      return false
    }
    this.#start[slot] = start
    this.#length[slot] = granules
    return true
  }

  /** Of these slots, in ascending order, none is free. */
  #takeSlots(used: readonly number[]): void {
    for (let i = 0; i < used.length; ) {
      const first = used[i]!
      let length = 1
      while (used[i + length] === first + length) length++
      this.#freeSlots.take(first, length)
      i += length
    }
  }

  /** Nearly always they are in order already. */
  #sortByPlace(slots: number[]): void {
    const start = this.#start
    for (let i = 1; i < slots.length; i++) {
      if (start[slots[i]!]! < start[slots[i - 1]!]!) {
        slots.sort((a, b) => start[a]! - start[b]!)
        return
      }
    }
  }

  /**
   * Takes name and type over from the bytes of a slot. Says why they cannot be; the chunk is without them then. With
   * `isStored` both copies on the device say so, and the name stays there until it is asked for.
   */
  #takeTexts(slot: number, bytes: Uint8Array, at: number, isStored: boolean): string | undefined {
    const nameBytes = bytes[at + CHUNK_SLOT.fields.nameBytes[0]]!
    const typeBytes = bytes[at + CHUNK_SLOT.fields.typeBytes[0]]!
    if (nameBytes === 0 && typeBytes === 0) return undefined
    const nameAt = at + CHUNK_SLOT.fields.name[0]
    const typeAt = at + CHUNK_SLOT.fields.type[0]
    const type = typeBytes === 0 ? undefined : this.#typeFrom(bytes, typeAt, typeBytes)
    const isText = nameBytes === 0 || isUtf8Text(bytes, nameAt, nameBytes)
    if (type === 'invalid' || !isText) {
      return `a name or a type in chunk slot ${slot} is not UTF-8`
    }
    this.#types[slot] = type
    if (nameBytes === 0) return undefined
    const name = bytes.subarray(nameAt, nameAt + nameBytes)
    if (this.#slotByName.find(name) !== -1) return `two chunks are named '${decoder.decode(name)}'`
    if (isStored) this.#naming[slot] = NAMING.STORED
    else this.#keepName(slot, { string: decoder.decode(name), bytes: name })
    this.#slotByName.set(name, slot)
    return undefined
  }

  /** There are few types, and neighbours have the same. */
  #typeFrom(bytes: Uint8Array, at: number, length: number): Text | 'invalid' {
    const type = bytes.subarray(at, at + length)
    const last = this.#lastType
    if (last !== undefined && Buffer.compare(last.bytes, type) === 0) return last
    if (!isUtf8Text(bytes, at, length)) return 'invalid'
    const string = decoder.decode(type)
    const known = this.#typeByName.get(string) ?? { string, bytes: type.slice() }
    this.#typeByName.set(string, known)
    this.#lastType = known
    return known
  }

  #keepName(slot: number, name: Text | undefined): void {
    this.#names[slot] = name
    this.#naming[slot] = name === undefined ? NAMING.NONE : NAMING.KEPT
  }

  /** Bytes of the name of a slot that has one. */
  #nameBytes(slot: number): Uint8Array {
    if (this.#naming[slot] === NAMING.KEPT) return this.#names[slot]!.bytes
    const bytes = this.copies.bytes(slot, 0)
    const { name, nameBytes } = CHUNK_SLOT.fields
    return bytes.subarray(name[0], name[0] + bytes[nameBytes[0]]!)
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
    return this.#slotByName.find(Buffer.from(name))
  }

  startOf(slot: number): GranuleIndex {
    return this.#start[slot]!
  }

  granulesOf(slot: number): number {
    return this.#length[slot]!
  }

  nameOf(slot: number): Text | undefined {
    if (this.#naming[slot] !== NAMING.STORED) return this.#names[slot]
    const bytes = this.#nameBytes(slot).slice()
    const name = { string: decoder.decode(bytes), bytes }
    this.#keepName(slot, name)
    return name
  }

  /** The name alone; memory keeps nothing of it, for whoever asks for many. */
  nameStringOf(slot: number): string | undefined {
    if (this.#naming[slot] !== NAMING.STORED) return this.#names[slot]?.string
    const { buffer, byteOffset, length } = this.#nameBytes(slot)
    return Buffer.from(buffer, byteOffset, length).toString()
  }

  typeOf(slot: number): Text | undefined {
    return this.#types[slot]
  }

  /** Slots of all chunks, lowest offset first. */
  slotsInOrder(): number[] {
    const slots: number[] = []
    for (let slot = 0; slot < this.#slotsUsed; slot++) if (this.#length[slot]! > 0) slots.push(slot)
    this.#sortByPlace(slots)
    return slots
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
    this.#quarantine(this.#start[slot]!, this.#length[slot]!)
    this.rename(slot, undefined)
    this.#types[slot] = undefined
    this.#length[slot] = 0
    this.#chunks--
    // A slot whose generations are used up is never given out again.
    if (this.#generation[slot]! < GENERATION_MAX) this.#freeSlots.release(slot, 1)
  }

  /** Changes the name in memory. The caller has seen that nobody else has it. */
  rename(slot: number, name: Text | undefined): void {
    const before = this.nameOf(slot)
    // Undoing a transaction may have given the name back to the chunk that had it before.
    if (before !== undefined) this.#slotByName.delete(before.bytes, slot)
    if (name !== undefined) this.#slotByName.set(name.bytes, slot)
    this.#keepName(slot, name)
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
    const name = isChunk ? (this.nameOf(slot)?.bytes ?? NO_BYTES) : NO_BYTES
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

/** Most texts are ASCII: for those no call is made. */
function isUtf8Text(bytes: Uint8Array, at: number, length: number): boolean {
  for (let i = at; i < at + length; i++) {
    if (bytes[i]! >= 0x80) return isUtf8(bytes.subarray(at, at + length))
  }
  return true
}

function corrupt(what: string): PlinthError {
  return new PlinthError('ERR_VOLUME_CORRUPT', what)
}
