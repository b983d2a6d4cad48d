/** Bits of words and of bytes. */

/** More bytes are compared by a call: two views cost as much as looking at so many. */
const LOOP_BYTES_MAX = 128

/** Index of the lowest bit that is set; `bits` has one. */
export function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits)
}

/** Bits that are set in a word. */
export function countBits(bits: number): number {
  let n = bits - ((bits >>> 1) & 0x55555555)
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333)
  return Math.imul((n + (n >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

/** The same in bytes. */
export function bitsIn(bytes: Uint8Array): number {
  let count = 0
  for (const byte of bytes) count += countBits(byte)
  return count
}

export function isZero(bytes: Uint8Array, from = 0, to: number = bytes.length): boolean {
  if (to - from > LOOP_BYTES_MAX) {
    // Zero at its beginning, and each byte as the one before.
    return (
      bytes[from] === 0 &&
      Buffer.compare(bytes.subarray(from, to - 1), bytes.subarray(from + 1, to)) === 0
    )
  }
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false
  return true
}
