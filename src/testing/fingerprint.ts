/** Numbers for images, by which the lab knows a state that it has seen. */
import { LINE_BYTES } from '../base/units.js'

const STRIDE = 2 ** 21
const LINE_WORDS = LINE_BYTES / 4
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

/**
 * Puts lines into a fingerprint, or takes them out again: each counts for itself, zero lines do not.
 * `bytes` lie in memory as they do on the device: whole lines from the start of a line.
 */
export function mixLines(key: number, at: number, bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  let low = key % STRIDE
  let high = Math.floor(key / STRIDE)
  for (let from = 0; from < words.length; from += LINE_WORDS) {
    const place = at / 4 + from
    let one = Math.imul(place, 0x9e3779b1)
    let other = ~place
    let any = 0
    for (let i = from; i < from + LINE_WORDS; i++) {
      const word = words[i]!
      any |= word
      one = Math.imul(one ^ word, 0x85ebca6b)
      one ^= one >>> 15
      other = Math.imul((other << 13) | (other >>> 19), 0xc2b2ae35) + word
    }
    if (any === 0) continue
    high = (high ^ scattered(one)) >>> 0
    low ^= scattered(other) & (STRIDE - 1)
  }
  return high * STRIDE + low
}

/** Each bit of the result depends on every bit of the word. */
function scattered(word: number): number {
  let z = word ^ (word >>> 16)
  z = Math.imul(z, 0x21f0aaad)
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
  return z ^ (z >>> 15)
}

/** One number for two. */
export function combine(one: number, other: number): number {
  const high = (Math.floor(one / STRIDE) ^ Math.floor(other / STRIDE)) >>> 0
  return high * STRIDE + ((one % STRIDE) ^ (other % STRIDE))
}
