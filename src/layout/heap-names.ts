/** The names of a heap's chunks, which say whose each is. Numbers are in base 36. */
import { HEAP_TYPE } from './heap.js'

export const HEAP_PREFIX = 'heap:'
const MEMBER = /^(slab|large):([0-9a-z]{1,11}):([0-9a-z]{1,6})(?::[0-9a-z]{1,11})?$/

/** Of the root chunk of the heap with this name. */
export function rootChunkName(heap: string): string {
  return HEAP_PREFIX + heap
}

/** The heap whose root chunk has this name and type, which may be anything; undefined for any other chunk. */
export function heapNameOf(name: string | undefined, type: string | undefined): string | undefined {
  const isHeap = type === HEAP_TYPE.HEAP && typeof name === 'string'
  if (!isHeap || !name.startsWith(HEAP_PREFIX)) return undefined
  return name.length > HEAP_PREFIX.length ? name.slice(HEAP_PREFIX.length) : undefined
}

/** Of a chunk with slabs, by the id of the heap's root chunk and the number of its first unit. */
export function slabChunkName(heap: number, firstUnit: number): string {
  return `slab:${heap.toString(36)}:${firstUnit.toString(36)}`
}

/** Of a large object; its place in granules makes the name unique. */
export function largeChunkName(heap: number, typeTag: number, granule: number): string {
  return `large:${heap.toString(36)}:${typeTag.toString(36)}:${granule.toString(36)}`
}

/** What such a name tells: id of the root chunk, and first unit or type tag; undefined when it is no such name. */
export function memberOf(
  name: string,
  isLarge: boolean,
): { heap: number; number: number } | undefined {
  const match = MEMBER.exec(name)
  if (match === null || (match[1] === 'large') !== isLarge) return undefined
  return { heap: Number.parseInt(match[2]!, 36), number: Number.parseInt(match[3]!, 36) }
}
