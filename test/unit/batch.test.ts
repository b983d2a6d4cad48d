import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkSlotSeed,
  encodeChunkSlot,
  encodeFreeSlot,
} from '../../src/layout/chunk-slot.js'
import { type Geometry, planGeometry } from '../../src/layout/geometry.js'
import { ENTRY, RECORD_HEADER_BYTES, RECORD_SKIP } from '../../src/layout/record.js'
import { Batch } from '../../src/log/batch.js'
import { spanOf } from '../../src/log/log.js'
import { walkLog } from '../../src/log/replay.js'
import { type Mapping, sealed } from '../../src/media/media.js'
import { MAILBOX, Staging } from '../../src/media/staging.js'
import { pattern } from '../support/pattern.js'
import { type Random, seeded } from '../support/random.js'

const SEED = 12345
const geometry: Geometry = planGeometry({ sizeBytes: 1024 * 1024, alignBytes: 4096 })
const { tailAt, logAt, logBytes, granuleBytes } = geometry
const { slots, firstAt, secondAt } = geometry.extents[0]!
const tableBytes = slots * 128
/** First byte that a chunk can have: table and log stand before it. */
const dataAt = logAt + logBytes

function mapping(slot: number, offset: number, length: number): Mapping {
  return { slot, offset, length, bytes: new Uint8Array(length), dirty: undefined }
}

const first = mapping(0, firstAt, tableBytes)
const second = mapping(1, secondAt, tableBytes)
const chunk = mapping(2, dataAt + 8192, 65536)

interface Entry {
  readonly kind: number
  readonly offset: number
  readonly length: number
  /** What is to be stored; empty for a revocation. */
  readonly bytes: string
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** A log in memory, written the way commits write it. */
class Ring {
  readonly bytes = new Uint8Array(logBytes)
  lsn: number
  readonly head: number

  constructor(lsn = 0) {
    this.head = this.lsn = lsn
  }

  /** `durableLsn`: up to where all was durable when the record was placed. */
  append({ staging }: Batch, { seed = SEED, durableLsn = this.head } = {}): number {
    staging.u32[1] = staging.bytes
    return this.#place(staging, spanOf(staging.bytes), { seed, durableLsn, flags: 0 })
  }

  skip(bytes: number): void {
    const staging = new Staging()
    staging.bytes = RECORD_HEADER_BYTES
    staging.u32[1] = bytes
    this.#place(staging, bytes, { seed: SEED, durableLsn: this.head, flags: RECORD_SKIP })
  }

  #place(
    staging: Staging,
    span: number,
    { seed, durableLsn, flags }: { seed: number; durableLsn: number; flags: number },
  ): number {
    const { lsn } = this
    staging.u32[2] = lsn >>> 0
    staging.u32[3] = Math.floor(lsn / 2 ** 32) | flags
    staging.u32[4] = durableLsn >>> 0
    staging.u32[5] = Math.floor(durableLsn / 2 ** 32)
    staging.mailbox[MAILBOX.SEED] = seed
    const at = lsn % logBytes
    this.bytes.set(sealed(staging), at)
    this.lsn += span
    return at
  }

  walk(): { entries: Entry[]; records: number; end: number } {
    const entries: Entry[] = []
    const log = { geometry, bytes: this.bytes, head: this.head, seed: SEED, volumeSeed: SEED }
    const prefix = walkLog(log, (kind, offset, length, from) => {
      const bytes = kind === ENTRY.REVOKE ? '' : hex(this.bytes.subarray(from, from + length))
      entries.push({ kind, offset, length, bytes })
    })
    // The second walk, which trusts the checksums of the first, sees the same.
    let again = 0
    assert.deepEqual(
      walkLog(log, () => again++, prefix),
      prefix,
    )
    assert.equal(again, entries.length)
    const { records, end } = prefix
    return { entries, records, end }
  }
}

function newBatch(): Batch {
  return new Batch(new Staging(), logBytes - 8192)
}

