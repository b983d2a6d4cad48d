import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { MAILBOX, MAILBOX_WORDS, Staging, TARGET_WORDS } from '../../src/media/staging.js'
import { pattern } from '../support/pattern.js'

describe('staging memory', () => {
  it('grows for the record and keeps what it has', () => {
    const staging = new Staging()
    const first = staging.u8.length
    const bytes = pattern(first, 3)
    staging.u8.set(bytes)
    staging.bytes = first
    staging.mailbox[MAILBOX.SEED] = 77
    staging.target(1, 2, 3, 4)
    staging.bound = true
    staging.reserve(0)
    assert.equal(staging.bound, true, 'nothing was replaced')
    staging.reserve(1)
    assert.equal(staging.bound, false, 'whoever holds addresses must take the new ones')
    assert.ok(staging.u8.length > first)
    assert.deepEqual(staging.u8.slice(0, first), bytes)
    assert.equal(staging.mailbox[MAILBOX.SEED], 77)
    assert.deepEqual([...staging.targets.subarray(0, TARGET_WORDS)], [1, 2, 3, 4])
  })

  it('grows by much at once', () => {
    const staging = new Staging()
    staging.bytes = 16
    staging.reserve(10_000_000)
    assert.ok(staging.u8.length >= 10_000_016)
  })

  it('grows for targets and keeps what it has', () => {
    const staging = new Staging()
    staging.u8.set(pattern(100))
    staging.bytes = 100
    const count = 5000
    for (let i = 0; i < count; i++) staging.target(i, i + 1, i + 2, i + 3)
    assert.equal(staging.targetCount, count)
    for (let i = 0; i < count; i++) {
      const at = i * TARGET_WORDS
      assert.deepEqual([...staging.targets.subarray(at, at + 4)], [i, i + 1, i + 2, i + 3])
    }
    assert.deepEqual(staging.u8.slice(0, 100), pattern(100))
    assert.ok(staging.targets.length >= count * TARGET_WORDS)
  })

  it('its views are on the same memory after any growth', () => {
    const staging = new Staging()
    for (const bytes of [0, 100_000, 1_000_000]) {
      staging.reserve(bytes)
      staging.bytes = bytes
      staging.u32[5] = 0x04030201
      assert.deepEqual([...staging.u8.subarray(20, 24)], [1, 2, 3, 4])
      assert.equal(staging.u32.length * 4, staging.u8.length)
      assert.equal(staging.mailbox.length, MAILBOX_WORDS)
    }
  })
})
