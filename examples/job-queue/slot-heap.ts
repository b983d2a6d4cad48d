/**
 * Slots in order of a key: a binary heap over typed arrays, as large as it will ever be from the
 * start. It knows where each slot stands, so any slot can be taken out, not the first alone.
 */
export class SlotHeap {
  /** Slots; the one with the lowest key first, each not below its parent at (i - 1) / 2. */
  readonly #heap: Uint32Array
  /** Where in `#heap` a slot stands, plus one; 0 for nowhere. */
  readonly #place: Uint32Array
  readonly #keys: Float64Array
  #size = 0

  constructor(slots: number) {
    this.#heap = new Uint32Array(slots)
    this.#place = new Uint32Array(slots)
    this.#keys = new Float64Array(slots)
  }

  get size(): number {
    return this.#size
  }

  /** The slot with the lowest key, -1 for none. */
  get first(): number {
    return this.#size === 0 ? -1 : this.#heap[0]!
  }

  has(slot: number): boolean {
    return this.#place[slot] !== 0
  }

  keyOf(slot: number): number {
    return this.#keys[slot]!
  }

  add(slot: number, key: number): void {
    this.#keys[slot] = key
    this.#rise(this.#size++, slot)
  }

  remove(slot: number): void {
    const at = this.#place[slot]! - 1
    if (at < 0) return
    this.#place[slot] = 0
    const last = this.#heap[--this.#size]!
    if (last === slot) return
    // The last one fills the gap: it may belong above it or below it.
    if (at > 0 && this.#keys[last]! < this.#keys[this.#heap[(at - 1) >> 1]!]!) this.#rise(at, last)
    else this.#sink(at, last)
  }

  #rise(from: number, slot: number): void {
    const key = this.#keys[slot]!
    let at = from
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = this.#heap[parent]!
      if (this.#keys[above]! <= key) break
      this.#put(at, above)
      at = parent
    }
    this.#put(at, slot)
  }

  #sink(from: number, slot: number): void {
    const key = this.#keys[slot]!
    let at = from
    for (;;) {
      let child = 2 * at + 1
      if (child >= this.#size) break
      const right = child + 1
      if (right < this.#size && this.#keyAt(right) < this.#keyAt(child)) child = right
      if (this.#keyAt(child) >= key) break
      this.#put(at, this.#heap[child]!)
      at = child
    }
    this.#put(at, slot)
  }

  #keyAt(at: number): number {
    return this.#keys[this.#heap[at]!]!
  }

  #put(at: number, slot: number): void {
    this.#heap[at] = slot
    this.#place[slot] = at + 1
  }
}
