import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { crc32c } from '../../src/base/checksum.js'
import { seeded } from '../support/random.js'

const text = (string: string) => new TextEncoder().encode(string)
const range = (from: number, step: number) =>
  Uint8Array.from({ length: 32 }, (_, i) => from + i * step)

/** RFC 3720, appendix B.4, and the check value that every catalogue of checksums gives. */
const vectors: [what: string, bytes: Uint8Array, checksum: number][] = [
  ['nothing', new Uint8Array(0), 0],
  ['123456789', text('123456789'), 0xe3069283],
  ['32 zeros', new Uint8Array(32), 0x8a9136aa],
  ['32 ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
  ['32 ascending', range(0, 1), 0x46dd794e],
  ['32 descending', range(31, -1), 0x113fdb5c],
  [
    'an iSCSI read command',
    Uint8Array.from([
      0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0,
      0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
    ]),
    0xd9963a56,
  ],
  ['a', text('a'), 0xc1d04330],
]

/** One bit at a time, as the definition says. */
function plainly(seed: number, bytes: Uint8Array): number {
  let crc = ~seed >>> 0
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return ~crc >>> 0
}

describe('checksum', () => {
  for (const [what, bytes, checksum] of vectors) {
    it(`of ${what}`, () => {
      assert.equal(crc32c(0, bytes), checksum)
      assert.equal(plainly(0, bytes), checksum)
    })
  }

  it('equals the definition for every length and start up to 40', () => {
    seeded((random) => {
      const bytes = random.bytes(64)
      for (let from = 0; from < 16; from++) {
        for (let length = 0; length <= 40; length++) {
          const seed = random.next()
          assert.equal(
            crc32c(seed, bytes, from, from + length),
            plainly(seed, bytes.subarray(from, from + length)),
          )
        }
      }
    })
  })

  it('continues: crc(crc(0, a), b) is crc(0, ab)', () => {
    seeded((random) => {
      const bytes = random.bytes(200)
      for (let cut = 0; cut <= bytes.length; cut++) {
        const first = crc32c(0, bytes, 0, cut)
        assert.equal(crc32c(first, bytes, cut), crc32c(0, bytes))
      }
    })
  })

  it('differs after any single bit', () => {
    seeded((random) => {
      const bytes = random.bytes(128)
      const whole = crc32c(7, bytes)
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        bytes[bit >>> 3]! ^= 1 << (bit & 7)
        assert.notEqual(crc32c(7, bytes), whole)
        bytes[bit >>> 3]! ^= 1 << (bit & 7)
      }
    })
  })
})
