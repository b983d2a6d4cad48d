/**
 * The one flipped bit that makes the record at a place whole, if there is one. A checksum is linear:
 * flipping a bit of what it covers changes it by a number that depends only on the bit's distance from
 * the end, so all bits are tried in one pass. Records that differ in so little do not both pass: the
 * polynomial tells apart all that differ in up to 3 bits, whatever their length.
 */
import { crc32c } from '../base/checksum.js'
import { type LogPosition, WORD } from '../base/units.js'
import { RECORD_ALIGN, RECORD_HEADER_BYTES, RECORD_SKIP } from '../layout/record.js'
import type { LogBytes } from '../log/replay.js'

/** A byte of the ring as it should be. */
export interface Mended {
  /** Where in the ring. */
  readonly at: number
  readonly byte: number
}

const BYTES_AT = 4
const POSITION_AT = 8

export function findFlippedBit(log: LogBytes, position: LogPosition): Mended | undefined {
  const { bytes } = log
  const at = position % log.geometry.logBytes
  for (const flag of [0, RECORD_SKIP]) {
    const bit = flippedBit(log, at, position, flag)
    if (bit === undefined) continue
    const byteAt = at + (bit >>> 3)
    return { at: byteAt, byte: bytes[byteAt]! ^ (1 << (bit & 7)) }
  }
  return undefined
}

/** Number of the flipped bit within the record, taken for a skip record or for none. */
function flippedBit(
  log: LogBytes,
  at: number,
  position: LogPosition,
  flag: number,
): number | undefined {
  const { bytes, seed } = log
  const room = log.geometry.logBytes - at
  const header = bytes.slice(at, at + RECORD_HEADER_BYTES)
  const view = new DataView(header.buffer)
  const stored = view.getUint32(0, true)
  const recordBytes = view.getUint32(BYTES_AT, true)
  const low = position >>> 0
  const high = ((position - low) / WORD) | flag
  const lowFlips = view.getUint32(POSITION_AT, true) ^ low
  const highFlips = view.getUint32(POSITION_AT + 4, true) ^ high
  if (countBits(lowFlips) + countBits(highFlips) > 1) return undefined
  view.setUint32(POSITION_AT, low, true)
  view.setUint32(POSITION_AT + 4, high, true)
  const checkedFor = (length: number) => (flag === 0 ? length : RECORD_HEADER_BYTES)
  const checksumFor = (length: number): number | undefined => {
    if (length < RECORD_HEADER_BYTES || length % 8 !== 0 || length > room) return undefined
    if (flag !== 0 && length % RECORD_ALIGN !== 0) return undefined
    view.setUint32(BYTES_AT, length, true)
    const end = at + checkedFor(length)
    return crc32c(crc32c(seed, header, 4), bytes, at + RECORD_HEADER_BYTES, end)
  }
  const checksum = checksumFor(recordBytes)
  if (lowFlips !== 0 || highFlips !== 0) {
    if (checksum !== stored) return undefined
    return lowFlips !== 0
      ? POSITION_AT * 8 + bitOf(lowFlips)
      : (POSITION_AT + 4) * 8 + bitOf(highFlips)
  }
  if (checksum !== undefined) {
    const bit = flippedBitOf(checksum ^ stored, 0, checkedFor(recordBytes))
    if (bit !== undefined) return bit
  }
  for (let bit = 0; bit < 32; bit++) {
    if (checksumFor((recordBytes ^ (1 << bit)) >>> 0) === stored) return BYTES_AT * 8 + bit
  }
  return undefined
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
  const fromEnd = distanceOf(difference, length)
  if (fromEnd === undefined) return undefined
  const byte = length - 1 - (fromEnd >>> 3)
  const isCovered = byte < checksumAt || byte >= checksumAt + 4
  return isCovered ? byte * 8 + (fromEnd & 7) : undefined
}

/**
 * Which of the last `length` bytes' bits changes a checksum by `difference`: 8 times the number of
 * bytes behind it, plus its number in its byte.
 */
function distanceOf(difference: number, length: number): number | undefined {
  // What each bit of a byte does to the checksum, for the last byte; one step further for each before it.
  const effects = Uint32Array.from({ length: 8 }, (_, bit) => stepByte(1 << bit))
  const wanted = difference >>> 0
  for (let byte = 0; byte < length; byte++) {
    for (let bit = 0; bit < 8; bit++) {
      if (effects[bit] === wanted) return byte * 8 + bit
      effects[bit] = stepByte(effects[bit]!)
    }
  }
  return undefined
}

/** The remainder of a CRC-32C after one zero byte: what crc32c does between its two inversions. */
function stepByte(remainder: number): number {
  return (TABLE[remainder & 255]! ^ (remainder >>> 8)) >>> 0
}

/** From crc32c itself: the effect of a byte alone. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  return (crc32c(0, Uint8Array.of(byte)) ^ crc32c(0, Uint8Array.of(0))) >>> 0
})

function countBits(word: number): number {
  let count = 0
  for (let rest = word >>> 0; rest !== 0; rest &= rest - 1) count++
  return count
}

/** Number of the only set bit. */
function bitOf(word: number): number {
  return 31 - Math.clz32(word)
}
