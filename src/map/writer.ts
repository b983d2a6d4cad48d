/**
 * Changes of the map. Each is staged in a transaction of the volume, the one under way or one of its own, and made to
 * memory at the same time; the map takes part in the transaction, and memory goes back with it.
 *
 *   put, new key      the entry's bytes · its bit · its pointer in the leaf        three places, one record
 *   put, known key    the entry's bytes, where they fit what is there; else as a new one, the old one freed
 *   delete            its bit · its pointer in the leaf
 *   leaf full         half of it goes to a new leaf, in the same record
 *   leaf nearly empty it goes to its left neighbour, in the same record
 *
 * While a snapshot is held nothing is rewritten in place, and what a leaf loses is retired, not freed.
 */
import type { Heap, Participant, Transaction, Volume } from '../index.js'
import { compareBytes, hashOf, headOf, separate } from './bytes.js'
import type { Entries } from './entries.js'
import type { HashIndex } from './hash-index.js'
import {
  LEAF_BYTES,
  LEAF_MAGIC,
  LEAF_SLOTS,
  LOW_AT,
  LOW_BYTES_MAX,
  SLOTS_AT,
  TYPE,
} from './layout.js'
import type { Leaf } from './leaf.js'
import type { Change } from './operation.js'
import { Path } from './path.js'
import type { Retired, RetiredMark } from './retired.js'
import type { SnapshotTracker } from './snapshot-tracker.js'
import type { Tree, TreeMark } from './tree.js'

/** A leaf with at most so many entries moves to its left neighbour if both have at most so many. */
const MERGE = { entries: 16, together: 48 }
const NO_KEY: Uint8Array = new Uint8Array(0)

export interface WriterParts {
  readonly volume: Volume
  readonly heap: Heap
  readonly tree: Tree
  readonly entries: Entries
  readonly index: HashIndex
  readonly retired: Retired
  readonly tracker: SnapshotTracker
}

/** A state of the map's memory to go back to: one object, as each call within a transaction makes one. */
class WriterMark implements TreeMark, RetiredMark {
  root: TreeMark['root'] = undefined
  touched = 0
  superseded = 0
  pages = 0
  retired = 0
  staged = 0
  indexed = 0
  holds = 0
}

export class Writer implements Participant {
  readonly #volume: Volume
  readonly #heap: Heap
  readonly #tree: Tree
  readonly #entries: Entries
  readonly #index: HashIndex
  readonly #retired: Retired
  readonly #tracker: SnapshotTracker
  readonly #path = new Path()
  readonly #start = new WriterMark()
  /** What the transaction under way has told the index: hashes, and pointers that were added, or with a minus removed. */
  readonly #indexedHashes: number[] = []
  readonly #indexedPointers: number[] = []
  readonly #leafWords = new Uint32Array(LEAF_BYTES / 4)
  readonly #leafBytes = new Uint8Array(this.#leafWords.buffer)
  readonly #slotBytes = this.#leafBytes.subarray(SLOTS_AT)
  // The change under way: a function that is made once takes it from here.
  #changes: readonly Change[] | undefined
  /** A copy. */
  #key: Uint8Array = NO_KEY
  #isPut = false
  /** Whether the map takes part in the transaction under way. */
  #hasJoined = false
  /** Whether more than one change may come in the transaction: then what is staged must be found. */
  #mayContinue = false
  #deleted = 0
  readonly #work: (tx: Transaction) => void