/** Stages something of every kind, and returns what has to be read. */
function stageSomething(batch: Batch, random: Random): Entry {
  const staging = batch.staging
  const offset = random.below(chunk.length - 2048)
  const at = chunk.offset + offset
  switch (random.below(5)) {
    case 0: {
      const bytes = pattern(random.between(1, 2048), random.next())
      batch.write(chunk, offset, bytes)
      const kind = bytes.length % 8 === 0 && bytes.length <= 1016 ? ENTRY.WORDS : ENTRY.BYTES
      return { kind, offset: at, length: bytes.length, bytes: hex(bytes) }
    }
    case 1: {
      const value = random.next()
      batch.setUint32(chunk, offset, value)
      const bytes = Buffer.alloc(4)
      bytes.writeUInt32LE(value)
      return { kind: ENTRY.BYTES, offset: at, length: 4, bytes: hex(bytes) }
    }
    case 2: {
      const value = random.next() * 2 ** 21 + random.below(2 ** 21)
      batch.setUint64(chunk, offset, value)
      const bytes = Buffer.alloc(8)
      bytes.writeBigUInt64LE(BigInt(value))
      return { kind: ENTRY.WORDS, offset: at, length: 8, bytes: hex(bytes) }
    }
    case 3: {
      const granule = at - (at % granuleBytes)
      const length = granuleBytes * random.between(1, 8)
      batch.revoke(granule, length)
      return { kind: ENTRY.REVOKE, offset: granule, length, bytes: '' }
    }
    default: {
      const slot = random.below(slots)
      const bytes = encodeFreeSlot(slot, SEED, random.next(), 1)
      const from = batch.slot(slot, first, second, 128 * slot)
      staging.u8.set(bytes, from)
      return { kind: ENTRY.SLOT, offset: slot, length: 128, bytes: hex(bytes) }
    }
  }
}

describe('batch and replay', () => {
  it('what was staged is what replay shows, for any batches', () => {
    seeded((random) => {
      for (let round = 0; round < 50; round++) {
        const ring = new Ring(random.pick([0, 64, logBytes * 3, 2 ** 32 - 64 * 100, 2 ** 50]))
        const batch = newBatch()
        const expected: Entry[] = []
        const records = random.between(1, 8)
        for (let i = 0; i < records; i++) {
          batch.begin()
          assert.equal(batch.isEmpty, true)
          for (let n = random.between(1, 5); n > 0; n--)
            expected.push(stageSomething(batch, random))
          assert.equal(batch.isEmpty, false)
          const room = logBytes - (ring.lsn % logBytes)
          if (room < spanOf(batch.staging.bytes)) ring.skip(room)
          ring.append(batch)
        }
        assert.deepEqual(ring.walk(), { entries: expected, records, end: ring.lsn })
      }
    })
  })

  it('targets name where each byte goes, the table twice', () => {
    const batch = newBatch()
    batch.write(chunk, 100, pattern(5))
    batch.revoke(chunk.offset, 4096)
    batch.slot(7, first, second, 7 * 128)
    const { targets, targetCount, u8 } = batch.staging
    const seen = Array.from({ length: targetCount }, (_, i) => [
      ...targets.subarray(4 * i, 4 * i + 4),
    ])
    assert.deepEqual(
      seen.map(([slot, offset, , length]) => [slot, offset, length]),
      [
        [2, 100, 5],
        [0, 896, 128],
        [1, 896, 128],
      ],
    )
    assert.equal(seen[1]![2], seen[2]![2])
    assert.deepEqual(u8.slice(seen[0]![2]!, seen[0]![2]! + 5), pattern(5))
  })

  it("every byte of a record is this batch's own, not the last one's", () => {
    seeded((random) => {
      const used = newBatch()
      used.write(chunk, 0, pattern(8192, 9))
      for (let length = 1; length <= 40; length++) {
        const seed = random.next()
        const fresh = newBatch()
        used.begin()
        for (const batch of [used, fresh]) batch.write(chunk, 0, pattern(length, seed))
        const [first, second] = [used, fresh].map(({ staging }) =>
          hex(staging.u8.subarray(RECORD_HEADER_BYTES, staging.bytes)),
        )
        assert.equal(first, second)
      }
    })
  })

  it('overlay shows a transaction its own writes, the last one on top', () => {
    seeded((random) => {
      const batch = newBatch()
      const other = mapping(3, dataAt, 4096)
      const plainly = new Uint8Array(4096)
      batch.write(other, 0, pattern(4096))
      for (let i = 0; i < 100; i++) {
        const at = random.below(4000)
        const bytes = pattern(random.between(1, 96), random.next())
        batch.write(chunk, at, bytes)
        plainly.set(bytes, at)
        const from = random.below(4000)
        const seen = new Uint8Array(random.between(1, 96))
        batch.overlay(chunk, from, seen)
        assert.deepEqual(seen, plainly.slice(from, from + seen.length))
      }
    })
  })

  it('writing nothing stages nothing', () => {
    const batch = newBatch()
    batch.write(chunk, 0, new Uint8Array(0))
    assert.deepEqual([batch.isEmpty, batch.staging.targetCount], [true, 0])
  })

  it('a batch that the log cannot take is refused, and what it had stays', () => {
    const batch = newBatch()
    batch.write(chunk, 0, pattern(8))
    const before = batch.staging.bytes
    for (let i = 0; ; i++) {
      assert.ok(i < 100, 'never refused')
      try {
        batch.write(chunk, 0, new Uint8Array(4096))
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ERR_TX_TOO_LARGE')
        break
      }
    }
    assert.ok(batch.staging.bytes > before)
    assert.ok(batch.staging.bytes <= logBytes - 8192)
    batch.begin()
    assert.equal(batch.isEmpty, true)
  })
})

