/**
 * Entries that no leaf has any more and that snapshots still see. They are written down on the device in
 * the transaction that drops them: a crash ends all snapshots, and the next opening frees them.
 *
 *   retire ──▶ in the last page ──release──▶ freed, page by page, when no snapshot is older than its last
 */
import type { Heap, Transaction, Volume } from '../index.js'
import { corrupt } from './entries.js'
import { RETIRED_BYTES, RETIRED_SLOTS, TYPE } from './layout.js'

interface Page {
  readonly pointer: number
  readonly retired: number[]
  /** The map's epoch when the last of them was retired: snapshots of that epoch and later do not see it. */
  epoch: number
}

const EMPTY_PAGE = new Uint8Array(RETIRED_BYTES)

export class Retired {
  readonly #heap: Heap
  readonly #pages: Page[] = []
  /** Of the transaction under way. */
  #pagesBefore = 0
  #retiredBefore = 0

  constructor(heap: Heap) {
    this.#heap = heap
  }

  begin(): void {
    this.#pagesBefore = this.#pages.length
    this.#retiredBefore = this.#pages.at(-1)?.retired.length ?? 0
  }

  add(tx: Transaction, pointer: number, epoch: number): void {
    let page = this.#pages.at(-1)
    if (page === undefined || page.retired.length === RETIRED_SLOTS) {
      const made = tx.allocateObject(this.#heap, RETIRED_BYTES, TYPE.RETIRED)
      tx.writeObject(this.#heap, made, EMPTY_PAGE)
      page = { pointer: made, retired: [], epoch }
      this.#pages.push(page)
    }
    tx.setObjectUint64(this.#heap, page.pointer + page.retired.length * 8, pointer)
    page.retired.push(pointer)
    page.epoch = epoch
  }

  /** The transaction under way was dropped. */
  turnBack(): void {
    this.#pages.length = this.#pagesBefore
    const last = this.#pages.at(-1)
    if (last !== undefined) last.retired.length = this.#retiredBefore
  }

  /** Frees what no snapshot of `oldest` or later sees, a page in each transaction. */
  release(volume: Volume, oldest: number): void {
    for (;;) {
      const page = this.#pages[0]
      if (page === undefined || page.epoch > oldest) return
      if (page.retired.length === 0 && this.#pages.length === 1) return
      // Nobody waits for this: a crash before it is durable leaves it to the next opening.
      let isDone = false
      const free = (tx: Transaction) => {
        this.#free(tx, page)
        isDone = true
      }
      volume.transactAsync(free).catch(() => {})
      // Refused, in somebody's transaction for one: the next release tries again.
      if (!isDone) return
    }
  }

  /** The last page stays, empty: on a full volume there may be no room for another one. */
  #free(tx: Transaction, page: Page): void {
    for (const pointer of page.retired) tx.freeObject(this.#heap, pointer)
    if (this.#pages.length > 1) {
      tx.freeObject(this.#heap, page.pointer)
      this.#pages.shift()
    } else {
      tx.writeObject(this.#heap, page.pointer, EMPTY_PAGE)
      page.retired.length = 0
    }
  }

  /** Frees what the snapshots of an earlier opening have left. */
  sweep(volume: Volume): void {
    const heap = this.#heap
    for (const pointer of [...heap.objects({ type: TYPE.RETIRED })]) {
      this.#pages.push({ pointer, retired: readPage(heap, pointer), epoch: 0 })
    }
    this.release(volume, 0)
  }
}

/** @throws PlinthError ERR_VOLUME_CORRUPT */
function readPage(heap: Heap, page: number): number[] {
  const retired: number[] = []
  for (let i = 0; i < RETIRED_SLOTS; i++) {
    const pointer = heap.getUint64(page + i * 8)
    if (pointer === 0) break
    const isEntry = heap.has(pointer) && heap.type(pointer) === TYPE.ENTRY
    if (!isEntry) throw corrupt(`${pointer} was retired and is no entry`)
    retired.push(pointer)
  }
  return retired
}
