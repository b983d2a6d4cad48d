/** The way from a root to a leaf: whoever goes one keeps its own. */
import { Inner } from './inner.js'
import type { Leaf } from './leaf.js'

export class Path {
  readonly nodes: Inner[] = []
  /** Which child of each. */
  readonly at: number[] = []
  depth = 0

  push(node: Inner, at: number): void {
    this.nodes[this.depth] = node
    this.at[this.depth++] = at
  }

  /** The end of the range of the leaf: the next leaf's low key; undefined for none. */
  high(): Uint8Array | undefined {
    for (let i = this.depth - 1; i >= 0; i--) {
      const next = this.nodes[i]!.keys[this.at[i]! + 1]
      if (next !== undefined) return next
    }
    return undefined
  }

  /** The leaf before; undefined for none. */
  left(): Leaf | undefined {
    for (let i = this.depth - 1; i >= 0; i--) {
      const at = this.at[i]!
      if (at === 0) continue
      let node = this.nodes[i]!.children[at - 1]!
      while (node instanceof Inner) node = node.children.at(-1)!
      return node
    }
    return undefined
  }
}
