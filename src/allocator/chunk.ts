/** A pinned chunk as its user holds it. */
import { checkBytes, checkInteger, plainBytes } from '../base/arguments.js'
import { PlinthError, rangeError } from '../base/errors.js'
import type { Offset } from '../base/units.js'
import type { Log } from '../log/log.js'
import type { Mapping } from '../media/media.js'
import type { Text } from './chunk-table.js'

/**
 *   reserved ──publish──▶ publishing ──commit──▶ live ──free──▶ freeing ──commit──▶ gone
 *       └──cancel──▶ gone                         └──close──▶ closed
 *
 * A closed handle's chunk lives on: the volume gives a new one. Publishing and freeing are the transaction's under way.
 */
export type ChunkState = 'reserved' | 'publishing' | 'live' | 'freeing' | 'closed' | 'gone'

/** What a handle asks of those who keep the chunks. */
export interface ChunkKeeper {
  readonly log: Log
  readonly table: {
    nameOf(slot: number): Text | undefined
    typeOf(slot: number): Text | undefined
  }
  checkWritable(): void
  /** The chunk is this volume's and may be used. */
  check(chunk: Chunk): void
  /** The mapping of a chunk that may be used. */
  map(chunk: Chunk): Mapping
  close(chunk: Chunk): void
}

/** What the rooms to the right may ask of a handle, and its user may not. */
export interface ChunkInside {
  readonly slot: number
  readonly store: ChunkKeeper
  state: ChunkState
  mapping: Mapping | undefined
  /** The mapping while the chunk may be used, so that one look tells both. */
  usable: Mapping | undefined
  /** Whether views were handed out: then raw stores may be anywhere. */
  exposed: boolean
  mutableView: DataView | undefined
}

export let insideOf: (chunk: Chunk) => ChunkInside
/**
 * The mapping of a chunk of this store that may be used, mapped now if it was not; throws if it is
 * another's or may not be used.
 */
export let mappingOf: (chunk: Chunk, store: ChunkKeeper) => Mapping

/**
 * A contiguous stretch of storage memory. Its offset and size never change while it is held, every
 * byte is backed, and nobody else has any part of it.
 *
 * A chunk's first contents are unspecified unless it was allocated with `zero`.
 */
export class Chunk {
  readonly #inside: ChunkInside
  /** Bytes from the start of the device: a multiple of the granule. The same for the chunk's whole life. */
  readonly offset: Offset
  /** Usable bytes: what was asked for, rounded up to whole granules. */
  readonly size: number
  /** Names this chunk and no other that ever was on this volume. */
  readonly id: number

  static {
    insideOf = (chunk) => chunk.#inside
    mappingOf = (chunk, store) => {
      // The common case first: a usable chunk has its mapping here, and no other has.
      if (chunk instanceof Chunk && chunk.#inside.store === store) {
        const { usable } = chunk.#inside
        if (usable !== undefined) return usable
      }
      store.check(chunk)
      return store.map(chunk)
    }
  }

  /** @internal Handles come from the volume. */
  constructor(inside: ChunkInside, offset: Offset, size: number, id: number) {
    this.#inside = inside
    this.offset = offset
    this.size = size
    this.id = id
  }

  /** The chunk's name, undefined for none. */
  get name(): string | undefined {
    this.#checkUsable()
    return this.#inside.store.table.nameOf(this.#inside.slot)?.string
  }

  /** What its owner said is in it, undefined for nothing. */
  get type(): string | undefined {
    this.#checkUsable()
    return this.#inside.store.table.typeOf(this.#inside.slot)?.string
  }

  /**
   * The chunk's bytes, straight on the device. Stores are visible at once and durable after
   * `persist`. Empty after `close`, `free` or the end of the volume.
   *
   * `structuredClone` and `postMessage` of any view copy the whole chunk.
   * @throws PlinthError ERR_CHUNK_CLOSED, ERR_BACKEND_LIMIT, ERR_BAD_BLOCKS
   */
  get bytes(): Uint8Array {
    const { store } = this.#inside
    const mapping = mappingOf(this, store)
    store.log.media.regain(mapping)
    this.#inside.exposed = true
    return mapping.bytes
  }

