/** Keys as bytes: compared as unsigned bytes, a prefix before what it begins. */

/** Below 0, 0 or above, as `a` is before, equal to or after `b`. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = a.length < b.length ? a.length : b.length
  for (let i = 0; i < length; i++) {
    const difference = a[i]! - b[i]!
    if (difference !== 0) return difference
  }
  return a.length - b.length
}

/** How many bytes both begin with. */
export function commonPrefix(a: Uint8Array, b: Uint8Array): number {
  const length = a.length < b.length ? a.length : b.length
  let i = 0
  while (i < length && a[i] === b[i]) i++
  return i
}

/**
 * 31 bits of a key from byte `from` on, as a number, zeros behind its end: of two keys that are equal up to
 * `from`, the one with the smaller head comes first; equal heads tell nothing. One bit less than a word, so
 * that two of them can be subtracted: a search without branches takes half the time.
 */
export function headOf(key: Uint8Array, from: number): number {
  if (from + 4 <= key.length) {
    return headOfBytes(key[from]!, key[from + 1]!, key[from + 2]!, key[from + 3]!)
  }
  const { length } = key
  return headOfBytes(
    from < length ? key[from]! : 0,
    from + 1 < length ? key[from + 1]! : 0,
    from + 2 < length ? key[from + 2]! : 0,
    0,
  )
}

export function headOfBytes(a: number, b: number, c: number, d: number): number {
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 1
}

/** The shortest key that is after `left` and not after `right`; a copy. */
export function separate(left: Uint8Array, right: Uint8Array): Uint8Array {
  // Not `slice`, which of a Buffer is no copy.
  return new Uint8Array(right.subarray(0, commonPrefix(left, right) + 1))
}

const POOL_BYTES = 64 * 1024
const POOLED_MAX = 4096

/** Gives out small pieces of large buffers: a view of one costs a third of a buffer of its own. */
export class BytePool {
  /** Where the piece that was given out last is. */
  bytes = new Uint8Array(0)
  #used = 0

  /** A place in `bytes` for so many, which nobody else has; it has any contents. */
  place(length: number): number {
    if (this.#used + length > this.bytes.length) return this.#placeAnew(length)
    const at = this.#used
    // The next one begins at a word.
    this.#used = at + ((length + 7) & ~7)
    return at
  }

  #placeAnew(length: number): number {
    this.bytes = new Uint8Array(length > POOLED_MAX ? length : POOL_BYTES)
    this.#used = (length + 7) & ~7
    return 0
  }
}
