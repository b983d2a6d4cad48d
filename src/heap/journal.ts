/**
 * What a batch has changed in the heaps' memory, so that it can be settled or turned back. Memory
 * changes at once, which is how a transaction sees its own objects; nobody else looks before it ends.
 *
 *   op       does at once                    settled by the commit    turned back by the rollback
 *   ALLOCATE a block is live                 –                        it is free
 *   TAKE     a block is reserved             –                        it is free, its slab gone if new
 *   CHUNK    the chunk is staged             its handle is live       it is reserved again
 *   SLAB     the slab's entry is staged      –                        it is in memory alone again
 *   PUBLISH  reserved becomes live           –                        it is reserved again
 *   FREE     live ends                       the block is free        it is live again
 *   RELEASE  the slab's entry is cleared     its units are free       it is as before
 *   GIVE     the chunk's free is staged      the chunk is gone        –
 *   ROOT     the root is another             –                        it is the one before
 *
 * Ops are settled in order and turned back in reverse. Space that was freed is given out again only
 * once the commit has settled it.
 */
import type { HeapChunk } from './heap-chunk.js'

export const OP = {
  TAKE: 0,
  CHUNK: 1,
  SLAB: 2,
  PUBLISH: 3,
  FREE: 4,
  RELEASE: 5,
  GIVE: 6,
  ROOT: 7,
  ALLOCATE: 8,
} as const

const OP_WORDS = 4

export class Journal {
  /** Op, index of the chunk, unit, block. */
  #ops = new Int32Array(256 * OP_WORDS)
  #length = 0
  /** Frees since the last `prepare`, at least. */
  #frees = 0
  readonly #roots: number[] = []
  readonly #idle: { readonly chunk: HeapChunk; readonly unit: number }[] = []
  readonly #chunks: readonly (HeapChunk | undefined)[]

  constructor(chunks: readonly (HeapChunk | undefined)[]) {
    this.#chunks = chunks
  }

  /** How many ops there are: what `rollback` goes back to. */
  get length(): number {
    return this.#length
  }

  push(op: number, chunk: HeapChunk, unit: number, block: number): void {
    let at = this.#length * OP_WORDS
    if (at === this.#ops.length) {
      const grown = new Int32Array(at * 2)
      grown.set(this.#ops)
      this.#ops = grown
    }
    this.#ops[at++] = op
    this.#ops[at++] = chunk.index
    this.#ops[at++] = unit
    this.#ops[at] = block
    this.#length++
    if (op === OP.FREE) this.#frees++
  }

  pushRoot(chunk: HeapChunk): void {
    this.#roots.push(chunk.owner.root)
    this.push(OP.ROOT, chunk, 0, 0)
  }

  /** Stages what follows from the frees: empty slabs are released, empty chunks given back. */
  prepare(): void {
    if (this.#idle.length > 0) this.#releaseIdle()
    if (this.#frees === 0) return
    this.#frees = 0
    // `releaseIfEmpty` pushes more ops; those are none of its business.
    const length = this.#length
    for (let i = 0; i < length; i++) {
      const at = i * OP_WORDS
      if (this.#ops[at] !== OP.FREE) continue
      const chunk = this.#chunks[this.#ops[at + 1]!]!
      if (!chunk.isLarge) chunk.owner.releaseIfEmpty(chunk, this.#ops[at + 2]!)
    }
  }

  /** A slab of the device has lost its last reservation and has no object: the next batch releases it. */
  noteIdle(chunk: HeapChunk, unit: number): void {
    this.#idle.push({ chunk, unit })
  }

  #releaseIdle(): void {
    for (const { chunk, unit } of this.#idle.splice(0)) {
      const known = this.#chunks[chunk.index] === chunk && chunk.slabOf[unit] === unit
      if (known) chunk.owner.releaseIfEmpty(chunk, unit)
    }
  }

  settle(): void {
    const ops = this.#ops
    const length = this.#length * OP_WORDS
    for (let at = 0; at < length; at += OP_WORDS) {
      const chunk = this.#chunks[ops[at + 1]!]!
      chunk.owner.settle(ops[at]!, chunk, ops[at + 2]!, ops[at + 3]!)
    }
    this.#length = 0
    if (this.#roots.length > 0) this.#roots.length = 0
  }

  /** Turns everything back that came after there were `length` ops. */
  rollback(length = 0): void {
    while (this.#length > length) {
      const at = --this.#length * OP_WORDS
      const chunk = this.#chunks[this.#ops[at + 1]!]!
      const op = this.#ops[at]!
      if (op === OP.ROOT) chunk.owner.root = this.#roots.pop()!
      else chunk.owner.undo(op, chunk, this.#ops[at + 2]!, this.#ops[at + 3]!)
    }
  }
}
