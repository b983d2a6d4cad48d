/** The volume: the front door. */
import type { Chunk } from '../allocator/chunk.js'
import { insideOf } from '../allocator/chunk.js'
import type { ChunkChanges } from '../allocator/chunk-changes.js'
import type { AllocateOptions } from '../allocator/chunk-store.js'
import { checkInteger, checkPath } from '../base/arguments.js'
import { PlinthError } from '../base/errors.js'
import { checkDevice } from '../check/check.js'
import type { Finding } from '../check/finding.js'
import type { Readable } from '../check/inspection.js'
import type { RepairOptions, RepairReport } from '../check/repair.js'
import { Device } from '../device/device.js'
import type { DeviceKind } from '../device/identify.js'
import type { Backend } from '../device/mapper.js'
import type { VolumeRange } from '../device/residency.js'
import type { Heap } from '../heap/heap.js'
import type { HeapDirectory, HeapOptions } from '../heap/heap-directory.js'
import { CHECKPOINT_STATE } from '../layout/checkpoint-header.js'
import { OWN_TYPE_PREFIX } from '../layout/heap.js'
import type { Log } from '../log/log.js'
import type { TransactionContext } from '../log/transaction-context.js'
import { Lifecycle } from '../media/lifecycle.js'
import type { Transaction } from '../transaction/transaction.js'
import { checkWork, refusePromise } from '../transaction/work.js'
import { chunksOf, infoOf, statsOf } from './describe.js'
import { formatDevice } from './format.js'
import type { ChunkInfo, VolumeInfo, VolumeStats } from './info.js'
import { checkAt, repairAt } from './inspect.js'
import { type Loaded, loadVolume, type Recovery } from './load.js'
import {
  type FormatOptions,
  type OpenOptions,
  parseOpenOptions,
  type WipeOptions,
} from './options.js'
import { type Probe, probe } from './probe.js'
import { checkRanges } from './ranges.js'
import { release } from './release.js'
import { checkPlaced, complete, formatIncomplete, type RestoreOptions } from './restore.js'
import { findStored } from './superblocks.js'
import { wipeDevice } from './wipe.js'

/** What a volume stands on: a device, or media of a test. */
export interface Standing {
  readonly path: string
  readonly kind: DeviceKind | 'memory'
  readonly backend: Backend | 'memory'
  /** What is on the device, beside any mapping. */
  readonly readable: Readable
  /** Undefined where there is no page cache, or the kernel does not tell. */
  residentBytes(ranges: readonly VolumeRange[]): number[] | undefined
  close(): void
}

/** What a volume is made of. */
export interface VolumeParts extends Loaded {
  readonly standing: Standing
  /** Whether `ownedChunk` gives chunks of heaps. */
  readonly ownedAreReachable: boolean
}

/** A volume that is being restored. */
export interface Restore {
  /** Open for writing: allocate and write what belongs on it. */
  readonly volume: Volume
  /**
   * Makes chunks with the ids, offsets and sizes that they had on another volume, chunks of heaps
   * included, all in one transaction. Their contents are unspecified until they are written.
   * @throws PlinthError ERR_NO_SPACE, ERR_CHUNK_EXISTS, ERR_CHUNK_TOO_LARGE, ERR_TX_TOO_LARGE
   */
  place(chunks: readonly ChunkInfo[]): void
  /** Closes the volume and makes it an ordinary one. Durable when it returns. */
  finish(): void
  /** Closes the volume and leaves it incomplete. */
  abandon(): void
}

/**
 * A formatted device, held open by one owner.
 *
 * After a failed barrier every call throws `ERR_VOLUME_FAILED` until the volume is closed and
 * opened again: what the device has kept is then for recovery to find out.
 */
export class Volume {
  readonly #parts: VolumeParts
  readonly #lifecycle: Lifecycle
  readonly #log: Log
  readonly #context: TransactionContext
  readonly #chunks: ChunkChanges
  readonly #heaps: HeapDirectory
  readonly #transaction: Transaction

