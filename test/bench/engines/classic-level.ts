/**
 * classic-level (LevelDB). `sync: true` makes it wait for fsync of its log; sorting into tables goes on behind, in a thread
 * of its own and not in what is timed here.
 *
 * The cache holds all blocks, compression would find nothing in these values. Chained batches are faster than arrays. It
 * writes and iterates asynchronously only. Its own asynchronous put is one job and one fsync each, so a flood gathers the
 * puts of one turn in one batch, as its users do.
 */

import type { Engine, Entry } from './engine.js'
import { addToChecksum } from './entries.js'
import { allocatedBytes, requireInstalled } from './installed.js'
import { TurnGroup } from './turn-group.js'

interface Batch {
  put(key: Buffer, value: Buffer): Batch
  write(options: { sync: true }): Promise<void>
}

interface Iterator {
  nextv(size: number): Promise<[Uint8Array, Uint8Array][]>
  close(): Promise<void>
}

interface Database {
  open(): Promise<void>
  close(): Promise<void>
  put(key: Buffer, value: Buffer, options: { sync: true }): Promise<void>
  batch(): Batch
  getSync(key: Buffer): Uint8Array | undefined
  iterator(options: { gte: Buffer; limit: number; highWaterMarkBytes: number }): Iterator
}

interface Module {
  ClassicLevel: new (path: string, options: object) => Database
}

const DURABLE = { sync: true } as const
const CACHE_BYTES = 64 * 1024 * 1024
/** More than a scan of 100 holds. */
const READ_BYTES = 1024 * 1024

export function makeClassicLevel(folder: string): Engine {
  return new Level(folder)
}

class Level implements Engine {
  readonly settings = 'sync: true, getSync, chained batches, cache of 64 MiB, no compression'
  readonly #module = requireInstalled<Module>('classic-level')
  readonly #folder: string
  readonly #group = new TurnGroup((entries) => this.batch(entries))
  #database!: Database

  constructor(folder: string) {
    this.#folder = folder
  }

  open(): Promise<void> {
    this.#database = new this.#module.ClassicLevel(this.#folder, {
      keyEncoding: 'view',
      valueEncoding: 'view',
      compression: false,
      cacheSize: CACHE_BYTES,
    })
    return this.#database.open()
  }

  close(): Promise<void> {
    return this.#database.close()
  }

  put(key: Buffer, value: Buffer): Promise<void> {
    return this.#database.put(key, value, DURABLE)
  }

  batch(entries: readonly Entry[]): Promise<void> {
    const batch = this.#database.batch()
    for (const { key, value } of entries) batch.put(key, value)
    return batch.write(DURABLE)
  }

  get(key: Buffer): Uint8Array | undefined {
    return this.#database.getSync(key)
  }

  flood(entries: readonly Entry[]): Promise<unknown> {
    return this.#group.putAll(entries)
  }

  async scan(from: Buffer, count: number): Promise<number> {
    const iterator = this.#database.iterator({
      gte: from,
      limit: count,
      highWaterMarkBytes: READ_BYTES,
    })
    let sum = 0
    for (let left = count; left > 0; ) {
      const entries = await iterator.nextv(left)
      if (entries.length === 0) break
      for (const [key, value] of entries) sum = addToChecksum(sum, key, value)
      left -= entries.length
    }
    await iterator.close()
    return sum
  }

  bytesOnDevice(): number {
    return allocatedBytes(this.#folder)
  }
}
