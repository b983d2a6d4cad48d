import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { MAILBOX, MAILBOX_FLAG, MAILBOX_WORDS, TARGET_WORDS } from '../../src/media/staging.js'
import { checksumInC, native, onNative, pattern, withMapping } from './native-support.js'

const STAGING_BYTES = 4096
const TARGETS_MAX = 4

interface Bench {
  commit: () => void
  staging: ArrayBuffer
  record: Uint8Array
  mailbox: Uint32Array
  targets: Uint32Array
  memory: Uint8Array<ArrayBuffer>
  slot: number
}

/** One mapping of two pages, log in the first and what it changes in the second. */
function withCommit(body: (bench: Bench) => void, staging = new ArrayBuffer(STAGING_BYTES)): void {
  withMapping(8192, (slot, memory) => {
    const mailbox = new Uint32Array(MAILBOX_WORDS)
    const targets = new Uint32Array(TARGETS_MAX * TARGET_WORDS)
    const commit = native().bindCommit(staging, mailbox, targets)
    const record = new Uint8Array(staging)
    record.set(pattern(Math.min(STAGING_BYTES, record.length), 3))
    memory.fill(0xaa)
    body({ commit, staging, record, mailbox, targets, memory, slot })
  })
}

function fill({ mailbox, slot }: Bench, offset: number, bytes: number, targets: number): void {
  mailbox[MAILBOX.LOG_SLOT] = slot
  mailbox[MAILBOX.LOG_OFFSET] = offset
  mailbox[MAILBOX.RECORD_BYTES] = bytes
  mailbox[MAILBOX.SEED] = 0x12345678
  mailbox[MAILBOX.TARGET_COUNT] = targets
  mailbox[MAILBOX.FLAGS] = 0
}

/** Each makes a good commit a bad one. */
const refusals: [string, (bench: Bench) => void][] = [
  ['a log slot that is free', (b) => b.mailbox.set([b.slot + 1], MAILBOX.LOG_SLOT)],
  ['a log slot beyond any', (b) => b.mailbox.set([4294967295], MAILBOX.LOG_SLOT)],
  ['a record past the end of the log', (b) => b.mailbox.set([8192 - 127], MAILBOX.LOG_OFFSET)],
  ['a log offset behind the mapping', (b) => b.mailbox.set([4294967295], MAILBOX.LOG_OFFSET)],
  ['a record of 7 bytes', (b) => b.mailbox.set([7], MAILBOX.RECORD_BYTES)],
  ['a record longer than staging', (b) => b.mailbox.set([4097], MAILBOX.RECORD_BYTES)],
  ['a record of 4 GiB', (b) => b.mailbox.set([4294967295], MAILBOX.RECORD_BYTES)],
  ['more targets than there is room for', (b) => b.mailbox.set([5], MAILBOX.TARGET_COUNT)],
  ['4 G targets', (b) => b.mailbox.set([4294967295], MAILBOX.TARGET_COUNT)],
  ['a second target in a free slot', (b) => b.targets.set([b.slot + 9], 4)],
  ['a second target past its mapping', (b) => b.targets.set([8192 - 15], 5)],
  ['a second target past staging', (b) => b.targets.set([4096 - 15], 6)],
  ['a second target that wraps around', (b) => b.targets.set([4294967295], 6)],
  ['a second target of 4 GiB', (b) => b.targets.set([4294967295], 7)],
]

