/**
 * What a process that will be killed does: operation number n is the same whenever it is asked for,
 * so whoever knows how far the process came knows what must be on the device.
 */
import assert from 'node:assert/strict'
import type { Volume } from 'plinth'
import { pattern } from './pattern.js'
import { Random } from './random.js'

export const CHUNKS = 4
export const CHUNK_BYTES = 8192
const EXTRAS = 8
/** So many operations from a multiple of it are one wave: all are started before any is waited for. */
export const WAVE = 6

export type Operation =
  /** Bytes in some chunks and the ledger, at once. */
  | { kind: 'transact'; writes: { chunk: number; at: number; length: number }[] }
  /** Stored by hand and persisted: may be torn when it was not acknowledged. */
  | { kind: 'raw'; chunk: number; at: number; length: number }
  /** The chunk `extra` is freed when it is there, else made and filled. */
  | { kind: 'extra'; extra: number; granules: number }

const inWave = (n: number) => Math.floor(n / WAVE) % 4 === 3

export function operation(seed: number, n: number): Operation & { waits: boolean } {
  const random = new Random(seed + Math.imul(n, 0x9e3779b1))
  const place = () => {
    const length = random.chance(4) ? random.between(1, 3000) : random.between(1, 200)
    return { chunk: random.below(CHUNKS), at: random.below(CHUNK_BYTES - length), length }
  }
  const waits = !inWave(n)
  const what = random.below(10)
  if (waits && what < 3) return { kind: 'raw', waits, ...place() }
  if (what < 5)
    return { kind: 'extra', waits, extra: random.below(EXTRAS), granules: random.between(1, 5) }
  return { kind: 'transact', waits, writes: Array.from({ length: random.between(1, 4) }, place) }
}

/** Does operation n on a volume; the promise of a transaction that nobody waits for yet. */
export function perform(volume: Volume, seed: number, n: number): Promise<unknown> | undefined {
  const op = operation(seed, n)
  const ledger = volume.chunk('ledger')
  if (op.kind === 'raw') {
    const chunk = volume.chunk(`chunk ${op.chunk}`)
    chunk.bytes.set(pattern(op.length, seed + n), op.at)
    chunk.persist(op.at, op.length)
    return undefined
  }
  const work = (tx: Parameters<Parameters<Volume['transact']>[0]>[0]) => {
    tx.setUint64(ledger, 0, n)
    if (op.kind === 'transact') {
      for (const [i, { chunk, at, length }] of op.writes.entries()) {
        tx.write(volume.chunk(`chunk ${chunk}`), at, pattern(length, seed + n + i))
      }
      return
    }
    const name = `extra ${op.extra}`
    const extra = volume.findChunk(name)
    if (extra !== undefined) volume.free(extra)
    else {
      const made = volume.allocate({ size: op.granules * 4096, name })
      tx.write(made, 0, pattern(500, seed + n))
    }
  }
  if (!op.waits) return volume.transactAsync(work)
  volume.transact(work)
  return undefined
}

/** The state after so many operations, slow and plainly right. */
export class KillModel {
  readonly #seed: number
  /** Operations done. */
  done = 0
  /** The last of them that is in the ledger. */
  ledger = 0
  readonly chunks: Uint8Array[] = Array.from({ length: CHUNKS }, () => new Uint8Array(CHUNK_BYTES))
  readonly extras = new Map<number, { size: number; bytes: Uint8Array }>()

  constructor(seed: number) {
    this.#seed = seed
  }

  copy(): KillModel {
    const copy = new KillModel(this.#seed)
    copy.done = this.done
    copy.ledger = this.ledger
    for (const [i, bytes] of this.chunks.entries()) copy.chunks[i]!.set(bytes)
    for (const [extra, value] of this.extras) copy.extras.set(extra, value)
    return copy
  }

  advance(): void {
    const n = ++this.done
    const op = operation(this.#seed, n)
    if (op.kind === 'raw') {
      this.chunks[op.chunk]!.set(pattern(op.length, this.#seed + n), op.at)
      return
    }
    this.ledger = n
    if (op.kind === 'transact') {
      for (const [i, { chunk, at, length }] of op.writes.entries()) {
        this.chunks[chunk]!.set(pattern(length, this.#seed + n + i), at)
      }
    } else if (!this.extras.delete(op.extra)) {
      this.extras.set(op.extra, {
        size: op.granules * 4096,
        bytes: pattern(500, this.#seed + n),
      })
    }
  }

  /** Why a volume is not in this state; undefined when it is. A raw store under way may be there in part. */
  difference(volume: Volume): string | undefined {
    const next = operation(this.#seed, this.done + 1)
    try {
      assert.equal(volume.chunk('ledger').view.getUint32(0, true), this.ledger, 'ledger')
      const names = volume.chunks().map(({ name }) => name)
      const expected = ['ledger', ...this.chunks.map((_, i) => `chunk ${i}`)]
      for (const extra of this.extras.keys()) expected.push(`extra ${extra}`)
      assert.deepEqual(names.sort(), expected.sort(), 'chunks')
      for (const [extra, { size, bytes }] of this.extras) {
        const chunk = volume.chunk(`extra ${extra}`)
        assert.equal(chunk.size, size, `size of extra ${extra}`)
        assert.equal(Buffer.compare(chunk.bytes.subarray(0, 500), bytes), 0, `extra ${extra}`)
      }
      for (const [i, bytes] of this.chunks.entries()) {
        const found = volume.chunk(`chunk ${i}`).bytes.slice(0, CHUNK_BYTES)
        if (next.kind === 'raw' && next.chunk === i) {
          found.set(bytes.subarray(next.at, next.at + next.length), next.at)
        }
        assert.equal(Buffer.compare(found, bytes), 0, `chunk ${i}`)
      }
      return undefined
    } catch (error) {
      return (error as Error).message
    }
  }
}

export function prepare(volume: Volume): void {
  volume.allocate({ size: 4096, name: 'ledger', zero: true })
  for (let i = 0; i < CHUNKS; i++) {
    volume.allocate({ size: CHUNK_BYTES, name: `chunk ${i}`, zero: true })
  }
}

/** The state that the volume is in: everything acknowledged, and perhaps what was under way. */
export function stateOf(volume: Volume, acknowledged: KillModel): KillModel {
  const differences: string[] = []
  const model = acknowledged.copy()
  for (let ahead = 0; ahead <= WAVE; ahead++) {
    const difference = model.difference(volume)
    if (difference === undefined) return model
    differences.push(`${model.done}: ${difference}`)
    model.advance()
  }
  throw new Error(
    `no state fits, the last acknowledged is ${acknowledged.done}\n${differences.join('\n')}`,
  )
}

/** Does operation after operation, from `first` on, and says of each when it is durable. Never ends. */
export async function work(
  volume: Volume,
  seed: number,
  first: number,
  acknowledge: (n: number) => void,
): Promise<void> {
  for (let n = first; ; ) {
    if (operation(seed, n).waits) {
      perform(volume, seed, n)
      acknowledge(n++)
      // What waits off this thread comes by.
      if (n % 16 === 0) await new Promise((resolve) => setImmediate(resolve))
      continue
    }
    const wave: Promise<unknown>[] = []
    for (; !operation(seed, n).waits; n++) {
      const own = n
      wave.push(perform(volume, seed, n)!.then(() => acknowledge(own)))
    }
    await Promise.all(wave)
  }
}
