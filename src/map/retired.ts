/**
 * Entries that no leaf has any more and that snapshots still see. They are written down on the device in
 * the transaction that drops them: a crash ends all snapshots, and the next opening frees them.
 *
 *   retire ──▶ in the last page ──release──▶ freed, page by page, when no snapshot is older than its last
 */
import type { Heap, Transaction, Volume } from '../index.js'
import { corrupt } from './entries.js'
import { LEAF_SLOTS, RETIRED_BYTES, RETIRED_SLOTS, SLOTS_AT, TYPE } from './layout.js'

interface Page {
  readonly pointer: number
  readonly retired: number[]
  /** The map's version when the last of them was retired: snapshots of that version and later do not see it. */
  version: number
}

const EMPTY_PAGE = new Uint8Array(RETIRED_BYTES)

/** A state to go back to. */
export interface RetiredMark {
  pages: number
  /** Entries of the last one. */
  retired: number
}

export class Retired {
  readonly #heap: Heap
  readonly #pages: Page[] = []
  /** Whether snapshots were released while nothing could be freed. */
  isDue = false

  constructor(heap: Heap) {
    this.#heap = heap
  }

  /** Notes the present state. */
  mark(mark: RetiredMark): void {
    mark.pages = this.#pages.length
    mark.retired = this.#pages.at(-1)?.retired.length ?? 0
  }

  rollbackTo(mark: RetiredMark): void {
    this.#pages.length = mark.pages
    const last = this.#pages.at(-1)
    if (last !== undefined) last.retired.length = mark.retired
  }

  add(tx: Transaction, pointer: number, version: number): void {
    let page = this.#pages.at(-1)
    if (page === undefined || page.retired.length === RETIRED_SLOTS) {
      const made = this.#heap.allocate(RETIRED_BYTES, TYPE.RETIRED)
      tx.writeObject(this.#heap, made, EMPTY_PAGE)
      page = { pointer: made, retired: [], version }
      this.#pages.push(page)
    }
    tx.setObjectUint64(this.#heap, page.pointer + page.retired.length * 8, pointer)
    page.retired.push(pointer)
    page.version = version
  }

  /** Frees what no snapshot of `oldest` or later sees, a page in each transaction. */
  release(volume: Volume, oldest: number): void {
    this.isDue = false
    for (;;) {
      const page = this.#pages[0]
      if (page === undefined || page.version > oldest) return
      if (page.retired.length === 0 && this.#pages.length === 1) return
      // Nobody waits for this: a crash before it is durable leaves it to the next opening.
      let isDone = false
      const free = (tx: Transaction) => {
        this.#free(tx, page)
        isDone = true
      }
      volume.transactAsync(free).catch(() => {})
      if (isDone) continue
      // Refused, in somebody's transaction for one: before the next change it is tried again.
      this.isDue = true
      return
    }
  }

  /** The last page stays, empty: on a full volume there may be no room for another one. */
  #free(tx: Transaction, page: Page): void {
    for (const pointer of page.retired) this.#heap.free(pointer)
    if (this.#pages.length > 1) {
      this.#heap.free(page.pointer)
      this.#pages.shift()
    } else {
      tx.writeObject(this.#heap, page.pointer, EMPTY_PAGE)
      page.retired.length = 0
    }
  }

  /**
   * Frees what the snapshots of an earlier opening have left. All of it is looked at before any of it is freed:
   * each entry was retired once, and no leaf has it.
   * @throws PlinthError ERR_VOLUME_CORRUPT
   */
  sweep(volume: Volume, leaves: readonly { readonly pointer: number }[]): void {
    const heap = this.#heap
    const all = new Set<number>()
    for (const pointer of heap.objects({ type: TYPE.RETIRED })) {
      this.#pages.push({ pointer, retired: readPage(heap, pointer, all), version: 0 })
    }
    if (all.size > 0) refuseKept(heap, leaves, all)
    this.release(volume, 0)
  }
}

/** Adds what a page has to `all`. */
function readPage(heap: Heap, page: number, all: Set<number>): number[] {
  if (heap.size(page) < RETIRED_BYTES) throw corrupt(`the page ${page} of retired entries is cut`)
  const retired: number[] = []
  for (let i = 0; i < RETIRED_SLOTS; i++) {
    const pointer = heap.getUint64(page + i * 8)
    if (pointer === 0) break
    const isEntry = heap.has(pointer) && heap.type(pointer) === TYPE.ENTRY
    if (!isEntry) throw corrupt(`${pointer} was retired and is no entry`)
    if (all.has(pointer)) throw corrupt(`entry ${pointer} was retired twice`)
    all.add(pointer)
    retired.push(pointer)
  }
  return retired
}

function refuseKept(
  heap: Heap,
  leaves: readonly { readonly pointer: number }[],
  retired: ReadonlySet<number>,
): void {
  const words = new Uint32Array(LEAF_SLOTS * 2)
  const bytes = new Uint8Array(words.buffer)
  for (const { pointer: leaf } of leaves) {
    heap.copyOut(leaf + SLOTS_AT, bytes)
    for (let slot = 0; slot < LEAF_SLOTS; slot++) {
      const pointer = words[2 * slot]! + words[2 * slot + 1]! * 2 ** 32
      if (pointer !== 0 && retired.has(pointer)) {
        throw corrupt(`entry ${pointer} was retired and leaf ${leaf} has it`)
      }
    }
  }
}
