/**
 * A leaf as memory knows it: which entries are in its range, and in which order their keys are.
 *
 *   order   slots of the entries, by key; behind the `count` first the slots that are free
 *   heads   by slot: 31 bits of the key, behind what all keys of the leaf's range begin with
 *   low, high   by slot: the entry's pointer, in eights
 *
 * Slots are those of the leaf on the device, and an entry stays in its own: an insert moves bytes of one cache line.
 * The arrays are for many leaves at a time, so that an entry takes 11 bytes and a leaf one small object. A leaf that
 * is not decoded is read from the device when it is needed.
 */
import { headOf } from './bytes.js'
import type { Entries } from './entries.js'
import { LEAF_SLOTS } from './layout.js'

const LEAVES_OF_PAGE = 64
const POINTER_ALIGN = 8

/** Bytes of memory that a decoded leaf takes. */
export const LEAF_MEMORY_BYTES = LEAF_SLOTS * 11

/** Memory of decoded leaves. */
class Page {
  readonly heads: Int32Array
  readonly low: Uint32Array
  readonly high: Uint16Array
  readonly order: Uint8Array

  constructor(leaves: number) {
    this.heads = new Int32Array(leaves * LEAF_SLOTS)
    this.low = new Uint32Array(leaves * LEAF_SLOTS)
    this.high = new Uint16Array(leaves * LEAF_SLOTS)
    this.order = new Uint8Array(leaves * LEAF_SLOTS)
  }
}

const NO_PAGE = new Page(0)

export class Leaf {
  /** Of the leaf's object on the device. */
  readonly pointer: number
  /** No key of it is before this one. */
  readonly low: Uint8Array
  /** What the map's epoch was when this was made: snapshots of an earlier one do not have it. */
  readonly epoch: number
  isDecoded = false
  count = 0
  /** Bytes that all keys of the range begin with. */
  prefix = 0
  page: Page = NO_PAGE
  /** Index in the page's arrays of what is this leaf's. */
  base = 0

  constructor(pointer: number, low: Uint8Array, epoch: number) {
    this.pointer = pointer
    this.low = low
    this.epoch = epoch
  }

  slotAt(index: number): number {
    return this.page.order[this.base + index]!
  }

  pointerAt(index: number): number {
    return this.pointerIn(this.page.order[this.base + index]!)
  }

  headAt(index: number): number {
    return this.page.heads[this.base + this.page.order[this.base + index]!]!
  }

  setHead(index: number, head: number): void {
    this.page.heads[this.base + this.page.order[this.base + index]!] = head
  }

  pointerIn(slot: number): number {
    const at = this.base + slot
    return (this.page.high[at]! * 2 ** 32 + this.page.low[at]!) * POINTER_ALIGN
  }

  setPointer(slot: number, pointer: number): void {
    const at = this.base + slot
    const units = pointer * (1 / POINTER_ALIGN)
    const low = units >>> 0
    this.page.low[at] = low
    this.page.high[at] = (units - low) * 2 ** -32
  }

  /**
   * Index of the first entry whose key is not before `key`. `entries.isEqual` says whether it is the
   * same key.
   */
  search(key: Uint8Array, entries: Entries): number {
    const { base } = this
    const { heads, order } = this.page
    const head = headOf(key, this.prefix)
    // How many heads are smaller: halves, without a branch.
    let low = 0
    let length = this.count
    while (length > 0) {
      const half = (length + 1) >>> 1
      const slot = order[base + low + half - 1]!
      low += half & ((heads[base + slot]! - head) >> 31)
      length -= half
    }
    entries.isEqual = false
    const { count } = this
    if (low < count && heads[base + order[base + low]!] === head) {
      return this.#searchEqual(low, head, key, entries)
    }
    return low
  }

  /** Among the entries from `first` on that have this head: their keys tell. */
  #searchEqual(first: number, head: number, key: Uint8Array, entries: Entries): number {
    let low = first
    let high = first + 1
    const { count } = this
    while (high < count && this.headAt(high) === head) high++
    while (low < high) {
      const middle = (low + high) >>> 1
      const difference = entries.compare(this.pointerAt(middle), key)
      if (difference === 0) {
        entries.isEqual = true
        return middle
      }
      if (difference < 0) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Puts an entry before the one at `index`. Returns the slot that it has now. */
  insert(index: number, head: number, pointer: number): number {
    const { heads, order } = this.page
    const { base } = this
    const at = base + index
    const end = base + this.count++
    const slot = order[end]!
    for (let i = end; i > at; i--) order[i] = order[i - 1]!
    order[at] = slot
    heads[base + slot] = head
    this.setPointer(slot, pointer)
    return slot
  }

  remove(index: number): void {
    const { order } = this.page
    const last = this.base + --this.count
    const slot = order[this.base + index]!
    for (let i = this.base + index; i < last; i++) order[i] = order[i + 1]!
    order[last] = slot
  }

  /** The next entry gets this slot, which is free. */
  takeSlot(slot: number): void {
    const { order } = this.page
    const next = this.base + this.count
    order[order.indexOf(slot, next)] = order[next]!
    order[next] = slot
  }

  /** Adds an entry behind all others. */
  append(head: number, pointer: number): number {
    return this.insert(this.count, head, pointer)
  }

  /** Keeps the first entries. */
  keep(count: number): void {
    this.count = count
  }

  /** Has no entry. */
  clear(): void {
    const { order } = this.page
    this.count = 0
    for (let i = 0; i < LEAF_SLOTS; i++) order[this.base + i] = i
  }
}

/** Gives leaves their place in memory and takes it back. */
export class LeafMemory {
  /** Places that nobody has. */
  readonly #pages: Page[] = []
  readonly #bases: number[] = []

  /** The leaf is decoded, and empty, when this returns. */
  acquire(leaf: Leaf): void {
    if (this.#pages.length === 0) this.#addPage()
    leaf.page = this.#pages.pop()!
    leaf.base = this.#bases.pop()!
    leaf.isDecoded = true
    leaf.clear()
  }

  #addPage(): void {
    const page = new Page(LEAVES_OF_PAGE)
    for (let i = LEAVES_OF_PAGE - 1; i >= 0; i--) {
      this.#pages.push(page)
      this.#bases.push(i * LEAF_SLOTS)
    }
  }

  release(leaf: Leaf): void {
    if (!leaf.isDecoded) return
    this.#pages.push(leaf.page)
    this.#bases.push(leaf.base)
    leaf.page = NO_PAGE
    leaf.base = 0
    leaf.count = 0
    leaf.isDecoded = false
  }

  /** Makes `to` what `from` is. */
  copy(from: Leaf, to: Leaf): void {
    this.acquire(to)
    const first = from.base
    const end = first + LEAF_SLOTS
    to.page.heads.set(from.page.heads.subarray(first, end), to.base)
    to.page.low.set(from.page.low.subarray(first, end), to.base)
    to.page.high.set(from.page.high.subarray(first, end), to.base)
    to.page.order.set(from.page.order.subarray(first, end), to.base)
    to.count = from.count
    to.prefix = from.prefix
  }
}
