/**
 * Chunks on their way through life: space reserved, published, mapped, closed, freed.
 *
 *   reserve   space in memory only                      a crash cancels it
 *   publish   the slot goes into a batch                one record makes it durable
 *   map       views, when first asked for               one mapping for each open chunk
 *   close     stores durable, views empty               mapping kept warm within `warmBytes`
 *   free      the slot and a revocation into a batch    views emptied after the commit
 */
import { LRUCache } from 'lru-cache'
import {
  checkBoolean,
  checkInteger,
  checkOptions,
  checkPowerOfTwo,
  encodeText,
} from '../base/arguments.js'
import { argumentTypeError, argumentValueError, PlinthError } from '../base/errors.js'
import { GIB, type GranuleIndex, type Offset } from '../base/units.js'
import { CHUNK_STATE, NAME_BYTES_MAX, TYPE_BYTES_MAX } from '../layout/chunk-slot.js'
import { bytesToGranules, type Geometry, granuleToOffset } from '../layout/geometry.js'
import { OWN_TYPE_PREFIX } from '../layout/heap.js'
import type { Batch } from '../log/batch.js'
import type { Log } from '../log/log.js'
import type { TransactionContext } from '../log/transaction-context.js'
import type { Lifecycle } from '../media/lifecycle.js'
import type { Mapping } from '../media/media.js'
import { Chunk, type ChunkKeeper, insideOf, mappingOf, notUsable } from './chunk.js'
import type { ChunkTable, Text } from './chunk-table.js'

/** One ArrayBuffer holds no more on Node 20, and offsets within a mapping are 32 bits in the commit call. */
export const CHUNK_BYTES_MAX = 4 * GIB

/** What chunk is wanted. */
export interface AllocateOptions {
  /** Bytes wanted, 1 to 4 GiB; rounded up to whole granules. */
  readonly size: number
  /** A name by which the chunk is found: 1 to 64 bytes of UTF-8, unique in the volume. @default none */
  readonly name?: string | undefined
  /** What is in it, for `chunks()` and reports: 1 to 16 bytes of UTF-8. @default none */
  readonly type?: string | undefined
  /** Alignment of the chunk's offset in bytes, a power of two. @default the granule */
  readonly align?: number | undefined
  /** Whether its bytes are zero at first; costs writing them. @default false: unspecified */
  readonly zero?: boolean | undefined
}

/** A chunk as it was on another volume. */
export interface PlacedChunk {
  readonly id: number
  readonly offset: Offset
  readonly size: number
  readonly name?: string | undefined
  readonly type?: string | undefined
}
const ALLOCATE_OPTIONS = ['size', 'name', 'type', 'align', 'zero'] as const

/** Checked, encoded. */
interface Wanted {
  readonly size: number
  readonly name: Text | undefined
  readonly type: Text | undefined
  readonly align: number
  readonly zero: boolean
}

/** Makes room in a volume that can grow. What it does is durable, and is not rolled back. */
export interface RoomMaker {
  /** Bytes that the volume may grow to; undefined when it does not by itself. */
  readonly maxBytes: number | undefined
  /**
   * Lengthens the volume until a run of so many granules, begun at a multiple of `align` granules, is free. False when
   * it may not be so long.
   * @throws PlinthError ERR_NO_SPACE when the filesystem has no more
   */
  makeRoom(granules: number, align: number): boolean
  /** Gives the chunk table more slots. False when there is no room for them. */
  makeSlots(): boolean
  /** The room is taken, in memory: what follows from a longer volume may have of the rest. */
  roomTaken(): void
}

export interface ChunkStoreParts {
  readonly geometry: Geometry
  readonly table: ChunkTable
  readonly context: TransactionContext
  readonly warmBytes: number
  /** Chunks with known bad blocks may be mapped: their reader gets zeros there. */
  readonly zeroBadBlocks: boolean
  /** Called with each new mapping of a chunk, before anybody sees it. */
  readonly onMap: ((mapping: Mapping) => void) | undefined
}

export class ChunkStore implements ChunkKeeper {
  readonly table: ChunkTable
  readonly log: Log
  readonly context: TransactionContext
  readonly #lifecycle: Lifecycle
  readonly #geometry: Geometry
  readonly #onMap: ((mapping: Mapping) => void) | undefined
  /** Open handles by slot: a Map keyed by ids, which are large and never come again, costs 300 ns a pair. */
  readonly #open: (Chunk | undefined)[] = []
  readonly #warm: LRUCache<number, Mapping> | undefined
  readonly #warmBytes: number
  readonly #zeroBadBlocks: boolean
  /** Set once what it needs is there. */
  rooms: RoomMaker | undefined