describe('replay stops', () => {
  /** Three records; returns the ring and where the second and third lie. */
  function three(): { ring: Ring; at: number[]; bytes: number[] } {
    const ring = new Ring(logBytes * 5)
    const at: number[] = []
    const bytes: number[] = []
    for (let i = 0; i < 3; i++) {
      const batch = newBatch()
      batch.write(chunk, 64 * i, pattern(40 + i * 30, i + 1))
      bytes.push(batch.staging.bytes)
      at.push(ring.append(batch))
    }
    return { ring, at, bytes }
  }

  it('before a record with any bit changed', () => {
    const { ring, at, bytes } = three()
    assert.equal(ring.walk().records, 3)
    for (let bit = 0; bit < bytes[1]! * 8; bit++) {
      const byte = at[1]! + (bit >>> 3)
      ring.bytes[byte]! ^= 1 << (bit & 7)
      const { records, end } = ring.walk()
      assert.deepEqual([records, end], [1, ring.head + at[1]!], `bit ${bit}`)
      ring.bytes[byte]! ^= 1 << (bit & 7)
    }
    assert.equal(ring.walk().records, 3)
  })

  it('before a record whose lines did not all arrive', () => {
    for (const keep of [0, 1, 2, 3]) {
      const { ring, at } = three()
      const from = at[2]! + keep * 64
      ring.bytes.fill(0, from, at[2]! + 192)
      assert.equal(ring.walk().records, keep === 3 ? 3 : 2)
    }
  })

  it('before a record of another log salt', () => {
    const { ring } = three()
    const batch = newBatch()
    batch.write(chunk, 0, pattern(8))
    ring.append(batch, { seed: SEED + 1 })
    assert.equal(ring.walk().records, 3)
  })

  it('before a record of an earlier lap', () => {
    const { ring } = three()
    const next = new Ring(ring.head + logBytes)
    next.bytes.set(ring.bytes)
    assert.deepEqual(next.walk(), { entries: [], records: 0, end: next.head })
  })

  const headers: [what: string, word: number, value: number][] = [
    ['no length', 1, 0],
    ['a length below the header', 1, 8],
    ['a length that is no multiple of 8', 1, 60],
    ['a length behind the ring', 1, logBytes + 64],
    ['the largest length', 1, 0xffffffff],
    ['another LSN', 2, 64],
    ['an LSN beyond 2^53', 3, 0xffffffff],
    ['a skip of nothing', 3, RECORD_SKIP],
  ]
  for (const [what, word, value] of headers) {
    it(`at a header with ${what}, whatever its checksum`, () => {
      const ring = new Ring()
      const batch = newBatch()
      batch.write(chunk, 0, pattern(32))
      const { staging } = batch
      staging.u32.set([0, staging.bytes, 0, 0])
      staging.u32[word] = value
      if (what === 'a skip of nothing') staging.u32[1] = 0
      staging.mailbox[MAILBOX.SEED] = SEED
      ring.bytes.set(sealed(staging))
      assert.deepEqual(ring.walk(), { entries: [], records: 0, end: 0 })
    })
  }

  it('at the head, when the ring is full: no record is seen twice', () => {
    const ring = new Ring()
    const batch = newBatch()
    batch.write(chunk, 0, pattern(32))
    for (let i = 0; i < logBytes / 64; i++) ring.append(batch)
    assert.deepEqual([ring.walk().records, ring.walk().end], [logBytes / 64, logBytes])
  })
})

