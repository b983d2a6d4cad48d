/** The two checkpoint headers: reading the newer valid one, writing both in an order that always leaves one whole. */
import {
  CHECKPOINT,
  type CheckpointHeader,
  COUNT_RESTART,
  decodeCheckpoint,
  encodeCheckpoint,
  newerCheckpoint,
} from '../layout/checkpoint-header.js'
import type { Mapping, Media } from '../media/media.js'

export interface CheckpointPlace {
  readonly mapping: Mapping
  readonly offset: number
}

/** What a checkpoint header says, without what `CheckpointHeaders` itself keeps. */
export type CheckpointValues = Omit<CheckpointHeader, 'checksum' | 'magic' | 'sequence'>

export class CheckpointHeaders {
  readonly #media: Media
  readonly #seed: number
  readonly #places: [CheckpointPlace, CheckpointPlace]
  /** What was written or read last, and its line: a checkpoint makes no objects. */
  readonly #last = { logSalt: 0, state: 0, head: 0, slotsUsed: 0, holes: 0, sequence: 0 }
  readonly #line = new Uint8Array(CHECKPOINT.bytes)
  /** The copy to write first: never the only whole one. */
  #stale: 0 | 1 = 0

  constructor(media: Media, seed: number, places: [CheckpointPlace, CheckpointPlace]) {
    this.#media = media
    this.#seed = seed
    this.#places = places
  }

  /** Whether a copy is in a known bad block: it cannot be read, and writing the other alone could tear it. */
  isBad(copy: 0 | 1): boolean {
    const { mapping, offset } = this.#places[copy]
    return this.#media.badBlocks.touches(mapping.offset + offset, CHECKPOINT.bytes)
  }

  /** The newer valid checkpoint header, and which copies are damaged; undefined when both are. */
  read(): { header: CheckpointHeader; damaged: boolean[] } | undefined {
    const found = this.#places.map(({ mapping, offset }, copy) =>
      this.isBad(copy as 0 | 1)
        ? undefined
        : decodeCheckpoint(mapping.bytes.subarray(offset, offset + CHECKPOINT.bytes), this.#seed),
    )
    const winner = newerCheckpoint(found[0], found[1])
    if (winner === undefined) return undefined
    const header = found[winner]!
    this.#stale = winner === 0 ? 1 : 0
    // Both copies are written before anything counts on one: the first of a count that begins anew is
    // below that of the other, which says the state before, until the other is written too.
    this.#last.sequence = header.sequence < COUNT_RESTART ? header.sequence : 0
    return { header, damaged: found.map((each) => each === undefined) }
  }

  /**
   * The second copy is at another place from now on, where what the first says is stored. It is on its way when
   * this returns: the caller fences.
   */
  moveSecond(place: CheckpointPlace): void {
    encodeCheckpoint(this.#last, this.#seed, this.#line)
    this.#places[1] = place
    this.#flush(place)
  }

  /** Durable in both copies when it returns. Two fences. */
  write(values: CheckpointValues): void {
    const last = this.#last
    last.logSalt = values.logSalt
    last.state = values.state
    last.head = values.head
    last.slotsUsed = values.slotsUsed
    last.holes = values.holes
    last.sequence++
    encodeCheckpoint(last, this.#seed, this.#line)
    const first = this.#stale
    // 1. One copy, the damaged or older one first. A crash here leaves the other, which says the same or
    // the state before. Its fence, so that never both are under way.
    this.#persist(this.#places[first]!)
    // 2. The other. Only after its fence is log space used again.
    this.#persist(this.#places[1 - first]!)
  }

  #persist(place: CheckpointPlace): void {
    this.#flush(place)
    this.#media.fence()
  }

  #flush({ mapping, offset }: CheckpointPlace): void {
    const media = this.#media
    media.store(mapping, offset, this.#line)
    media.flush(mapping, offset, 2 ** media.dirtyUnitShift)
  }
}
