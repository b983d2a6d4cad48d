import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PlinthError, printable } from 'plinth'
import { argumentTypeError, rangeError } from '../../src/base/errors.js'

test('what is printable stays, and of the rest each character is told', () => {
  for (const [text, shown] of [
    ['plain name', 'plain name'],
    ['日本語 ü 🙂', '日本語 ü 🙂'],
    // Joiners are parts of words and of emoji.
    ['می\u200cخواهم 👨\u200d👩', 'می\u200cخواهم 👨\u200d👩'],
    [
      'a\0b\tc\nd\u001be\u007ff\u0085g\u009b',
      'a\\u0000b\\u0009c\\u000ad\\u001be\\u007ff\\u0085g\\u009b',
    ],
    [
      '\u061c\u200e\u200f\u202a\u202e\u2066\u2069',
      '\\u061c\\u200e\\u200f\\u202a\\u202e\\u2066\\u2069',
    ],
    ['\u00ad\u200b\u2028\u2029\ufeff', '\\u00ad\\u200b\\u2028\\u2029\\ufeff'],
    ['\ud800x', '\\ud800x'],
    ['\u{e0041}', '\\udb40\\udc41'],
  ] as const) {
    assert.equal(printable(text), shown)
    assert.equal(printable(shown), shown, 'twice is once')
    assert.equal(JSON.parse(`"${printable(text)}"`), text, 'within JSON it means the same')
  }
})

test('messages of errors are printable', () => {
  const name = 'a\u001b[31m\u202e'
  for (const error of [
    new PlinthError('ERR_CHUNK_EXISTS', name),
    argumentTypeError(name),
    rangeError(name),
  ]) {
    assert.equal(error.message, 'a\\u001b[31m\\u202e')
  }
})
