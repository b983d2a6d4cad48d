/**
 * The tree over the leaves: in memory alone, built from the leaves' low keys at opening. Inner nodes are
 * never changed and leaves only while no snapshot sees them, so a snapshot is a root.
 *
 *   epoch    1        2               3
 *            leaf A ──┼─ A changes ──▶ A' (epoch 2)      the snapshot's root goes on to have A
 *                     └ snapshot of epoch 1
 *
 * Invariant: a decoded leaf says what the leaf on the device says, together with what the transaction under
 * way has staged; one that a newer version has superseded says what it said then, and stays decoded.
 */
import { LRUCache } from 'lru-cache'
import type { Heap, PlinthError } from '../index.js'
import { commonPrefix, compareBytes, hashOf, headOf } from './bytes.js'
import { corrupt, type Entries } from './entries.js'
import type { HashIndex } from './hash-index.js'
import { buildTree, FANOUT, Inner, type Node } from './inner.js'
import { LEAF_SLOTS, SLOTS_AT } from './layout.js'
import { LEAF_MEMORY_BYTES, Leaf, LeafMemory } from './leaf.js'

const LEAVES_MIN = 64
/** Every so many searches the cache is told of the leaf: it then knows well enough which are used. */
const TOUCH_EVERY = 16

interface Superseded {
  readonly leaf: Leaf
  /** Snapshots of this epoch and later do not see it. */
  readonly epoch: number
}

export interface TreeParts {
  readonly heap: Heap
  readonly entries: Entries
  /** Is told of the entries of leaves that are decoded. */
  readonly index: HashIndex
  readonly leaves: readonly Leaf[]
  readonly cacheBytes: number
}

export class Tree {
  readonly #heap: Heap
  readonly #entries: Entries
  readonly #index: HashIndex
  readonly #memory = new LeafMemory()
  /** Decoded leaves that can be decoded again. */
  readonly #cache: LRUCache<Leaf, true>
  /** Leaves that the cache has dropped: given up at the next `begin`, since they may be in use until then. */
  readonly #evicted: Leaf[] = []
  readonly #superseded: Superseded[] = []
  readonly #slotWords = new Uint32Array(LEAF_SLOTS * 2)
  readonly #slotBytes = new Uint8Array(this.#slotWords.buffer)
  #searches = 0
  #root: Node
  /** Of what is made now. */
  epoch = 1
  /** Epoch of the newest snapshot, 0 for none. */
  newest = 0
  // The way to the leaf that `trace` has found.
  readonly nodes: Inner[] = []
  readonly at: number[] = []
  depth = 0
  // As the transaction under way found it.
  readonly #touched: Leaf[] = []
  #rootBefore: Node
  #supersededBefore = 0

