import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { native, onNative, withMapping } from './native-support.js'

const RANGE = 'ERR_OUT_OF_RANGE'
const TYPE = 'ERR_INVALID_ARG_TYPE'
const GIB = 1024 ** 3
const u8 = new Uint8Array(16)
const u32 = new Uint32Array(16)
const buffer = new ArrayBuffer(64)
const done = () => {}

/** Placeholders that the test replaces: a slot and a writer that exist. */
const SLOT = Symbol('slot')
const WRITER = Symbol('writer')
const FD = Symbol('fd')

/** A mapping of two pages is open. */
const mistakes: [string, unknown[], string, string][] = [
  ['lock', [], TYPE, 'nothing'],
  ['lock', ['0', true], TYPE, 'a descriptor that is a string'],
  ['lock', [-1, true], RANGE, 'a negative descriptor'],
  ['lock', [1.5, true], RANGE, 'half a descriptor'],
  ['lock', [2 ** 31, true], RANGE, 'a descriptor beyond int'],
  ['lock', [FD, 1], TYPE, 'a number for a boolean'],
  ['lock', [99999, true], 'EBADF', 'a descriptor that is not open'],
  ['allocate', [FD, 0, 0], RANGE, 'no bytes'],
  ['allocate', [FD, -1, 1], RANGE, 'before the file'],
  ['allocate', [FD, 2 ** 53 - 1, 1], RANGE, 'a sum beyond 2^53'],
  ['allocate', [FD, 2 ** 53, 1], RANGE, 'an inexact position'],
  ['allocate', [FD, 0n, 1], TYPE, 'a bigint'],
  ['allocate', [99999, 0, 1], 'EBADF', 'a descriptor that is not open'],
  ['punch', [FD, 0, 0], RANGE, 'no bytes'],
  ['punch', [99999, 0, 1], 'EBADF', 'a descriptor that is not open'],
  ['fileFlags', ['0'], TYPE, 'a descriptor that is a string'],
  ['fileFlags', [99999], 'EBADF', 'a descriptor that is not open'],
  ['setFileFlags', [FD, -1], RANGE, 'flags below 0'],
  ['setFileFlags', [FD, 2 ** 32], RANGE, 'flags of more than 32 bits'],
  ['setFileFlags', [99999, 0], 'EBADF', 'a descriptor that is not open'],
  ['dropCached', [null, 0, 0], TYPE, 'null'],
  ['dropCached', [FD, -1, 0], RANGE, 'a negative offset'],
  ['dropCached', [FD, 0, 2 ** 53], RANGE, 'a length beyond 2^53'],
  ['residentPages', [FD, 0], TYPE, 'nothing to fill'],
  ['residentPages', [FD, 0, u32], TYPE, 'words for bytes'],
  ['residentPages', [FD, 0, new Uint8Array(0)], RANGE, 'no pages'],
  ['residentPages', [FD, 512, new Uint8Array(1)], RANGE, 'an offset within a page'],
  ['residentPages', [FD, 0, new Uint8Array(3)], RANGE, 'a page behind the end of the file'],
  ['residentPages', [FD, 2 ** 52, new Uint8Array(1)], RANGE, 'an offset behind it'],
  ['residentPages', [FD, 0, new Uint8Array(GIB / 4096 + 1)], RANGE, 'more than 1 GiB'],
  ['residentPages', [99999, 0, new Uint8Array(1)], 'EBADF', 'a descriptor that is not open'],
  ['map', [FD, 0, 4096], TYPE, 'no flags'],
  ['map', [FD, 0, 0, 0], RANGE, 'no bytes'],
  ['map', [FD, 0, 4 * GIB + 1, 0], RANGE, 'more than 4 GiB'],
  ['map', [FD, 0, Number.POSITIVE_INFINITY, 0], RANGE, 'infinity'],
  ['map', [FD, 0, 8193, 0], RANGE, 'beyond the end of the file'],
  ['map', [FD, 4096, 8192, 0], RANGE, 'beyond the end of the file, by offset'],
  ['map', [FD, 2 ** 53 - 1, 4096, 0], RANGE, 'a sum beyond 2^53'],
  ['map', [FD, 0, 4096, 8], RANGE, 'an unknown flag'],
  ['map', [FD, 0, 4096, 3], RANGE, 'PRIVATE with SYNC'],
  ['map', [FD, 512, 4096, 0], 'EINVAL', 'an offset within a page'],
  ['map', [FD, 0, 4096, 2], 'EOPNOTSUPP', 'SYNC on a device without DAX'],
  ['map', [99999, 0, 4096, 0], 'EBADF', 'a descriptor that is not open'],
  ['buffer', [], TYPE, 'nothing'],
  ['buffer', [77], RANGE, 'a slot that is free'],
  ['buffer', [2 ** 40], RANGE, 'a slot beyond any'],
  ['buffer', [SLOT], 'ERR_INVALID_STATE', 'a second buffer'],
  ['detach', ['0'], TYPE, 'a string'],
  ['detach', [-1], RANGE, 'a negative slot'],
  ['unmap', [{}], TYPE, 'an object'],
  ['unmap', [4294967295], RANGE, 'a slot that is free'],
  ['flush', [SLOT, 0], TYPE, 'no length'],
  ['flush', [SLOT, 8193, 0], RANGE, 'behind the mapping'],
  ['flush', [SLOT, 1, 8192], RANGE, 'one byte too many'],
  ['flush', [SLOT, 8192, 2 ** 53 - 1], RANGE, 'a huge length'],
  ['flush', [SLOT, -0.5, 1], RANGE, 'a negative fraction'],
  ['persistUnits', [u8, 1, 12], TYPE, 'bytes for words'],
  ['persistUnits', [[0, 0], 1, 12], TYPE, 'an array'],
  ['persistUnits', [u32, 9, 12], RANGE, 'more pairs than the list has'],
  ['persistUnits', [u32, 1, 32], RANGE, 'a shift beyond 31'],
  ['persistUnits', [Uint32Array.of(9999, 0), 1, 12], RANGE, 'a slot that is free'],
  ['persistUnits', [Uint32Array.of(0, 2), 1, 12], RANGE, 'a unit behind the mapping'],
  ['persistUnits', [Uint32Array.of(0, 4294967295), 1, 31], RANGE, 'a unit far behind it'],
  ['copyPersist', [SLOT, 0, new Uint16Array(4)], TYPE, 'words for bytes'],
  ['copyPersist', [SLOT, 0, new DataView(buffer)], TYPE, 'a DataView'],
  ['copyPersist', [SLOT, 0, buffer], TYPE, 'an ArrayBuffer'],
  ['copyPersist', [SLOT, 8177, u8], RANGE, 'one byte too many'],
  ['copyPersist', [SLOT, 0, new Uint8Array(8193)], RANGE, 'more than the mapping'],
  ['zeroPersist', [SLOT, 8192, 1], RANGE, 'behind the mapping'],
  ['zeroPersist', [SLOT, '0', 1], TYPE, 'a string'],
  ['privatePages', [SLOT, 0, 3, u32], RANGE, 'more pages than there are'],
  ['privatePages', [SLOT, 3, 0, u32], RANGE, 'a first page behind the mapping'],
  ['privatePages', [SLOT, 0, 1, u8], TYPE, 'bytes for words'],
  ['discard', [SLOT, 1, 4096], RANGE, 'an offset within a page'],
  ['discard', [SLOT, 0, 100], RANGE, 'a part of a page'],
  ['alignedBuffer', [0, 4096], RANGE, 'no bytes'],
  ['alignedBuffer', [4096, 3000], RANGE, 'an alignment that is no power of two'],
  ['alignedBuffer', [4096, 0], RANGE, 'no alignment'],
  ['alignedBuffer', [5 * GIB, 4096], RANGE, 'more than 4 GiB'],
  ['alignedBuffer', [4096, 2 ** 31], RANGE, 'an alignment beyond 1 GiB'],
  ['bindCommit', [u8, u32, u32], TYPE, 'a view for a buffer'],
  ['bindCommit', [new SharedArrayBuffer(64), u32, u32], TYPE, 'shared staging'],
  ['bindCommit', [buffer, u8, u32], TYPE, 'bytes for the mailbox'],
  ['bindCommit', [buffer, u32, null], TYPE, 'no targets'],
  ['bindCommit', [buffer, u32.subarray(0, 7), u32], RANGE, 'a mailbox too short'],
  ['bindCommit', [new ArrayBuffer(4), u32, u32], RANGE, 'staging too short'],
  ['bindCommit', [buffer, new Uint32Array(buffer, 0, 8), u32], RANGE, 'checksum in the mailbox'],
  ['bindCommit', [buffer, u32, new Uint32Array(buffer, 0, 4)], RANGE, 'checksum in the targets'],
  ['bindCommit', [buffer, u32, new Uint32Array(new SharedArrayBuffer(64))], TYPE, 'shared targets'],
  ['createWriter', [undefined], TYPE, 'nothing'],
  ['createWriter', [-2], RANGE, 'a negative descriptor'],
  ['startWrite', [5000, u8, 0, 1, 0, false, done], RANGE, 'a writer that is not open'],
  ['startWrite', [WRITER, u32, 0, 1, 0, false, done], TYPE, 'words for bytes'],
  ['startWrite', [WRITER, u8, 0, 17, 0, false, done], RANGE, 'one byte too many'],
  ['startWrite', [WRITER, u8, 0, 1, 2 ** 53 - 1, false, done], RANGE, 'a sum beyond 2^53'],
  ['startWrite', [WRITER, u8, 0, 1, 0, 0, done], TYPE, 'a number for a boolean'],
  ['startWrite', [WRITER, u8, 0, 1, 0, false], TYPE, 'no callback'],
  ['waitWrite', [5000], RANGE, 'a writer that is not open'],
  ['closeWriter', ['0'], TYPE, 'a string'],
]

