/**
 * A place in one state of the map, moved entry by entry.
 *
 *   before the first ──next──▶ entry ──next──▶ … ──next──▶ false: no more
 *
 * Within a leaf moving is counting; the bounds are looked up once a leaf.
 */
import { PlinthError, type Volume } from '../index.js'
import { compareBytes } from './bytes.js'
import type { Entries } from './entries.js'
import { Inner, type Node } from './inner.js'
import type { Leaf } from './leaf.js'
import { Path } from './path.js'
import { type Bounds, checkKey, checkTarget } from './range.js'
import type { Hold } from './snapshot-tracker.js'
import type { Tree } from './tree.js'

const FIRST_KEY = new Uint8Array(0)

/** Fewer entries are not worth fetching ahead. */
const PREFETCH_MIN = 4

export interface CursorParts {
  readonly volume: Volume
  readonly tree: Tree
  readonly entries: Entries
  readonly root: Node
  readonly bounds: Bounds
  /** Of the state that `root` is. */
  readonly hold: Hold
}

/**
 * Reads a range of the map as it was when the cursor was made, whatever is written meanwhile. Space of
 * entries that are overwritten or deleted comes back after `close`, which is the caller's to call.
 */
export class Cursor {
  readonly #parts: CursorParts
  readonly #path = new Path()
  #leaf: Leaf | undefined
  /** Of the entry in the leaf; the one that `next` goes to is beside it. */
  #index = 0
  /** The first index in the leaf that is out of range. */
  #stop = 0
  /** Whether what is to come of the leaf was fetched. */
  #isFetched = false
  #left: number
  #state: 'new' | 'before' | 'placed' | 'ended' | 'closed' = 'new'

  /** @internal Cursors come from the map. */
  constructor(parts: CursorParts) {
    this.#parts = parts
    this.#left = parts.bounds.limit
  }

