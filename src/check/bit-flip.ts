/**
 * The one flipped bit that makes the record at a place whole, if there is one; what it says then is looked at too,
 * and of long records no bit is believed: what a crash has torn would come right by chance. A checksum is linear:
 * flipping a bit of what it covers changes it by a number that depends only on the bit's distance from
 * the end, so the bit is worked out from the number. Records that differ in so little do not both pass: the
 * polynomial tells apart all that differ in up to 3 bits, whatever their length.
 */
import { countBits } from '../base/bits.js'
import { crc32c } from '../base/checksum.js'
import { KIB, type Lsn, WORD } from '../base/units.js'
import { RECORD_ALIGN, RECORD_HEADER_BYTES, RECORD_SKIP } from '../layout/record.js'
import { isRecord, type LogBytes } from '../log/replay.js'

/** A byte of the ring as it should be. */
export interface RepairedByte {
  /** Where in the ring. */
  readonly at: number
  readonly byte: number
}

/** Of all that a torn record of this length may be, one in 4096 has a checksum that some flipped bit makes right. */
const REPAIRED_BYTES_MAX = 64 * KIB

const BYTES_AT = 4
const LSN_AT = 8

export function findFlippedBit(log: LogBytes, lsn: Lsn): RepairedByte | undefined {
  const { bytes } = log
  const at = lsn % log.geometry.logBytes
  for (const flag of [0, RECORD_SKIP]) {
    const bit = flippedBit(log, at, lsn, flag)
    if (bit === undefined) continue
    const byteAt = at + (bit >>> 3)
    const found = bytes[byteAt]!
    const byte = found ^ (1 << (bit & 7))
    bytes[byteAt] = byte
    const isRepaired = isRecord(log, lsn)
    bytes[byteAt] = found
    if (isRepaired) return { at: byteAt, byte }
  }
  return undefined
}

/** Number of the flipped bit within the record, taken for a skip record or for none. */
function flippedBit(log: LogBytes, at: number, lsn: Lsn, flag: number): number | undefined {
  const { bytes } = log
  const header = bytes.slice(at, at + RECORD_HEADER_BYTES)
  const view = new DataView(header.buffer)
  const stored = view.getUint32(0, true)
  const recordBytes = view.getUint32(BYTES_AT, true)
  const low = lsn >>> 0
  const high = ((lsn - low) / WORD) | flag
  const lowFlips = view.getUint32(LSN_AT, true) ^ low
  const highFlips = view.getUint32(LSN_AT + 4, true) ^ high
  if (countBits(lowFlips) + countBits(highFlips) > 1) return undefined
  view.setUint32(LSN_AT, low, true)
  view.setUint32(LSN_AT + 4, high, true)
  if (lowFlips !== 0 || highFlips !== 0) {
    if (checksumsOf(log, at, header, [recordBytes], flag).get(recordBytes) !== stored) {
      return undefined
    }
    return lowFlips !== 0 ? LSN_AT * 8 + bitOf(lowFlips) : (LSN_AT + 4) * 8 + bitOf(highFlips)
  }
  const others = Array.from({ length: 32 }, (_, bit) => (recordBytes ^ (1 << bit)) >>> 0)
  const checksums = checksumsOf(log, at, header, [recordBytes, ...others], flag)
  const checksum = checksums.get(recordBytes)
  if (checksum !== undefined) {
    const length = flag === 0 ? recordBytes : RECORD_HEADER_BYTES
    const bit = flippedBitOf(checksum ^ stored, 0, length)
    if (bit !== undefined) return bit
  }
  const bit = others.findIndex((length) => checksums.get(length) === stored)
  return bit === -1 ? undefined : BYTES_AT * 8 + bit
}

/**
 * By length: the checksum of the record at `at` if it had that, for those that it can have. All in one pass: what
 * the header adds to a checksum is shifted over what follows.
 */
function checksumsOf(
  { bytes, seed, geometry }: LogBytes,
  at: number,
  header: Uint8Array,
  lengths: readonly number[],
  flag: number,
): Map<number, number> {
  const found = new Map<number, number>()
  const view = new DataView(header.buffer)
  let body = 0
  let done = RECORD_HEADER_BYTES
  for (const length of [...lengths].sort((a, b) => a - b)) {
    if (length < RECORD_HEADER_BYTES || length % 8 !== 0 || length > geometry.logBytes - at)
      continue
    if (flag !== 0 && length % RECORD_ALIGN !== 0) continue
    const end = flag === 0 ? length : RECORD_HEADER_BYTES
    if (end > REPAIRED_BYTES_MAX) continue
    view.setUint32(BYTES_AT, length, true)
    body = crc32c(body, bytes, at + done, at + end)
    done = end
    const shifted = multiply(crc32c(seed, header, 4), powerOfX(8 * (end - RECORD_HEADER_BYTES)))
    found.set(length, (shifted ^ body) >>> 0)
  }
  return found
}

/**
 * Number of the flipped bit of `length` bytes with a checksum over them at `checksumAt`; `difference` is
 * the checksum as it should be, xor what stands there.
 */
export function flippedBitOf(
  difference: number,
  checksumAt: number,
  length: number,
): number | undefined {
  if (countBits(difference) === 1) return checksumAt * 8 + bitOf(difference)
  const fromEnd = distanceOf(difference >>> 0, length)
  if (fromEnd === undefined) return undefined
  const byte = length - 1 - (fromEnd >>> 3)
  const isCovered = byte < checksumAt || byte >= checksumAt + 4
  return isCovered ? byte * 8 + (fromEnd & 7) : undefined
}

// Checksums are remainders of polynomials over two elements: bit 31 is x^0, bit 0 is x^31.
const POLYNOMIAL = 0x82f63b78
const ONE = 0x80000000
/** x to this power is 1: the polynomial is x + 1 times a primitive one of degree 31. */
const ORDER = 2 ** 31 - 1

function multiply(a: number, b: number): number {
  let product = 0
  let factor = b
  for (let rest = a; rest !== 0; rest <<= 1) {
    if (rest < 0 || rest >= ONE) product ^= factor
    factor = factor & 1 ? (factor >>> 1) ^ POLYNOMIAL : factor >>> 1
  }
  return product >>> 0
}

function powerOfX(exponent: number): number {
  let power = ONE
  let square = ONE >>> 1
  for (let rest = exponent % ORDER; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) power = multiply(power, square)
    square = multiply(square, square)
  }
  return power
}

/**
 * Which of the last `length` bytes' bits changes a checksum by `difference`: 8 times the number of
 * bytes behind it, plus its number in its byte. Bit b with k bytes behind it changes it by x^(8 k + 39 - b), so
 * this is a logarithm: found in steps of the square root of all that it can be.
 */
function distanceOf(difference: number, length: number): number | undefined {
  const exponents = Math.min(8 * length, ORDER)
  const step = Math.ceil(Math.sqrt(exponents))
  const small = new Map<number, number>()
  for (let i = 0, power = ONE; i < step; i++) {
    small.set(power, i)
    power = power & 1 ? ((power >>> 1) ^ POLYNOMIAL) >>> 0 : power >>> 1
  }
  const back = powerOfX(ORDER - step)
  let rest = multiply(difference, powerOfX(ORDER - 32))
  for (let base = 0; base < exponents; base += step) {
    const found = small.get(rest)
    if (found !== undefined) {
      const exponent = base + found
      return exponent < exponents ? exponent - (exponent % 8) + 7 - (exponent % 8) : undefined
    }
    rest = multiply(rest, back)
  }
  return undefined
}

/** Number of the only set bit. */
function bitOf(word: number): number {
  return 31 - Math.clz32(word)
}
