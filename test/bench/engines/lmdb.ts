/**
 * lmdb. A commit writes the pages it changed, waits for the flush, then writes and flushes the page that names them.
 *
 * `useWritemap` stores into the mapping and flushes it by msync instead of writing a copy of each page: as durable, and in
 * memory about twice as fast; on a disk slower. `noMemInit` is recommended by its manual. Its cache of JavaScript values
 * stays off: a hit there is no read of the store. Puts of one turn share a commit; its promises come before the flush,
 * `flushed` after it.
 */

import type { DeviceName, Engine, Entry } from './engine.js'
import { addToChecksum } from './entries.js'
import { allocatedBytes, requireInstalled } from './installed.js'

interface Database {
  putSync(key: Buffer, value: Buffer): boolean
  put(key: Buffer, value: Buffer): Promise<boolean>
  transactionSync(run: () => void): void
  /** Its bytes are valid until the next read; `length` is the value's. */
  getBinaryFast(key: Buffer): Buffer | undefined
  getRange(options: { start: Buffer; limit: number }): Iterable<{ key: Buffer; value: Buffer }>
  readonly flushed: Promise<unknown>
  close(): Promise<void>
}

interface Module {
  open(options: object): Database
}

export function makeLmdb(folder: string, device: DeviceName): Engine {
  return new Lmdb(folder, device)
}

class Lmdb implements Engine {
  readonly settings: string
  readonly #module = requireInstalled<Module>('lmdb')
  readonly #folder: string
  readonly #useWritemap: boolean
  #database!: Database

  constructor(folder: string, device: DeviceName) {
    this.#folder = folder
    this.#useWritemap = device === 'shm'
    this.settings = `putSync, getBinaryFast, noMemInit, useWritemap ${this.#useWritemap}`
  }

  open(): undefined {
    this.#database = this.#module.open({
      path: this.#folder,
      keyEncoding: 'binary',
      encoding: 'binary',
      noMemInit: true,
      useWritemap: this.#useWritemap,
    })
  }

  close(): Promise<void> {
    return this.#database.close()
  }

  put(key: Buffer, value: Buffer): undefined {
    this.#database.putSync(key, value)
  }

  batch(entries: readonly Entry[]): undefined {
    const database = this.#database
    database.transactionSync(() => {
      for (const { key, value } of entries) database.putSync(key, value)
    })
  }

  get(key: Buffer): Uint8Array | undefined {
    return this.#database.getBinaryFast(key)
  }

  async flood(entries: readonly Entry[]): Promise<void> {
    const database = this.#database
    await Promise.all(entries.map(({ key, value }) => database.put(key, value)))
    await database.flushed
  }

  scan(from: Buffer, count: number): number {
    let sum = 0
    for (const { key, value } of this.#database.getRange({ start: from, limit: count })) {
      sum = addToChecksum(sum, key, value)
    }
    return sum
  }

  bytesOnDevice(): number {
    return allocatedBytes(this.#folder)
  }
}
