/** What the Media interface promises, on every device and by both backends. */
import assert from 'node:assert/strict'
import { truncateSync, writeFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { crc32c } from '../../src/base/checksum.js'
import { Device } from '../../src/device/device.js'
import { COUNTER, type Mapping, type Media } from '../../src/media/media.js'
import { MAILBOX, Staging } from '../../src/media/staging.js'
import { MIB, type Place, places, readAt } from '../support/devices.js'
import { pattern } from '../support/pattern.js'
import { seeded } from '../support/random.js'

const SEED = 99

/** Media over a zeroed device of 1 MiB, its first 64 KiB mapped as the log, and how to read the device itself. */
interface Bench {
  readonly media: Media
  readonly ring: Mapping
  onDevice(offset: number, length: number): Uint8Array
}

function bench<T>(at: Place, body: (bench: Bench) => T, ringBytes = 65_536): T {
  return at.with(MIB, (path) => {
    if (at.isFile) {
      writeFileSync(path, '')
      truncateSync(path, MIB)
    }
    const device = new Device({ path, readOnly: false, ...at.options })
    const close = () => device.close()
    let result: T
    try {
      const media = device.media(MIB)
      const onDevice = (offset: number, length: number) => readAt(path, offset, length)
      const ring = media.map(0, ringBytes)
      media.useRing(ring)
      result = body({ media, ring, onDevice })
    } catch (error) {
      close()
      throw error
    }
    if (result instanceof Promise) return result.finally(close) as T
    close()
    return result
  })
}

/** A record of `bytes`, checksum still to come. */
function record(bytes: number, seed: number): Staging {
  const staging = new Staging()
  staging.reserve(bytes)
  staging.u8.set(pattern(bytes, seed))
  staging.bytes = bytes
  staging.mailbox[MAILBOX.SEED] = SEED
  return staging
}

/** The record as it has to be on the device. */
function recordBytes(bytes: number, seed: number): Uint8Array {
  const expected = pattern(bytes, seed)
  new DataView(expected.buffer).setUint32(0, crc32c(SEED, expected, 4), true)
  return expected
}

for (const at of places) {
  describe(`media: ${at.name}`, { skip: at.skip }, () => {
    const paged = at.granularity === 'page'

    it('says what it is', () => {
      bench(at, ({ media }) => {
        assert.equal(media.granularity, at.granularity)
        assert.equal(media.sizeBytes, MIB)
        assert.equal(media.appendBytes, paged ? 4096 : 64)
        assert.equal(media.dirtyUnitShift, paged ? 12 : 6)
        assert.equal(media.failure, undefined)
      })
    })

    it('a mapping shows the device, and has the index that its slot says', () => {
      bench(at, ({ media, ring }) => {
        const [a, b] = [media.map(65_536, 8192), media.map(131_072, 4096)]
        assert.deepEqual(
          [ring, a, b].map(({ slot }) => media.mappings[slot]),
          [ring, a, b],
        )
        assert.deepEqual([a.offset, a.length, a.bytes.length], [65_536, 8192, 8192])
        media.unmap(a)
        assert.equal(media.mappings[a.slot], undefined)
        assert.equal(a.bytes.length, 0)
        const again = media.map(65_536, 4096)
        assert.equal(media.mappings[again.slot], again)
        assert.ok(again.bytes.every((byte) => byte === 0))
      })
    })

    it('store is seen at once; flush and fence bring exactly it to the device', () => {
      bench(at, ({ media, onDevice }) => {
        const mapping = media.map(65_536, 16_384)
        media.store(mapping, 5000, pattern(300, 1))
        mapping.bytes.set(pattern(10, 2), 12_000)
        assert.deepEqual(mapping.bytes.slice(5000, 5300), pattern(300, 1))
        if (paged)
          assert.ok(
            onDevice(65_536, 16_384).every((byte) => byte === 0),
            'not flushed',
          )
        media.flush(mapping, 5000, 300)
        media.fence()
        assert.deepEqual(onDevice(70_536, 300), pattern(300, 1))
        if (paged)
          assert.ok(
            onDevice(77_536, 10).every((byte) => byte === 0),
            'not flushed',
          )
        assert.deepEqual(mapping.bytes.slice(12_000, 12_010), pattern(10, 2))
      })
    })

    it('append and fence: the sealed record is on the device, and after it the next', () => {
      bench(at, ({ media, onDevice }) => {
        let position = 0
        for (const bytes of [64, 24, 1000, 4096, 9000]) {
          media.append(position, record(bytes, bytes))
          const next = position + Math.ceil(bytes / 64) * 64
          media.append(next, record(128, 7))
          media.fence()
          assert.deepEqual(onDevice(position, bytes), recordBytes(bytes, bytes))
          assert.deepEqual(onDevice(next, 128), recordBytes(128, 7))
          position = Math.ceil((next + 128) / media.appendBytes) * media.appendBytes
        }
        assert.equal(media.counters[COUNTER.BYTES_APPENDED], 64 + 24 + 1000 + 4096 + 9000 + 5 * 128)
      })
    })

    it('appends that begin anew elsewhere, as at the end of a ring', () => {
      bench(at, ({ media, onDevice }) => {
        media.append(61_440, record(100, 1))
        media.append(0, record(200, 2))
        media.fence()
        assert.deepEqual(onDevice(61_440, 100), recordBytes(100, 1))
        assert.deepEqual(onDevice(0, 200), recordBytes(200, 2))
      })
    })

    it('more appended than the log buffer has ever held', () => {
      bench(
        at,
        ({ media, onDevice }) => {
          media.append(0, record(64, 1))
          media.append(64, record(400_000, 2))
          media.fence()
          assert.deepEqual(onDevice(0, 64), recordBytes(64, 1))
          assert.equal(Buffer.compare(onDevice(64, 400_000), recordBytes(400_000, 2)), 0)
        },
        524_288,
      )
    })

    it('apply stores every target in its mapping', () => {
      bench(at, ({ media }) => {
        const [a, b] = [media.map(65_536, 4096), media.map(131_072, 4096)]
        const staging = record(256, 4)
        staging.target(a.slot, 100, 16, 40)
        staging.target(b.slot, 0, 56, 1)
        staging.target(a.slot, 120, 60, 100)
        media.apply(staging)
        const expected = new Uint8Array(4096)
        expected.set(pattern(256, 4).subarray(16, 56), 100)
        expected.set(pattern(256, 4).subarray(60, 160), 120)
        assert.deepEqual(a.bytes.slice(), expected)
        assert.equal(b.bytes[0], pattern(256, 4)[56])
        assert.equal(b.bytes[1], 0)
      })
    })

    it('commit: record on the device, in-place locations seen, one fence', () => {
      bench(at, ({ media, ring, onDevice }) => {
        const target = media.map(65_536, 4096)
        const staging = record(200, 5)
        staging.mailbox[MAILBOX.LOG_SLOT] = ring.slot
        staging.target(target.slot, 8, 16, 64)
        const before = media.counters[COUNTER.FENCES]!
        // Where `append` goes by the position alone, the fused call goes by the mailbox.
        staging.mailbox[MAILBOX.LOG_OFFSET] = 4096
        media.commit(4096, staging, undefined)
        assert.equal(media.counters[COUNTER.FENCES], before + 1)
        assert.deepEqual(onDevice(4096, 200), recordBytes(200, 5))
        assert.deepEqual(target.bytes.slice(8, 72), pattern(200, 5).slice(16, 80))
      })
    })

    it('commit with what fills its block: both are on the device before in-place locations are stored', () => {
      bench(at, ({ media, ring, onDevice }) => {
        if (media.appendBytes === 64) return
        const target = media.map(65_536, 4096)
        const staging = record(200, 5)
        staging.mailbox[MAILBOX.LOG_SLOT] = ring.slot
        staging.target(target.slot, 8, 16, 64)
        const barriers = media.counters[COUNTER.BARRIERS]!
        media.commit(4096, staging, record(24, 6))
        assert.equal(media.counters[COUNTER.BARRIERS], barriers + 1)
        assert.deepEqual(onDevice(4096, 200), recordBytes(200, 5))
        assert.deepEqual(onDevice(4096 + 256, 24), recordBytes(24, 6))
        assert.deepEqual(target.bytes.slice(8, 72), pattern(200, 5).slice(16, 80))
      })
    })

    it('commit again after the staging memory grew', () => {
      bench(at, ({ media, ring, onDevice }) => {
        const target = media.map(65_536, 4096)
        const staging = record(64, 1)
        staging.mailbox[MAILBOX.LOG_SLOT] = ring.slot
        staging.target(target.slot, 0, 16, 8)
        media.commit(0, staging, undefined)
        staging.reserve(200_000)
        staging.u8.set(pattern(20_000, 2))
        staging.bytes = 20_000
        staging.targetCount = 0
        for (let i = 0; i < 4000; i++) staging.target(target.slot, i, 100 + i, 1)
        staging.mailbox[MAILBOX.LOG_OFFSET] = 8192
        media.commit(8192, staging, undefined)
        assert.deepEqual(onDevice(8192, 20_000), recordBytes(20_000, 2))
        assert.deepEqual(target.bytes.slice(0, 4000), pattern(20_000, 2).slice(100, 4100))
      })
    })

    it('fenceAsync: durable when it resolves, and appends go on meanwhile', async () => {
      await bench(at, async ({ media, onDevice }) => {
        media.append(0, record(100, 1))
        const durable = media.fenceAsync()
        media.append(4096, record(100, 2))
        await durable
        assert.deepEqual(onDevice(0, 100), recordBytes(100, 1))
        await media.fenceAsync()
        assert.deepEqual(onDevice(4096, 100), recordBytes(100, 2))
        await media.fenceAsync()
      })
    })

    it('fence waits for a fenceAsync that is under way', async () => {
      await bench(at, async ({ media, onDevice }) => {
        media.append(0, record(100, 1))
        const durable = media.fenceAsync()
        media.append(4096, record(100, 2))
        media.fence()
        assert.deepEqual(onDevice(0, 100), recordBytes(100, 1))
        assert.deepEqual(onDevice(4096, 100), recordBytes(100, 2))
        await durable
      })
    })

    it('persistDirtyUnits: each unit of each mapping, with one fence', () => {
      seeded((random) => {
        bench(at, ({ media, onDevice }) => {
          const unitBytes = 2 ** media.dirtyUnitShift
          const mappings = [media.map(65_536, 65_536), media.map(262_144, 65_536)]
          const list: number[] = []
          const chosen = mappings.map((mapping) => {
            mapping.bytes.set(pattern(65_536, mapping.slot + 1))
            const units = new Set(Array.from({ length: 6 }, () => random.below(65_536 / unitBytes)))
            for (const unit of units) list.push(mapping.slot, unit)
            return units
          })
          const fences = media.counters[COUNTER.FENCES]!
          media.persistDirtyUnits(Uint32Array.from(list), list.length / 2)
          assert.equal(media.counters[COUNTER.FENCES], fences + 1)
          mappings.forEach((mapping, i) => {
            const expected = pattern(65_536, mapping.slot + 1)
            assert.deepEqual(mapping.bytes.slice(), expected)
            for (let unit = 0; unit < 65_536 / unitBytes; unit++) {
              const from = unit * unitBytes
              const there = onDevice(mapping.offset + from, unitBytes)
              if (chosen[i]!.has(unit)) {
                assert.deepEqual(there, expected.slice(from, from + unitBytes))
              } else if (paged) assert.ok(there.every((byte) => byte === 0))
            }
          })
        })
      })
    })

    it('write and zero: any range, seen and on the device', () => {
      seeded((random) => {
        bench(at, ({ media, onDevice }) => {
          const length = 65_536
          const mapping = media.map(131_072, length)
          const expected = new Uint8Array(length)
          for (let i = 0; i < 40; i++) {
            const from = random.below(length)
            const count = random.between(
              0,
              Math.min(length - from, random.chance(2) ? 200 : 20_000),
            )
            // Stores of the program that nobody flushed stay where they are.
            const aside = random.below(length)
            mapping.bytes[aside] = expected[aside]!
            if (random.chance(3)) {
              media.zero(mapping, from, count)
              expected.fill(0, from, from + count)
            } else {
              const bytes = pattern(count, random.next())
              media.write(mapping, from, bytes)
              expected.set(bytes, from)
            }
            media.fence()
            assert.equal(Buffer.compare(mapping.bytes, expected), 0)
          }
          assert.equal(Buffer.compare(onDevice(131_072, length), expected), 0)
        })
      })
    })

    it('write keeps stores beside it that nobody flushed', () => {
      bench(at, ({ media, onDevice }) => {
        const mapping = media.map(65_536, 16_384)
        mapping.bytes[10] = 1
        mapping.bytes[16_000] = 2
        media.write(mapping, 100, pattern(12_000, 1))
        media.fence()
        assert.deepEqual([mapping.bytes[10], mapping.bytes[16_000]], [1, 2])
        assert.deepEqual(onDevice(65_636, 12_000), pattern(12_000, 1))
        media.flushStores(mapping)
        media.fence()
        assert.deepEqual([onDevice(65_546, 1)[0], onDevice(81_536, 1)[0]], [1, 2])
      })
    })

    it('flushStores: every store of the program, wherever it was', () => {
      seeded((random) => {
        bench(at, ({ media, onDevice }) => {
          const mapping = media.map(65_536, 524_288)
          const expected = new Uint8Array(524_288)
          for (let round = 0; round < 3; round++) {
            for (let i = 0; i < 50; i++) {
              const bytes = pattern(random.between(1, 100), random.next())
              const to = random.below(expected.length - 100)
              expected.set(bytes, to)
              mapping.bytes.set(bytes, to)
            }
            media.flushStores(mapping)
            media.fence()
            assert.equal(Buffer.compare(onDevice(65_536, expected.length), expected), 0)
            assert.equal(Buffer.compare(mapping.bytes, expected), 0)
          }
        })
      })
    })

    it('detach empties the views, attach gives the same bytes again', () => {
      bench(at, ({ media }) => {
        const mapping = media.map(65_536, 8192)
        const { bytes } = mapping
        media.write(mapping, 0, pattern(8192))
        media.fence()
        media.detach(mapping)
        assert.equal(mapping.bytes.length, 0)
        if (at.backend === 'native') assert.equal(bytes.length, 0)
        assert.equal(media.mappings[mapping.slot], mapping)
        media.attach(mapping)
        assert.deepEqual(mapping.bytes.slice(), pattern(8192))
      })
    })

    it('unmap empties the views; a new mapping shows what was made durable', () => {
      bench(at, ({ media }) => {
        const mapping = media.map(65_536, 8192)
        const { bytes } = mapping
        media.store(mapping, 0, pattern(100))
        media.flush(mapping, 0, 100)
        media.fence()
        media.unmap(mapping)
        assert.equal(mapping.bytes.length, 0)
        if (at.backend === 'native') assert.equal(bytes.length, 0)
        assert.deepEqual(media.map(65_536, 4096).bytes.slice(0, 100), pattern(100))
      })
    })

    it('close twice', () => {
      bench(at, ({ media }) => {
        const { bytes } = media.map(65_536, 4096)
        media.close()
        media.close()
        if (at.backend === 'native') assert.equal(bytes.length, 0)
        assert.ok(media.mappings.every((mapping) => mapping === undefined))
      })
    })
  })
}
