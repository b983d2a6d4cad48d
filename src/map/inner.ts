/**
 * Inner nodes of the map's tree, in memory alone and never changed: who changes the tree makes new
 * ones from the root down, so a snapshot is its root.
 *
 *   keys       –    m     t          keys[i] is the low end of children[i]; keys[0] is never looked at
 *   children   0    1     2          what is before m · m up to t · t and what is after it
 */
import { commonPrefix, compareBytes, headOf } from './bytes.js'
import type { Leaf } from './leaf.js'

export type Node = Inner | Leaf

/** Children of an inner node, at most. */
export const FANOUT = 256

export class Inner {
  readonly keys: readonly Uint8Array[]
  readonly children: readonly Node[]
  /** How many bytes the keys from the second on have in common. */
  readonly #prefix: number
  /** Their heads behind that; the first one is never looked at. An array: another typed one takes eight times as long. */
  readonly #heads: readonly number[]

  constructor(keys: readonly Uint8Array[], children: readonly Node[], from?: Inner, at = 0) {
    this.keys = keys
    this.children = children
    const last = keys.length - 1
    const prefix = last > 1 ? commonPrefix(keys[1]!, keys[last]!) : 0
    this.#prefix = prefix
    if (from !== undefined && from.#prefix === prefix) {
      // Keys are far apart in memory: heads that are known are not made again.
      const end = at + 1 + keys.length - from.keys.length
      const changed = keys.slice(at, end).map((key) => headOf(key, prefix))
      this.#heads = from.#heads.toSpliced(at, 1, ...changed)
    } else {
      this.#heads = keys.map((key) => headOf(key, prefix))
    }
  }

  /** Index of the child in whose range a key is. */
  childOf(key: Uint8Array): number {
    const { keys } = this
    const prefix = this.#prefix
    if (prefix > 0) {
      const sample = keys[1]!
      for (let i = 0; i < prefix; i++) {
        const byte = i < key.length ? key[i]! : -1
        if (byte !== sample[i]) return byte < sample[i]! ? 0 : keys.length - 1
      }
    }
    const heads = this.#heads
    const head = headOf(key, prefix)
    // How many heads are smaller: halves, without a branch. The first one counts as smaller.
    let low = 1
    let length = heads.length - 1
    while (length > 0) {
      const half = (length + 1) >>> 1
      low += half & ((heads[low + half - 1]! - head) >> 31)
      length -= half
    }
    while (low < heads.length && heads[low] === head && compareBytes(keys[low]!, key) <= 0) low++
    return low - 1
  }

  /** With the child at `at` replaced by these (none, one or two). */
  with(at: number, keys: readonly Uint8Array[], children: readonly Node[]): Inner {
    return new Inner(
      this.keys.toSpliced(at, 1, ...keys),
      this.children.toSpliced(at, 1, ...children),
      this,
      at,
    )
  }

  /** The two halves of a node that has become too large. */
  halves(): [Inner, Inner] {
    const middle = this.keys.length >>> 1
    return [
      new Inner(this.keys.slice(0, middle), this.children.slice(0, middle)),
      new Inner(this.keys.slice(middle), this.children.slice(middle)),
    ]
  }
}

/** Builds the inner nodes over leaves in order; `lows` are their low ends. */
export function buildTree(leaves: readonly Leaf[]): Node {
  let nodes: Node[] = [...leaves]
  let keys = leaves.map(({ low }) => low)
  while (nodes.length > 1) {
    const above: Node[] = []
    const keysAbove: Uint8Array[] = []
    // Not full: the next splits find room.
    const share = Math.ceil(nodes.length / Math.ceil(nodes.length / ((FANOUT * 3) / 4)))
    for (let at = 0; at < nodes.length; at += share) {
      above.push(new Inner(keys.slice(at, at + share), nodes.slice(at, at + share)))
      keysAbove.push(keys[at]!)
    }
    nodes = above
    keys = keysAbove
  }
  return nodes[0]!
}
