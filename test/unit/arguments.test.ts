import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  checkBoolean,
  checkBytes,
  checkInteger,
  checkOptions,
  checkPath,
  checkPowerOfTwo,
  encodeText,
} from '../../src/base/arguments.js'
import { POSITION_MAX } from '../../src/base/units.js'

const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }
const value = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' }
const range = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }
const unknown = { name: 'TypeError', code: 'ERR_UNKNOWN_OPTION' }
type Expected = { name: string; code: string } | 'passes'

const integer = (given: unknown) => checkInteger(given, 'it', 1, 100)
const power = (given: unknown) => checkPowerOfTwo(given, 'it', 4, 2 ** 52)
const options = (given: unknown) => checkOptions(given, ['size', 'name'], 'it')
const text = (given: unknown) => encodeText(given, 'it', 8)
const bytes = (given: unknown) => checkBytes(given, 'it')
const boolean = (given: unknown) => checkBoolean(given, 'it')

const cases: [check: (given: unknown) => unknown, name: string, given: unknown, Expected][] = [
  [integer, 'integer', 1, 'passes'],
  [integer, 'integer', 100, 'passes'],
  [integer, 'integer', 0, range],
  [integer, 'integer', -1, range],
  [integer, 'integer', 101, range],
  [integer, 'integer', 1.5, range],
  [integer, 'integer', Number.NaN, range],
  [integer, 'integer', Number.POSITIVE_INFINITY, range],
  [integer, 'integer', '1', type],
  [integer, 'integer', 1n, type],
  [integer, 'integer', null, type],
  [integer, 'integer', undefined, type],
  [integer, 'integer', [1], type],
  [(given) => checkInteger(given, 'it', 0), 'position', POSITION_MAX, 'passes'],
  [(given) => checkInteger(given, 'it', 0), 'position', 2 ** 53, range],
  [power, 'power of two', 4, 'passes'],
  [power, 'power of two', 2 ** 52, 'passes'],
  [power, 'power of two', 2 ** 31, 'passes'],
  [power, 'power of two', 2 ** 33, 'passes'],
  [power, 'power of two', 3, range],
  [power, 'power of two', 2, range],
  [power, 'power of two', 2 ** 33 + 1, range],
  [power, 'power of two', 0, range],
  [power, 'power of two', '4', type],
  [options, 'options', undefined, 'passes'],
  [options, 'options', {}, 'passes'],
  [options, 'options', { size: 1 }, 'passes'],
  [options, 'options', { size: undefined }, 'passes'],
  [options, 'options', { Size: 1 }, unknown],
  [options, 'options', { size: 1, sizes: undefined }, unknown],
  [options, 'options', null, type],
  [options, 'options', [], type],
  [options, 'options', 'size', type],
  [options, 'options', 5, type],
  [checkPath, 'path', '/dev/x', 'passes'],
  [checkPath, 'path', '', value],
  [checkPath, 'path', '/dev/\0x', value],
  [checkPath, 'path', undefined, type],
  [checkPath, 'path', Buffer.from('/dev/x'), type],
  [checkPath, 'path', new URL('file:///dev/x'), type],
  [text, 'text', 'a', 'passes'],
  [text, 'text', 'ä€𝄞'.slice(0, 2), 'passes'],
  [text, 'text', '12345678', 'passes'],
  [text, 'text', '€€€', range],
  [text, 'text', '123456789', range],
  [text, 'text', 'x'.repeat(10_000), range],
  [text, 'text', '', range],
  [text, 'text', 'a\0b', value],
  [text, 'text', 'a\ud800', value],
  [text, 'text', '\udc00', value],
  [text, 'text', 5, type],
  [text, 'text', Buffer.from('a'), type],
  [bytes, 'bytes', new Uint8Array(1), 'passes'],
  [bytes, 'bytes', Buffer.alloc(1), 'passes'],
  [bytes, 'bytes', new Uint16Array(1), type],
  [bytes, 'bytes', new ArrayBuffer(1), type],
  [bytes, 'bytes', new DataView(new ArrayBuffer(1)), type],
  [bytes, 'bytes', [1], type],
  [bytes, 'bytes', 'a', type],
  [boolean, 'boolean', true, 'passes'],
  [boolean, 'boolean', false, 'passes'],
  [boolean, 'boolean', 0, type],
  [boolean, 'boolean', undefined, type],
]

describe('arguments', () => {
  for (const [check, name, given, expected] of cases) {
    const shown = typeof given === 'bigint' ? `${given}n` : (JSON.stringify(given) ?? String(given))
    const outcome = expected === 'passes' ? 'passes' : expected.code
    it(`${name} ${shown.slice(0, 40)} (${typeof given}): ${outcome}`, () => {
      if (expected === 'passes') assert.doesNotThrow(() => check(given))
      else assert.throws(() => check(given), expected)
    })
  }

  it('text comes back as its bytes of UTF-8', () => {
    assert.deepEqual(encodeText('a€', 'it', 8), Uint8Array.of(0x61, 0xe2, 0x82, 0xac))
  })

  it('a message says what was wrong, and nothing of what was given but its kind', () => {
    assert.throws(() => text({ secret: 1 }), { message: 'it must be a string, not Object' })
    assert.throws(() => integer('1'), { message: 'it must be a number, not string' })
    assert.throws(() => options({ sise: 1 }), {
      message: "it: unknown option 'sise'; it takes size, name",
    })
  })

  it('an object without a prototype can be told of', () => {
    assert.throws(() => integer(Object.create(null)), type)
  })
})
