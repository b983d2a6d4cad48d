/**
 * Where entries are, by the hash of their key: what looks for one key goes straight to its entry. It is
 * a cache, in memory alone: what it has is checked against the entry's key, what it has not the tree finds.
 * Hashes are signed 32-bit numbers, which are passed on without an object of their own.
 *
 *   hash     31        13 12    …    0        bucket = hash modulo the number of buckets, a power of two
 *            └── tag ───┘ └── bucket ┘        from 2^13 on: tag and bucket tell the whole hash
 *   bucket   4 × (pointer in eights, low word │ its high bits, tag)      half a cache line
 *
 * It doubles bucket by bucket, a few with each entry that is added, so that nobody waits for all of it
 * (linear hashing: Litwin, 1980):
 *
 *   before   ┌─ moved ─┬──────────────┐      a bucket of the smaller table becomes two of the larger one
 *   after    └─────────┴──────────────┴─────────┬──────────────┐
 *
 * Invariants: no pointer in it is of an entry that the present state of the map has not; an entry whose bucket
 * of the smaller table was not moved is in that one.
 */
/** Tells keys apart whose hashes are the same. */
export interface KeyComparer {
  /** 0 when the entry has this key; the comparer is at the entry then. */
  compare(pointer: number, key: Uint8Array): number
}

const WAYS = 4
const WAY_WORDS = 2
const BUCKET_WORDS = WAYS * WAY_WORDS
const BUCKET_BYTES = BUCKET_WORDS * 4
const BUCKETS_MIN = 2 ** 13
/** Half a GiB. */
const BUCKETS_MAX = 2 ** 24
const TAG_SHIFT = 13
const HIGH_MASK = 2 ** TAG_SHIFT - 1
const POINTER_ALIGN = 8
const NO_WORDS = new Int32Array(0)
/** Buckets that are moved with each entry that is added. */
const MOVED_AT_ONCE = 4

export class HashIndex {
  readonly #bucketsMax: number
  #words = NO_WORDS
  /** Number of buckets, minus one. */
  #mask = -1
  /** The table before, while it is moved; how many of its buckets were. */
  #before = NO_WORDS
  #maskBefore = -1
  #moved = 0
  /** Entries that others have taken the place of, since the index has its size. */
  #displaced = 0

  /** Takes at most so many bytes of memory, if that is enough for the smallest, and none before it is used. */
  constructor(bytesMax: number) {
    let buckets = BUCKETS_MIN
    while (buckets < BUCKETS_MAX && buckets * 2 * BUCKET_BYTES <= bytesMax) buckets *= 2
    this.#bucketsMax = buckets
  }

  /**
   * The entry with this key, whose hash is `hash`; 0 where it is not known. `entries` is at it when this
   * returns its pointer.
   */
  find(hash: number, key: Uint8Array, entries: KeyComparer): number {
    if (this.#words.length === 0) return 0
    const words = this.#wordsFor(hash)
    const from = this.#placeOf(hash)
    const tag = hash >>> TAG_SHIFT
    for (let at = from; at < from + BUCKET_WORDS; at += WAY_WORDS) {
      const high = words[at + 1]!
      if (high >>> TAG_SHIFT !== tag) continue
      const pointer = ((high & HIGH_MASK) * 2 ** 32 + (words[at]! >>> 0)) * POINTER_ALIGN
      if (pointer !== 0 && entries.compare(pointer, key) === 0) return pointer
    }
    return 0
  }

  /** There is an entry at `pointer` whose key has this hash. */
  add(hash: number, pointer: number): void {
    if (this.#words.length === 0) this.#resize(BUCKETS_MIN)
    const low = (pointer / POINTER_ALIGN) | 0
    const high = secondWord(hash, pointer)
    if (!put(this.#wordsFor(hash), this.#placeOf(hash), low, high)) this.#displaced++
    if (this.#before.length > 0) this.#move()
    // One in four buckets was too small: about three in four ways are taken.
    else if (this.#displaced * 4 > this.#mask && this.#mask + 1 < this.#bucketsMax) this.#grow()
  }

  /** The table that an entry with this hash is in. */
  #wordsFor(hash: number): Int32Array {
    return this.#isBefore(hash) ? this.#before : this.#words
  }

  /** Where its bucket begins there. */
  #placeOf(hash: number): number {
    return (hash & (this.#isBefore(hash) ? this.#maskBefore : this.#mask)) * BUCKET_WORDS
  }

  #isBefore(hash: number): boolean {
    return this.#before.length > 0 && (hash & this.#maskBefore) >= this.#moved
  }

  /** The entry at `pointer` is no more, or is the key's no more. */
  remove(hash: number, pointer: number): void {
    if (this.#words.length === 0) return
    const words = this.#wordsFor(hash)
    const from = this.#placeOf(hash)
    const low = (pointer / POINTER_ALIGN) | 0
    const high = secondWord(hash, pointer)
    // It may be there twice, when a way before it became free.
    for (let at = from; at < from + BUCKET_WORDS; at += WAY_WORDS) {
      if (isAt(words, at, low, high)) words[at] = words[at + 1] = 0
    }
  }

  /** Nothing is known any more. */
  clear(): void {
    this.#words.fill(0)
    this.#before = NO_WORDS
  }

  #grow(): void {
    this.#before = this.#words
    this.#maskBefore = this.#mask
    this.#moved = 0
    this.#resize((this.#mask + 1) * 2)
  }

  #move(): void {
    const before = this.#before
    const words = this.#words
    const end = Math.min(this.#moved + MOVED_AT_ONCE, this.#maskBefore + 1)
    for (; this.#moved < end; this.#moved++) {
      const from = this.#moved * BUCKET_WORDS
      for (let at = from; at < from + BUCKET_WORDS; at += WAY_WORDS) {
        if (isFree(before, at)) continue
        const high = before[at + 1]!
        const hash = (high & ~HIGH_MASK) | (this.#moved & HIGH_MASK)
        put(words, (hash & this.#mask) * BUCKET_WORDS, before[at]!, high)
      }
    }
    if (this.#moved > this.#maskBefore) this.#before = NO_WORDS
  }

  #resize(buckets: number): void {
    this.#words = new Int32Array(buckets * BUCKET_WORDS)
    this.#mask = buckets - 1
    this.#displaced = 0
  }
}

/** Whether the bucket had a free way; else another entry has lost its own. */
function put(words: Int32Array, from: number, low: number, high: number): boolean {
  let at = from
  while (at < from + BUCKET_WORDS && !isFree(words, at) && !isAt(words, at, low, high)) {
    at += WAY_WORDS
  }
  const isFull = at === from + BUCKET_WORDS
  // Any of them: bits of the pointer that differ from one entry to the next.
  if (isFull) at = from + (low & (WAYS - 1)) * WAY_WORDS
  words[at] = low
  words[at + 1] = high
  return !isFull
}

/** The second word of a way: the pointer's high bits and the tag. */
function secondWord(hash: number, pointer: number): number {
  const high = pointer / (POINTER_ALIGN * 2 ** 32)
  return high | ((hash >>> TAG_SHIFT) << TAG_SHIFT)
}

function isFree(words: Int32Array, at: number): boolean {
  return words[at] === 0 && (words[at + 1]! & HIGH_MASK) === 0
}

function isAt(words: Int32Array, at: number, low: number, high: number): boolean {
  return words[at] === low && words[at + 1] === high
}
