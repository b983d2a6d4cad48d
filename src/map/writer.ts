/**
 * Changes of the map. Each is staged in one transaction of the volume and made to memory at the same time;
 * when the transaction is refused, memory is turned back.
 *
 *   put, new key      the entry's bytes · its bit · its pointer in the leaf        three places, one record
 *   put, known key    the entry's bytes, where they fit what is there; else as a new one, the old one freed
 *   delete            its bit · its pointer in the leaf
 *   leaf full         half of it goes to a new leaf, in the same record
 *   leaf nearly empty it goes to its left neighbour, in the same record
 *
 * While a snapshot is held nothing is rewritten in place, and what a leaf loses is retired, not freed.
 */
import type { Heap, Transaction, Volume } from '../index.js'
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
import type { MapOperation } from './ordered-map.js'
import type { Retired } from './retired.js'
import type { Tree } from './tree.js'

/** A leaf with at most so many entries moves to its left neighbour if both have at most so many. */
const MERGE = { entries: 16, together: 48 }

export interface WriterParts {
  readonly volume: Volume
  readonly heap: Heap
  readonly tree: Tree
  readonly entries: Entries
  readonly index: HashIndex
  readonly retired: Retired
}

export class Writer {
  readonly #volume: Volume
  readonly #heap: Heap
  readonly #tree: Tree
  readonly #entries: Entries
  readonly #index: HashIndex
  readonly #retired: Retired
  readonly #leafWords = new Uint32Array(LEAF_BYTES / 4)
  readonly #leafBytes = new Uint8Array(this.#leafWords.buffer)
  readonly #slotBytes = this.#leafBytes.subarray(SLOTS_AT)
  // The change under way: a function that is made once takes it from here.
  #operations: readonly MapOperation[] | undefined
  #key: Uint8Array | undefined
  /** Undefined to delete. */
  #value: Uint8Array | undefined
  #isStaged = false
  /** Whether the index was told of what is staged. */
  #isIndexed = false
  #deleted = 0
  readonly #work: (tx: Transaction) => void

  constructor(parts: WriterParts) {
    this.#volume = parts.volume
    this.#heap = parts.heap
    this.#tree = parts.tree
    this.#entries = parts.entries
    this.#index = parts.index
    this.#retired = parts.retired
    this.#work = (tx) => this.#stage(tx)
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.#key = key
    this.#value = value
    this.#run()
  }

  putAsync(key: Uint8Array, value: Uint8Array): Promise<void> {
    this.#key = key
    this.#value = value
    return this.#runAsync()
  }

  delete(key: Uint8Array): boolean {
    this.#key = key
    this.#value = undefined
    this.#run()
    return this.#deleted > 0
  }

  deleteAsync(key: Uint8Array): Promise<void> {
    this.#key = key
    this.#value = undefined
    return this.#runAsync()
  }

  batch(operations: readonly MapOperation[]): void {
    this.#operations = operations
    this.#run()
  }

  batchAsync(operations: readonly MapOperation[]): Promise<void> {
    this.#operations = operations
    return this.#runAsync()
  }