  constructor(parts: ChunkStoreParts) {
    this.table = parts.table
    this.log = parts.context.log
    this.context = parts.context
    this.#lifecycle = parts.context.lifecycle
    this.#geometry = parts.geometry
    this.#onMap = parts.onMap
    this.#warmBytes = parts.warmBytes
    this.#zeroBadBlocks = parts.zeroBadBlocks
    this.#warm =
      parts.warmBytes === 0
        ? undefined
        : new LRUCache({
            maxSize: parts.warmBytes,
            sizeCalculation: (mapping) => mapping.length,
            dispose: (mapping, _id, reason) => {
              if (reason === 'evict') this.log.media.unmap(mapping)
            },
          })
  }

  get warmBytes(): number {
    return this.#warm?.calculatedSize ?? 0
  }

  checkWritable(): void {
    this.#lifecycle.checkWritable()
  }

  /** A handle that is open already, or a new one; undefined when no such chunk exists. */
  find(nameOrId: string | number): Chunk | undefined {
    if (typeof nameOrId !== 'string' && typeof nameOrId !== 'number') {
      throw argumentTypeError('a chunk is found by its name (a string) or its id (a number)')
    }
    const slot =
      typeof nameOrId === 'string' ? this.table.slotOfName(nameOrId) : this.table.slotOfId(nameOrId)
    return slot === -1 ? undefined : this.handle(slot)
  }

  handle(slot: number): Chunk {
    return this.#open[slot] ?? this.#newHandle(slot, 'live')
  }

  #newHandle(slot: number, state: 'reserved' | 'live'): Chunk {
    const { table } = this
    const id = table.idOf(slot)
    const chunk = new Chunk(
      {
        slot,
        store: this,
        state,
        mapping: undefined,
        usable: undefined,
        exposed: false,
        mutableView: undefined,
      },
      granuleToOffset(this.#geometry, table.startOf(slot)),
      table.granulesOf(slot) * this.#geometry.granuleBytes,
      id,
    )
    this.#open[slot] = chunk
    return chunk
  }

  /** The chunk is this volume's and may be used. */
  check(chunk: Chunk): void {
    if (!(chunk instanceof Chunk)) throw argumentTypeError('a chunk of this volume is wanted')
    const { store, state } = insideOf(chunk)
    if (store !== this) throw argumentTypeError('this chunk belongs to another volume')
    if (state === 'closed' || state === 'gone' || state === 'freeing') {
      throw notUsable(chunk.id, state)
    }
  }

