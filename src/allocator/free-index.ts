/**
 * Free cells (granules, slots) as runs, over typed arrays.
 *
 *   cells     ..####...#......
 *   at start  2.....3.... 6        leaf of the tree: length of the run that begins here, else 0
 *   at end    .2......3......6     length of the run that ends here, else 0
 *
 * The tree keeps the maximum of its leaves, so the longest run is at the root, and the first run that
 * is long enough is one walk down: first fit by address, which keeps the same operations giving the
 * same layout and lets the low end of the device fill first. Each change is one walk up.
 *
 * Invariant: runs never touch each other; what is in no run is taken.
 */
import { assert } from '../base/assert.js'
import { powerOfTwoCeil } from '../base/units.js'

export class FreeIndex {
  readonly cells: number
  readonly #leaves: number
  /** Heap order: node n has children 2n and 2n + 1, the leaf of cell c is #leaves + c. */
  readonly #tree: Uint32Array
  readonly #lengthAtEnd: Uint32Array
  #free = 0
  #runs = 0

  /** All cells taken. */
  constructor(cells: number) {
    this.cells = cells
    this.#leaves = powerOfTwoCeil(cells)
    this.#tree = new Uint32Array(2 * this.#leaves)
    this.#lengthAtEnd = new Uint32Array(cells)
  }

  get free(): number {
    return this.#free
  }

  get runs(): number {
    return this.#runs
  }

  get longest(): number {
    return this.#tree[1]!
  }

  /**
   * First cell of the first free run in which `length` cells fit, begun at a cell c with
   * (c + `phase`) a multiple of `align`; -1 for none. Does not take them.
   */
  find(length: number, align = 1, phase = 0): number {
    let start = this.#firstRun(length, 0)
    if (align === 1) return start
    while (start !== -1) {
      const aligned = start + ((align - ((start + phase) % align)) % align)
      if (aligned + length <= start + this.#tree[this.#leaves + start]!) return aligned
      start = start + 1 < this.cells ? this.#firstRun(length, start + 1) : -1
    }
    return -1
  }

  /** Whether all of these cells are free. */
  isFree(start: number, length: number): boolean {
    if (start < 0 || length < 1 || start + length > this.cells) return false
    const runStart = this.#runStart(start)
    return runStart !== -1 && start + length <= runStart + this.#tree[this.#leaves + runStart]!
  }

  /** Takes free cells. */
  take(start: number, length: number): void {
    const runStart = this.#runStart(start)
    const runLength = runStart === -1 ? 0 : this.#tree[this.#leaves + runStart]!
    assert(
      runLength > 0 && start + length <= runStart + runLength,
      'taking cells that are not free',
    )
    const before = start - runStart
    const after = runStart + runLength - start - length
    this.#lengthAtEnd[runStart + runLength - 1] = 0
    this.#setLeaf(runStart, before)
    if (before > 0) this.#lengthAtEnd[start - 1] = before
    if (after > 0) {
      this.#setLeaf(start + length, after)
      this.#lengthAtEnd[start + length + after - 1] = after
    }
    this.#free -= length
    this.#runs += (before > 0 ? 1 : 0) + (after > 0 ? 1 : 0) - 1
  }

  /** Gives taken cells back. */
  release(start: number, length: number): void {
    assert(
      length > 0 && start >= 0 && start + length <= this.cells,
      'releasing cells that are not there',
    )
    const before = start > 0 ? this.#lengthAtEnd[start - 1]! : 0
    const end = start + length
    const after = end < this.cells ? this.#tree[this.#leaves + end]! : 0
    if (before > 0) this.#lengthAtEnd[start - 1] = 0
    if (after > 0) this.#setLeaf(end, 0)
    const runStart = start - before
    const runLength = before + length + after
    this.#setLeaf(runStart, runLength)
    this.#lengthAtEnd[runStart + runLength - 1] = runLength
    this.#free += length
    this.#runs += 1 - (before > 0 ? 1 : 0) - (after > 0 ? 1 : 0)
  }

  /** Calls back for each free run, in order of address. */
  forEachRun(visit: (start: number, length: number) => void): void {
    for (let start = this.#firstRun(1, 0); start !== -1; ) {
      const length = this.#tree[this.#leaves + start]!
      visit(start, length)
      const next = start + length + 1
      start = next < this.cells ? this.#firstRun(1, next) : -1
    }
  }

  /** Start of the first run of at least `length` that begins at `from` or behind it; -1 for none. */
  #firstRun(length: number, from: number): number {
    const tree = this.#tree
    let node = this.#leaves + from
    // Up, until a subtree to the right (or the leaf itself) has one.
    if (from === 0) node = 1
    while (tree[node]! < length) {
      while ((node & 1) === 1) {
        node >>>= 1
        if (node === 0) return -1
      }
      if (node === 0) return -1
      node++
    }
    // Down, left first.
    while (node < this.#leaves) {
      node *= 2
      if (tree[node]! < length) node++
    }
    return node - this.#leaves
  }

  /** Start of the run that holds a free cell: the last run that begins at it or before it; -1 for none. */
  #runStart(cell: number): number {
    const tree = this.#tree
    let node = this.#leaves + cell
    while (tree[node] === 0) {
      while ((node & 1) === 0) node >>>= 1
      if (node <= 1) return -1
      node--
    }
    while (node < this.#leaves) {
      node = 2 * node + 1
      if (tree[node] === 0) node--
    }
    return node - this.#leaves
  }

  #setLeaf(cell: number, length: number): void {
    const tree = this.#tree
    let node = this.#leaves + cell
    tree[node] = length
    for (node >>>= 1; node > 0; node >>>= 1) {
      const left = tree[2 * node]!
      const right = tree[2 * node + 1]!
      const longest = left > right ? left : right
      if (tree[node] === longest) return
      tree[node] = longest
    }
  }
}
