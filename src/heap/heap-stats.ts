/** What a heap holds, counted by class. */
import type { SlabHeap } from './slab-heap.js'

/** One size class of a heap. */
export interface ClassStats {
  /** Bytes of a block. */
  readonly size: number
  readonly slabs: number
  /** Blocks of all its slabs, whether they have objects or not. */
  readonly blocks: number
  readonly objects: number
}

/** What `heap.stats` counts. */
export interface HeapStats {
  /** Live objects, large ones included. */
  readonly objects: number
  /** Bytes of their blocks and chunks. */
  readonly usedBytes: number
  /** Bytes of all chunks of the heap. */
  readonly deviceBytes: number
  /** Chunks with slabs, the root chunk among them. */
  readonly slabChunks: number
  readonly largeObjects: number
  readonly largeBytes: number
  /** Classes that have slabs, smallest first. */
  readonly classes: readonly ClassStats[]
}

export function statsOf(space: SlabHeap): HeapStats {
  space.loadAll()
  const classes = Array.from(space.classes.sizes, (size) => ({
    size,
    slabs: 0,
    blocks: 0,
    objects: 0,
  }))
  let objects = 0
  let usedBytes = 0
  let deviceBytes = 0
  for (const chunk of space.chunks) {
    deviceBytes += chunk.sizeBytes
    for (let unit = 0; unit < chunk.units; unit++) {
      if (!chunk.isSlab(unit)) continue
      const size = chunk.blockBytes[unit]!
      const counted = classes[space.classes.indexOf(size)]!
      counted.slabs++
      counted.blocks += chunk.blocks[unit]!
      counted.objects += chunk.used[unit]!
      objects += chunk.used[unit]!
      usedBytes += chunk.used[unit]! * size
    }
  }
  let largeBytes = 0
  let largeObjects = 0
  for (const chunk of space.larges) {
    deviceBytes += chunk.sizeBytes
    if (chunk.used[0] === 0) continue
    largeObjects++
    largeBytes += chunk.sizeBytes
  }
  return {
    objects: objects + largeObjects,
    usedBytes: usedBytes + largeBytes,
    deviceBytes,
    slabChunks: space.chunks.length,
    largeObjects,
    largeBytes,
    classes: classes.filter(({ slabs }) => slabs > 0),
  }
}