describe('native: commit', onNative, () => {
  for (const bytes of [8, 9, 64, 65, 128, 1000, 4096]) {
    it(`${bytes} bytes reach the log, then the targets`, () => {
      withCommit((bench) => {
        const { commit, record, targets, memory, slot } = bench
        const lengths = [8, 16, 64, 7].filter((length) => 100 + length <= STAGING_BYTES)
        lengths.forEach((length, i) => {
          targets.set([slot, 4096 + 256 * i + i, 8 + i, length], i * TARGET_WORDS)
        })
        const offset = bytes === 4096 ? 0 : 64
        fill(bench, offset, bytes, lengths.length)
        const expected = memory.slice()
        const checked = record.slice()
        const crc = checksumInC(0x12345678, record.subarray(4, bytes))
        new DataView(checked.buffer).setUint32(0, crc, true)
        expected.set(checked.subarray(0, bytes), offset)
        lengths.forEach((length, i) => {
          expected.set(checked.subarray(8 + i, 8 + i + length), 4096 + 256 * i + i)
        })
        commit()
        assert.equal(Buffer.compare(record, checked), 0)
        assert.equal(Buffer.compare(memory, expected), 0)
      })
    })
  }

  it('does the same without a write-back', () => {
    withCommit((bench) => {
      fill(bench, 0, 200, 0)
      bench.mailbox[MAILBOX.FLAGS] = 1
      bench.commit()
      assert.deepEqual(bench.memory.slice(0, 200), bench.record.slice(0, 200))
      assert.equal(bench.memory[200], 0xaa)
    })
  })

  it('does the checksum alone, the targets alone, or both, whatever the log', () => {
    for (const flags of [
      MAILBOX_FLAG.SEAL,
      MAILBOX_FLAG.APPLY,
      MAILBOX_FLAG.SEAL | MAILBOX_FLAG.APPLY,
    ]) {
      withCommit((bench) => {
        const { commit, record, mailbox, targets, memory, slot } = bench
        fill(bench, 0, 128, 2)
        mailbox[MAILBOX.LOG_SLOT] = 4294967295
        mailbox[MAILBOX.FLAGS] = flags
        targets.set([slot, 4096, 8, 16, slot, 4200, 40, 7])
        const expected = memory.slice()
        const checked = record.slice()
        if (flags & MAILBOX_FLAG.SEAL) {
          const crc = checksumInC(0x12345678, record.subarray(4, 128))
          new DataView(checked.buffer).setUint32(0, crc, true)
        }
        if (flags & MAILBOX_FLAG.APPLY) {
          expected.set(checked.subarray(8, 24), 4096)
          expected.set(checked.subarray(40, 47), 4200)
        }
        commit()
        assert.equal(Buffer.compare(record, checked), 0)
        assert.equal(Buffer.compare(memory, expected), 0)
        // The same is refused as in a whole one.
        targets[5] = 8192 - 6
        assert.throws(commit, { code: 'ERR_OUT_OF_RANGE' })
        targets[5] = 4200
        mailbox[MAILBOX.RECORD_BYTES] = 7
        assert.throws(commit, { code: 'ERR_OUT_OF_RANGE' })
        assert.equal(Buffer.compare(memory, expected), 0)
      })
    }
  })

  for (const [what, spoil] of refusals) {
    it(`refuses ${what}, and nothing has happened`, () => {
      withCommit((bench) => {
        fill(bench, 0, 128, 2)
        bench.targets.set([bench.slot, 4096, 8, 16, bench.slot, 4200, 8, 16])
        spoil(bench)
        const memory = bench.memory.slice()
        const record = bench.record.slice()
        assert.throws(bench.commit, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' })
        assert.equal(Buffer.compare(bench.memory, memory), 0)
        assert.equal(Buffer.compare(bench.record, record), 0)
      })
    })
  }

  it('refuses a mapping that is gone', () => {
    let commit = () => {}
    withCommit((bench) => {
      fill(bench, 0, 64, 0)
      commit = bench.commit
      commit()
    })
    assert.throws(commit, { code: 'ERR_OUT_OF_RANGE' })
  })

  it('refuses a mapping for reading', () => {
    withMapping(4096, (_slot, _memory, fd) => {
      const addon = native()
      const slot = addon.map(fd, 0, 4096, 4)
      const mailbox = Uint32Array.of(slot, 0, 64, 0, 0, 0, 0, 0)
      const commit = addon.bindCommit(new ArrayBuffer(64), mailbox, new Uint32Array(4))
      assert.throws(commit, { code: 'ERR_OUT_OF_RANGE' })
      addon.unmap(slot)
    })
  })

  it('refuses memory that was detached', () => {
    withCommit((bench) => {
      fill(bench, 0, 64, 0)
      structuredClone(null, { transfer: [bench.staging] })
      assert.throws(bench.commit, { code: 'ERR_INVALID_STATE' })
      assert.ok(bench.memory.every((byte) => byte === 0xaa))
    })
  })

  it('refuses memory that shrank', (t) => {
    const Resizable = ArrayBuffer as unknown as new (
      bytes: number,
      options: { maxByteLength: number },
    ) => ArrayBuffer & { resize?: (bytes: number) => void }
    const staging = new Resizable(1 << 20, { maxByteLength: 1 << 20 })
    if (staging.resize === undefined) return t.skip('resizable buffers are younger')
    withCommit((bench) => {
      fill(bench, 0, 4096, 0)
      bench.commit()
      staging.resize?.(64)
      assert.throws(bench.commit, { code: 'ERR_INVALID_STATE' })
    }, staging)
  })

  it('refuses memory that is a mapping', () => {
    withMapping(4096, (_slot, memory) => {
      const words = new Uint32Array(16)
      assert.throws(() => native().bindCommit(memory.buffer, words, words), {
        code: 'ERR_OUT_OF_RANGE',
      })
    })
  })

  it('keeps its memory alive', () => {
    withMapping(4096, (slot, memory) => {
      const addon = native()
      const bind = () => {
        const all = addon.alignedBuffer(3 * 4096, 4096)
        new Uint8Array(all, 0, 4096).set(pattern(4096))
        new Uint32Array(all, 4096, 8).set([slot, 0, 4096, 0, 0, 0])
        return addon.bindCommit(all, new Uint32Array(all, 4096, 8), new Uint32Array(all, 8192))
      }
      const commit = bind()
      for (let i = 0; i < 200; i++) addon.alignedBuffer(1 << 20, 64)
      commit()
      assert.deepEqual(memory.subarray(4), pattern(4096).subarray(4))
    })
  })
})