describe('damage is told from a torn tail', () => {
  /** Four records, each placed when all before it was durable, or all but the one before it. */
  function four(behind: number): { ring: Ring; at: number[] } {
    const ring = new Ring(logBytes * 7)
    const at: number[] = []
    for (let i = 0; i < 4; i++) {
      const batch = newBatch()
      batch.write(chunk, 64 * i, pattern(100, i + 1))
      const durableLsn = behind === 0 ? ring.lsn : ring.head + (at[i - behind] ?? 0)
      at.push(ring.append(batch, { durableLsn }))
    }
    return { ring, at }
  }

  const cases: [what: string, behind: number, damaged: number, outcome: number | 'damage'][] = [
    ['the first of durable ones', 0, 0, 'damage'],
    ['one between durable ones', 0, 2, 'damage'],
    ['the last', 0, 3, 3],
    ['one whose follower did not know it to be durable, but the next did', 1, 1, 'damage'],
    ['one whose only follower did not know it to be durable', 1, 2, 2],
  ]
  for (const [what, behind, damaged, expected] of cases) {
    it(`${what}: ${expected === 'damage' ? expected : `${expected} records`}`, () => {
      const { ring, at } = four(behind)
      ring.bytes[at[damaged]! + 40]! ^= 1
      if (expected === 'damage') {
        assert.throws(() => ring.walk(), { name: 'PlinthError', code: 'ERR_VOLUME_CORRUPT' })
      } else assert.equal(ring.walk().records, expected)
    })
  }

  it('a follower of another log salt, or damaged itself, tells nothing', () => {
    const { ring, at } = four(0)
    ring.bytes[at[2]! + 40]! ^= 1
    ring.bytes[at[3]! + 40]! ^= 1
    assert.equal(ring.walk().records, 2)
  })
})

