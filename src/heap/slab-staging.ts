/** What a heap puts into a batch: the words of a chunk's head. */
import { encodeSlabEntry, encodeSlabHeader, SLAB_ENTRY, slabEntrySeed } from '../layout/heap.js'
import { ENTRY_BYTES } from '../layout/record.js'
import type { Batch } from '../log/batch.js'
import type { SlabChunk } from './slab-chunk.js'

/** Bytes in a record, heads of entries included, at most. */
export const STAGED_BYTES = {
  /** The word of a bitmap. */
  BITS: ENTRY_BYTES.WORD,
  /** What bytes take beside themselves. */
  INLINE: 16,
  /** A chunk that goes. */
  FREE_CHUNK: ENTRY_BYTES.SLOT + ENTRY_BYTES.REVOKE,
  /** A chunk that is new, a slab that is new, and a bit. */
  PUBLISH: 256,
  /** A slab that goes, and a chunk with it. */
  RELEASE: 256,
} as const

export class SlabStaging {
  readonly #batch: Batch
  readonly #seed: number
  readonly #heapId: number
  readonly #entryWords = new Uint32Array(SLAB_ENTRY.bytes / 4)
  readonly #entry = new Uint8Array(this.#entryWords.buffer)

  /** `seed` is that of the volume's checksums. */
  constructor(batch: Batch, seed: number, heapId: number) {
    this.#batch = batch
    this.#seed = seed
    this.#heapId = heapId
  }

  header(chunk: SlabChunk): void {
    const { firstUnit, units, unitBytes, layout, mapping } = chunk
    const { id } = chunk.chunk
    const header = { heap: this.#heapId, chunk: id, firstUnit, units, unitBytes }
    this.#batch.write(mapping, layout.headerAt, encodeSlabHeader(header, this.#seed))
  }

  /** The entry of a slab whose objects have this type tag. */
  entry(chunk: SlabChunk, unit: number, type: number): void {
    encodeSlabEntry(
      chunk.blockBytes[unit]!,
      chunk.unitsOf(unit),
      chunk.blocks[unit]!,
      type,
      slabEntrySeed(this.#seed, chunk.chunk.id, unit),
      this.#entryWords,
      this.#entry,
    )
    this.#writeEntry(chunk, unit)
  }

  /** No slab begins here any more. */
  noEntry(chunk: SlabChunk, unit: number): void {
    this.#entry.fill(0)
    this.#writeEntry(chunk, unit)
  }

  #writeEntry(chunk: SlabChunk, unit: number): void {
    const at = chunk.layout.entriesAt + unit * SLAB_ENTRY.bytes
    this.#batch.write(chunk.mapping, at, this.#entry)
  }

  /** The word of the bitmap that has a block's bit. */
  bits(chunk: SlabChunk, unit: number, block: number): void {
    const pair = (block >>> 6) << 1
    const at = unit * chunk.unitWords + pair
    const { bitmapsAt, bitmapBytes } = chunk.layout
    const offset = bitmapsAt + unit * bitmapBytes + pair * 4
    this.#batch.setPair(chunk.mapping, offset, chunk.live[at]!, chunk.live[at + 1]!)
  }
}