const errorClass: Record<string, string> = { [RANGE]: 'RangeError', [TYPE]: 'TypeError' }

describe('native: wrong arguments', onNative, () => {
  for (const [name, values, code, what] of mistakes) {
    it(`${name}: ${what}`, () => {
      withMapping(8192, (slot, memory, fd) => {
        const addon = native()
        const writer = addon.createWriter(fd)
        const real = (value: unknown) =>
          value === SLOT ? slot : value === WRITER ? writer : value === FD ? fd : value
        const call = Reflect.get(addon, name) as (...values: unknown[]) => unknown
        try {
          memory.fill(7)
          assert.throws(
            () => call(...values.map(real)),
            (error: NodeJS.ErrnoException) =>
              error.code === code && error.name === (errorClass[code] ?? 'Error'),
          )
          assert.ok(memory.every((byte) => byte === 7))
        } finally {
          addon.closeWriter(writer)
        }
      })
    })
  }

  it('a failed system call has the fields of an error of Node', () => {
    assert.throws(() => native().allocate(99999, 0, 1), {
      code: 'EBADF',
      errno: -9,
      syscall: 'fallocate',
    })
  })

  it('a view of detached memory has no bytes', () => {
    withMapping(8192, (slot) => {
      const addon = native()
      const bytes = new Uint8Array(4096)
      const words = new Uint32Array(1024)
      structuredClone(null, { transfer: [bytes.buffer, words.buffer] })
      addon.copyPersist(slot, 0, bytes)
      assert.throws(() => addon.persistUnits(words, 1, 12), { code: RANGE })
      assert.equal(addon.privatePages(slot, 0, 2, words), 0)
    })
  })

  it('nothing that stores takes a mapping for reading', () => {
    withMapping(4096, (_slot, _memory, fd) => {
      const addon = native()
      const slot = addon.map(fd, 0, 4096, 4)
      try {
        assert.throws(() => addon.copyPersist(slot, 0, u8), { code: RANGE })
        assert.throws(() => addon.zeroPersist(slot, 0, 8), { code: RANGE })
        addon.flush(slot, 0, 4096)
      } finally {
        addon.unmap(slot)
      }
    })
  })
})
