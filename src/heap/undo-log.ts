/**
 * What the transaction under way has changed in the heaps' memory. Memory changes at once, which is how a
 * transaction sees its own objects; nobody else looks before it ends.
 *
 *   op       does at once                    once committed           rolled back
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
 * Ops are carried through in order and rolled back in reverse. Space that was freed is given out again only
 * once its free is committed.
 */
import type { Structure, TransactionContext } from '../log/transaction-context.js'
import type { SlabChunk } from './slab-chunk.js'

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

export class UndoLog implements Structure {
  /** Op, index of the chunk, unit, block. */
  #ops = new Int32Array(256 * OP_WORDS)
  #length = 0
  /** Frees since the transaction began or was prepared, at least. */
  #frees = 0
  readonly #roots: number[] = []
  readonly #idle: { readonly chunk: SlabChunk; readonly unit: number }[] = []
  readonly #chunks: readonly (SlabChunk | undefined)[]
  readonly #context: TransactionContext

  constructor(chunks: readonly (SlabChunk | undefined)[], context: TransactionContext) {
    this.#chunks = chunks
    this.#context = context
    context.heaps = this
  }

  /** How many ops there are: what `rollbackTo` goes back to. */
  get length(): number {
    return this.#length
  }

  push(op: number, chunk: SlabChunk, unit: number, block: number): void {
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
    this.#context.isStructural = true
    if (op === OP.FREE) this.#frees++
  }

  pushRoot(chunk: SlabChunk): void {
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
  noteIdle(chunk: SlabChunk, unit: number): void {
    this.#idle.push({ chunk, unit })
  }

  #releaseIdle(): void {
    for (const { chunk, unit } of this.#idle.splice(0)) {
      const known = this.#chunks[chunk.index] === chunk && chunk.slabOf[unit] === unit
      if (known) chunk.owner.releaseIfEmpty(chunk, unit)
    }
  }

  committed(): void {
    const ops = this.#ops
    const length = this.#length * OP_WORDS
    for (let at = 0; at < length; at += OP_WORDS) {
      const op = ops[at]!
      if (op === OP.ALLOCATE || op === OP.PUBLISH) continue
      const chunk = this.#chunks[ops[at + 1]!]!
      chunk.owner.carryThrough(op, chunk, ops[at + 2]!, ops[at + 3]!)
    }
    this.forget()
  }

  rollbackTo(length: number): void {
    while (this.#length > length) {
      const at = --this.#length * OP_WORDS
      const chunk = this.#chunks[this.#ops[at + 1]!]!
      const op = this.#ops[at]!
      if (op === OP.ROOT) chunk.owner.root = this.#roots.pop()!
      else chunk.owner.undo(op, chunk, this.#ops[at + 2]!, this.#ops[at + 3]!)
    }
  }

  forget(): void {
    this.#length = 0
    this.#frees = 0
    if (this.#roots.length > 0) this.#roots.length = 0
  }
}
