/**
 * A leaf as memory knows it: which entries are in its range, and in which order their keys are.
 *
 *   heads       by slot: 31 bits of the key, behind what all keys of the leaf's range begin with
 *   low, high   by slot: the entry's pointer, in eights
 *   order       slots of the entries, by key; behind the `count` first the slots that are free
 *
 * Slots are those of the leaf on the device, and an entry stays in its own: an insert moves bytes of one cache line.
 * The memory is for many leaves at a time, so that an entry takes 11 bytes and a leaf one small object. A leaf that
 * is not decoded is read from the device when it is needed.
 */
import { headOf } from './bytes.js'
import type { Entries } from './entries.js'
import { LEAF_SLOTS } from './layout.js'

const LEAVES_OF_PAGE = 64
const POINTER_ALIGN = 8

/** Bytes of memory that a decoded leaf takes, one behind the other: eleven cache lines. */
export const LEAF_MEMORY_BYTES = LEAF_SLOTS * 11
// Where they are, in elements from `base`, `base * 2` and `base * 4`.
const LOW = LEAF_SLOTS
const HIGH = LEAF_SLOTS * 4
const ORDER = LEAF_SLOTS * 10
const LINE_WORDS = 16

/** Memory of decoded leaves, under four types. */
class Page {
  readonly bytes: Uint8Array
  readonly heads: Int32Array
  readonly low: Uint32Array
  readonly high: Uint16Array

  constructor(leaves: number) {
    const memory = new ArrayBuffer(leaves * LEAF_MEMORY_BYTES)
    this.bytes = new Uint8Array(memory)
    this.heads = new Int32Array(memory)
    this.low = new Uint32Array(memory)
    this.high = new Uint16Array(memory)
  }
}

const NO_PAGE = new Page(0)

export class Leaf {
  /** Of the leaf's object on the device. */
  readonly pointer: number
  /** No key of it is before this one. */
  readonly low: Uint8Array
  /** What the map's version was when this was made: snapshots of an earlier one do not have it. */
  readonly version: number
  isDecoded = false
  count = 0
  /** Bytes that all keys of the range begin with, or one fewer. */
  prefix = 0
  page: Page = NO_PAGE
  /** Where in the page this leaf's memory begins, in words of four bytes. */
  base = 0

  constructor(pointer: number, low: Uint8Array, version: number) {
    this.pointer = pointer
    this.low = low
    this.version = version
  }

  slotAt(index: number): number {
    return this.page.bytes[this.base * 4 + ORDER + index]!
  }

  pointerAt(index: number): number {
    return this.pointerIn(this.slotAt(index))
  }

  headAt(index: number): number {
    return this.page.heads[this.base + this.slotAt(index)]!
  }

  setHead(index: number, head: number): void {
    this.page.heads[this.base + this.slotAt(index)] = head
  }

  pointerIn(slot: number): number {
    const { base, page } = this
    const high = page.high[base * 2 + HIGH + slot]!
    return (high * 2 ** 32 + page.low[base + LOW + slot]!) * POINTER_ALIGN
  }

  setPointer(slot: number, pointer: number): void {
    const { base, page } = this
    const units = pointer * (1 / POINTER_ALIGN)
    const low = units >>> 0
    page.low[base + LOW + slot] = low
    page.high[base * 2 + HIGH + slot] = (units - low) * 2 ** -32
  }

  /** Index of the entry with this key; when there is none, `~` (below 0) the index where it would be. */
  search(key: Uint8Array, entries: Entries): number {
    const { base } = this
    const { heads, bytes } = this.page
    const order = base * 4 + ORDER
    const head = headOf(key, this.prefix)
    // The search goes from line to line, each time where the last one tells it to: they are fetched together.
    entries.touched ^=
      bytes[order]! ^
      heads[base]! ^
      heads[base + LINE_WORDS]! ^
      heads[base + 2 * LINE_WORDS]! ^
      heads[base + 3 * LINE_WORDS]!
    // How many heads are smaller: halves, without a branch.
    let low = 0
    let length = this.count
    while (length > 0) {
      const half = (length + 1) >>> 1
      const slot = bytes[order + low + half - 1]!
      low += half & ((heads[base + slot]! - head) >> 31)
      length -= half
    }
    const { count } = this
    if (low < count && heads[base + bytes[order + low]!] === head) {
      return this.#searchEqual(low, head, key, entries)
    }
    return ~low
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
      if (difference === 0) return middle
      if (difference < 0) low = middle + 1
      else high = middle
    }
    return ~low
  }

  /** Puts an entry before the one at `index`. Returns the slot that it has now. */
  insert(index: number, head: number, pointer: number): number {
    const { bytes, heads } = this.page
    const { base } = this
    const at = base * 4 + ORDER + index
    const end = base * 4 + ORDER + this.count++
    const slot = bytes[end]!
    for (let i = end; i > at; i--) bytes[i] = bytes[i - 1]!
    bytes[at] = slot
    heads[base + slot] = head
    this.setPointer(slot, pointer)
    return slot
  }

  remove(index: number): void {
    const { bytes } = this.page
    const order = this.base * 4 + ORDER
    const last = order + --this.count
    const slot = bytes[order + index]!
    for (let i = order + index; i < last; i++) bytes[i] = bytes[i + 1]!
    bytes[last] = slot
  }

  /** The next entry gets this slot, which is free. */
  takeSlot(slot: number): void {
    const { bytes } = this.page
    const next = this.base * 4 + ORDER + this.count
    bytes[bytes.indexOf(slot, next)] = bytes[next]!
    bytes[next] = slot
  }

  /** Adds an entry behind all others. */
  append(head: number, pointer: number): number {
    return this.insert(this.count, head, pointer)
  }

  /** Takes what another leaf has from `first` on, in its order; this one is empty. */
  takeFrom(other: Leaf, first: number): void {
    const { base, page } = this
    for (let i = first; i < other.count; i++) {
      const slot = i - first
      page.heads[base + slot] = other.headAt(i)
      this.setPointer(slot, other.pointerAt(i))
    }
    this.count = other.count - first
  }

  /** Keeps the first entries. */
  keep(count: number): void {
    this.count = count
  }

  /** Has no entry. */
  clear(): void {
    const { bytes } = this.page
    const order = this.base * 4 + ORDER
    this.count = 0
    for (let i = 0; i < LEAF_SLOTS; i++) bytes[order + i] = i
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
      this.#bases.push((i * LEAF_MEMORY_BYTES) / 4)
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
    const first = from.base * 4
    to.page.bytes.set(from.page.bytes.subarray(first, first + LEAF_MEMORY_BYTES), to.base * 4)
    to.count = from.count
    to.prefix = from.prefix
  }
}