  /**
   * Goes to the next entry of the range; false when there is none.
   * @throws PlinthError ERR_VOLUME_CLOSED, ERR_VOLUME_FAILED, ERR_REENTRANT, ERR_VOLUME_CORRUPT
   */
  next(): boolean {
    if (this.#state === 'closed') return false
    const { tree, bounds } = this.#parts
    this.#checkUsable()
    if (this.#left <= 0) {
      // Nothing can come any more, whatever is sought.
      this.close()
      return false
    }
    if (this.#state === 'ended') return false
    const isNew = this.#state === 'new'
    // What cannot be read ends it: nothing is passed over.
    this.#state = 'ended'
    tree.begin()
    if (isNew) this.#start()
    const step = bounds.reverse ? -1 : 1
    let index = this.#index + step
    while (index === this.#stop) {
      if (!this.#nextLeaf()) return this.#end()
      index = this.#index + step
    }
    this.#index = index
    this.#left--
    this.#state = 'placed'
    return true
  }

  /** Whether the entry that it is at is the last one: `limit` is reached, and `close` may be called once it was read. */
  get isLast(): boolean {
    return this.#left <= 0
  }

  /**
   * A copy of the entry's key, another each time: nobody else has it.
   * @throws PlinthError ERR_NO_ENTRY before the first `next`, after the last and after `close`; else as `next`
   */
  get key(): Uint8Array {
    return this.#parts.entries.key(this.#pointer())
  }

  /**
   * A copy of the entry's value, as `key`.
   * @throws PlinthError as `key`
   */
  get value(): Uint8Array {
    const { entries } = this.#parts
    const pointer = this.#pointer()
    entries.read(pointer)
    return entries.value(pointer)
  }

  /**
   * Copies of both, as `key` and `value`.
   * @throws PlinthError as `key`
   */
  get entry(): [key: Uint8Array, value: Uint8Array] {
    return this.#parts.entries.entry(this.#pointer())
  }

  /**
   * Copies the entry's key to the start of `target`, as much as fits. Returns the length of the whole key. Allocates
   * nothing.
   * @throws TypeError for what is no Uint8Array; PlinthError as `key`
   */
  keyInto(target: Uint8Array): number {
    const bytes = checkTarget(target)
    const { entries } = this.#parts
    const pointer = this.#pointer()
    entries.read(pointer)
    return entries.keyInto(pointer, target, bytes)
  }

  /** The same with its value. */
  valueInto(target: Uint8Array): number {
    const bytes = checkTarget(target)
    const { entries } = this.#parts
    const pointer = this.#pointer()
    entries.read(pointer)
    return entries.valueInto(pointer, target, bytes)
  }

  /** Of the entry that it is at. */
  #pointer(): number {
    if (this.#state !== 'placed') {
      throw new PlinthError('ERR_NO_ENTRY', 'this cursor is at no entry: call next first')
    }
    this.#checkUsable()
    const leaf = this.#leaf!
    if (!leaf.isDecoded) this.#decode(leaf)
    if (!this.#isFetched) this.#prefetch(leaf)
    return leaf.pointerAt(this.#index)
  }

  /** The next `next` goes to `target`, or to what comes after it in the cursor's direction; a target out of range ends it. */
  seek(target: Uint8Array): void {
    checkKey(target)
    const { bounds, tree } = this.#parts
    if (this.#state === 'closed') return
    this.#checkUsable()
    this.#state = 'ended'
    const key = new Uint8Array(target)
    if (!bounds.has(key)) return
    tree.begin()
    this.#place(key, false)
  }

  /** Ends it. Safe to call twice. */
  close(): void {
    if (this.#state === 'closed') return
    this.#parts.hold.drop()
    this.#state = 'closed'
    this.#leaf = undefined
  }

  #checkUsable(): void {
    this.#parts.volume.ensureUsable()
    if (!this.#parts.hold.isLost) return
    throw new PlinthError(
      'ERR_TX_ENDED',
      'this cursor began in a transaction that was rolled back: what it was at never was',
    )
  }

  #end(): false {
    this.#state = 'ended'
    return false
  }

  #start(): void {
    const { bounds } = this.#parts
    const from = bounds.reverse ? bounds.upper : bounds.lower
    if (from !== undefined) this.#place(from, bounds.reverse ? bounds.isBefore : bounds.isAfter)
    else if (bounds.reverse) this.#placeLast()
    else this.#place(FIRST_KEY, false)
  }

  /** Before (in the cursor's direction) the first entry from `key` on, without that key itself if `isOutside`. */
  #place(key: Uint8Array, isOutside: boolean): void {
    const { tree, entries, root, bounds } = this.#parts
    const leaf = tree.trace(root, key, this.#path)
    const found = leaf.search(key, entries)
    const isEqual = found >= 0
    const index = isEqual ? found : ~found
    this.#enter(leaf)
    if (bounds.reverse) this.#index = isEqual && !isOutside ? index + 1 : index
    else this.#index = isEqual && isOutside ? index : index - 1
    this.#setStop(leaf)
  }

  /**
   * Entries are all over the device: those of the leaf that are to come are fetched together once the first is read,
   * which takes a fraction of the time that one after the other does.
   */
  #prefetch(leaf: Leaf): void {
    this.#isFetched = true
    const { entries, bounds } = this.#parts
    const step = bounds.reverse ? -1 : 1
    let left = this.#left + 1
    if (left < PREFETCH_MIN) return
    for (let i = this.#index; i !== this.#stop && left > 0; i += step, left--) {
      entries.prefetch(leaf.pointerAt(i))
    }
  }

  #placeLast(): void {
    this.#path.depth = 0
    this.#enter(this.#descend(this.#parts.root))
    this.#setStop(this.#leaf!)
  }

  /** The first leaf below a node, in the cursor's direction. */
  #descend(from: Node): Leaf {
    const { reverse } = this.#parts.bounds
    let node = from
    while (node instanceof Inner) {
      const at = reverse ? node.children.length - 1 : 0
      this.#path.push(node, at)
      node = node.children[at]!
    }
    return node
  }

  #nextLeaf(): boolean {
    const step = this.#parts.bounds.reverse ? -1 : 1
    const path = this.#path
    for (let depth = path.depth - 1; depth >= 0; depth--) {
      const next = path.nodes[depth]!.children[path.at[depth]! + step]
      if (next === undefined) continue
      path.at[depth]! += step
      path.depth = depth + 1
      const leaf = this.#descend(next)
      if (this.#isBeyond(leaf)) return false
      this.#enter(leaf)
      this.#setStop(leaf)
      return true
    }
    return false
  }

  /** Whether all of a leaf is behind the range. */
  #isBeyond(leaf: Leaf): boolean {
    const { bounds } = this.#parts
    if (!bounds.reverse) {
      return bounds.upper !== undefined && compareBytes(leaf.low, bounds.upper) > 0
    }
    const high = this.#path.high()
    return bounds.lower !== undefined && high !== undefined && compareBytes(high, bounds.lower) <= 0
  }

  #decode(leaf: Leaf): void {
    this.#parts.tree.decode(leaf, this.#path.high())
  }

  #enter(leaf: Leaf): void {
    if (!leaf.isDecoded) this.#decode(leaf)
    this.#leaf = leaf
    this.#index = this.#parts.bounds.reverse ? leaf.count : -1
    this.#isFetched = false
    this.#state = 'before'
  }

  #setStop(leaf: Leaf): void {
    const { bounds, entries } = this.#parts
    if (bounds.reverse) {
      const { lower } = bounds
      if (lower === undefined || compareBytes(lower, leaf.low) < 0) {
        this.#stop = -1
        return
      }
      const first = leaf.search(lower, entries)
      this.#stop = first >= 0 && bounds.isAfter ? first : (first < 0 ? ~first : first) - 1
      return
    }
    const { upper } = bounds
    const high = upper === undefined ? undefined : this.#path.high()
    if (upper === undefined || (high !== undefined && compareBytes(high, upper) <= 0)) {
      this.#stop = leaf.count
      return
    }
    const last = leaf.search(upper, entries)
    if (last < 0) this.#stop = ~last
    else this.#stop = bounds.isBefore ? last : last + 1
  }
}
