/**
 * The tree over the leaves: in memory alone, built from the leaves' low keys at opening. Inner nodes are
 * never changed and leaves only while no snapshot sees them, so a snapshot is a root.
 *
 *   version  1        2               3
 *            leaf A ──┼─ A changes ──▶ A' (version 2)      the snapshot's root goes on to have A
 *                     └ snapshot of version 1
 *
 * Invariant: a decoded leaf says what the leaf on the device says, together with what the transaction under
 * way has staged; one that a newer version has superseded says what it said then, and stays decoded.
 */
import { LRUCache } from 'lru-cache'
import type { PlinthError } from '../index.js'
import { commonPrefix, compareBytes, hashOf, headOf } from './bytes.js'
import { corrupt, type Entries } from './entries.js'
import type { HashIndex } from './hash-index.js'
import { buildTree, FANOUT, Inner, type Node } from './inner.js'
import { LEAF_SLOTS, SLOTS_AT } from './layout.js'
import { LEAF_MEMORY_BYTES, Leaf, LeafMemory } from './leaf.js'
import type { Path } from './path.js'

const LEAVES_MIN = 64
/** Every so many searches the cache is told of the leaf: it then knows well enough which are used. */
const TOUCH_EVERY = 16

interface Superseded {
  readonly leaf: Leaf
  /** Snapshots of this version and later do not see it. */
  readonly version: number
}

/** A state to go back to. */
export interface TreeMark {
  root: Node | undefined
  touched: number
  superseded: number
}

export interface TreeParts {
  readonly entries: Entries
  /** Is told of the entries of leaves that are decoded. */
  readonly index: HashIndex
  readonly leaves: readonly Leaf[]
  readonly cacheBytes: number
}

export class Tree {
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
  version = 1
  /** Version of the newest snapshot, 0 for none. */
  newest = 0
  /** How many superseded leaves were given up: marks count them as well. */
  #released = 0
  readonly #touched: Leaf[] = []

  constructor(parts: TreeParts) {
    const { leaves, cacheBytes } = parts
    this.#entries = parts.entries
    this.#index = parts.index
    this.#root = buildTree(leaves)
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

  /** The leaf in whose range a key is, decoded; how it was reached goes to `path`. */
  trace(root: Node, key: Uint8Array, path: Path): Leaf {
    let node = root
    path.depth = 0
    while (node instanceof Inner) {
      const at = node.childOf(key)
      path.push(node, at)
      node = node.children[at]!
    }
    if (!node.isDecoded) this.decode(node, path.high())
    else if ((++this.#searches & (TOUCH_EVERY - 1)) === 0) this.#cache.get(node)
    return node
  }

  /**
   * Reads a leaf, as the transaction under way has it if the map takes part in one.
   * @throws PlinthError ERR_VOLUME_CORRUPT
   */
  decode(leaf: Leaf, high: Uint8Array | undefined): void {
    const entries = this.#entries
    const words = this.#slotWords
    this.#entries.copyOut(leaf.pointer + SLOTS_AT, this.#slotBytes)
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
        if (index >= 0 || !isInside) throw corrupt(`entry ${pointer} is in a wrong place`)
        leaf.takeSlot(slot)
        leaf.insert(~index, headOf(key, leaf.prefix), pointer)
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
    const leaf = new Leaf(pointer, low, this.version)
    this.#memory.acquire(leaf)
    leaf.prefix = left.prefix
    leaf.takeFrom(left, first)
    this.refit(leaf, high)
    this.#touched.push(leaf)
    this.#cache.set(leaf, true)
    return leaf
  }

  /** The version to be changed of the leaf at the end of `path`: it, or a copy if a snapshot sees it. */
  own(leaf: Leaf, path: Path): Leaf {
    if (leaf.version > this.newest) {
      this.#touched.push(leaf)
      return leaf
    }
    const copy = new Leaf(leaf.pointer, leaf.low, this.version)
    this.#memory.copy(leaf, copy)
    this.#touched.push(copy)
    // It cannot be decoded again: the cache has no say any more.
    if (!this.#cache.delete(leaf)) this.#evicted.splice(this.#evicted.indexOf(leaf), 1)
    this.#superseded.push({ leaf, version: this.version })
    this.#cache.set(copy, true)
    this.replace(path, [leaf.low], [copy])
    // The way to it is another now, and leads through the same places.
    this.trace(this.#root, leaf.low, path)
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

  /** Puts these in the place of the leaf at the end of `path`. */
  replace(path: Path, keys: readonly Uint8Array[], children: readonly Node[]): void {
    for (let depth = path.depth - 1; depth >= 0; depth--) {
      const node = path.nodes[depth]!.with(path.at[depth]!, keys, children)
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

  /** Notes the present state. */
  mark(mark: TreeMark): void {
    mark.root = this.#root
    mark.touched = this.#touched.length
    mark.superseded = this.#released + this.#superseded.length
  }

  /** What was touched since is read again, from the device or from what is still staged. */
  rollbackTo(mark: TreeMark): void {
    this.#root = mark.root!
    while (this.#touched.length > mark.touched) {
      const leaf = this.#touched.pop()!
      this.#cache.delete(leaf)
      this.#memory.release(leaf)
    }
    while (
      this.#superseded.length > 0 &&
      this.#released + this.#superseded.length > mark.superseded
    ) {
      this.#cache.set(this.#superseded.pop()!.leaf, true)
    }
  }

  /** The transaction has ended. */
  end(): void {
    while (this.#touched.length > 0) this.#touched.pop()
  }

  /** Gives up what no snapshot of `oldest` or later sees. */
  release(oldest: number): void {
    let count = 0
    while (count < this.#superseded.length && this.#superseded[count]!.version <= oldest) {
      this.#memory.release(this.#superseded[count++]!.leaf)
    }
    this.#superseded.splice(0, count)
    this.#released += count
  }
}

function cachedLeaves(cacheBytes: number): number {
  const leaves = Math.floor(cacheBytes / LEAF_MEMORY_BYTES)
  return Math.min(Math.max(LEAVES_MIN, leaves), Number.MAX_SAFE_INTEGER)
}

function prefixOf(low: Uint8Array, high: Uint8Array | undefined): number {
  return high === undefined ? 0 : commonPrefix(low, high)
}
