import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { crc32c } from '../../src/base/checksum.js'
import { checksumInC, native, onNative, pattern, withMapping } from './native-support.js'

/** CRC-32C bit by bit: slow and plainly right. */
function slowChecksum(seed: number, bytes: Uint8Array): number {
  let crc = ~seed
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0)
  }
  return ~crc >>> 0
}

const ascii = (text: string) => new TextEncoder().encode(text)

const vectors: [Uint8Array, number, string][] = [
  [ascii('123456789'), 0xe3069283, 'the check value'],
  [new Uint8Array(32), 0x8a9136aa, '32 zeros (RFC 3720)'],
  [new Uint8Array(32).fill(255), 0x62a8ab43, '32 times 255 (RFC 3720)'],
  [Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e, '0 to 31 (RFC 3720)'],
  [Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c, '31 to 0 (RFC 3720)'],
]

/** Around the lines, and around where copies begin to stream. */
const lengths = [0, 1, 7, 63, 64, 65, 4095, 4096, 16383, 16384, 16385, 20000, 100_001]
const offsets = [0, 1, 63, 64, 4097]

describe('native: persist', onNative, () => {
  it('copyPersist and zeroPersist change their range and nothing else', () => {
    withMapping(128 * 1024, (slot, memory) => {
      const addon = native()
      const source = pattern(128 * 1024, 5)
      for (const length of lengths) {
        for (const offset of offsets) {
          const expected = new Uint8Array(memory.length).fill(0xee)
          memory.fill(0xee)
          // A source that is not aligned either.
          const bytes = source.subarray(3, 3 + length)
          expected.set(bytes, offset)
          addon.copyPersist(slot, offset, bytes)
          assert.equal(Buffer.compare(memory, expected), 0, `copy ${length} at ${offset}`)
          memory.fill(0xee)
          expected.fill(0xee).fill(0, offset, offset + length)
          addon.zeroPersist(slot, offset, length)
          assert.equal(Buffer.compare(memory, expected), 0, `zero ${length} at ${offset}`)
        }
      }
    })
  })

  it('a source in the same mapping may overlap', () => {
    withMapping(128 * 1024, (slot, memory) => {
      for (const [from, to] of [
        [0, 100],
        [100, 0],
      ] as const) {
        memory.set(pattern(memory.length))
        const expected = memory.slice().copyWithin(to, from, from + 60_000)
        native().copyPersist(slot, to, memory.subarray(from, from + 60_000))
        assert.equal(Buffer.compare(memory, expected), 0)
      }
    })
  })

  it('flush, fence and persistUnits take any range inside', () => {
    withMapping(16 * 4096, (slot, memory, fd) => {
      const addon = native()
      const other = addon.map(fd, 0, 4096, 0)
      memory.set(pattern(memory.length))
      for (const length of [0, 1, 64, 4096, 16 * 4096]) addon.flush(slot, 0, length)
      addon.flush(slot, 16 * 4096, 0)
      addon.fence()
      addon.flush(slot, 4095, 2)
      const list = Uint32Array.of(slot, 0, slot, 15, other, 0)
      addon.persistUnits(list, 3, 12)
      addon.persistUnits(list, 1, 16)
      addon.persistUnits(Uint32Array.of(slot, 1023), 1, 6)
      addon.persistUnits(list, 0, 0)
      addon.unmap(other)
      assert.equal(Buffer.compare(memory, pattern(memory.length)), 0)
    })
  })
})

describe('native: CRC-32C', onNative, () => {
  for (const [bytes, expected, what] of vectors) {
    it(what, () => {
      assert.equal(checksumInC(0, bytes), expected)
    })
  }

  it('equals the slow one, continued anywhere', () => {
    const bytes = pattern(5000, 11)
    for (const length of [4, 7, 8, 9, 100, 767, 768, 769, 1535, 1536, 1600, 4999]) {
      const stretch = bytes.subarray(0, length)
      const expected = slowChecksum(0xdeadbeef, stretch)
      assert.equal(checksumInC(0xdeadbeef, stretch), expected)
      assert.equal(crc32c(0xdeadbeef, stretch), expected)
      const half = length >> 1
      if (half < 4) continue
      const first = checksumInC(0xdeadbeef, stretch.subarray(0, half))
      assert.equal(checksumInC(first, stretch.subarray(half)), expected)
    }
  })
})

/** What /proc/cpuinfo says the processor can do, in the words of PLINTH_FLUSH. */
function instructions(): [string, boolean, string][] {
  const text = readFileSync('/proc/cpuinfo', 'utf8')
  const flags = new Set(/^(?:flags|Features)\s*:(.*)$/m.exec(text)?.[1]?.trim().split(/\s+/))
  if (process.arch === 'arm64') {
    return [
      ['cvap', flags.has('dcpop'), 'dc cvap'],
      ['cvac', true, 'dc cvac'],
      ['none', true, 'none'],
      ['clwb', false, ''],
    ]
  }
  return [
    ['clwb', flags.has('clwb'), 'clwb'],
    ['clflushopt', flags.has('clflushopt'), 'clflushopt'],
    ['clflush', flags.has('clflush'), 'clflush'],
    ['none', true, 'none'],
    ['cvap', false, ''],
    ['CLWB', false, ''],
  ]
}

describe('native: PLINTH_FLUSH', onNative, () => {
  const load = new URL('../../src/native/load.js', import.meta.url).href
  const program = `
    import { closeSync, ftruncateSync, openSync, readSync, rmSync } from 'node:fs'
    import { mkdtempSync } from 'node:fs'
    import { tmpdir } from 'node:os'
    import { join } from 'node:path'
    import { addonError, loadAddon } from ${JSON.stringify(load)}
    const addon = loadAddon()
    if (addon === undefined) {
      console.log('refused', addonError().code, addonError().message)
    } else {
      const folder = mkdtempSync(join(tmpdir(), 'plinth-native-'))
      try {
        const fd = openSync(join(folder, 'device'), 'w+')
        ftruncateSync(fd, 65536)
        const slot = addon.map(fd, 0, 65536, 0)
        addon.copyPersist(slot, 5, new Uint8Array(40000).fill(3))
        addon.zeroPersist(slot, 70, 100)
        addon.flush(slot, 0, 65536)
        addon.fence()
        const read = Buffer.alloc(65536)
        readSync(fd, read, 0, 65536, 0)
        const right = read.every((b, i) => b === (i < 5 || i >= 40005 || (i >= 70 && i < 170) ? 0 : 3))
        console.log(right ? 'works' : 'wrong bytes', addon.flushInstruction)
      } finally {
        rmSync(folder, { recursive: true })
      }
    }`

  for (const [setting, isAvailable, instruction] of onNative.skip ? [] : instructions()) {
    it(`${setting} ${isAvailable ? 'works' : 'is refused'}`, () => {
      const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
        env: { ...process.env, PLINTH_FLUSH: setting },
        encoding: 'utf8',
      })
      if (isAvailable) assert.equal(child.stdout, `works ${instruction}\n`, child.stderr)
      else assert.match(child.stdout, /^refused ERR_INVALID_ARG_VALUE PLINTH_FLUSH names /)
    })
  }

  it('the best one is chosen without it', () => {
    if (process.env.PLINTH_FLUSH) return
    const best = instructions().find(([, isAvailable]) => isAvailable)
    assert.equal(native().flushInstruction, best?.[2])
  })
})
