/**
 * Free cells (granules, slots) as runs: a search tree by place, over typed arrays, whose nodes know the longest run below
 * them.
 *
 *   cells   ..####...#......          runs   0+2   6+3   10+6
 *
 * First fit by address is one walk down, which keeps the same operations giving the same layout and lets the
 * low end of the device fill first. Memory follows the runs, never the cells: a device of any size that is empty is
 * one run. It is a treap (Seidel and Aragon, "Randomized search trees", 1996): expected O(log runs) each.
 *
 * Invariant: runs never touch each other; what is in no run is taken.
 */
import { assert } from '../base/assert.js'

const NODES_FIRST = 64
/** Of a walk from the root: trees of 2^32 runs are no deeper, but for a chance that never comes. */
const PATH_MAX = 256

export class FreeIndex {
  #cells: number
  // Node 0 is none. Runs of a node: start, length. A free node's left child is the next free one.
  #start = new Uint32Array(NODES_FIRST)
  #length = new Uint32Array(NODES_FIRST)
  #left = new Uint32Array(NODES_FIRST)
  #right = new Uint32Array(NODES_FIRST)
  /** Longest run of the node and of all below it. */
  #longest = new Uint32Array(NODES_FIRST)
  /** A parent's is never below its children's. */
  #priority = new Uint32Array(NODES_FIRST)
  #root = 0
  #nodes = 1
  #freeNode = 0
  #random = 0x9e3779b9
  readonly #path = new Uint32Array(PATH_MAX)
  #depth = 0
  #free = 0
  #runs = 0
  /** What `#split` gives. */
  #below = 0
  #above = 0

  /** All cells taken. */
  constructor(cells: number) {
    this.#cells = cells
  }

  /** How many there are, free and taken. */
  get cells(): number {
    return this.#cells
  }

  get free(): number {
    return this.#free
  }

  get runs(): number {
    return this.#runs
  }

  get longest(): number {
    return this.#longest[this.#root]!
  }

