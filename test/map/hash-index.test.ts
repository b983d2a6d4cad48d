// The index by hash alone; the walks of the map have it under them.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hashOf } from '../../src/map/bytes.js'
import { HashIndex } from '../../src/map/hash-index.js'
import { bytesOf } from '../support/map-model.js'
import { seeded } from '../support/random.js'

const MIB = 2 ** 20
const BUCKETS_MIN = 2 ** 13

/** Keys by pointer, where the map would ask the device. */
class Keys {
  readonly #keys = new Map<number, string>()

  set(pointer: number, key: string): void {
    this.#keys.set(pointer, key)
  }

  delete(pointer: number): void {
    this.#keys.delete(pointer)
  }

  compare(pointer: number, key: Uint8Array): number {
    const known = this.#keys.get(pointer)
    assert.ok(known !== undefined, `${pointer} is no entry any more`)
    return Buffer.compare(bytesOf(known), key)
  }
}

describe('the index by hash', () => {
  it('finds what was added last, or nothing, and never what was removed', () => {
    seeded((random) => {
      const keys = new Keys()
      const index = new HashIndex(MIB)
      const present = new Map<string, number>()
      // Four hashes in one bucket, two tags each: ways run out, and hashes tell keys apart only half the time.
      const hashOfKey = (key: string) =>
        (key.charCodeAt(0) & 1) * 2 ** 13 - (key.charCodeAt(0) & 2) * 2 ** 29
      let found = 0
      for (let step = 0; step < 20_000; step++) {
        const key = String.fromCharCode(random.below(12))
        const hash = hashOfKey(key)
        const known = present.get(key)
        const at = index.find(hash, bytesOf(key), keys)
        assert.ok(at === 0 || at === known)
        if (at !== 0) found++
        if (known === undefined) {
          // Up to the end of the largest device.
          const pointer =
            (1 + random.below(2 ** 20) + step * 2 ** 20) * 8 + (random.chance(2) ? 2 ** 47 : 0)
          keys.set(pointer, key)
          present.set(key, pointer)
          index.add(hash, pointer)
          assert.equal(index.find(hash, bytesOf(key), keys), pointer)
        } else if (random.chance(2)) {
          index.add(hash, known)
        } else {
          index.remove(hash, known)
          keys.delete(known)
          present.delete(key)
        }
      }
      assert.ok(found > 1000)
    })
  })

  it('grows with what is in it, up to its memory', () => {
    const keys = new Keys()
    const compare = { compare: (pointer: number, key: Uint8Array) => keys.compare(pointer, key) }
    const large = new HashIndex(8 * MIB)
    const small = new HashIndex(0)
    const count = 100_000
    for (let i = 1; i <= count; i++) {
      const key = `key ${i}`
      const hash = hashOf(bytesOf(key))
      keys.set(i * 8, key)
      large.add(hash, i * 8)
      small.add(hash, i * 8)
    }
    const known = (index: HashIndex) => {
      let found = 0
      for (let i = 1; i <= count; i++) {
        const key = bytesOf(`key ${i}`)
        const pointer = index.find(hashOf(key), key, compare)
        assert.ok(pointer === 0 || pointer === i * 8)
        if (pointer !== 0) found++
      }
      return found
    }
    assert.ok(known(large) > count * 0.85)
    const ways = BUCKETS_MIN * 4
    assert.ok(known(small) <= ways && known(small) > ways * 0.9)
    large.clear()
    assert.equal(known(large), 0)
  })

  it('knows what is there while it grows, and nothing else', () => {
    seeded((random) => {
      const keys = new Keys()
      const index = new HashIndex(8 * MIB)
      const present: number[] = []
      const nameOf = (pointer: number) => bytesOf(`key ${pointer}`)
      let asked = 0
      let found = 0
      for (let i = 1; i <= 120_000; i++) {
        const pointer = i * 8
        keys.set(pointer, `key ${pointer}`)
        index.add(hashOf(nameOf(pointer)), pointer)
        present.push(pointer)
        const at = random.below(present.length)
        const other = present[at]!
        const hash = hashOf(nameOf(other))
        const known = index.find(hash, nameOf(other), keys)
        assert.ok(known === 0 || known === other)
        asked++
        if (known !== 0) found++
        if (!random.chance(4)) continue
        index.remove(hash, other)
        keys.delete(other)
        present[at] = present.at(-1)!
        present.pop()
        assert.equal(index.find(hash, nameOf(other), keys), 0)
      }
      assert.ok(found > asked * 0.85, `${found} of ${asked}`)
    })
  })

  it('hashes are as given for MurmurHash3, as signed numbers', () => {
    // Of the reference implementation with seed 0.
    const known: [string, number][] = [
      ['', 0],
      ['test', 0xba6bd213],
      ['Hello, world!', 0xc0363e43],
      ['The quick brown fox jumps over the lazy dog', 0x2e4ff723],
    ]
    for (const [text, hash] of known) assert.equal(hashOf(bytesOf(text)), hash | 0, text)
  })
})
