/**
 * From the name of a chunk to its slot: a hash table of slots, over typed arrays. The names themselves stand where the
 * table has them, in memory or on the device: a million names cost 16 bytes each here.
 *
 *   hash of the name ──▶ entry: slot, hash ──▶ the slot's name is compared      linear probing, at most half full
 */
import { crc32c } from '../base/checksum.js'

const ENTRIES_FIRST = 64

export class NameIndex {
  /** The slot and one; 0 for none. */
  #slots = new Uint32Array(ENTRIES_FIRST)
  #hashes = new Uint32Array(ENTRIES_FIRST)
  #count = 0
  readonly #nameOf: (slot: number) => Uint8Array

  /** `nameOf`: the bytes of a slot's name as it is now. */
  constructor(nameOf: (slot: number) => Uint8Array) {
    this.#nameOf = nameOf
  }

  /** The slot with a name; -1 for none. */
  find(name: Uint8Array): number {
    return this.#slots[this.#entryOf(name, crc32c(0, name))]! - 1
  }

  /** The name is this slot's from now on, whoever had it. */
  set(name: Uint8Array, slot: number): void {
    const hash = crc32c(0, name)
    let entry = this.#entryOf(name, hash)
    if (this.#slots[entry] === 0) {
      if (2 * ++this.#count > this.#slots.length) {
        this.#grow()
        entry = this.#entryOf(name, hash)
      }
    }
    this.#slots[entry] = slot + 1
    this.#hashes[entry] = hash
  }

  /** Nobody has the name any more; nothing where it is another slot's. */
  delete(name: Uint8Array, slot: number): void {
    let entry = this.#entryOf(name, crc32c(0, name))
    if (this.#slots[entry] !== slot + 1) return
    this.#count--
    // What stands behind moves up, unless it stands where it belongs.
    const mask = this.#slots.length - 1
    for (let next = (entry + 1) & mask; this.#slots[next] !== 0; next = (next + 1) & mask) {
      const wanted = this.#hashes[next]! & mask
      if (((next - wanted) & mask) < ((next - entry) & mask)) continue
      this.#slots[entry] = this.#slots[next]!
      this.#hashes[entry] = this.#hashes[next]!
      entry = next
    }
    this.#slots[entry] = 0
  }

  /** The entry with a name, or the empty one where it would be. */
  #entryOf(name: Uint8Array, hash: number): number {
    const mask = this.#slots.length - 1
    for (let entry = hash & mask; ; entry = (entry + 1) & mask) {
      const slot = this.#slots[entry]!
      if (slot === 0) return entry
      if (this.#hashes[entry] !== hash) continue
      if (Buffer.compare(this.#nameOf(slot - 1), name) === 0) return entry
    }
  }

  #grow(): void {
    const slots = this.#slots
    const hashes = this.#hashes
    this.#slots = new Uint32Array(slots.length * 2)
    this.#hashes = new Uint32Array(slots.length * 2)
    const mask = this.#slots.length - 1
    for (let i = 0; i < slots.length; i++) {
      if (slots[i] === 0) continue
      let entry = hashes[i]! & mask
      while (this.#slots[entry] !== 0) entry = (entry + 1) & mask
      this.#slots[entry] = slots[i]!
      this.#hashes[entry] = hashes[i]!
    }
  }
}
