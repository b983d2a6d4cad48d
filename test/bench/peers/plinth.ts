/** The work of the peer benchmark for plinth: the same operations, as often, in the same order. */
import fs from 'node:fs'
import { performance } from 'node:perf_hooks'
import { GIB, MIB } from '../../../src/base/units.js'
import type { Heap } from '../../../src/heap/heap.js'
import type { Transaction } from '../../../src/transaction/transaction.js'
import type { Volume } from '../../../src/volume/volume.js'
import { makeSparseVolume, type Scratch } from '../scratch.js'

const SLOTS = 1024
const LIVE = 100_000
const AREA_BYTES = MIB
const MILLION = 1_000_000
/** Small, so that a round has its share of checkpoints. */
const LOG_BYTES = MIB
const LARGE_LOG_BYTES = 16 * MIB
/** What is really stored in each of the sparse volumes, at most. */
const STORED_BYTES = 128 * MIB

export const CASES = [
  'alloc-64B',
  'free-64B',
  'alloc-link-free',
  'tx-64B',
  'tx-put-116B',
  'random-free-alloc',
  'bytes-per-byte-64B',
  'open-1M',
] as const
export type Case = (typeof CASES)[number]

export class PlinthWork {
  readonly #scratch: Scratch
  readonly #volume: Volume
  readonly #heap: Heap
  readonly #burst: number[] = []
  readonly #live: number[] = []
  readonly #link: number
  readonly #area: number
  readonly #slots: number
  readonly #bytes = new Uint8Array(116).fill(7)
  readonly #line = new Uint8Array(64).fill(7)
  #million: { open(): Volume } | undefined
  #bytesPerByte = 0
  #seed = 1
  #done = 0
  /** What the transaction under way works on: its function is made once, as an engine does on its hot path. */
  #at = 0
  readonly #store = (tx: Transaction) => this.#stageLine(tx)
  readonly #make = (tx: Transaction) =>
    tx.setObjectUint64(this.#heap, this.#link, this.#heap.allocate(64))
  readonly #remove = (tx: Transaction) => {
    this.#heap.free(tx.getObjectUint64(this.#heap, this.#link))
    tx.setObjectUint64(this.#heap, this.#link, 0)
  }
  readonly #replace = (tx: Transaction) => this.#stagePut(tx)

  constructor(scratch: Scratch) {
    this.#scratch = scratch
    this.#volume = makeSparseVolume(scratch, {
      sizeBytes: GIB,
      granuleBytes: 2 * MIB,
      logBytes: LOG_BYTES,
      storedBytes: STORED_BYTES,
    }).open()
    const heap = this.#volume.heap('peer')
    this.#heap = heap
    this.#link = heap.allocate(64)
    this.#area = heap.allocate(AREA_BYTES)
    this.#slots = heap.allocate(SLOTS * 8)
    for (const object of [this.#area, this.#slots]) heap.bytes(object).fill(0)
  }

  /** Nanoseconds of one operation. */
  run(name: Case, operations: number): number {
    if (name === 'bytes-per-byte-64B') return this.#fill() * 1000
    if (name === 'open-1M') return this.#openMillion(operations)
    const work = this.#workOf(name)
    const started = performance.now()
    work(operations)
    return ((performance.now() - started) * 1e6) / operations
  }

  #workOf(name: Case): (n: number) => void {
    if (name === 'alloc-64B') return (n) => this.#allocateBurst(n)
    if (name === 'free-64B') return (n) => this.#freeBurst(n)
    if (name === 'alloc-link-free') return (n) => this.#linkFree(n)
    if (name === 'tx-64B') return (n) => this.#transaction(n)
    if (name === 'tx-put-116B') return (n) => this.#put(n)
    return (n) => this.#randomFreeAllocate(n)
  }

