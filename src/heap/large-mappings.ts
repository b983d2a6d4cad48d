/** The mappings of large objects: each object is one, of which a process has some 65 000, so idle ones are given back. */
import { mappingOf } from '../allocator/chunk.js'
import type { ChunkStore } from '../allocator/chunk-store.js'
import type { SlabChunk } from './slab-chunk.js'

/** Large objects of a volume that are mapped at once. */
const MAPPED_MAX = 4096
/** Looked at when there are as many: a share of them, so that it is done once for many. */
const LOOKED_AT = 256

export class LargeMappings {
  readonly #store: ChunkStore
  /** The oldest first. */
  readonly #mapped = new Set<SlabChunk>()

  constructor(store: ChunkStore) {
    this.#store = store
  }

  /** Maps a large object. So many may be mapped that the oldest that nobody uses are given back for it. */
  map(chunk: SlabChunk): void {
    if (this.#mapped.size >= MAPPED_MAX) this.#unmapOldest()
    chunk.attach(mappingOf(chunk.chunk, this.#store))
    this.#mapped.add(chunk)
  }

  /** The object is no more. */
  forget(chunk: SlabChunk): void {
    this.#mapped.delete(chunk)
  }

  clear(): void {
    this.#mapped.clear()
  }

  #unmapOldest(): void {
    const store = this.#store
    const staged = store.log.batch.stagedSlots()
    let looked = 0
    for (const chunk of this.#mapped) {
      if (looked++ === LOOKED_AT) break
      this.#mapped.delete(chunk)
      const isIdle = chunk.live[0] === 1 && !chunk.viewed && !staged.has(chunk.mapping.slot)
      if (isIdle && store.unmapIdle(chunk.chunk)) chunk.unload()
      else this.#mapped.add(chunk)
    }
  }
}
