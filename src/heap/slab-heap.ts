/**
 * The space of one heap: its chunks, its slabs by kind, and the steps from a wanted size to a block
 * and from a pointer back to it.
 *
 *   size, type ──▶ kind ──▶ lowest slab with a free block ──▶ lowest free block ──▶ pointer
 *                              └ none: lowest run of free units ──▶ a new slab
 *                                         └ none: one more chunk is loaded, in the end a new one made
 *
 *   pointer ──▶ granule ──▶ chunk ──▶ unit ──▶ slab ──▶ block          loads from typed arrays
 *
 * A kind is a class of sizes with a type tag; a slab is of one kind, so an object needs no header.
 * Chunks are mapped and read when they are needed: the cost of opening does not grow with the heap.
 * Within what is loaded space is taken from the front, so that the end of the heap can empty; the same
 * operations on the same volume give the same layout.
 *
 * Invariants:
 *   - a kind's set has every slab of loaded chunks that has a free block or was not built yet;
 *   - unit numbers of chunks never overlap, and `chunks` is in their order;
 *   - what is not durable (chunk) or not entered (slab) has no live object but those of the batch.
 */
import type { Chunk } from '../allocator/chunk.js'
import { insideOf, mappingOf } from '../allocator/chunk.js'
import type { ChunkStore } from '../allocator/chunk-store.js'
import { checkInteger } from '../base/arguments.js'
import { PlinthError } from '../base/errors.js'
import { KIB, MIB } from '../base/units.js'
import type { Geometry } from '../layout/geometry.js'
import {
  CHUNK_UNITS_MAX,
  HEAP_TYPE,
  slabBase,
  slabLayout,
  slabUnits,
  TYPE_MAX,
} from '../layout/heap.js'
import { largeChunkName, slabChunkName } from '../layout/heap-names.js'
import type { Batch } from '../log/batch.js'
import type { Log } from '../log/log.js'
import type { TransactionContext } from '../log/transaction-context.js'
import type { Mapping } from '../media/media.js'
import type { LargeMappings } from './large-mappings.js'
import { NONE, NumberSet } from './number-set.js'
import type { Location, PointerMap } from './pointer-map.js'
import type { SizeClasses } from './size-classes.js'
import { SlabChunk, type SlabOwner } from './slab-chunk.js'
import { readSlabs } from './slab-reader.js'
import { SlabStaging, STAGED_BYTES } from './slab-staging.js'
import { OP, type UndoLog } from './undo-log.js'

/** Large objects are in chunks whose only unit has this size: offsets within reach 2^32. */
const LARGE_UNIT_BYTES = 2 ** 31
/** New chunks have at most so many bytes while the heap is small, beyond that a share of it. */
const GROWTH = { smallBytes: 512 * KIB, smallHeapBytes: 64 * MIB, smallShare: 8, share: 128 }

/** A class with a type tag, and where its next block is. */
export class Kind {
  readonly index: number
  readonly type: number
  readonly blockBytes: number
  /** Numbers of the first units of slabs that may have a free block. */
  readonly slabs = new NumberSet()
  // The slab that `slabs.first` names, when `number` is equal to it.
  number = -1
  chunk: SlabChunk | undefined
  unit = 0

  constructor(index: number, type: number, blockBytes: number) {
    this.index = index
    this.type = type
    this.blockBytes = blockBytes
  }
}

/** What all heaps of a volume have in common. */
export interface HeapGround {
  readonly store: ChunkStore
  readonly context: TransactionContext
  readonly geometry: Geometry
  /** Of the volume's checksums. */
  readonly seed: number
  readonly pointers: PointerMap
  readonly undo: UndoLog
  readonly largeMappings: LargeMappings
}

export interface SlabHeapParts {
  readonly ground: HeapGround
  readonly id: number
  readonly name: string
  readonly unitBytes: number
  readonly classes: SizeClasses
}

export class SlabHeap implements SlabOwner {
  readonly ground: HeapGround
  readonly pointers: PointerMap
  readonly undoLog: UndoLog
  readonly context: TransactionContext
  readonly store: ChunkStore
  readonly log: Log
  readonly batch: Batch
  readonly id: number
  readonly name: string
  readonly unitBytes: number
  readonly classes: SizeClasses
  /** Slab chunks, by number of their first unit; the root chunk is one. */
  readonly chunks: SlabChunk[] = []
  readonly larges = new Set<SlabChunk>()
  readonly kinds: Kind[] = []
  root = 0
  rootChunk!: SlabChunk
  readonly #untyped: (Kind | undefined)[]
  readonly #typed = new Map<number, Kind>()
  readonly staging: SlabStaging
  /** From this one of `chunks` on all are loaded. */
  #unloaded = 0