  #run(): void {
    this.#begin()
    try {
      this.#volume.transact(this.#work)
    } finally {
      this.#end()
    }
  }

  #runAsync(): Promise<void> {
    this.#begin()
    // The function has run, or was refused, when this returns; only the waiting is left.
    const durable = this.#volume.transactAsync(this.#work)
    this.#end()
    return durable
  }

  #begin(): void {
    this.#isStaged = false
    this.#isIndexed = false
    this.#deleted = 0
    this.#tree.begin()
    this.#retired.begin()
    this.#entries.isBatch = this.#operations !== undefined
  }

  #stage(tx: Transaction): void {
    const operations = this.#operations
    if (operations === undefined) {
      this.#change(tx, this.#key!, this.#value)
    } else {
      for (let i = 0; i < operations.length; i++) {
        const operation = operations[i]!
        const value = operation.type === 'put' ? operation.value : undefined
        this.#change(tx, operation.key, value)
      }
    }
    this.#isStaged = true
  }

  /**
   * All is staged: what can fail behind that is the device, and then nothing is read or written any
   * more. Else the transaction was refused.
   */
  #end(): void {
    this.#operations = undefined
    this.#key = undefined
    this.#value = undefined
    this.#entries.settle(this.#isStaged)
    if (this.#isStaged) {
      this.#tree.settle()
    } else {
      this.#tree.turnBack()
      this.#retired.turnBack()
      if (this.#isIndexed) this.#index.clear()
    }
  }

  #change(tx: Transaction, key: Uint8Array, value: Uint8Array | undefined): void {
    const tree = this.#tree
    const entries = this.#entries
    const hash = hashOf(key)
    // 1. Over an entry that is known: no leaf is looked at.
    if (value !== undefined && tree.newest === 0) {
      const known = this.#index.find(hash, key, entries)
      if (known !== 0 && entries.rewrite(tx, known, key, value)) return
    }
    // 2. Its leaf, and what that has.
    const leaf = tree.trace(tree.root, key)
    const index = leaf.search(key, entries)
    if (value === undefined) {
      if (entries.isEqual) this.#remove(tx, leaf, index, hash)
    } else if (entries.isEqual) {
      this.#replace(tx, leaf, index, hash, key, value)
    } else {
      this.#insert(tx, leaf, index, hash, key, value)
    }
  }

  #replace(
    tx: Transaction,
    leaf: Leaf,
    at: number,
    hash: number,
    key: Uint8Array,
    value: Uint8Array,
  ): void {
    const old = leaf.pointerAt(at)
    if (this.#tree.newest === 0 && this.#entries.rewrite(tx, old, key, value)) return
    const pointer = this.#entries.create(tx, key, value)
    const own = this.#tree.own(leaf)
    const slot = own.slotAt(at)
    this.#setSlot(tx, own, slot, pointer)
    own.setPointer(slot, pointer)
    this.#drop(tx, old, hash)
    this.#index.add(hash, pointer)
  }

  #insert(
    tx: Transaction,
    leaf: Leaf,
    index: number,
    hash: number,
    key: Uint8Array,
    value: Uint8Array,
  ): void {
    const pointer = this.#entries.create(tx, key, value)
    let own = this.#tree.own(leaf)
    let at = index
    if (own.count === LEAF_SLOTS) {
      own = this.#split(tx, own, key, index)
      at = own.search(key, this.#entries)
    }
    const slot = own.insert(at, headOf(key, own.prefix), pointer)
    this.#setSlot(tx, own, slot, pointer)
    this.#isIndexed = true
    this.#index.add(hash, pointer)
  }

  #remove(tx: Transaction, leaf: Leaf, index: number, hash: number): void {
    const own = this.#tree.own(leaf)
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
    this.#isIndexed = true
    this.#index.remove(hash, pointer)
    if (this.#tree.newest === 0) tx.freeObject(this.#heap, pointer)
    else this.#retired.add(tx, pointer, this.#tree.epoch)
  }

  /**
   * Moves the upper half of a full leaf, the one that the tree has just found, to a new one. Returns
   * the leaf in whose range `key` is. At the end of the map a full leaf stays as it is: keys that come
   * in order fill their leaves.
   */
  #split(tx: Transaction, leaf: Leaf, key: Uint8Array, index: number): Leaf {
    const tree = this.#tree
    const entries = this.#entries
    const high = tree.high()
    const isAppend = high === undefined && index === LEAF_SLOTS
    const middle = isAppend ? LEAF_SLOTS : LEAF_SLOTS / 2
    const last = entries.key(leaf.pointerAt(middle - 1))
    const low = separate(last, isAppend ? key : entries.key(leaf.pointerAt(middle)))
    const pointer = tx.allocateObject(this.#heap, LEAF_BYTES, TYPE.LEAF)
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
    tree.replace([leaf.low, low], [leaf, right])
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

  /** Moves what a leaf has, the one that the tree has just found, to its left neighbour if there is room. */
  #merge(tx: Transaction, leaf: Leaf): void {
    const tree = this.#tree
    const high = tree.high()
    const neighbour = tree.left()!
    tree.trace(tree.root, neighbour.low)
    const together = leaf.count === 0 ? LEAF_SLOTS : MERGE.together
    if (neighbour.count + leaf.count > together) return
    const left = tree.own(neighbour)
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
      tx.freeObject(this.#heap, tx.getObjectUint64(this.#heap, leaf.pointer + LOW_AT))
    }
    tx.freeObject(this.#heap, leaf.pointer)
    tree.trace(tree.root, leaf.low)
    tree.replace([], [])
    tree.drop(leaf)
  }
}
