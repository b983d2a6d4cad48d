/**
 * What a log says of the data area, by place: for those who want the changes of a stretch, or all of them
 * with each place visited once.
 *
 *   log     record 1     record 2     record 3 …        in order of time
 *   cells   ┌ a  c ┐ ┌ b ┐ ┌      ┐ ┌ d  e  f ┐ …        in order of place, within each in order of time
 *
 * Changes are cut at the ends of cells and stay in the ring: one takes 16 bytes here and at least as many
 * there. So all of it is at most as large as the log, and the cells are no more than the changes, or than
 * the device has stretches of 16 MiB.
 */
import { MIB, type Offset } from '../base/units.js'
import { ENTRY } from '../layout/record.js'
import { type LogBytes, type LogPrefix, walkPrefix } from './replay.js'
import { Revocations } from './revocations.js'

const CELL_BYTES_MAX = 16 * MIB

/** Takes a change: `bytes[from, from + length)` of the ring belong to device offset `offset`. */
export type ChangeVisitor = (offset: Offset, from: number, length: number) => void

/** What a log says. */
export interface Logged {
  readonly prefix: LogPrefix
  /** Of each slot of the chunk table that it changes: where the last that it says of it is in the ring. */
  readonly slots: ReadonlyMap<number, number>
  readonly changes: Changes
}

/**
 * Collects what the valid prefix of a log says. `walk` is `walkLog`, or `walkPrefix` for those who go without what is
 * damaged, or say so.
 */
export function readLog(log: LogBytes, walk: typeof walkPrefix): Logged {
  const revocations = new Revocations()
  const slots = new Map<number, number>()
  let entries = 0
  const prefix = walk(log, (kind, offset, length, from, lsn) => {
    if (kind === ENTRY.REVOKE) revocations.add(offset, length, lsn)
    else if (kind === ENTRY.SLOT) slots.set(offset, from)
    else entries++
  })
  revocations.cut()
  return { prefix, slots, changes: new Changes(log, prefix, revocations, entries) }
}

export class Changes {
  readonly #ring: Uint8Array
  readonly #dataAt: Offset
  readonly #cellBytes: number
  /** By cell: its first change; one more behind the last. */
  readonly #first: Uint32Array
  readonly #offsets: Float64Array
  readonly #from: Uint32Array
  readonly #lengths: Uint32Array

  /** Of a prefix, whose `entries` change the data area where no revocation has made them void. */
  constructor(log: LogBytes, prefix: LogPrefix, revocations: Revocations, entries: number) {
    const { dataAt, tailAt, granuleBytes } = log.geometry
    this.#ring = log.bytes
    this.#dataAt = dataAt
    let cellBytes = granuleBytes
    while (cellBytes < CELL_BYTES_MAX && (tailAt - dataAt) / cellBytes > entries) cellBytes *= 2
    this.#cellBytes = cellBytes
    const cells = Math.ceil((tailAt - dataAt) / cellBytes)
    const first = new Uint32Array(cells + 1)
    // Counted, then put: each cell's end is where the next one begins.
    const next = new Uint32Array(cells + 1)
    this.#forEachPiece(log, prefix, revocations, (offset) => {
      next[this.#cellOf(offset) + 1]!++
    })
    for (let cell = 1; cell <= cells; cell++) next[cell]! += next[cell - 1]!
    first.set(next)
    const pieces = first[cells]!
    this.#first = first
    this.#offsets = new Float64Array(pieces)
    this.#from = new Uint32Array(pieces)
    this.#lengths = new Uint32Array(pieces)
    this.#forEachPiece(log, prefix, revocations, (offset, from, length) => {
      const at = next[this.#cellOf(offset)]!++
      this.#offsets[at] = offset
      this.#from[at] = from
      this.#lengths[at] = length
    })
  }

  /** How many there are. */
  get count(): number {
    return this.#offsets.length
  }

  /** Bytes of memory that they take beside the ring. */
  get memoryBytes(): number {
    return this.#first.byteLength + this.count * 16
  }

  /** What changes bytes from `offset` up to `end`, cut there; of the same bytes the older first. */
  forEach(offset: Offset, end: Offset, visit: ChangeVisitor): void {
    if (this.count === 0 || offset >= end) return
    const stop = this.#first[this.#cellOf(end - 1) + 1]!
    for (let at = this.#first[this.#cellOf(offset)]!; at < stop; at++) {
      const start = this.#offsets[at]!
      const from = Math.max(start, offset)
      const to = Math.min(start + this.#lengths[at]!, end)
      if (from < to) visit(from, this.#from[at]! + (from - start), to - from)
    }
  }

  /** All of them, cell by cell. */
  forEachByPlace(visit: ChangeVisitor): void {
    for (let at = 0; at < this.count; at++) {
      visit(this.#offsets[at]!, this.#from[at]!, this.#lengths[at]!)
    }
  }

  /** Puts what is said of the bytes at `offset` over them. */
  applyTo(bytes: Uint8Array, offset: Offset): void {
    this.forEach(offset, offset + bytes.length, (at, from, length) => {
      bytes.set(this.#ring.subarray(from, from + length), at - offset)
    })
  }

  #cellOf(offset: Offset): number {
    return Math.floor((offset - this.#dataAt) / this.#cellBytes)
  }

  #forEachPiece(
    log: LogBytes,
    prefix: LogPrefix,
    revocations: Revocations,
    visit: ChangeVisitor,
  ): void {
    walkPrefix(
      log,
      (kind, offset, length, from, lsn) => {
        if (kind !== ENTRY.WORDS && kind !== ENTRY.BYTES) return
        revocations.pieces(offset, length, lsn, (skip, rest) => {
          for (let done = 0; done < rest; ) {
            const at = offset + skip + done
            const toEnd = this.#cellBytes - ((at - this.#dataAt) % this.#cellBytes)
            const part = Math.min(rest - done, toEnd)
            visit(at, from + skip + done, part)
            done += part
          }
        })
      },
      prefix,
    )
  }
}
