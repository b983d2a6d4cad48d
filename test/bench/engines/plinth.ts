/**
 * plinth's ordered map. On `shm` with forced cache-line granularity, as on persistent memory: a short log, which stays in
 * the caches. On `disk` with pages: a long one, since a checkpoint writes every page that has changed, and rarely does so then.
 */
import { join } from 'node:path'
import { MIB } from '../../../src/base/units.js'
import { OrderedMap } from '../../../src/map/ordered-map.js'
import { Volume } from '../../../src/volume/volume.js'
import type { DeviceName, Engine, Entry } from './engine.js'
import { addToChecksum, VALUE_BYTES } from './entries.js'

const SIZE_BYTES = 256 * MIB
const LOG_BYTES: Readonly<Record<DeviceName, number>> = { shm: MIB, disk: 64 * MIB }
const NAME = 'entries'

export function makePlinth(folder: string, device: DeviceName): Engine {
  return new Plinth(folder, device)
}

class Plinth implements Engine {
  readonly settings: string
  readonly #path: string
  readonly #granularity: 'cache-line' | 'page'
  /** The last value read, as lmdb's `getBinaryFast` gives it. */
  readonly #value = new Uint8Array(VALUE_BYTES)
  #volume!: Volume
  #map!: OrderedMap

  constructor(folder: string, device: DeviceName) {
    this.#path = join(folder, 'volume')
    this.#granularity = device === 'shm' ? 'cache-line' : 'page'
    this.settings = `granularity ${this.#granularity}, log of ${LOG_BYTES[device] / MIB} MiB`
    Volume.format(this.#path, { size: SIZE_BYTES, logSize: LOG_BYTES[device] })
  }

  open(): undefined {
    this.#volume = Volume.open(this.#path, { granularity: this.#granularity })
    this.#map = OrderedMap.open(this.#volume, NAME)
  }

  close(): undefined {
    this.#volume.close()
  }

  put(key: Buffer, value: Buffer): undefined {
    this.#map.put(key, value)
  }

  batch(entries: readonly Entry[]): undefined {
    this.#map.batch(entries.map(({ key, value }) => ({ type: 'put', key, value })))
  }

  get(key: Buffer): Uint8Array | undefined {
    return this.#map.getInto(key, this.#value) === -1 ? undefined : this.#value
  }

  flood(entries: readonly Entry[]): Promise<unknown> {
    return Promise.all(entries.map(({ key, value }) => this.#map.putAsync(key, value)))
  }

  scan(from: Buffer, count: number): number {
    let sum = 0
    for (const [key, value] of this.#map.entries({ gte: from, limit: count })) {
      sum = addToChecksum(sum, key, value)
    }
    return sum
  }

  bytesOnDevice(): number {
    return this.#volume.stats().usedBytes
  }
}