  constructor(parts: TreeParts) {
    const { leaves, cacheBytes } = parts
    this.#heap = parts.heap
    this.#entries = parts.entries
    this.#index = parts.index
    this.#root = this.#rootBefore = buildTree(leaves)
    this.#cache = new LRUCache({
      // Not `max`: that would take memory for all of them at once.
      maxSize: cachedLeaves(cacheBytes),
      sizeCalculation: () => 1,
      dispose: (_, leaf, reason) => {
        if (reason === 'evict') this.#evicted.push(leaf)
      },
    })
  }

  get root(): Node {
    return this.#root
  }

  /** Before each use of the tree. */
  begin(): void {
    while (this.#evicted.length > 0) {
      const leaf = this.#evicted.pop()!
      if (!this.#cache.has(leaf)) this.#memory.release(leaf)
    }
  }

  /** The leaf in whose range a key is, decoded; `nodes`, `at` and `depth` say how it was reached. */
  trace(root: Node, key: Uint8Array): Leaf {
    let node = root
    let depth = 0
    while (node instanceof Inner) {
      const at = node.childOf(key)
      this.nodes[depth] = node
      this.at[depth++] = at
      node = node.children[at]!
    }
    this.depth = depth
    if (!node.isDecoded) this.decode(node, this.high())
    else if ((++this.#searches & (TOUCH_EVERY - 1)) === 0) this.#cache.get(node)
    return node
  }

  /** The end of the range of the leaf that `trace` has found. */
  high(): Uint8Array | undefined {
    return endOf(this.nodes, this.at, this.depth)
  }

  /** The leaf before the one that `trace` has found; undefined for none. */
  left(): Leaf | undefined {
    for (let depth = this.depth - 1; depth >= 0; depth--) {
      const at = this.at[depth]!
      if (at === 0) continue
      let node = this.nodes[depth]!.children[at - 1]!
      while (node instanceof Inner) node = node.children.at(-1)!
      return node
    }
    return undefined
  }

  /**
   * Reads a leaf from the device.
   * @throws PlinthError ERR_VOLUME_CORRUPT
   */
  decode(leaf: Leaf, high: Uint8Array | undefined): void {
    const entries = this.#entries
    const words = this.#slotWords
    this.#heap.copyOut(leaf.pointer + SLOTS_AT, this.#slotBytes)
    this.#memory.acquire(leaf)
    leaf.prefix = prefixOf(leaf.low, high)
    try {
      // All are on their way before the first one is looked at.
      for (let slot = 0; slot < LEAF_SLOTS; slot++) {
        const pointer = words[2 * slot]! + words[2 * slot + 1]! * 2 ** 32
        if (pointer !== 0) entries.prefetchUnverified(pointer)
      }
      for (let slot = 0; slot < LEAF_SLOTS; slot++) {
        const pointer = words[2 * slot]! + words[2 * slot + 1]! * 2 ** 32
        if (pointer === 0) continue
        const key = entries.verifiedKey(pointer)
        const isInside =
          compareBytes(leaf.low, key) <= 0 && (high === undefined || compareBytes(key, high) < 0)
        const index = leaf.search(key, entries)
        if (entries.isEqual || !isInside) throw corrupt(`entry ${pointer} is in a wrong place`)
        leaf.takeSlot(slot)
        leaf.insert(index, headOf(key, leaf.prefix), pointer)
        this.#index.add(hashOf(key), pointer)
      }
    } catch (error) {
      this.#memory.release(leaf)
      const isBad = (error as PlinthError).code === 'ERR_BAD_POINTER'
      throw isBad ? corrupt(`leaf ${leaf.pointer} has something else than entries`) : error
    }
    this.#cache.set(leaf, true)
  }

  /**
   * A new leaf, decoded, with keys from `low` up to `high`: it gets the entries of `left` from the one at
   * `first` on.
   */
  splitOff(
    left: Leaf,
    first: number,
    pointer: number,
    low: Uint8Array,
    high: Uint8Array | undefined,
  ): Leaf {
    const leaf = new Leaf(pointer, low, this.epoch)
    this.#memory.acquire(leaf)
    leaf.prefix = left.prefix
    leaf.takeFrom(left, first)
    this.refit(leaf, high)
    this.#touched.push(leaf)
    this.#cache.set(leaf, true)
    return leaf
  }

  /** The version to be changed of the leaf that `trace` has found: it, or a copy if a snapshot sees it. */
  own(leaf: Leaf): Leaf {
    if (leaf.epoch > this.newest) {
      this.#touched.push(leaf)
      return leaf
    }
    const copy = new Leaf(leaf.pointer, leaf.low, this.epoch)
    this.#memory.copy(leaf, copy)
    this.#touched.push(copy)
    // It cannot be decoded again: the cache has no say any more.
    if (!this.#cache.delete(leaf)) this.#evicted.splice(this.#evicted.indexOf(leaf), 1)
    this.#superseded.push({ leaf, epoch: this.epoch })
    this.#cache.set(copy, true)
    this.replace([leaf.low], [copy])
    // The way to it is another now, and leads through the same places.
    this.trace(this.#root, leaf.low)
    return copy
  }

  /** The range of a leaf is another: its heads are made anew where they do not fit. */
  refit(leaf: Leaf, high: Uint8Array | undefined): void {
    const prefix = prefixOf(leaf.low, high)
    // A byte that all have in common does not make the others tell less enough to read all keys again.
    if (leaf.prefix <= prefix && prefix <= leaf.prefix + 1) return
    leaf.prefix = prefix
    for (let i = 0; i < leaf.count; i++) this.#entries.prefetch(leaf.pointerAt(i))
    for (let i = 0; i < leaf.count; i++) {
      leaf.setHead(i, this.#entries.head(leaf.pointerAt(i), prefix))
    }
  }

  /** Puts these in the place of the leaf that `trace` has found. */
  replace(keys: readonly Uint8Array[], children: readonly Node[]): void {
    for (let depth = this.depth - 1; depth >= 0; depth--) {
      const node = this.nodes[depth]!.with(this.at[depth]!, keys, children)
      if (node.children.length === 0) {
        keys = children = []
      } else if (node.children.length > FANOUT) {
        const halves = node.halves()
        keys = [halves[0].keys[0]!, halves[1].keys[0]!]
        children = halves
      } else {
        keys = [node.keys[0]!]
        children = [node]
      }
    }
    let root = children.length === 1 ? children[0]! : new Inner(keys, children)
    while (root instanceof Inner && root.children.length === 1) root = root.children[0]!
    this.#root = root
  }

  /** A leaf that the tree has no more, and no snapshot. */
  drop(leaf: Leaf): void {
    this.#touched.push(leaf)
    this.#cache.delete(leaf)
    this.#memory.release(leaf)
  }

  /** The transaction has committed. */
  settle(): void {
    this.#rootBefore = this.#root
    this.#supersededBefore = this.#superseded.length
    while (this.#touched.length > 0) this.#touched.pop()
  }

  /** The transaction was dropped: what it touched is read again from the device. */
  turnBack(): void {
    this.#root = this.#rootBefore
    while (this.#touched.length > 0) {
      const leaf = this.#touched.pop()!
      this.#cache.delete(leaf)
      this.#memory.release(leaf)
    }
    while (this.#superseded.length > this.#supersededBefore) {
      this.#cache.set(this.#superseded.pop()!.leaf, true)
    }
  }

  /** Gives up what no snapshot of `oldest` or later sees. */
  release(oldest: number): void {
    let count = 0
    while (count < this.#superseded.length && this.#superseded[count]!.epoch <= oldest) {
      this.#memory.release(this.#superseded[count++]!.leaf)
    }
    this.#superseded.splice(0, count)
    this.#supersededBefore = this.#superseded.length
  }
}

/** The end of the range of the leaf at the end of a way: the next leaf's low key; undefined for none. */
export function endOf(
  nodes: readonly Inner[],
  at: readonly number[],
  depth: number,
): Uint8Array | undefined {
  for (let i = depth - 1; i >= 0; i--) {
    const next = nodes[i]!.keys[at[i]! + 1]
    if (next !== undefined) return next
  }
  return undefined
}

function cachedLeaves(cacheBytes: number): number {
  const leaves = Math.floor(cacheBytes / LEAF_MEMORY_BYTES)
  return Math.min(Math.max(LEAVES_MIN, leaves), Number.MAX_SAFE_INTEGER)
}

function prefixOf(low: Uint8Array, high: Uint8Array | undefined): number {
  return high === undefined ? 0 : commonPrefix(low, high)
}
