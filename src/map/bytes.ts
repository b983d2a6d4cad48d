/** Keys as bytes: compared as unsigned bytes, a prefix before what it begins. */
import { types } from 'node:util'

/** What every array of bytes has, whatever it or its class says of itself. */
const lengthGetter = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  'length',
)!.get!

/** How many bytes a caller has handed in; -1 for what is no Uint8Array, of this realm or another. */
export function bytesIn(value: unknown): number {
  return types.isUint8Array(value) ? lengthGetter.call(value) : -1
}

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
  // Not `slice`, which of a Buffer is no copy; and a view to copy from takes ten times as long.
  const key = new Uint8Array(commonPrefix(left, right) + 1)
  for (let i = 0; i < key.length; i++) key[i] = right[i]!
  return key
}

/**
 * A signed 32-bit number of all bytes of a key, each bit as likely to differ as any other: MurmurHash3 for 32 bits (Austin
 * Appleby, 2011), without a seed.
 */
export function hashOf(key: Uint8Array): number {
  const { length } = key
  let hash = 0
  let i = 0
  for (; i + 4 <= length; i += 4) {
    const word = key[i]! | (key[i + 1]! << 8) | (key[i + 2]! << 16) | (key[i + 3]! << 24)
    hash = mix(hash, word)
    hash = (Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64) | 0
  }
  let rest = 0
  for (let shift = 0; i < length; i++, shift += 8) rest |= key[i]! << shift
  hash = mix(hash, rest) ^ length
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}

function mix(hash: number, word: number): number {
  const bits = Math.imul(word, 0xcc9e2d51)
  return hash ^ Math.imul((bits << 15) | (bits >>> 17), 0x1b873593)
}