  /** The same as a DataView. @throws as `bytes` */
  get view(): DataView {
    const { buffer, byteOffset, byteLength } = this.bytes
    const inside = this.#inside
    // Another one when the views were moved away.
    if (inside.mutableView?.buffer !== buffer) {
      inside.mutableView = new DataView(buffer, byteOffset, byteLength)
    }
    return inside.mutableView
  }

  /**
   * Makes the stores to `length` bytes at `offset` durable: they are when it returns. One fence on
   * byte-addressable devices, one barrier on others.
   * @throws RangeError ERR_OUT_OF_RANGE; PlinthError ERR_CHUNK_CLOSED, ERR_READ_ONLY, ERR_VOLUME_FAILED
   */
  persist(offset: number, length: number): void {
    const { log } = this.#inside.store
    log.diagnostics.enter('chunk.persist')
    checkRange(this, offset, length)
    log.persist(this.#writable(), offset, length)
  }

  /**
   * The first half of `persist`: durable after the next `volume.fence()`, in no order before it.
   * @throws as `persist`
   */
  flush(offset: number, length: number): void {
    const { log } = this.#inside.store
    log.diagnostics.enter('chunk.flush')
    checkRange(this, offset, length)
    log.flush(this.#writable(), offset, length)
  }

  /**
   * Copies `bytes` to `offset` and makes them durable: they are when it returns. The fast way for
   * large data. Not atomic: a crash within leaves any part of it.
   * @throws as `persist`
   */
  write(offset: number, bytes: Uint8Array): void {
    const { log } = this.#inside.store
    log.diagnostics.enter('chunk.write')
    const length = checkBytes(bytes, 'bytes')
    checkRange(this, offset, length)
    log.write(this.#writable(), offset, plainBytes(bytes, length))
  }

  /**
   * Gives the handle up: every store of the chunk becomes durable, its views become empty. The
   * chunk itself stays; `volume.chunk()` gives a new handle. Safe to call twice.
   */
  close(): void {
    const { state, store } = this.#inside
    if (state !== 'live') return
    store.log.lifecycle.refuseSubscriber()
    store.log.diagnostics.enter('chunk.close')
    store.close(this)
  }

  /** The same as `close`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  #writable(): Mapping {
    this.#inside.store.checkWritable()
    return mappingOf(this, this.#inside.store)
  }

  #checkUsable(): void {
    const { state } = this.#inside
    if (state === 'closed' || state === 'gone') throw notUsable(this.id, state)
  }
}

export function notUsable(id: number, state: ChunkState): PlinthError {
  return new PlinthError(
    'ERR_CHUNK_CLOSED',
    state === 'closed'
      ? `this handle of chunk ${id} was closed; ask the volume for a new one`
      : `chunk ${id} was freed or never published`,
  )
}

/** A range within the chunk. */
export function checkRange(chunk: Chunk, offset: number, length: number): void {
  // The common case: both whole, not negative, and inside. A bigint would throw in `>>>`, without a code.
  const areWhole =
    typeof offset === 'number' &&
    typeof length === 'number' &&
    offset >>> 0 === offset &&
    length >>> 0 === length
  if (!areWhole || offset + length > chunk.size) refuseRange(chunk, offset, length)
}

/** Throws, but for the ranges at the very end of a chunk of 4 GiB. */
function refuseRange(chunk: Chunk, offset: number, length: number): void {
  checkInteger(offset, 'offset', 0, chunk.size)
  checkInteger(length, 'length', 0, chunk.size)
  if (offset + length <= chunk.size) return
  throw rangeError(`${length} bytes at ${offset} are not within the chunk's ${chunk.size}`)
}
