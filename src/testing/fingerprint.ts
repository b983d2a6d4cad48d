/** Numbers for images, by which the lab knows a state that it has seen. */
import { crc32c } from '../base/checksum.js'
import { LINE_BYTES } from '../base/units.js'

const STRIDE = 2 ** 21
const ZEROS = new Uint8Array(4096)

/** A number for an image, the same however the image came to be. 53 bits. */
export function fingerprintOf(image: Uint8Array): number {
  let key = 0
  for (let at = 0; at < image.length; at += ZEROS.length) {
    const stretch = image.subarray(at, at + ZEROS.length)
    if (Buffer.compare(stretch, ZEROS) !== 0) key = mixLines(key, at, stretch)
  }
  return key
}

/** Puts lines into a fingerprint, or takes them out again: each counts for itself, zero lines do not. */
export function mixLines(key: number, at: number, bytes: Uint8Array): number {
  let low = key % STRIDE
  let high = Math.floor(key / STRIDE)
  for (let line = 0; line < bytes.length; line += LINE_BYTES) {
    const end = line + LINE_BYTES
    if (isZero(bytes, line, end)) continue
    high = (high ^ crc32c(at + line, bytes, line, end)) >>> 0
    low ^= crc32c(~(at + line), bytes, line, end) & (STRIDE - 1)
  }
  return high * STRIDE + low
}

function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false
  return true
}
