/** What is timed, on one engine, and whether it was right. */
import { performance } from 'node:perf_hooks'
import type { Engine, Entry } from './engine.js'
import {
  addEntry,
  headOfEntry,
  KEY_BYTES,
  lastValueByte,
  makeEntry,
  makeKey,
  scramble,
  VALUE_BYTES,
} from './entries.js'

export const BATCH_ENTRIES = 100
export const SCAN_ENTRIES = 100
const FIRST_KEY = Buffer.alloc(KEY_BYTES)

export const TIMED = ['put', 'batch-100', 'get', 'flood', 'scan-100', 'open'] as const
export type Timed = (typeof TIMED)[number]

/** Operations made ready, so that none of that is timed. */
interface Prepared {
  run(): unknown
  /** What `run` must give. */
  readonly expected?: number
}

export class Work {
  readonly #engine: Engine
  #count = 0
  #random = 0
  /** The heads of all entries, in the order of their keys. */
  #sorted = new Uint32Array(0)
  #heapBytesEmpty = 0

  constructor(engine: Engine) {
    this.#engine = engine
  }

  async open(): Promise<void> {
    await this.#engine.open()
    this.#heapBytesEmpty = heapBytes()
  }

  async close(): Promise<void> {
    await this.#engine.close()
  }

  async load(entries: number): Promise<void> {
    for (let left = entries; left > 0; left -= BATCH_ENTRIES) {
      await this.#engine.batch(this.#newEntries(Math.min(left, BATCH_ENTRIES)))
    }
  }

  /** Nanoseconds of one operation. A tenth as many run right before: the processor has been another engine's. */
  async time(name: Timed, operations: number): Promise<number> {
    const before = operations > 1 ? [await this.#prepare(name, Math.ceil(operations / 10))] : []
    const timed = await this.#prepare(name, operations)
    // What making ready has left behind is not collected in between.
    globalThis.gc!({ type: 'minor' })
    for (const prepared of before) await runTimed(name, prepared)
    return ((await runTimed(name, timed)) * 1e6) / operations
  }

  #prepare(name: Timed, operations: number): Prepared | Promise<Prepared> {
    switch (name) {
      case 'put':
        return this.#puts(operations)
      case 'batch-100':
        return this.#batches(operations)
      case 'get':
        return this.#gets(operations)
      case 'flood':
        return this.#flood(operations)
      case 'scan-100':
        return this.#scans(operations)
      case 'open':
        return this.#opening(operations)
    }
  }

  #puts(operations: number): Prepared {
    const engine = this.#engine
    const entries = this.#newEntries(operations)
    return {
      async run() {
        for (const { key, value } of entries) {
          const done = engine.put(key, value)
          if (done !== undefined) await done
        }
      },
    }
  }

  #batches(operations: number): Prepared {
    const engine = this.#engine
    const batches = Array.from({ length: operations }, () => this.#newEntries(BATCH_ENTRIES))
    return {
      async run() {
        for (const batch of batches) {
          const done = engine.batch(batch)
          if (done !== undefined) await done
        }
      },
    }
  }

  #gets(operations: number): Prepared {
    const engine = this.#engine
    const heads = this.#someHeads(operations)
    const keys = heads.map(makeKey)
    return {
      run() {
        let sum = 0
        for (const key of keys) {
          sum = (Math.imul(sum, 31) + engine.get(key)![VALUE_BYTES - 1]!) | 0
        }
        return sum
      },
      expected: heads.reduce((sum, head) => (Math.imul(sum, 31) + lastValueByte(head)) | 0, 0),
    }
  }

  #flood(operations: number): Prepared {
    const entries = this.#newEntries(operations)
    return { run: () => this.#engine.flood(entries) }
  }

  #scans(operations: number): Prepared {
    const engine = this.#engine
    const heads = this.#someHeads(operations)
    const keys = heads.map(makeKey)
    return {
      async run() {
        let sum = 0
        for (const key of keys) {
          const one = engine.scan(key, SCAN_ENTRIES)
          sum = (sum + (typeof one === 'number' ? one : await one)) | 0
        }
        return sum
      },
      expected: heads.reduce((sum, head) => (sum + this.#checksum(head, SCAN_ENTRIES)) | 0, 0),
    }
  }

  /** Until the first read is answered. */
  async #opening(operations: number): Promise<Prepared> {
    if (operations !== 1) throw new Error('opening is timed one by one')
    const engine = this.#engine
    await engine.close()
    const [head] = this.#someHeads(1)
    const key = makeKey(head!)
    return {
      async run() {
        await engine.open()
        return engine.get(key)![VALUE_BYTES - 1]
      },
      expected: lastValueByte(head!),
    }
  }

  async bytesPerEntry(): Promise<number> {
    await this.#reopen()
    return this.#engine.bytesOnDevice() / this.#count
  }

  /**
   * Milliseconds from opening until every entry was read once, in order. What engines read when it is first
   * used is read then: what is timed behind this finds them as they are when they have been open for a while.
   */
  async firstScan(): Promise<number> {
    await this.#engine.close()
    const started = performance.now()
    await this.#engine.open()
    const found = await this.#readAll()
    const elapsed = performance.now() - started
    this.#checkAll(found)
    return elapsed
  }

  /** Beyond what the engine holds when it is open and empty. */
  heapBytesPerEntry(): number {
    return (heapBytes() - this.#heapBytesEmpty) / this.#count
  }

  /** Closes and opens, then demands every entry ever put, in order, and no other. */
  async verify(): Promise<void> {
    await this.#reopen()
    this.#checkAll(await this.#readAll())
  }

  #readAll(): number | Promise<number> {
    return this.#engine.scan(FIRST_KEY, this.#count + 1)
  }

  #checkAll(found: number): void {
    const expected = this.#checksum(0, this.#count)
    if (found !== expected) {
      throw new Error(`not the ${this.#count} entries: checksum ${found} instead of ${expected}`)
    }
  }

  async #reopen(): Promise<void> {
    await this.#engine.close()
    await this.#engine.open()
  }

  #newEntries(count: number): Entry[] {
    return Array.from({ length: count }, () => makeEntry(headOfEntry(this.#count++)))
  }

  #someHeads(count: number): number[] {
    return Array.from({ length: count }, () => headOfEntry(scramble(this.#random++) % this.#count))
  }

  /** Of the first `count` entries whose key begins with `head` or more. */
  #checksum(head: number, count: number): number {
    const sorted = this.#sortedHeads()
    let at = 0
    for (let end = sorted.length; at < end; ) {
      const middle = (at + end) >>> 1
      if (sorted[middle]! < head) at = middle + 1
      else end = middle
    }
    let sum = 0
    for (const each of sorted.subarray(at, at + count)) sum = addEntry(sum, each)
    return sum
  }

  #sortedHeads(): Uint32Array {
    if (this.#sorted.length !== this.#count) {
      this.#sorted = Uint32Array.from({ length: this.#count }, (_, i) => headOfEntry(i)).sort()
    }
    return this.#sorted
  }
}

/** Milliseconds. */
async function runTimed(name: Timed, { run, expected }: Prepared): Promise<number> {
  const started = performance.now()
  const found = await run()
  const elapsed = performance.now() - started
  if (expected !== undefined && found !== expected) {
    throw new Error(`${name}: wrong bytes, checksum ${found} instead of ${expected}`)
  }
  return elapsed
}

/** Of the JavaScript heap, after a collection. */
function heapBytes(): number {
  globalThis.gc!()
  return process.memoryUsage().heapUsed
}