  /**
   * Makes a volume of a device: a file (created when it does not exist and `size` is given), a
   * block device or a DAX node. Durable when it returns.
   * @throws PlinthError ERR_DEVICE_IN_USE when the device holds something and `force` is not given,
   *   ERR_DEVICE_TOO_SMALL, ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO, ERR_VOLUME_BUSY,
   *   ERR_GRANULARITY, ERR_BACKEND_LIMIT, ERR_BACKEND_MISSING, ERR_BAD_BLOCKS
   */
  static format(path: string, options?: FormatOptions): void {
    checkPath(path)
    formatDevice(path, options)
  }

  /**
   * Looks at a device: its kind, size and granularity, what is on it, whether it is in use, what to do
   * next. Opens nothing for writing and changes nothing.
   * @throws PlinthError ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO, ERR_BAD_BLOCKS
   */
  static probe(path: string): Probe {
    checkPath(path)
    return probe(path)
  }

  /**
   * Opens the volume on a device and recovers it: what was durable is there, what was not never
   * happened. The volume is this caller's alone until `close`.
   * @throws PlinthError ERR_NOT_A_VOLUME, ERR_VOLUME_BUSY, ERR_VOLUME_CORRUPT, ERR_FORMAT_TOO_NEW,
   *   ERR_FORMAT_TOO_OLD, ERR_DEVICE_TRUNCATED, ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO, ERR_GRANULARITY,
   *   ERR_BACKEND_LIMIT, ERR_BACKEND_MISSING, ERR_VOLUME_INCOMPLETE, ERR_BAD_BLOCKS
   */
  static open(path: string, options?: OpenOptions): Volume {
    checkPath(path)
    return Volume.#open(path, options, false)
  }

