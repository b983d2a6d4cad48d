/** Objects that are made and freed together with the pointer to them. */
import type { Heap, Volume } from 'plinth'

/** Allocates an object and stores its pointer at `link`, both or neither. */
export function allocateInto(volume: Volume, heap: Heap, link: number, size: number): number {
  return volume.transact((tx) => {
    const pointer = heap.allocate(size)
    tx.setObjectUint64(heap, link, pointer)
    return pointer
  })
}

/** Frees the object whose pointer is stored at `link` and makes that 0, both or neither. */
export function freeFrom(volume: Volume, heap: Heap, link: number): void {
  volume.transact((tx) => {
    heap.free(tx.getObjectUint64(heap, link))
    tx.setObjectUint64(heap, link, 0)
  })
}