  /**
   * Takes space for a chunk, in memory alone. With `zero` its bytes are durably zero when it returns. `isOwn`: the type may
   * be one of the library's.
   * @throws PlinthError ERR_NO_SPACE, ERR_CHUNK_EXISTS, ERR_CHUNK_TOO_LARGE
   */
  reserve(options: AllocateOptions, isOwn = false): Chunk {
    const { table } = this
    const wanted = this.#parse(options)
    if (!isOwn && wanted.type?.string.startsWith(OWN_TYPE_PREFIX)) {
      throw argumentValueError(`types that begin with '${OWN_TYPE_PREFIX}' are the library's own`)
    }
    const granules = bytesToGranules(this.#geometry, wanted.size)
    const align = Math.max(1, wanted.align / this.#geometry.granuleBytes)
    const { sizeBytes } = this.#geometry
    let start = this.#findRoom(granules, align)
    let slot = table.claim(start, granules, wanted.name, wanted.type)
    if (slot === -1) {
      if (!this.rooms?.makeSlots()) throw noSlot()
      // The table may have taken the very granules.
      start = this.#findRoom(granules, align)
      slot = table.claim(start, granules, wanted.name, wanted.type)
    }
    if (this.#geometry.sizeBytes !== sizeBytes) this.rooms!.roomTaken()
    const chunk = this.#newHandle(slot, 'reserved')
    if (wanted.zero) {
      try {
        this.log.zero(mappingOf(chunk, this), 0, chunk.size)
      } catch (error) {
        this.cancel(chunk)
        throw error
      }
    }
    return chunk
  }

  /**
   * Takes the very place and id that a chunk had on another volume, in memory alone.
   * @throws PlinthError ERR_NO_SPACE when they are taken or not of this volume, ERR_CHUNK_EXISTS
   */
  place({ id, offset, size, name, type }: PlacedChunk): Chunk {
    const { granuleBytes } = this.#geometry
    checkInteger(id, 'id', 1)
    checkInteger(offset, 'offset', 0)
    const { name: nameText, type: typeText } = this.#parse({ size, name, type })
    const start = offset / granuleBytes
    const granules = size / granuleBytes
    const slot =
      Number.isInteger(start) && Number.isInteger(granules)
        ? this.table.claimAs(id, start, granules, nameText, typeText)
        : -1
    if (slot === -1) {
      throw new PlinthError(
        'ERR_NO_SPACE',
        `chunk ${id} cannot have its ${size} bytes at ${offset}: they or its id are taken, or are not of this volume`,
      )
    }
    return this.#newHandle(slot, 'reserved')
  }

  /** The first run that fits, after growing where that is allowed. */
  #findRoom(granules: number, align: number): GranuleIndex {
    const free = this.table.granules
    let start = free.find(granules, align)
    if (start === -1 && this.rooms?.makeRoom(granules, align)) start = free.find(granules, align)
    if (start === -1) throw this.#noSpace(granules, align)
    return start
  }

  #noSpace(granules: number, alignGranules: number): PlinthError {
    const { free, longest } = this.table.granules
    const { granuleBytes, sizeBytes } = this.#geometry
    const maxBytes = this.rooms?.maxBytes
    const align = alignGranules * granuleBytes
    return new PlinthError(
      'ERR_NO_SPACE',
      `no free run of ${granules * granuleBytes} bytes${align > granuleBytes ? ` aligned to ${align}` : ''}: ` +
        `${free * granuleBytes} bytes are free, the longest run has ${longest * granuleBytes}; ` +
        (maxBytes === undefined
          ? `the volume keeps its ${sizeBytes} bytes until it is made to grow`
          : `the volume has ${sizeBytes} bytes and grows to no more than its device and its maxSize of ${maxBytes}`),
    )
  }

  #parse(options: AllocateOptions): Wanted {
    checkOptions(options, ALLOCATE_OPTIONS, 'allocate')
    const { size, name, type, align, zero } = options ?? {}
    checkInteger(size, 'size', 1)
    if (align !== undefined) checkPowerOfTwo(align, 'align', 1, 2 ** 52)
    if (zero !== undefined) checkBoolean(zero, 'zero')
    if (bytesToGranules(this.#geometry, size) * this.#geometry.granuleBytes > CHUNK_BYTES_MAX) {
      throw tooLarge(size)
    }
    return {
      size,
      name: name === undefined ? undefined : this.parseName(name),
      type: type === undefined ? undefined : toText(type, 'type', TYPE_BYTES_MAX),
      align: align ?? 1,
      zero: zero ?? false,
    }
  }

  /** A name that no chunk has. */
  parseName(name: string): Text {
    const text = toText(name, 'name', NAME_BYTES_MAX)
    if (this.table.slotOfName(name) !== -1) {
      throw new PlinthError('ERR_CHUNK_EXISTS', `a chunk named '${name}' exists`)
    }
    return text
  }

  /**
   * Gives a reservation its name.
   * @throws PlinthError ERR_CHUNK_EXISTS, and the reservation is cancelled
   */
  nameReserved(chunk: Chunk, name: string): void {
    if (this.table.slotOfName(name) !== -1) {
      this.cancel(chunk)
      throw new PlinthError(
        'ERR_CHUNK_EXISTS',
        `another chunk is named '${name}', which is a heap's to give; rename it`,
      )
    }
    this.table.rename(insideOf(chunk).slot, toText(name, 'name', NAME_BYTES_MAX))
  }

  stagePublish(chunk: Chunk, batch: Batch): void {
    this.table.stage(insideOf(chunk).slot, batch, CHUNK_STATE.CHUNK)
  }

  stageFree(chunk: Chunk, batch: Batch): void {
    this.table.stage(insideOf(chunk).slot, batch, CHUNK_STATE.FREE)
    // Whoever gets these granules next may store there without a record: what the log says of them
    // from before must not be replayed over that.
    batch.revoke(chunk.offset, chunk.size)
  }

  /** The reservation is dropped. */
  cancel(chunk: Chunk): void {
    const { mapping } = insideOf(chunk)
    // What the log says of its bytes must not be replayed over those of the next owner.
    if (mapping !== undefined && this.log.dirtyUnits.hasDirty(mapping)) this.log.checkpoint()
    this.finishFree(chunk)
  }

  /** The chunk's free is committed: views are emptied, its space can be taken. */
  finishFree(chunk: Chunk): void {
    const inside = insideOf(chunk)
    const { mapping } = inside
    inside.state = 'gone'
    inside.mapping = undefined
    inside.usable = undefined
    inside.mutableView = undefined
    this.#open[inside.slot] = undefined
    const kept = mapping ?? this.#takeWarm(chunk.id)
    if (kept !== undefined) {
      this.log.dirtyUnits.forget(kept)
      this.log.media.unmap(kept)
    }
    this.table.release(inside.slot)
  }

  /** The mapping of a chunk that may be used: its own, a warm one, or a new one. */
  map(chunk: Chunk): Mapping {
    const inside = insideOf(chunk)
    const { failure } = this.log.media
    if (failure !== undefined) throw failure
    let { mapping } = inside
    if (mapping === undefined) {
      if (chunk.size > CHUNK_BYTES_MAX) throw tooLarge(chunk.size)
      if (!this.#zeroBadBlocks) this.#refuseBad(chunk)
      mapping = this.#takeWarm(chunk.id)
      if (mapping !== undefined) {
        this.log.media.attach(mapping)
      } else {
        mapping = this.log.media.map(chunk.offset, chunk.size)
      }
      this.#onMap?.(mapping)
      inside.mapping = mapping
    }
    inside.usable = mapping
    return mapping
  }

  /** A chunk with known bad blocks can be freed; its bytes are for those who ask for zeros there. */
  #refuseBad({ id, offset, size }: Chunk): void {
    const { badBlocks } = this.log.media
    if (badBlocks.isEmpty || !badBlocks.touches(offset, size)) return
    const bytes = badBlocks.within(offset, size).reduce((sum, { length }) => sum + length, 0)
    throw new PlinthError(
      'ERR_BAD_BLOCKS',
      `chunk ${id} has ${bytes} bytes in known bad blocks; copy the rest with readOnly and zeroBadBlocks, then free it`,
    )
  }

  /** Gives the mapping of a chunk back that no view is on. False: stores in it may not be on the device. */
  unmapIdle(chunk: Chunk): boolean {
    const inside = insideOf(chunk)
    const { mapping } = inside
    const { dirtyUnits, media } = this.log
    if (mapping === undefined || inside.state !== 'live') return false
    if (inside.exposed || dirtyUnits.hasDirty(mapping)) return false
    inside.mapping = undefined
    inside.usable = undefined
    dirtyUnits.forget(mapping)
    media.unmap(mapping)
    return true
  }

  #takeWarm(id: number): Mapping | undefined {
    if (this.#warm === undefined || this.#warm.size === 0) return undefined
    const mapping = this.#warm.get(id)
    if (mapping !== undefined) this.#warm.delete(id)
    return mapping
  }

  /** Makes every store durable, empties the views, keeps the mapping warm if it fits. */
  close(chunk: Chunk): void {
    if (this.context.isBusy) {
      throw new PlinthError('ERR_TX_ACTIVE', 'a chunk cannot be closed inside a transaction')
    }
    if (this.#flushStores(chunk)) this.log.fence()
    this.#end(chunk)
  }

  #end(chunk: Chunk): void {
    const inside = insideOf(chunk)
    const { mapping } = inside
    inside.state = 'closed'
    inside.mapping = undefined
    inside.usable = undefined
    inside.mutableView = undefined
    this.#open[inside.slot] = undefined
    if (mapping === undefined) return
    const { media } = this.log
    if (this.#warm !== undefined && mapping.length <= this.#warmBytes) {
      media.detach(mapping)
      this.#warm.set(chunk.id, mapping)
    } else {
      media.unmap(mapping)
    }
  }

  /** Flushes what may have been stored in a chunk. Returns whether a fence is wanted. */
  #flushStores(chunk: Chunk): boolean {
    const { mapping, exposed } = insideOf(chunk)
    if (mapping === undefined || !this.#lifecycle.mayWrite) return false
    if (!exposed && !this.log.dirtyUnits.hasDirty(mapping)) return false
    this.log.flushStores(mapping)
    return true
  }

  /** Whoever asks for bytes from now on is told that the device has failed. Views that were handed out stay. */
  refuseReads(): void {
    for (const chunk of this.#open) if (chunk !== undefined) insideOf(chunk).usable = undefined
  }

  /** Closes every handle: all stores share one fence. Reservations are cancelled. */
  closeAll(): void {
    let fenceWanted = false
    for (const chunk of this.#open) {
      if (chunk === undefined) continue
      if (insideOf(chunk).state === 'reserved') this.cancel(chunk)
      else if (this.#flushStores(chunk)) fenceWanted = true
    }
    if (fenceWanted) this.log.fence()
    for (const chunk of this.#open) if (chunk !== undefined) this.#end(chunk)
    this.#warm?.clear()
  }
}

function noSlot(): PlinthError {
  return new PlinthError(
    'ERR_NO_SPACE',
    'no slot of the chunk table is left, and no room for more: each has a chunk, was used 2^29 times or was given up by a repair',
  )
}

function tooLarge(size: number): PlinthError {
  return new PlinthError(
    'ERR_CHUNK_TOO_LARGE',
    `a chunk of ${size} bytes does not fit one ArrayBuffer; at most ${CHUNK_BYTES_MAX} do`,
  )
}

function toText(value: string, what: string, bytesMax: number): Text {
  return { string: value, bytes: encodeText(value, what, bytesMax) }
}
