/**
 * The entries: keys of 16 bytes in no order, values of 100 bytes that no compression makes smaller.
 * All of an entry follows from the first four bytes of its key, and those from its number: what the
 * engines should hold is known without holding it.
 */
import type { Entry } from './engine.js'

export const KEY_BYTES = 16
export const VALUE_BYTES = 100

const KEY_WORDS = KEY_BYTES / 4
const WORDS = (KEY_BYTES + VALUE_BYTES) / 4

/** The first four bytes of the key of an entry: a different number for each. */
export function headOfEntry(index: number): number {
  return scramble(index + 1)
}

export function makeEntry(head: number): Entry {
  const key = Buffer.allocUnsafe(KEY_BYTES)
  const value = Buffer.allocUnsafe(VALUE_BYTES)
  for (let i = 0; i < KEY_WORDS; i++) key.writeUInt32BE(wordOf(head, i), i * 4)
  for (let i = KEY_WORDS; i < WORDS; i++) {
    value.writeUInt32BE(wordOf(head, i), (i - KEY_WORDS) * 4)
  }
  return { key, value }
}

export function makeKey(head: number): Buffer {
  const key = Buffer.allocUnsafe(KEY_BYTES)
  for (let i = 0; i < KEY_WORDS; i++) key.writeUInt32BE(wordOf(head, i), i * 4)
  return key
}

/** What of a key and a value is looked at: so little that looking costs no engine much. */
export function addToChecksum(sum: number, key: Uint8Array, value: Uint8Array): number {
  return (Math.imul(sum, 31) + (key[KEY_BYTES - 1]! << 8) + value[VALUE_BYTES - 1]!) | 0
}

/** The same of an entry as it should be. */
export function addEntry(sum: number, head: number): number {
  const key = wordOf(head, KEY_WORDS - 1) & 0xff
  return (Math.imul(sum, 31) + (key << 8) + lastValueByte(head)) | 0
}

export function lastValueByte(head: number): number {
  return wordOf(head, WORDS - 1) & 0xff
}

function wordOf(head: number, index: number): number {
  return index === 0 ? head : scramble(head + Math.imul(index, 0x9e3779b9))
}

/** The finalizer of MurmurHash3: each 32-bit number becomes another one. */
export function scramble(number: number): number {
  let bits = number ^ (number >>> 16)
  bits = Math.imul(bits, 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35)
  return (bits ^ (bits >>> 16)) >>> 0
}