  constructor(parts: WriterParts) {
    this.#volume = parts.volume
    this.#heap = parts.heap
    this.#tree = parts.tree
    this.#entries = parts.entries
    this.#index = parts.index
    this.#retired = parts.retired
    this.#tracker = parts.tracker
    this.#work = (tx) => {
      if (!this.#hasJoined) this.#join(tx)
      if (this.#mayContinue) this.#entries.tx = tx
      this.#stage(tx)
    }
  }

  put(key: Uint8Array, keyBytes: number, value: Uint8Array, valueBytes: number): void {
    this.#volume.ensureUsable()
    this.#begin(this.#entries.take(key, keyBytes, value, valueBytes), true, undefined)
    this.#run()
  }

  putAsync(
    key: Uint8Array,
    keyBytes: number,
    value: Uint8Array,
    valueBytes: number,
  ): Promise<void> {
    const refused = this.#refused()
    if (refused !== undefined) return refused
    this.#begin(this.#entries.take(key, keyBytes, value, valueBytes), true, undefined)
    return this.#runAsync()
  }

  delete(key: Uint8Array, keyBytes: number): boolean {
    this.#volume.ensureUsable()
    this.#begin(this.#entries.takeKey(key, keyBytes), false, undefined)
    this.#run()
    return this.#deleted > 0
  }

  deleteAsync(key: Uint8Array, keyBytes: number): Promise<void> {
    const refused = this.#refused()
    if (refused !== undefined) return refused
    this.#begin(this.#entries.takeKey(key, keyBytes), false, undefined)
    return this.#runAsync()
  }

  batch(changes: readonly Change[]): void {
    this.#volume.ensureUsable()
    this.#begin(NO_KEY, false, changes)
    this.#run()
  }

  batchAsync(changes: readonly Change[]): Promise<void> {
    const refused = this.#refused()
    if (refused !== undefined) return refused
    this.#begin(NO_KEY, false, changes)
    return this.#runAsync()
  }

  /** Before anything of this is touched: whoever calls it may be within a change. */
  #refused(): Promise<void> | undefined {
    try {
      this.#volume.ensureUsable()
      return undefined
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #run(): void {
    try {
      this.#volume.atomic(this.#work)
    } finally {
      this.#forget()
    }
  }

  #runAsync(): Promise<void> {
    // The function has run, or was refused, when this returns; only the waiting is left.
    const durable = this.#volume.transactAsync(this.#work)
    this.#forget()
    return durable
  }