  constructor(parts: SlabHeapParts) {
    const { ground } = parts
    this.ground = ground
    this.pointers = ground.pointers
    this.undoLog = ground.undo
    this.context = ground.context
    this.store = ground.store
    this.log = this.store.log
    this.batch = this.log.batch
    this.staging = new SlabStaging(this.batch, ground.seed, parts.id)
    this.id = parts.id
    this.name = parts.name
    this.unitBytes = parts.unitBytes
    this.classes = parts.classes
    this.#untyped = new Array(parts.classes.sizes.length).fill(undefined)
  }

  /** The kind of an object; undefined for one so large that it is a chunk. */
  kindFor(size: number, type: number): Kind | undefined {
    if (typeof size !== 'number' || size >>> 0 !== size || size === 0) checkInteger(size, 'size', 1)
    if (typeof type !== 'number' || type >>> 0 !== type || type >= TYPE_MAX) {
      checkInteger(type, 'type', 0, TYPE_MAX - 1)
    }
    if (size > this.classes.largest) return undefined
    return this.#kind(this.classes.of(size), type)
  }

  #kind(index: number, type: number): Kind {
    const key = index * TYPE_MAX + type
    const known = type === 0 ? this.#untyped[index] : this.#typed.get(key)
    if (known !== undefined) return known
    const kind = new Kind(this.kinds.length, type, this.classes.sizes[index]!)
    this.kinds.push(kind)
    if (type === 0) this.#untyped[index] = kind
    else this.#typed.set(key, kind)
    return kind
  }

  /** The type tag of the objects of a slab. */
  typeOf(chunk: SlabChunk, unit: number): number {
    const kind = chunk.kindOf[unit]!
    return chunk.isLarge ? kind : this.kinds[kind]!.type
  }

  /** The slab (`kind.chunk`, `kind.unit`) of a loaded chunk from which the next block comes; false for none. */
  find(kind: Kind): boolean {
    const { slabs } = kind
    while (kind.number !== slabs.first) {
      const { first } = slabs
      if (first === NONE) return false
      const chunk = this.#chunkOfUnit(first)
      const unit = first - chunk.firstUnit
      chunk.slabAt(unit)
      if (chunk.free[unit] === 0) {
        slabs.delete(first)
        continue
      }
      kind.number = first
      kind.chunk = chunk
      kind.unit = unit
    }
    return true
  }

  /** Takes a block of the slab that `find` has found. It is nobody's yet. */
  take(kind: Kind): number {
    const chunk = kind.chunk!
    const { unit } = kind
    const block = chunk.takeFree(unit)
    if (chunk.free[unit] === 0) kind.slabs.delete(kind.number)
    return block
  }

  /** Gives a taken block back. */
  give(chunk: SlabChunk, unit: number, block: number): void {
    chunk.release(unit, block)
    if (chunk.free[unit] === 1) {
      this.kinds[chunk.kindOf[unit]!]!.slabs.add(chunk.firstUnit + unit)
    }
  }

  /**
   * Makes sure that `find` finds a slab. What is loaded comes first; then chunks are loaded from the
   * last one, where free space is most likely; a new chunk is made when all are and none has room.
   */
  provide(kind: Kind): void {
    if (this.find(kind)) return
    for (const chunk of this.chunks) if (this.#openSlab(chunk, kind)) break
    while (!this.find(kind)) {
      // Of what was loaded before none has room: the one that comes is all there is to look at.
      const next = this.#nextToLoad()
      if (next === undefined) this.#openSlab(this.#newChunk(kind.blockBytes), kind)
      else {
        this.load(next)
        if (!this.find(kind)) this.#openSlab(next, kind)
      }
    }
  }

  /** Begins a slab at the lowest run of free units; false when the chunk is not loaded or has none. */
  #openSlab(chunk: SlabChunk, kind: Kind): boolean {
    const unit = chunk.loaded ? chunk.findRun(kind.blockBytes) : -1
    if (unit === -1) return false
    chunk.openSlab(unit, kind.index, kind.blockBytes, true)
    kind.slabs.add(chunk.firstUnit + unit)
    return true
  }

  #chunkOfUnit(number: number): SlabChunk {
    const { chunks } = this
    let low = 0
    let high = chunks.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (chunks[middle]!.firstUnit <= number) low = middle
      else high = middle - 1
    }
    return chunks[low]!
  }

  /** A chunk in memory alone that has room for a slab of such blocks. */
  #newChunk(blockBytes: number): SlabChunk {
    const { store, unitBytes } = this
    const { granuleBytes } = this.ground.geometry
    const step = Math.max(1, granuleBytes / unitBytes)
    let units = step
    while (!fitsChunk(units, unitBytes, blockBytes)) units += step
    let heapBytes = 0
    for (const chunk of this.chunks) heapBytes += chunk.sizeBytes
    const wantedBytes =
      heapBytes < GROWTH.smallHeapBytes
        ? Math.min(heapBytes / GROWTH.smallShare, GROWTH.smallBytes)
        : heapBytes / GROWTH.share
    const steps = Math.floor(Math.min(wantedBytes / unitBytes, CHUNK_UNITS_MAX) / step)
    let chunk: Chunk
    try {
      const size = Math.max(units, steps * step) * unitBytes
      chunk = store.reserve({ size, type: HEAP_TYPE.SLAB }, true)
    } catch (error) {
      if ((error as PlinthError).code !== 'ERR_NO_SPACE') throw error
      // A nearly full volume: what is needed now is enough.
      chunk = store.reserve({ size: units * unitBytes, type: HEAP_TYPE.SLAB }, true)
    }
    const firstUnit = this.#freeNumber(chunk.size / unitBytes)
    this.store.nameReserved(chunk, slabChunkName(this.id, firstUnit))
    return this.addSlabChunk(chunk, firstUnit, false)
  }

  /** The lowest unit number behind which `units` are free. */
  #freeNumber(units: number): number {
    let number = 0
    for (const chunk of this.chunks) {
      if (chunk.firstUnit - number >= units) break
      number = chunk.firstUnit + chunk.units
    }
    return number
  }

  /** Takes a slab chunk in: one of the table, which is loaded later, or a new one. */
  addSlabChunk(handle: Chunk, firstUnit: number, durable: boolean, isRoot = false): SlabChunk {
    const { unitBytes, chunks } = this
    const chunk = new SlabChunk({
      owner: this,
      chunk: handle,
      firstUnit,
      units: handle.size / unitBytes,
      unitBytes,
      isRoot,
      isLarge: false,
      durable,
    })
    if (!durable) {
      try {
        const mapping = mappingOf(handle, this.store)
        // No entry and no bit may be there once the chunk is. Nobody has this space: it needs no record.
        this.log.zero(mapping, 0, chunk.layout.headBytes)
        chunk.attach(mapping)
      } catch (error) {
        this.store.cancel(handle)
        throw error
      }
    }
    // Mostly it is the last: those of the table come in their order.
    let next = chunks.length
    while (next > 0 && chunks[next - 1]!.firstUnit > firstUnit) next--
    chunks.splice(next, 0, chunk)
    this.#unloaded = chunks.length
    this.pointers.register(chunk)
    return chunk
  }

  #dropSlabChunk(chunk: SlabChunk): void {
    this.chunks.splice(this.chunks.indexOf(chunk), 1)
    this.pointers.unregister(chunk)
  }

  /** The last chunk that is not loaded. */
  #nextToLoad(): SlabChunk | undefined {
    const { chunks } = this
    this.#unloaded = Math.min(this.#unloaded, chunks.length)
    while (this.#unloaded > 0) {
      const chunk = chunks[this.#unloaded - 1]!
      if (!chunk.loaded) return chunk
      this.#unloaded--
    }
    return undefined
  }

  loadAll(): void {
    for (let next = this.#nextToLoad(); next !== undefined; next = this.#nextToLoad()) {
      this.load(next)
    }
  }

  regain(mapping: Mapping): void {
    this.log.media.regain(mapping)
  }

  /**
   * Reads a chunk's head.
   * @throws PlinthError ERR_VOLUME_CORRUPT when it contradicts itself, the heap or the chunk table
   */
  load(chunk: SlabChunk): void {
    if (chunk.isLarge) {
      this.ground.largeMappings.map(chunk)
      return
    }
    const mapping = mappingOf(chunk.chunk, this.store)
    const found = readSlabs(chunk, mapping.bytes, {
      heap: this.id,
      name: this.name,
      unitBytes: this.unitBytes,
      classes: this.classes,
      seed: this.ground.seed,
    })
    chunk.attach(mapping)
    for (const { unit, index, type } of found) {
      const kind = this.#kind(index, type)
      chunk.openSlab(unit, kind.index, kind.blockBytes, false)
      kind.slabs.add(chunk.firstUnit + unit)
    }
  }

  /** Reserves a block, or a chunk for a large object. Returns the chunk; where in it goes to `at`. */
  reserve(size: number, type: number, at: Location): SlabChunk {
    const kind = this.kindFor(size, type)
    if (kind === undefined) {
      at.unit = at.block = 0
      return this.#reserveLarge(size, type)
    }
    this.provide(kind)
    const chunk = kind.chunk!
    at.unit = kind.unit
    at.block = this.take(kind)
    chunk.setReserved(at.unit, at.block)
    return chunk
  }

  #mapNew(chunk: SlabChunk): void {
    try {
      this.ground.largeMappings.map(chunk)
    } catch (error) {
      this.store.cancel(chunk.chunk)
      throw error
    }
  }

  #reserveLarge(size: number, type: number): SlabChunk {
    const { store } = this
    const { granuleBytes } = this.ground.geometry
    if (size > 2 * LARGE_UNIT_BYTES - granuleBytes) {
      throw new PlinthError('ERR_CHUNK_TOO_LARGE', `an object of ${size} bytes is too large`)
    }
    const handle = store.reserve({ size, type: HEAP_TYPE.LARGE }, true)
    const name = largeChunkName(this.id, type, handle.offset / granuleBytes)
    this.store.nameReserved(handle, name)
    return this.addLarge(handle, type, false)
  }

  /** Takes a large object in: one of the table, or a new one. */
  addLarge(handle: Chunk, type: number, durable: boolean): SlabChunk {
    const chunk = new SlabChunk({
      owner: this,
      chunk: handle,
      firstUnit: 0,
      units: 2,
      unitBytes: LARGE_UNIT_BYTES,
      isRoot: false,
      isLarge: true,
      durable,
    })
    if (!durable) this.#mapNew(chunk)
    chunk.openLarge(type, durable)
    this.larges.add(chunk)
    this.pointers.register(chunk)
    return chunk
  }

  /** A reservation ends and nothing was written. */
  cancel(chunk: SlabChunk, unit: number, block: number): void {
    chunk.clearReserved(unit, block)
    if (chunk.isLarge) {
      this.#dropLarge(chunk)
      this.store.cancel(chunk.chunk)
      return
    }
    this.give(chunk, unit, block)
    this.#dropUnused(chunk, unit)
  }

  /** A slab that is in memory alone goes with its last block, and the chunk that was made for it. */
  #dropUnused(chunk: SlabChunk, unit: number): void {
    if (chunk.free[unit] === chunk.blocks[unit]) {
      if (chunk.entered[unit] === 0) this.#closeSlab(chunk, unit)
      else this.undoLog.noteIdle(chunk, unit)
    }
    if (!chunk.durable && chunk.slabs === 0) this.drop(chunk)
  }

  #closeSlab(chunk: SlabChunk, unit: number): void {
    const kind = this.kinds[chunk.kindOf[unit]!]!
    const number = chunk.firstUnit + unit
    kind.slabs.delete(number)
    if (kind.number === number) kind.number = -1
    chunk.closeSlab(unit)
  }

  #dropLarge(chunk: SlabChunk): void {
    this.larges.delete(chunk)
    this.ground.largeMappings.forget(chunk)
    this.pointers.unregister(chunk)
  }

  /** Stages that a reserved block is live: its bit, and its slab and chunk where they are new. */
  stagePublish(chunk: SlabChunk, unit: number, block: number): void {
    const { undoLog, staging } = this
    if (!chunk.durable) this.stageChunk(chunk)
    if (chunk.entered[unit] === 0) {
      undoLog.push(OP.SLAB, chunk, unit, block)
      chunk.entered[unit] = 1
      if (!chunk.isLarge) staging.entry(chunk, unit, this.kinds[chunk.kindOf[unit]!]!.type)
    }
    undoLog.push(OP.PUBLISH, chunk, unit, block)
    chunk.clearReserved(unit, block)
    chunk.setLive(unit, block)
    if (!chunk.isLarge) staging.bits(chunk, unit, block)
  }

  /** Stages that a chunk exists. */
  stageChunk(chunk: SlabChunk): void {
    this.undoLog.push(OP.CHUNK, chunk, 0, 0)
    chunk.durable = true
    this.store.stagePublish(chunk.chunk, this.batch)
    if (!chunk.isLarge) this.staging.header(chunk)
  }

  /** A chunk that never came to be. */
  drop(chunk: SlabChunk): void {
    this.#dropSlabChunk(chunk)
    this.store.cancel(chunk.chunk)
  }

  /** Stages that a live block is free; its space can be had again once that is committed. */
  stageFree(chunk: SlabChunk, unit: number, block: number): void {
    const { undoLog } = this
    undoLog.push(OP.FREE, chunk, unit, block)
    chunk.clearLive(unit, block)
    if (chunk.isLarge) {
      undoLog.push(OP.GIVE, chunk, unit, block)
      this.store.stageFree(chunk.chunk, this.batch)
    } else {
      this.staging.bits(chunk, unit, block)
    }
  }

  /** Stages the release of a slab without objects, and of a chunk without slabs if another such stays. */
  releaseIfEmpty(chunk: SlabChunk, unit: number): void {
    const { undoLog, batch } = this
    if (chunk.entered[unit] === 0 || chunk.used[unit] !== 0 || chunk.reservations[unit] !== 0)
      return
    // A record without room for it leaves an empty slab: its blocks are given out again as any others.
    if (batch.room < STAGED_BYTES.RELEASE) return
    undoLog.push(OP.RELEASE, chunk, unit, 0)
    chunk.entered[unit] = 0
    chunk.leaving++
    this.staging.noEntry(chunk, unit)
    if (chunk.slabs > chunk.leaving) return
    // The first stays: else an object that comes and goes would take a chunk and give it back each time.
    let kept = false
    for (const each of this.chunks) {
      if (!each.loaded || !each.durable || each.given || each.slabs > each.leaving) continue
      if (kept && !each.isRoot && batch.room >= STAGED_BYTES.RELEASE) {
        undoLog.push(OP.GIVE, each, 0, 0)
        each.given = true
        this.store.stageFree(each.chunk, batch)
      }
      kept = true
    }
  }

  carryThrough(op: number, chunk: SlabChunk, unit: number, block: number): void {
    if (op === OP.FREE) {
      if (!chunk.isLarge) this.give(chunk, unit, block)
    } else if (op === OP.CHUNK) {
      insideOf(chunk.chunk).state = 'live'
    } else if (op === OP.RELEASE) {
      chunk.leaving--
      this.#closeSlab(chunk, unit)
    } else if (op === OP.GIVE) {
      if (chunk.isLarge) this.#dropLarge(chunk)
      else this.#dropSlabChunk(chunk)
      this.store.finishFree(chunk.chunk)
    }
  }

  undo(op: number, chunk: SlabChunk, unit: number, block: number): void {
    if (op === OP.TAKE) {
      this.cancel(chunk, unit, block)
    } else if (op === OP.CHUNK) {
      chunk.durable = false
    } else if (op === OP.SLAB) {
      chunk.entered[unit] = 0
    } else if (op === OP.ALLOCATE) {
      chunk.clearLive(unit, block)
      this.give(chunk, unit, block)
    } else if (op === OP.PUBLISH) {
      chunk.clearLive(unit, block)
      chunk.setReserved(unit, block)
    } else if (op === OP.FREE) {
      chunk.setLive(unit, block)
    } else if (op === OP.RELEASE) {
      chunk.entered[unit] = 1
      chunk.leaving--
    } else {
      chunk.given = false
    }
  }
}

/** Whether an empty chunk of so many units has room for a slab of such blocks. */
function fitsChunk(units: number, unitBytes: number, blockBytes: number): boolean {
  const { headBytes } = slabLayout(units, unitBytes, false)
  const first = Math.floor(headBytes / unitBytes)
  const usable = slabBase(first, unitBytes, headBytes, blockBytes) !== undefined
  return (usable ? first : first + 1) + slabUnits(blockBytes, unitBytes) <= units
}
