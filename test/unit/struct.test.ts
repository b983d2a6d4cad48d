import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { defineStruct, joinWords } from '../../src/layout/struct.js'

const sample = defineStruct({
  bytes: 40,
  fields: {
    small: [0, 'u16', 'two bytes'],
    word: [4, 'u32', 'four'],
    long: [8, 'u64', 'eight'],
    text: [17, 'bytes5', 'as many as it says, anywhere'],
    last: [38, 'u16', 'at the very end'],
  },
})

describe('struct tables', () => {
  it('write little-endian at the offsets of the table, zeros elsewhere', () => {
    const bytes = new Uint8Array(44).fill(0xee)
    sample.write(
      {
        small: 0x0102,
        word: 0x03040506,
        long: 0x070809 * 2 ** 32 + 0x0a0b0c0d,
        text: Uint8Array.of(1, 2),
        last: 0xffff,
      },
      bytes,
      2,
    )
    assert.equal(
      Buffer.from(bytes).toString('hex'),
      'eeee' +
        '0201' +
        '0000' +
        '06050403' +
        '0d0c0b0a09080700' +
        '00' +
        '0102000000' +
        '00'.repeat(16) +
        'ffff' +
        'eeee',
    )
  })

  const values: [what: string, values: Parameters<typeof sample.write>[0]][] = [
    ['zeros', { small: 0, word: 0, long: 0, text: new Uint8Array(5), last: 0 }],
    [
      'the largest',
      {
        small: 65535,
        word: 2 ** 32 - 1,
        long: 2 ** 53 - 1,
        text: new Uint8Array(5).fill(255),
        last: 65535,
      },
    ],
    [
      'between',
      { small: 1, word: 2 ** 31, long: 2 ** 32, text: Uint8Array.of(1, 2, 3, 4, 5), last: 256 },
    ],
    [
      'around a word',
      { small: 1, word: 1, long: 2 ** 32 - 1, text: Uint8Array.of(0, 0, 0, 0, 1), last: 1 },
    ],
  ]
  for (const [what, each] of values) {
    it(`read what was written: ${what}`, () => {
      const bytes = new Uint8Array(48)
      sample.write(each, bytes, 8)
      assert.deepEqual(sample.read(bytes, 8), each)
      assert.equal(sample.reservedIsZero(bytes, 8), true)
    })
  }

  it('text that is shorter than its field is padded with zeros', () => {
    const bytes = new Uint8Array(40)
    sample.write({ ...values[0]![1], text: Uint8Array.of(9) }, bytes)
    assert.deepEqual(sample.read(bytes).text, Uint8Array.of(9, 0, 0, 0, 0))
  })

  it('text that is longer is a defect', () => {
    assert.throws(
      () => sample.write({ ...values[0]![1], text: new Uint8Array(6) }, new Uint8Array(40)),
      /field text is too long/,
    )
  })

  it('notices every byte that no field names', () => {
    const reserved = [2, 3, 16, ...Array.from({ length: 16 }, (_, i) => 22 + i)]
    for (let at = 0; at < 40; at++) {
      const bytes = new Uint8Array(42)
      bytes[at + 1] = 1
      assert.equal(sample.reservedIsZero(bytes, 1), !reserved.includes(at), `byte ${at}`)
    }
  })

  const words: [low: number, high: number, value: number][] = [
    [0, 0, 0],
    [1, 0, 1],
    [0xffffffff, 0, 2 ** 32 - 1],
    [0, 1, 2 ** 32],
    [0xffffffff, 0x1fffff, 2 ** 53 - 1],
    [0, 0x200000, Number.POSITIVE_INFINITY],
    [0xffffffff, 0xffffffff, Number.POSITIVE_INFINITY],
  ]
  for (const [low, high, value] of words) {
    it(`words ${low} and ${high} are ${value}`, () => assert.equal(joinWords(low, high), value))
  }

  const wrong: [what: string, define: () => unknown, message: RegExp][] = [
    [
      'overlap',
      () => defineStruct({ bytes: 8, fields: { a: [0, 'u32', ''], b: [2, 'u16', ''] } }),
      /field b overlaps/,
    ],
    [
      'bytes over a word',
      () => defineStruct({ bytes: 8, fields: { a: [0, 'u32', ''], b: [3, 'bytes2', ''] } }),
      /field b overlaps/,
    ],
    [
      'not aligned',
      () => defineStruct({ bytes: 8, fields: { a: [1, 'u16', ''] } }),
      /field a is not aligned/,
    ],
    [
      'a long not aligned',
      () => defineStruct({ bytes: 16, fields: { a: [4, 'u64', ''] } }),
      /field a is not aligned/,
    ],
    [
      'too long',
      () => defineStruct({ bytes: 8, fields: { a: [4, 'bytes5', ''] } }),
      /field a ends behind/,
    ],
  ]
  for (const [what, define, message] of wrong) {
    it(`a table is refused when it loads: ${what}`, () => {
      assert.throws(define, message)
    })
  }
})