  #begin(key: Uint8Array, isPut: boolean, changes: readonly Change[] | undefined): void {
    this.#key = key
    this.#isPut = isPut
    this.#changes = changes
    this.#deleted = 0
    const isWithin = this.#volume.transaction !== undefined
    this.#mayContinue = isWithin || changes !== undefined
    if (this.#retired.isDue && !isWithin) {
      this.#retired.release(this.#volume, this.#tracker.oldest)
    }
  }

  #forget(): void {
    this.#changes = undefined
    this.#key = NO_KEY
    this.#entries.letGo()
  }

  #join(tx: Transaction): void {
    tx.join(this)
    this.#hasJoined = true
    this.#tree.begin()
    this.#note(this.#start)
  }

  #note(mark: WriterMark): void {
    this.#tree.mark(mark)
    this.#retired.mark(mark)
    mark.staged = this.#entries.stagedCount
    mark.indexed = this.#indexedHashes.length
    mark.holds = this.#tracker.within
  }

  mark(): WriterMark {
    const mark = new WriterMark()
    this.#note(mark)
    return mark
  }

  rollbackTo(mark: WriterMark): void {
    this.#entries.rollbackTo(mark.staged)
    this.#tree.rollbackTo(mark)
    this.#retired.rollbackTo(mark)
    this.#tracker.loseWithin(mark.holds)
    while (this.#indexedHashes.length > mark.indexed) {
      const hash = this.#indexedHashes.pop()!
      const pointer = this.#indexedPointers.pop()!
      if (pointer > 0) this.#index.remove(hash, pointer)
      else this.#index.add(hash, -pointer)
    }
  }

  rolledBack(): void {
    this.rollbackTo(this.#start)
    this.#end()
  }

  committed(): void {
    this.#end()
  }

  #end(): void {
    this.#hasJoined = false
    this.#entries.end()
    this.#tree.end()
    this.#tracker.endWithin()
    while (this.#indexedHashes.length > 0) {
      this.#indexedHashes.pop()
      this.#indexedPointers.pop()
    }
  }

  /** Whether the map has changes in the transaction under way. */
  get isWithin(): boolean {
    return this.#hasJoined
  }

  #stage(tx: Transaction): void {
    const changes = this.#changes
    if (changes === undefined) {
      this.#change(tx, this.#key, this.#isPut)
      return
    }
    for (let i = 0; i < changes.length; i++) {
      const { key, keyBytes, value, valueBytes } = changes[i]!
      const isPut = value !== undefined
      const own = isPut
        ? this.#entries.take(key, keyBytes, value, valueBytes)
        : this.#entries.takeKey(key, keyBytes)
      this.#change(tx, own, isPut)
    }
  }

  #indexAdd(hash: number, pointer: number): void {
    this.#indexedHashes.push(hash)
    this.#indexedPointers.push(pointer)
    this.#index.add(hash, pointer)
  }

  #indexRemove(hash: number, pointer: number): void {
    this.#indexedHashes.push(hash)
    this.#indexedPointers.push(-pointer)
    this.#index.remove(hash, pointer)
  }

  /** Of a put the entry was taken. */
  #change(tx: Transaction, key: Uint8Array, isPut: boolean): void {
    const tree = this.#tree
    const entries = this.#entries
    const hash = hashOf(key)
    // 1. Over an entry that is known: no leaf is looked at.
    if (isPut && tree.newest === 0) {
      const known = this.#index.find(hash, key, entries)
      if (known !== 0 && entries.rewrite(tx, known, key)) return
    }
    // 2. Its leaf, and what that has.
    const leaf = tree.trace(tree.root, key, this.#path)
    const index = leaf.search(key, entries)
    if (!isPut) {
      if (index >= 0) this.#remove(tx, leaf, index, hash)
    } else if (index >= 0) {
      this.#replace(tx, leaf, index, hash, key)
    } else {
      this.#insert(tx, leaf, ~index, hash, key)
    }
  }

  #replace(tx: Transaction, leaf: Leaf, at: number, hash: number, key: Uint8Array): void {
    const old = leaf.pointerAt(at)
    if (this.#tree.newest === 0 && this.#entries.rewrite(tx, old, key)) return
    const pointer = this.#entries.create(tx, key)
    const own = this.#tree.own(leaf, this.#path)
    const slot = own.slotAt(at)
    this.#setSlot(tx, own, slot, pointer)
    own.setPointer(slot, pointer)
    this.#drop(tx, old, hash)
    this.#indexAdd(hash, pointer)
  }

  #insert(tx: Transaction, leaf: Leaf, index: number, hash: number, key: Uint8Array): void {
    const pointer = this.#entries.create(tx, key)
    let own = this.#tree.own(leaf, this.#path)
    let at = index
    if (own.count === LEAF_SLOTS) {
      own = this.#split(tx, own, key, index)
      at = ~own.search(key, this.#entries)
    }
    const slot = own.insert(at, headOf(key, own.prefix), pointer)
    this.#setSlot(tx, own, slot, pointer)
    this.#indexAdd(hash, pointer)
  }

  #remove(tx: Transaction, leaf: Leaf, index: number, hash: number): void {
    const own = this.#tree.own(leaf, this.#path)
    this.#setSlot(tx, own, own.slotAt(index), 0)
    this.#drop(tx, own.pointerAt(index), hash)
    own.remove(index)
    this.#deleted++
    if (own.count <= MERGE.entries && own.low.length > 0) this.#merge(tx, own)
  }

  #setSlot(tx: Transaction, leaf: Leaf, slot: number, pointer: number): void {
    tx.setObjectUint64(this.#heap, leaf.pointer + SLOTS_AT + slot * 8, pointer)
  }

  /** An entry that no leaf has any more. */
  #drop(tx: Transaction, pointer: number, hash: number): void {
    this.#indexRemove(hash, pointer)
    if (this.#tree.newest === 0) this.#heap.free(pointer)
    else this.#retired.add(tx, pointer, this.#tree.version)
  }

  /**
   * Moves the upper half of a full leaf, the one at the end of the path, to a new one. Returns
   * the leaf in whose range `key` is. At the end of the map a full leaf stays as it is: keys that come
   * in order fill their leaves.
   */
  #split(tx: Transaction, leaf: Leaf, key: Uint8Array, index: number): Leaf {
    const tree = this.#tree
    const entries = this.#entries
    const high = this.#path.high()
    const isAppend = high === undefined && index === LEAF_SLOTS
    const middle = isAppend ? LEAF_SLOTS : LEAF_SLOTS / 2
    const last = entries.key(leaf.pointerAt(middle - 1))
    const low = separate(last, isAppend ? key : entries.key(leaf.pointerAt(middle)))
    const pointer = this.#heap.allocate(LEAF_BYTES, TYPE.LEAF)
    const right = tree.splitOff(leaf, middle, pointer, low, high)
    this.#leafWords.fill(0)
    for (let slot = 0; slot < right.count; slot++) this.#fillSlot(slot, right.pointerIn(slot))
    this.#writeLeaf(tx, right)
    if (!isAppend) {
      leaf.keep(middle)
      this.#leafWords.fill(0)
      for (let i = 0; i < middle; i++) this.#fillSlot(leaf.slotAt(i), leaf.pointerAt(i))
      tx.writeObject(this.#heap, leaf.pointer + SLOTS_AT, this.#slotBytes)
    }
    tree.refit(leaf, low)
    tree.replace(this.#path, [leaf.low, low], [leaf, right])
    return compareBytes(key, low) < 0 ? leaf : right
  }

  #fillSlot(slot: number, pointer: number): void {
    this.#fillPointer(SLOTS_AT + slot * 8, pointer)
  }

  #fillPointer(offset: number, pointer: number): void {
    const word = offset / 4
    const low = pointer >>> 0
    this.#leafWords[word] = low
    this.#leafWords[word + 1] = (pointer - low) * 2 ** -32
  }

  /** Stages a whole new leaf, whose slots are in `leafWords`. */
  #writeLeaf(tx: Transaction, leaf: Leaf): void {
    const { low } = leaf
    const words = this.#leafWords
    words[0] = LEAF_MAGIC
    words[1] = low.length
    if (low.length <= LOW_BYTES_MAX) {
      this.#leafBytes.set(low, LOW_AT)
    } else {
      this.#fillPointer(LOW_AT, this.#entries.createBytes(tx, low, TYPE.KEY))
    }
    tx.writeObject(this.#heap, leaf.pointer, this.#leafBytes)
  }

  /** Moves what a leaf has, the one at the end of the path, to its left neighbour if there is room. */
  #merge(tx: Transaction, leaf: Leaf): void {
    const tree = this.#tree
    const path = this.#path
    const high = path.high()
    const neighbour = path.left()!
    tree.trace(tree.root, neighbour.low, path)
    const together = leaf.count === 0 ? LEAF_SLOTS : MERGE.together
    if (neighbour.count + leaf.count > together) return
    const left = tree.own(neighbour, path)
    tree.refit(left, high)
    for (let i = 0; i < leaf.count; i++) {
      const pointer = leaf.pointerAt(i)
      this.#setSlot(
        tx,
        left,
        left.append(this.#entries.head(pointer, left.prefix), pointer),
        pointer,
      )
    }
    if (leaf.low.length > LOW_BYTES_MAX) {
      this.#heap.free(tx.getObjectUint64(this.#heap, leaf.pointer + LOW_AT))
    }
    this.#heap.free(leaf.pointer)
    tree.trace(tree.root, leaf.low, path)
    tree.replace(path, [], [])
    tree.drop(leaf)
  }
}