  static #open(path: string, options: OpenOptions | undefined, restoring: boolean): Volume {
    const { readOnly, warmBytes, zeroBadBlocks, salvage, sparse, maxSize, growBy, ...wanted } =
      parseOpenOptions(options)
    const device = new Device({ path, readOnly, ...wanted })
    try {
      const found = findStored(device, path, readOnly, restoring)
      const media = device.media(found.geometry.sizeBytes, sparse)
      const { kind, alignBytes } = device
      const lifecycle = new Lifecycle(media, readOnly)
      const loaded = loadVolume({
        path,
        lifecycle,
        found,
        alignBytes,
        warmBytes,
        device,
        limits: { maxBytes: maxSize, growBytes: growBy },
        zeroBadBlocks,
        salvage,
      })
      return new Volume({
        ...loaded,
        standing: {
          path,
          kind,
          backend: device.backend,
          readable: device,
          residentBytes: (ranges) => device.residentBytes(ranges),
          close: () => device.close(),
        },
        ownedAreReachable: readOnly || restoring,
      })
    } catch (error) {
      device.close()
      throw error
    }
  }

  /**
   * Makes a volume of a device, to be filled from a copy of another. Until `finish` the device is
   * refused with ERR_VOLUME_INCOMPLETE, whatever happens to this process.
   * @throws PlinthError as `format` and `open`
   */
  static restore(path: string, options?: RestoreOptions): Restore {
    checkPath(path)
    formatIncomplete(path, options)
    const { backend, granularity, unsafeGranularity } = options ?? {}
    const open = { backend, granularity, unsafeGranularity, warmBytes: 0 }
    const volume = Volume.#open(path, open, true)
    return {
      volume,
      place: (chunks) => {
        checkPlaced(chunks)
        volume.transact(() => {
          for (const chunk of chunks) volume.#chunks.place(chunk)
        })
      },
      finish: () => {
        volume.#lifecycle.checkOpen()
        volume.close()
        complete(path, volume.info.uuid, open)
      },
      abandon: () => volume.close(),
    }
  }

  /**
   * Looks at everything that plinth keeps on a device, and writes nothing. The volume need not be
   * one that can be opened: why it cannot is among the findings. Nobody may have it open for writing.
   * @returns the findings; none when all is well
   * @throws PlinthError ERR_VOLUME_BUSY, ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO
   */
  static check(path: string): Finding[] {
    checkPath(path)
    return checkAt(path)
  }

  /**
   * Restores what is damaged from its second copy. Without `dryRun: false` it only says what it
   * would do. A crash within leaves the volume no worse; it can be run again.
   * @throws PlinthError as `check`, ERR_VOLUME_FAILED, ERR_BACKEND_LIMIT
   */
  static repair(path: string, options?: RepairOptions): RepairReport {
    checkPath(path)
    return repairAt(path, options)
  }

  /**
   * Takes a volume off a device: every copy of its superblock and checkpoint header is overwritten with zeros, so that
   * nobody finds it again; what chunks held is not erased. Durable when it returns; a crash within leaves the
   * volume as it was, or none.
   * @throws PlinthError ERR_NOT_A_VOLUME, ERR_VOLUME_BUSY, ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO;
   *   without `force` also ERR_DEVICE_IN_USE when somebody else has the device, and what `open` throws of a
   *   volume that is damaged or too new
   */
  static wipe(path: string, options?: WipeOptions): void {
    checkPath(path)
    wipeDevice(path, options)
  }

  /** @internal Volumes come from `open`. */
  constructor(parts: VolumeParts) {
    this.#parts = parts
    this.#lifecycle = parts.lifecycle
    this.#log = parts.log
    this.#context = parts.context
    this.#chunks = parts.chunks
    this.#heaps = parts.heaps
    this.#transaction = parts.transaction
  }

  /** False after `close`. */
  get isOpen(): boolean {
    return !this.#lifecycle.isClosed
  }

  /**
   * Throws unless the volume may be used now. For engines that keep state of their own in memory: called
   * first, it refuses before they have changed that.
   * @throws PlinthError ERR_VOLUME_CLOSED, ERR_VOLUME_FAILED, ERR_REENTRANT in a subscriber of
   *   `plinth:operation` that is being told of this volume
   */
  ensureUsable(): void {
    this.#lifecycle.checkOpen()
  }

  /** What this volume is and how it is used. Can be asked of a closed one too. */
  get info(): VolumeInfo {
    return infoOf(this.#parts.standing, this.#parts)
  }

  /** What recovery did when the volume was opened. */
  get recovery(): Recovery {
    return this.#parts.recovery
  }

  /**
   * Space, log and counters as they are now. Reads memory alone, whatever the volume's size. What each
   * operation costs is published on the channel `plinth:operation` of node:diagnostics_channel.
   * @throws PlinthError ERR_VOLUME_CLOSED, ERR_VOLUME_FAILED
   */
  stats(): VolumeStats {
    this.#lifecycle.checkOpen()
    return statsOf(this.#parts)
  }

  /**
   * Allocates a chunk. Inside `transact` it is part of that, and its handle may be used at once; else it is durable
   * when this returns, with one fence (one barrier on page granularity). `zero` costs its own.
   * @throws PlinthError ERR_NO_SPACE, ERR_CHUNK_EXISTS, ERR_CHUNK_TOO_LARGE, ERR_TX_TOO_LARGE,
   *   ERR_READ_ONLY, ERR_VOLUME_FAILED
   */
  allocate(options: AllocateOptions): Chunk {
    const context = this.#context
    const isAlone = context.enter('allocate')
    let chunk: Chunk
    try {
      chunk = this.#chunks.allocate(options)
      if (isAlone) context.commit()
    } catch (error) {
      if (isAlone) context.rollback()
      throw error
    }
    if (isAlone) context.finish()
    return chunk
  }

  /**
   * Frees a chunk. Inside `transact` it is part of that: its views are emptied and its space can be had again when
   * that has committed; its name at once. Else it is durable when this returns, with one fence, and its views are
   * empty. Never fails for want of space.
   * @throws PlinthError ERR_CHUNK_CLOSED, ERR_TX_TOO_LARGE, ERR_READ_ONLY, ERR_VOLUME_FAILED
   */
  free(chunk: Chunk): void {
    const context = this.#context
    const isAlone = context.enter('free')
    try {
      this.#chunks.free(chunk)
      if (isAlone) context.commit()
    } catch (error) {
      if (isAlone) context.rollback()
      throw error
    }
    if (isAlone) context.finish()
  }

  /**
   * Gives a chunk another name, or with undefined none. Inside `transact` it is part of that; else it is durable
   * when this returns, with one fence.
   * @throws PlinthError ERR_CHUNK_EXISTS, ERR_CHUNK_NOT_FOUND for a reservation, ERR_CHUNK_CLOSED, ERR_TX_TOO_LARGE,
   *   ERR_READ_ONLY, ERR_VOLUME_FAILED
   */
  rename(chunk: Chunk, name: string | undefined): void {
    this.#context.run('rename', () => this.#chunks.rename(chunk, name))
  }

  /**
   * Takes space for a chunk in memory alone: fill it, `persist` it, then `publish` it, alone or in a
   * transaction. A crash before that, `cancel` or `close` of the volume gives the space back.
   * @throws PlinthError as `allocate`
   */
  reserve(options: AllocateOptions): Chunk {
    this.#log.diagnostics.enter('reserve')
    this.#lifecycle.checkWritable()
    return this.#parts.store.reserve(options)
  }

  /**
   * Makes a reserved chunk exist. Inside `transact` it is part of that; else it is durable when this returns, with one
   * fence. Its contents are durable as far as they were persisted before.
   * @throws PlinthError ERR_CHUNK_EXISTS when it is not a reservation, ERR_TX_TOO_LARGE
   */
  publish(chunk: Chunk): void {
    this.#context.run('publish', () => this.#chunks.publish(chunk))
  }

  /** Drops a reservation: nothing was or is written. */
  cancel(chunk: Chunk): void {
    this.#log.diagnostics.enter('cancel')
    this.#lifecycle.checkWritable()
    this.#parts.store.check(chunk)
    this.#context.checkIdle()
    if (insideOf(chunk).state !== 'reserved') {
      throw new PlinthError('ERR_CHUNK_EXISTS', `chunk ${chunk.id} is not a reservation`)
    }
    this.#parts.store.cancel(chunk)
  }

  /**
   * The chunk with this name or id. Two calls give the same handle while it is open.
   * @throws PlinthError ERR_CHUNK_NOT_FOUND, ERR_CHUNK_OWNED for a chunk of a heap
   */
  chunk(nameOrId: string | number): Chunk {
    const chunk = this.findChunk(nameOrId)
    if (chunk === undefined) {
      const asked = typeof nameOrId === 'string' ? `named '${nameOrId}'` : `with id ${nameOrId}`
      throw new PlinthError('ERR_CHUNK_NOT_FOUND', `there is no chunk ${asked}`)
    }
    return chunk
  }

  /**
   * The chunk with this name or id, or undefined.
   * @throws PlinthError ERR_CHUNK_OWNED for a chunk of a heap
   */
  findChunk(nameOrId: string | number): Chunk | undefined {
    this.#lifecycle.checkOpen()
    const chunk = this.#parts.store.find(nameOrId)
    if (chunk?.type?.startsWith(OWN_TYPE_PREFIX)) {
      throw new PlinthError(
        'ERR_CHUNK_OWNED',
        `chunk '${chunk.name}' belongs to a heap; use it through volume.heap`,
      )
    }
    return chunk
  }

  /**
   * The chunk with this id, whoever owns it: for tools that copy the bytes of chunks, those of heaps
   * included. For readers, and for a volume that is being restored.
   * @throws PlinthError ERR_CHUNK_NOT_FOUND, ERR_CHUNK_OWNED
   */
  ownedChunk(id: number): Chunk {
    this.#lifecycle.checkOpen()
    if (!this.#parts.ownedAreReachable) return this.chunk(id)
    const chunk = typeof id === 'number' ? this.#parts.store.find(id) : undefined
    if (chunk === undefined) {
      throw new PlinthError('ERR_CHUNK_NOT_FOUND', `there is no chunk with id ${id}`)
    }
    return chunk
  }

  /**
   * The heap of this name; made when there is none. Two calls give the same. Opening reads the chunk
   * table and the heap's header: slabs are read when they are first needed. Inside a transaction none is made.
   * @throws PlinthError ERR_NO_SPACE, ERR_TX_ACTIVE when one would be made inside a transaction, ERR_HEAP_CLASSES, ERR_HEAP_NOT_FOUND (readers), ERR_VOLUME_CORRUPT
   */
  heap(name: string, options?: HeapOptions): Heap {
    this.#log.diagnostics.enter('heap.open')
    this.#lifecycle.checkOpen()
    return this.#heaps.open(name, options, this.#lifecycle.readOnly)
  }

  /**
   * Names of all heaps, in order.
   * @throws PlinthError ERR_VOLUME_CLOSED, ERR_VOLUME_FAILED
   */
  heaps(): string[] {
    this.#lifecycle.checkOpen()
    return this.#heaps.names().sort()
  }

  /** All chunks, lowest offset first. */
  chunks(): ChunkInfo[] {
    this.#lifecycle.checkOpen()
    return chunksOf(this.#parts)
  }

  /**
   * For each range of the device its bytes that are in memory now, in the kernel's page cache, whoever
   * brought them there: `chunks()` and `stats().areas` are such ranges. Not counted is what this process
   * has stored and not yet made durable, and memory that is not the page cache.
   * @returns undefined where loads go to the device past any page cache (device-dax, a file with DAX),
   *   for media in memory, for the mmap-io backend, and where the kernel does not tell: since Linux 5.2
   *   it tells only a process that owns the file or block device or may write it (mincore(2); kernel
   *   commit 134fca9063ad)
   * @throws PlinthError ERR_VOLUME_CLOSED, ERR_VOLUME_FAILED, ERR_DEVICE_IO
   */
  residentBytes(ranges: readonly VolumeRange[]): number[] | undefined {
    this.#lifecycle.checkOpen()
    checkRanges(ranges, this.#parts.geometry.sizeBytes)
    return this.#parts.standing.residentBytes(ranges)
  }

  /**
   * Runs a synchronous function whose changes happen all or not at all. They are durable when this
   * returns, with one fence (one barrier on page granularity). Throwing aborts and leaves nothing.
   * Transactions do not nest.
   * @returns what the function returns
   * @throws PlinthError ERR_TX_ACTIVE, ERR_TX_PROMISE, ERR_TX_TOO_LARGE, and whatever the function throws
   */
  transact<T>(work: (tx: Transaction) => T): T {
    checkWork(work)
    const context = this.#context
    context.begin('transact')
    let result: T
    try {
      result = work(this.#transaction)
      if (result !== undefined) refusePromise(result)
      context.commit()
    } catch (error) {
      context.rollback()
      throw error
    }
    context.finish()
    return result
  }

  /**
   * As `transact`, but durable when the promise resolves: transactions that wait at the same time
   * share one barrier, and the event loop is free while the device works. Changes are visible at
   * once to what follows; a later transaction is never durable before an earlier one.
   */
  transactAsync<T>(work: (tx: Transaction) => T): Promise<T> {
    const context = this.#context
    try {
      checkWork(work)
      context.begin('transactAsync')
    } catch (error) {
      return Promise.reject(error)
    }
    let result: T
    let durable: Promise<void>
    try {
      result = work(this.#transaction)
      if (result !== undefined) refusePromise(result)
      durable = context.commitAsync()
    } catch (error) {
      context.rollback()
      return Promise.reject(error)
    }
    context.finish()
    // Most return nothing: they share the promise of their barrier.
    return result === undefined ? (durable as Promise<T>) : durable.then(() => result)
  }

  /**
   * Runs a synchronous function as a part of the transaction under way, all of it or, when it throws, nothing; where
   * there is none, as `transact`. This is how structures that stand on a volume offer calls that are atomic wherever
   * they are made.
   * @returns what the function returns
   * @throws PlinthError as `transact`; ERR_TX_ACTIVE when a transaction of another volume is under way, which this
   *   would not be part of
   */
  atomic<T>(work: (tx: Transaction) => T): T {
    const context = this.#context
    if (context.isActive) {
      checkWork(work)
      return context.savepoint(work, this.#transaction)
    }
    context.checkAlone()
    return this.transact(work)
  }

  /** The transaction under way, for structures that take part in it wherever they are called; undefined for none. */
  get transaction(): Transaction | undefined {
    return this.#context.isActive ? this.#transaction : undefined
  }

  /**
   * Makes the volume longer while it is used: `size` bytes, rounded down to whole pages, or without it all that the
   * device has. A file is made as long. Chunks stay where they are, and their views. Durable when it returns; a crash
   * within leaves the volume as it was, or longer. Takes at most ten fences, whatever the size.
   * @param size bytes, at least what the volume has
   * @throws RangeError ERR_OUT_OF_RANGE; TypeError ERR_INVALID_ARG_VALUE for less than the volume has, or more than its `maxSize`;
   *   PlinthError ERR_NO_SPACE when the filesystem is full, ERR_DEVICE_TOO_SMALL when the device is shorter and is no file,
   *   ERR_TX_ACTIVE, ERR_READ_ONLY, ERR_DEVICE_IO, ERR_VOLUME_FAILED; nothing has changed then
   */
  grow(size?: number): void {
    this.#log.diagnostics.enter('grow')
    if (size !== undefined) checkInteger(size, 'size', 1)
    this.#lifecycle.checkWritable()
    this.#context.checkIdle()
    this.#parts.growth!.grow(size)
  }

  /** Orders every `chunk.flush` before it: what was flushed is durable when it returns. */
  fence(): void {
    this.#log.diagnostics.enter('fence')
    this.#lifecycle.checkWritable()
    this.#log.fence()
  }

  /**
   * Writes all logged changes in place and empties the log. Never needed for durability; it makes the
   * next recovery short.
   */
  checkpoint(): void {
    this.#log.diagnostics.enter('checkpoint')
    this.#lifecycle.checkWritable()
    this.#log.checkpoint()
  }

  /**
   * Looks at everything that plinth keeps on the device, both copies, and whether memory says the
   * same. Waits for commits under way; writes nothing.
   * @returns the findings; none when all is well
   */
  check(): Finding[] {
    this.#log.diagnostics.enter('check')
    this.#lifecycle.checkOpen()
    this.#context.checkIdle()
    const { table, store, log } = this.#parts
    if (!this.#lifecycle.readOnly) log.makeDurable()
    return checkDevice(this.#parts.standing.readable, {
      table,
      isReserved: (slot) => insideOf(store.handle(slot)).state === 'reserved',
      heaps: this.#heaps.spaces(),
      logUsedBytes: log.usedBytes,
    }).findings
  }

  /**
   * Ends the use of the volume: every store of every open chunk is durable, views are empty,
   * reservations are cancelled, the device is free. Safe to call twice.
   * @throws PlinthError ERR_VOLUME_FAILED when the device has failed, before or now: what was not durable is then
   *   for the next opening to find out. All is released when it throws.
   */
  close(): void {
    if (this.#lifecycle.isClosed) return
    this.#lifecycle.refuseSubscriber()
    this.#log.diagnostics.enter('close')
    this.#context.checkIdle()
    this.#lifecycle.close()
    const { store, log } = this.#parts
    release(this.#lifecycle.media.failure, [
      // Before stores of chunks would make a file that was cut as long as it was.
      () => void (this.#lifecycle.mayWrite && log.media.checkLength()),
      () => this.#heaps.close(),
      () => store.closeAll(),
      // As it was left where not all could be made durable: the next opening recovers.
      (first) =>
        void (this.#lifecycle.readOnly || first || log.checkpoint(CHECKPOINT_STATE.CLOSED)),
      () => this.#parts.standing.close(),
    ])
  }

  /** The same as `close`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}