  #random(): number {
    this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0
    return this.#seed >>> 8
  }

  #randomSize(): number {
    return 64 + (this.#random() % (1024 - 64 + 1))
  }

  #allocateBurst(n: number): void {
    const heap = this.#heap
    for (let i = 0; i < n; i++) this.#burst[i] = heap.allocate(64)
  }

  #freeBurst(n: number): void {
    const heap = this.#heap
    for (let i = 0; i < n; i++) heap.free(this.#burst[i]!)
  }

  #linkFree(n: number): void {
    const volume = this.#volume
    for (let i = 0; i < n; i++) {
      volume.transact(this.#make)
      volume.transact(this.#remove)
    }
  }

  #transaction(n: number): void {
    const volume = this.#volume
    for (let i = 0; i < n; i++) {
      this.#at = this.#area + ((this.#done++ * 64) % AREA_BYTES)
      volume.transact(this.#store)
    }
  }

  #stageLine(tx: Transaction): void {
    tx.writeObject(this.#heap, this.#at, this.#line)
  }

  #put(n: number): void {
    const volume = this.#volume
    for (let i = 0; i < n; i++) {
      this.#at = this.#slots + ((this.#done++ * 7) % SLOTS) * 8
      volume.transact(this.#replace)
    }
  }

  #stagePut(tx: Transaction): void {
    const heap = this.#heap
    const slot = this.#at
    const object = heap.allocate(116)
    tx.writeObject(heap, object, this.#bytes)
    const old = heap.getUint64(slot)
    if (old !== 0) heap.free(old)
    tx.setObjectUint64(heap, slot, object)
  }

  #randomFreeAllocate(n: number): void {
    const heap = this.#heap
    const live = this.#live
    while (live.length < LIVE) live.push(heap.allocate(this.#randomSize()))
    for (let i = 0; i < n; i++) {
      const at = this.#random() % LIVE
      heap.free(live[at]!)
      live[at] = heap.allocate(this.#randomSize())
    }
  }

  /** A volume with a million objects of 64 bytes; device bytes for each of their bytes. */
  #fill(): number {
    if (this.#million === undefined) {
      const made = makeSparseVolume(this.#scratch, {
        sizeBytes: GIB,
        granuleBytes: 2 * MIB,
        logBytes: LARGE_LOG_BYTES,
        storedBytes: STORED_BYTES,
      })
      const volume = made.open()
      const heap = volume.heap('million')
      for (let i = 0; i < MILLION; i++) heap.allocate(64)
      this.#bytesPerByte = volume.stats().usedBytes / (MILLION * 64)
      volume.close()
      this.#million = made
    }
    return this.#bytesPerByte
  }

  #openMillion(rounds: number): number {
    this.#fill()
    let sum = 0
    for (let i = 0; i < rounds; i++) {
      const started = performance.now()
      const volume = this.#million!.open()
      const heap = volume.heap('million')
      const object = heap.allocate(64)
      sum += performance.now() - started
      heap.free(object)
      volume.close()
    }
    return (sum * 1e6) / rounds
  }

  /** Bytes of the JavaScript heap that `pairs` of allocate and free leave behind, for each of them. */
  garbage(pairs: number): number {
    const heap = this.#heap
    const turn = (n: number) => {
      for (let i = 0; i < n; i++) heap.free(heap.allocate(64))
    }
    // A median of stretches, since a collection may fall into some. Asking leaves bytes of its own.
    const left = (n: number) => {
      const samples = Array.from({ length: 41 }, () => {
        const before = process.memoryUsage().heapUsed
        turn(n)
        return process.memoryUsage().heapUsed - before
      })
      return samples.sort((a, b) => a - b)[20]!
    }
    return (left(pairs) - left(0)) / pairs
  }

  close(): void {
    this.#volume.close()
  }
}

/** Where a compiled peer keeps its pools: gone with the run. */
export function peerFolder(scratch: Scratch): string {
  const folder = `${scratch.memoryPath()}.peer`
  fs.mkdirSync(folder)
  return folder
}