describe('a record with a valid checksum and an impossible entry is corruption', () => {
  const entry = (offset: number, kind: number, words: number) => [
    offset >>> 0,
    (Math.floor(offset / 2 ** 32) & 0x1fffff) | (kind << 21) | (words << 25),
  ]
  /** A slot with a right checksum: free, or of a chunk. */
  const slotWords = (slot: number, start = 0, granules = 0) => {
    const bytes = encodeFreeSlot(slot, SEED, 1, 1)
    if (granules > 0) {
      const values = { ...CHUNK_SLOT.read(bytes), state: CHUNK_STATE.CHUNK, start, granules }
      encodeChunkSlot(values, chunkSlotSeed(SEED, slot), bytes)
    }
    return [...new Uint32Array(bytes.buffer)]
  }
  const cases: [what: string, words: number[]][] = [
    ['in the superblock', [...entry(0, ENTRY.WORDS, 1), 0, 0]],
    ['before the granules', [...entry(geometry.dataAt - 8, ENTRY.WORDS, 1), 0, 0]],
    ['in the first table', [...entry(firstAt, ENTRY.WORDS, 1), 0, 0]],
    ['at the end of the first table', [...entry(logAt - 8, ENTRY.WORDS, 1), 0, 0]],
    ['at the start of the log', [...entry(logAt, ENTRY.WORDS, 1), 0, 0]],
    ['at the end of the log', [...entry(dataAt - 8, ENTRY.WORDS, 1), 0, 0]],
    ['over the end of the log', [...entry(dataAt - 8, ENTRY.WORDS, 2), 0, 0, 0, 0]],
    ['into the second table', [...entry(secondAt - 8, ENTRY.WORDS, 2), 0, 0, 0, 0]],
    ['in the second table', [...entry(secondAt + tableBytes - 8, ENTRY.WORDS, 1), 0, 0]],
    ['over the end of the granules', [...entry(tailAt - 8, ENTRY.WORDS, 2), 0, 0, 0, 0]],
    ['in the tail', [...entry(tailAt, ENTRY.WORDS, 1), 0, 0]],
    ['beyond the volume', [...entry(2 ** 50, ENTRY.WORDS, 1), 0, 0]],
    ['no words', [...entry(dataAt, ENTRY.WORDS, 0)]],
    ['no bytes', [...entry(dataAt, ENTRY.BYTES, 0), 0, 0]],
    ['more bytes than the record', [...entry(dataAt, ENTRY.BYTES, 0), 64, 0, 0, 0]],
    ['the most bytes', [...entry(dataAt, ENTRY.BYTES, 0), 0xffffffff, 0, 0, 0]],
    ['bytes without their length', [...entry(dataAt, ENTRY.BYTES, 0)]],
    ['more words than the record', [...entry(dataAt, ENTRY.WORDS, 100), 0, 0]],
    ['no kind', [...entry(dataAt, 0, 1), 0, 0]],
    ['an unknown kind', [...entry(dataAt, 5, 1), 0, 0]],
    ['the last kind', [...entry(dataAt, 15, 1), 0, 0]],
    ['a revocation of nothing', [...entry(dataAt, ENTRY.REVOKE, 0), 0, 0]],
    ['a revocation of everything', [...entry(dataAt, ENTRY.REVOKE, 0), 0xffffffff, 0xffffffff]],
    ['a revocation of the head', [...entry(0, ENTRY.REVOKE, 0), 4096, 0]],
    ['a revocation of the log', [...entry(logAt + 4096, ENTRY.REVOKE, 0), 4096, 0]],
    ['a revocation of a table', [...entry(secondAt, ENTRY.REVOKE, 0), 4096, 0]],
    ['a revocation over the log', [...entry(firstAt, ENTRY.REVOKE, 0), tailAt - firstAt, 0]],
    ['a revocation without its length', [...entry(dataAt, ENTRY.REVOKE, 0)]],
    ['a revocation of half a granule', [...entry(dataAt, ENTRY.REVOKE, 0), 2048, 0]],
    ['a revocation between granules', [...entry(dataAt + 512, ENTRY.REVOKE, 0), 4096, 0]],
    ['a slot that is not whole', [...entry(0, ENTRY.SLOT, 16), ...Array(32).fill(9)]],
    ['a slot that is empty', [...entry(0, ENTRY.SLOT, 16), ...Array(32).fill(0)]],
    ["another slot's", [...entry(1, ENTRY.SLOT, 16), ...slotWords(2)]],
    ['half a slot', [...entry(0, ENTRY.SLOT, 8), ...slotWords(0).slice(0, 16)]],
    ['a slot behind the table', [...entry(slots, ENTRY.SLOT, 16), ...slotWords(slots)]],
    ['a slot far behind the table', [...entry(2 ** 40, ENTRY.SLOT, 16), ...slotWords(0)]],
    ['a chunk in the head', [...entry(0, ENTRY.SLOT, 16), ...slotWords(0, 1, 1)]],
    ['a chunk into the tail', [...entry(0, ENTRY.SLOT, 16), ...slotWords(0, 253, 2)]],
  ]
  it('what is possible is none', () => {
    const possible: number[][] = [
      [...entry(dataAt, ENTRY.WORDS, 1), 0, 0],
      [...entry(secondAt - 8, ENTRY.WORDS, 1), 0, 0],
      [...entry(dataAt, ENTRY.REVOKE, 0), secondAt - dataAt, 0],
      [...entry(slots - 1, ENTRY.SLOT, 16), ...slotWords(slots - 1)],
      [...entry(0, ENTRY.SLOT, 16), ...slotWords(0, 2, 252)],
    ]
    for (const words of possible) {
      const ring = new Ring()
      const batch = newBatch()
      batch.staging.u32.set(words, RECORD_HEADER_BYTES / 4)
      batch.staging.bytes = RECORD_HEADER_BYTES + words.length * 4
      ring.append(batch)
      assert.equal(ring.walk().entries.length, 1)
    }
  })
  for (const [what, words] of cases) {
    it(what, () => {
      const ring = new Ring()
      const batch = newBatch()
      batch.staging.u32.set(words, RECORD_HEADER_BYTES / 4)
      batch.staging.bytes = RECORD_HEADER_BYTES + words.length * 4
      ring.append(batch)
      assert.throws(() => ring.walk(), { name: 'PlinthError', code: 'ERR_VOLUME_CORRUPT' })
    })
  }
})
