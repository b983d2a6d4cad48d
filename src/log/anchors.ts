/** The two anchors: reading the newer valid one, writing both in an order that always leaves one whole. */
import { checks } from '../base/checks.js'
import { PAGE_BYTES } from '../base/units.js'
import { ANCHOR, type Anchor, decodeAnchor, encodeAnchor } from '../layout/anchor.js'
import type { Mapping, Media } from '../media/media.js'

export interface AnchorPlace {
  readonly mapping: Mapping
  readonly offset: number
}

/** What an anchor says, without what `Anchors` itself keeps. */
export type AnchorValues = Omit<Anchor, 'checksum' | 'magic' | 'sequence'>

export class Anchors {
  readonly #media: Media
  readonly #seed: number
  readonly #places: readonly [AnchorPlace, AnchorPlace]
  #sequence = 0
  /** The copy to write first: never the only whole one. */
  #stale: 0 | 1 = 0

  constructor(media: Media, seed: number, places: readonly [AnchorPlace, AnchorPlace]) {
    this.#media = media
    this.#seed = seed
    this.#places = places
  }

  /** Whether a copy is in a known bad block: it cannot be read, and writing the other alone could tear it. */
  isBad(copy: 0 | 1): boolean {
    const { mapping, offset } = this.#places[copy]
    return this.#media.badBlocks.touches(mapping.offset + offset, ANCHOR.bytes)
  }

  /** The newer valid anchor, and which copies are damaged; undefined when both are. */
  read(): { anchor: Anchor; damaged: boolean[] } | undefined {
    const found = this.#places.map(({ mapping, offset }, copy) =>
      this.isBad(copy as 0 | 1)
        ? undefined
        : decodeAnchor(mapping.bytes.subarray(offset, offset + ANCHOR.bytes), this.#seed),
    )
    const [first, second] = found
    const firstCounts =
      first !== undefined &&
      (second === undefined || first.sequence >= second.sequence || !checks.anchorNewer)
    const anchor = firstCounts ? first : second
    if (anchor === undefined) return undefined
    this.#stale = firstCounts ? 1 : 0
    this.#sequence = anchor.sequence
    return { anchor, damaged: found.map((each) => each === undefined) }
  }

  /** Durable in both copies when it returns. Two fences. */
  write(values: AnchorValues): void {
    this.#sequence++
    const line = encodeAnchor({ ...values, sequence: this.#sequence }, this.#seed)
    for (const copy of [this.#stale, 1 - this.#stale]) {
      const { mapping, offset } = this.#places[copy]!
      // 1. One copy, the damaged or older one first. A crash here leaves the other, which says the
      // same or the state before.
      this.#media.store(mapping, offset, line)
      this.#media.flush(
        mapping,
        offset,
        this.#media.granularity === 'page' ? PAGE_BYTES : line.length,
      )
      // 2. Fence, so that never both are under way. Only after the second is log space used again.
      this.#media.fence()
    }
  }
}
