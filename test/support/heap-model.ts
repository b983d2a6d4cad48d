/** A heap, slow and plainly right: a map from pointer to what its owner has asked for and stored. */
export interface ModelObject {
  readonly size: number
  readonly type: number
  /** Seed of its contents; undefined while nothing was stored. */
  readonly contents: number | undefined
}

export class HeapModel {
  objects = new Map<number, ModelObject>()
  root = 0

  copy(): HeapModel {
    const copy = new HeapModel()
    copy.objects = new Map(this.objects)
    copy.root = this.root
    return copy
  }

  pick(random: { below(end: number): number }): number | undefined {
    const pointers = [...this.objects.keys()]
    return pointers.length === 0 ? undefined : pointers[random.below(pointers.length)]
  }
}

/** Contents of an object: its first bytes, at most 64 of them. */
export function contentsOf(size: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: Math.min(size, 64) }, (_, i) => (seed * 31 + i * 7 + 1) & 255)
}