  /** There are more cells from now on, taken. */
  grow(cells: number): void {
    assert(cells >= this.#cells, 'fewer cells than there were')
    this.#cells = cells
  }

  /**
   * First cell of the first free run in which `length` cells fit, begun at a cell that is a multiple of `align`;
   * -1 for none. Does not take them.
   */
  find(length: number, align = 1): number {
    let node = this.#firstRun(this.#root, length, 0)
    while (node !== 0) {
      const start = this.#start[node]!
      const aligned = align === 1 ? start : Math.ceil(start / align) * align
      if (aligned + length <= start + this.#length[node]!) return aligned
      node = this.#firstRun(this.#root, length, start + 1)
    }
    return -1
  }

  /** First of `length` free cells, as high as there are; -1 for none. Does not take them. */
  findLast(length: number): number {
    let node = this.#root
    if (this.#longest[node]! < length) return -1
    for (;;) {
      const right = this.#right[node]!
      if (this.#longest[right]! >= length) node = right
      else if (this.#length[node]! >= length) {
        return this.#start[node]! + this.#length[node]! - length
      } else node = this.#left[node]!
    }
  }

  /** First cell of the free run that has this one; -1 when it is taken. */
  runStart(cell: number): number {
    const node = this.#floor(cell)
    const start = this.#start[node]!
    return node !== 0 && cell < start + this.#length[node]! ? start : -1
  }

  /** Whether all of these cells are free. */
  isFree(start: number, length: number): boolean {
    if (start < 0 || length < 1 || start + length > this.#cells) return false
    const node = this.#floor(start)
    return node !== 0 && start + length <= this.#start[node]! + this.#length[node]!
  }

  /** Takes free cells. */
  take(start: number, length: number): void {
    const node = this.#floor(start)
    const runStart = this.#start[node]!
    const runEnd = runStart + this.#length[node]!
    const end = start + length
    assert(node !== 0 && length > 0 && end <= runEnd, 'taking cells that are not free')
    const before = start - runStart
    const after = runEnd - end
    this.#free -= length
    if (before > 0) {
      this.#change(node, runStart, before)
      if (after > 0) this.#insert(end, after)
    } else if (after > 0) this.#change(node, end, after)
    else this.#remove(runStart)
  }

  /** Gives taken cells back. */
  release(start: number, length: number): void {
    const end = start + length
    assert(length > 0 && start >= 0 && end <= this.#cells, 'releasing cells that are not there')
    const before = this.#floor(end)
    // The run at or before the end: it begins there, or it ends at the start, or it is farther off.
    let next = 0
    let previous = before
    if (before !== 0 && this.#start[before] === end) {
      next = before
      previous = this.#floor(end - 1)
    }
    const joins =
      previous !== 0 && this.#start[previous]! + this.#length[previous]! === start ? previous : 0
    assert(
      previous === 0 || this.#start[previous]! + this.#length[previous]! <= start,
      'releasing cells that are free',
    )
    this.#free += length
    const after = next === 0 ? 0 : this.#length[next]!
    if (joins !== 0) {
      if (next !== 0) this.#remove(end)
      this.#change(joins, this.#start[joins]!, this.#length[joins]! + length + after)
    } else if (next !== 0) this.#change(next, start, length + after)
    else this.#insert(start, length)
  }

  /** Calls back for each free run, in order of address. */
  forEachRun(visit: (start: number, length: number) => void): void {
    this.#visit(this.#root, visit)
  }

  #visit(node: number, visit: (start: number, length: number) => void): void {
    if (node === 0) return
    this.#visit(this.#left[node]!, visit)
    visit(this.#start[node]!, this.#length[node]!)
    this.#visit(this.#right[node]!, visit)
  }

  /** The first run below `node` of at least `length` that begins at `from` or behind it; 0 for none. */
  #firstRun(node: number, length: number, from: number): number {
    if (this.#longest[node]! < length) return 0
    if (this.#start[node]! >= from) {
      const found = this.#firstRun(this.#left[node]!, length, from)
      if (found !== 0) return found
      if (this.#length[node]! >= length) return node
    }
    return this.#firstRun(this.#right[node]!, length, from)
  }

  /** The last run that begins at a cell or before it; 0 for none. */
  #floor(cell: number): number {
    let node = this.#root
    let found = 0
    while (node !== 0) {
      if (this.#start[node]! <= cell) {
        found = node
        node = this.#right[node]!
      } else node = this.#left[node]!
    }
    return found
  }

  /** Walks to the node of a run and remembers the way; it ends at the node, or where there is none. */
  #walk(start: number): void {
    let node = this.#root
    let depth = 0
    while (node !== 0) {
      this.#path[depth++] = node
      const its = this.#start[node]!
      if (its === start) break
      node = start < its ? this.#left[node]! : this.#right[node]!
    }
    this.#depth = depth
  }

  /** Works out `#longest` along the way of the last walk, from its end up. */
  #update(): void {
    for (let i = this.#depth - 1; i >= 0; i--) this.#measure(this.#path[i]!)
  }

  #measure(node: number): void {
    const left = this.#longest[this.#left[node]!]!
    const right = this.#longest[this.#right[node]!]!
    const own = this.#length[node]!
    const below = left > right ? left : right
    this.#longest[node] = own > below ? own : below
  }

  /** A run is another, between the same neighbours. */
  #change(node: number, start: number, length: number): void {
    this.#walk(this.#start[node]!)
    this.#start[node] = start
    this.#length[node] = length
    this.#update()
  }

  #insert(start: number, length: number): void {
    const made = this.#newNode(start, length)
    const priority = this.#priority[made]!
    // Down to where its priority belongs.
    let node = this.#root
    let depth = 0
    while (node !== 0 && this.#priority[node]! >= priority) {
      this.#path[depth++] = node
      node = start < this.#start[node]! ? this.#left[node]! : this.#right[node]!
    }
    this.#split(node, start)
    this.#left[made] = this.#below
    this.#right[made] = this.#above
    this.#measure(made)
    if (depth === 0) this.#root = made
    else this.#link(this.#path[depth - 1]!, start, made)
    this.#depth = depth
    this.#update()
    this.#runs++
  }

  #remove(start: number): void {
    this.#walk(start)
    this.#depth--
    const node = this.#path[this.#depth]!
    const merged = this.#merge(this.#left[node]!, this.#right[node]!)
    if (this.#depth === 0) this.#root = merged
    else this.#link(this.#path[this.#depth - 1]!, start, merged)
    this.#update()
    this.#length[node] = 0
    this.#longest[node] = 0
    this.#right[node] = 0
    this.#left[node] = this.#freeNode
    this.#freeNode = node
    this.#runs--
  }

  #link(parent: number, start: number, child: number): void {
    if (start < this.#start[parent]!) this.#left[parent] = child
    else this.#right[parent] = child
  }

  /** Cuts a subtree in what begins before `start` and what begins behind it. */
  #split(node: number, start: number): void {
    if (node === 0) {
      this.#below = 0
      this.#above = 0
    } else if (this.#start[node]! < start) {
      this.#split(this.#right[node]!, start)
      this.#right[node] = this.#below
      this.#measure(node)
      this.#below = node
    } else {
      this.#split(this.#left[node]!, start)
      this.#left[node] = this.#above
      this.#measure(node)
      this.#above = node
    }
  }

  /** One subtree of two, of which all of the first comes before all of the second. */
  #merge(one: number, other: number): number {
    if (one === 0) return other
    if (other === 0) return one
    if (this.#priority[one]! >= this.#priority[other]!) {
      this.#right[one] = this.#merge(this.#right[one]!, other)
      this.#measure(one)
      return one
    }
    this.#left[other] = this.#merge(one, this.#left[other]!)
    this.#measure(other)
    return other
  }

  #newNode(start: number, length: number): number {
    let node = this.#freeNode
    if (node !== 0) this.#freeNode = this.#left[node]!
    else {
      node = this.#nodes++
      if (node === this.#start.length) this.#growNodes()
    }
    // xorshift32 (Marsaglia, "Xorshift RNGs", 2003).
    let random = this.#random
    random ^= random << 13
    random ^= random >>> 17
    random ^= random << 5
    this.#random = random >>> 0
    this.#start[node] = start
    this.#length[node] = length
    this.#left[node] = 0
    this.#right[node] = 0
    this.#longest[node] = length
    this.#priority[node] = random
    return node
  }

  #growNodes(): void {
    const more = (from: Uint32Array) => {
      const grown = new Uint32Array(from.length * 2)
      grown.set(from)
      return grown
    }
    this.#start = more(this.#start)
    this.#length = more(this.#length)
    this.#left = more(this.#left)
    this.#right = more(this.#right)
    this.#longest = more(this.#longest)
    this.#priority = more(this.#priority)
  }
}
