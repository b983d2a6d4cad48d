/** What a volume promises, on every device and by both backends. */
import assert from 'node:assert/strict'
import { rmSync, statSync } from 'node:fs'
import { describe, it } from 'node:test'
import { type Chunk, Volume } from 'plinth'
import {
  afterCrash,
  copyDevice,
  hashOf,
  MIB,
  type Place,
  places,
  withVolume,
} from '../support/devices.js'
import { pattern } from '../support/pattern.js'

/** Closes the volume, opens it again, and closes it after `body`. */
function reopened<T>(at: Place, volume: Volume, path: string, body: (volume: Volume) => T): T {
  volume.close()
  const again = Volume.open(path, at.options)
  try {
    return body(again)
  } finally {
    again.close()
  }
}

for (const at of places) {
  describe(`volume: ${at.name}`, { skip: at.skip }, () => {
    const paged = at.granularity === 'page'

    it('is what it was formatted as', () => {
      at.with(2 * MIB, (path) => {
        const label = 'ein Etikett'
        Volume.format(path, {
          size: 2 * MIB,
          label,
          granule: 8192,
          logSize: 131_072,
          ...at.options,
        })
        const volume = Volume.open(path, at.options)
        try {
          const { uuid, created, kind, layout, ...info } = volume.info
          assert.equal(layout.tables.length, 1)
          assert.deepEqual(info, {
            path,
            label,
            size: 2 * MIB,
            granule: 8192,
            growBy: undefined,
            maxSize: undefined,
            granularity: at.granularity,
            backend: at.backend,
            readOnly: false,
          })
          assert.match(uuid, /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
          assert.ok(Math.abs(created.getTime() - Date.now()) < 3_600_000)
          if (!at.isFile) assert.equal(kind, at.kind)
          assert.deepEqual(
            [volume.recovery.clean, volume.recovery.recordsReplayed, volume.recovery.repaired],
            [true, 0, 0],
          )
          const {
            chunks,
            usedBytes,
            freeBytes,
            dataBytes,
            largestFreeBytes,
            logBytes,
            fragmentation,
          } = volume.stats()
          assert.deepEqual(
            [chunks, usedBytes, freeBytes, largestFreeBytes, logBytes, fragmentation],
            [0, 0, dataBytes, dataBytes, 131_072, 0],
          )
        } finally {
          volume.close()
        }
      })
    })

    it('a file is created with mode 0600, every byte of it allocated', (t) => {
      if (!at.isFile) return t.skip('this is no file')
      withVolume(at, (_, path) => {
        const { mode, size, blocks } = statSync(path)
        assert.equal(mode & 0o777, 0o600)
        assert.equal(size, MIB)
        assert.ok(blocks * 512 >= MIB)
      })
    })

    // Each makes something durable; the check finds it after a reopen, and after a crash.
    const durable: [
      what: string,
      make: (volume: Volume) => unknown,
      check: (volume: Volume) => void,
    ][] = [
      [
        'persist',
        (volume) => {
          const chunk = volume.allocate({ size: 16_384, name: 'c', zero: true })
          chunk.bytes.set(pattern(5000, 1), 3000)
          chunk.persist(3000, 5000)
        },
        (volume) => {
          const expected = new Uint8Array(16_384)
          expected.set(pattern(5000, 1), 3000)
          assert.deepEqual(volume.chunk('c').bytes.slice(), expected)
        },
      ],
      [
        'flush and fence',
        (volume) => {
          const chunk = volume.allocate({ size: 16_384, name: 'c', zero: true })
          chunk.bytes.set(pattern(10, 1), 0)
          chunk.view.setFloat64(8192, 0.5)
          chunk.flush(0, 10)
          chunk.flush(8192, 8)
          volume.fence()
        },
        (volume) => {
          assert.deepEqual(volume.chunk('c').bytes.slice(0, 10), pattern(10, 1))
          assert.equal(volume.chunk('c').view.getFloat64(8192), 0.5)
        },
      ],
      [
        'write',
        (volume) => {
          const chunk = volume.allocate({ size: 400_000, name: 'c', zero: true })
          chunk.write(77, pattern(300_000, 2))
          chunk.write(0, new Uint8Array(0))
        },
        (volume) => {
          const { bytes } = volume.chunk('c')
          assert.equal(Buffer.compare(bytes.subarray(77, 300_077), pattern(300_000, 2)), 0)
          assert.ok(bytes.subarray(0, 77).every((byte) => byte === 0))
          assert.ok(bytes.subarray(300_077).every((byte) => byte === 0))
        },
      ],
      [
        'zero, over what was there',
        (volume) => {
          const before = volume.allocate({ size: 40_960 })
          before.write(0, pattern(40_960))
          volume.free(before)
          volume.allocate({ size: 40_960, name: 'c', zero: true })
        },
        (volume) => assert.ok(volume.chunk('c').bytes.every((byte) => byte === 0)),
      ],
      [
        'transact',
        (volume) => {
          const chunk = volume.allocate({ size: 8192, name: 'c', zero: true })
          const result = volume.transact((tx) => {
            tx.write(chunk, 4000, pattern(200, 3))
            tx.setUint32(chunk, 0, 0xfffffffe)
            tx.setUint64(chunk, 8, 2 ** 53 - 2)
            assert.equal(tx.getUint32(chunk, 0), 0xfffffffe)
            assert.equal(tx.getUint64(chunk, 8), 2 ** 53 - 2)
            assert.deepEqual(tx.read(chunk, 4000, 200), pattern(200, 3))
            assert.equal(chunk.view.getUint32(0), 0, 'nothing is seen before the commit')
            return 'result'
          })
          assert.equal(result, 'result')
        },
        (volume) => {
          const { bytes, view } = volume.chunk('c')
          assert.deepEqual(bytes.slice(4000, 4200), pattern(200, 3))
          assert.equal(view.getUint32(0, true), 0xfffffffe)
          assert.equal(view.getBigUint64(8, true), 2n ** 53n - 2n)
        },
      ],
      [
        'transactAsync, in order',
        async (volume) => {
          const chunk = volume.allocate({ size: 8192, name: 'c', zero: true })
          const results = await Promise.all(
            Array.from({ length: 20 }, (_, i) =>
              volume.transactAsync((tx) => {
                assert.equal(tx.getUint32(chunk, 0), i, 'the one before is seen')
                tx.setUint32(chunk, 0, i + 1)
                return i
              }),
            ),
          )
          assert.deepEqual(
            results,
            Array.from({ length: 20 }, (_, i) => i),
          )
        },
        (volume) => assert.equal(volume.chunk('c').view.getUint32(0, true), 20),
      ],
      [
        'allocate, rename and free in one transaction',
        (volume) => {
          const old = volume.allocate({ size: 8192, name: 'c' })
          volume.transact((tx) => {
            const chunk = volume.allocate({ size: 4096, name: 'new', type: 'kind' })
            tx.write(chunk, 0, pattern(16, 4))
            volume.free(old)
            volume.rename(chunk, 'c')
          })
        },
        (volume) => {
          assert.deepEqual(
            volume.chunks().map(({ name, type, size }) => [name, type, size]),
            [['c', 'kind', 4096]],
          )
          assert.deepEqual(volume.chunk('c').bytes.slice(0, 16), pattern(16, 4))
        },
      ],
      [
        'publish of a filled reservation',
        (volume) => {
          const chunk = volume.reserve({ size: 8192, name: 'c' })
          chunk.bytes.fill(9)
          chunk.persist(0, 8192)
          volume.publish(chunk)
        },
        (volume) => assert.ok(volume.chunk('c').bytes.every((byte) => byte === 9)),
      ],
      [
        'a raw persist over what a transaction wrote',
        (volume) => {
          // Replay must not put the older, logged bytes over the newer ones.
          const chunk = volume.allocate({ size: 8192, name: 'c', zero: true })
          volume.transact((tx) => tx.write(chunk, 0, pattern(200, 5)))
          chunk.bytes.set(pattern(100, 6), 50)
          chunk.persist(50, 100)
        },
        (volume) => {
          const expected = pattern(200, 5)
          expected.set(pattern(100, 6), 50)
          assert.deepEqual(volume.chunk('c').bytes.slice(0, 200), expected)
        },
      ],
      [
        'a large raw persist over what a transaction wrote',
        (volume) => {
          const chunk = volume.allocate({ size: 200_000, name: 'c', zero: true })
          volume.transact((tx) => tx.write(chunk, 90_000, pattern(200, 5)))
          chunk.bytes.set(pattern(180_000, 6), 10)
          chunk.persist(10, 180_000)
        },
        (volume) => {
          const { bytes } = volume.chunk('c')
          assert.equal(Buffer.compare(bytes.subarray(10, 180_010), pattern(180_000, 6)), 0)
        },
      ],
      [
        'a write over what a transaction wrote',
        (volume) => {
          const chunk = volume.allocate({ size: 8192, name: 'c', zero: true })
          volume.transact((tx) => tx.write(chunk, 0, pattern(200, 5)))
          chunk.write(0, pattern(100, 6))
        },
        (volume) => {
          const expected = pattern(200, 5)
          expected.set(pattern(100, 6))
          assert.deepEqual(volume.chunk('c').bytes.slice(0, 200), expected)
        },
      ],
      [
        'a raw persist in space that a transaction wrote to and freed',
        (volume) => {
          const before = volume.allocate({ size: 8192 })
          volume.transact((tx) => tx.write(before, 0, pattern(200, 5)))
          volume.free(before)
          const chunk = volume.allocate({ size: 4096, name: 'c' })
          assert.equal(chunk.offset, before.offset)
          chunk.bytes.set(pattern(100, 6))
          chunk.persist(0, 100)
        },
        (volume) => assert.deepEqual(volume.chunk('c').bytes.slice(0, 100), pattern(100, 6)),
      ],
      [
        'more transactions than the log holds',
        (volume) => {
          const chunk = volume.allocate({ size: 65_536, name: 'c', zero: true })
          for (let i = 0; i < 60; i++) {
            volume.transact((tx) => {
              tx.write(chunk, 1024 * i, pattern(1000, i))
              tx.write(chunk, 64_000, pattern(1000, i))
              tx.setUint32(chunk, 65_000, i)
            })
          }
          assert.ok(volume.stats().checkpoints > 0)
        },
        (volume) => {
          const { bytes, view } = volume.chunk('c')
          for (let i = 0; i < 60; i++) {
            assert.deepEqual(bytes.slice(1024 * i, 1024 * i + 1000), pattern(1000, i))
          }
          assert.deepEqual(bytes.slice(64_000, 65_000), pattern(1000, 59))
          assert.equal(view.getUint32(65_000, true), 59)
        },
      ],
      [
        'a transaction as large as the log takes',
        (volume) => {
          const chunk = volume.allocate({ size: 65_536, name: 'c', zero: true })
          for (let i = 0; i < 4; i++) {
            volume.transact((tx) => tx.write(chunk, i, pattern(55_000, i)))
          }
        },
        (volume) => {
          const { bytes } = volume.chunk('c')
          assert.deepEqual(
            bytes.slice(0, 3),
            Uint8Array.of(0, 1, 2).map((i) => pattern(1, i)[0]!),
          )
          assert.equal(Buffer.compare(bytes.subarray(3, 55_003), pattern(55_000, 3)), 0)
        },
      ],
      [
        'checkpoint',
        (volume) => {
          const chunk = volume.allocate({ size: 4096, name: 'c', zero: true })
          volume.transact((tx) => tx.setUint32(chunk, 0, 1))
          volume.checkpoint()
          assert.equal(volume.stats().logUsedBytes, 0)
          volume.transact((tx) => tx.setUint32(chunk, 4, 2))
        },
        (volume) => {
          const { view } = volume.chunk('c')
          assert.deepEqual([view.getUint32(0, true), view.getUint32(4, true)], [1, 2])
        },
      ],
      [
        'closing a chunk, for stores that nobody persisted',
        (volume) => {
          const chunk = volume.allocate({ size: 40_960, name: 'c', zero: true })
          chunk.bytes.set(pattern(3000, 7), 20_000)
          chunk.view.setUint8(40_959, 5)
          chunk.close()
        },
        (volume) => {
          const { bytes } = volume.chunk('c')
          assert.deepEqual(bytes.slice(20_000, 23_000), pattern(3000, 7))
          assert.equal(bytes[40_959], 5)
        },
      ],
    ]
    for (const [what, make, check] of durable) {
      it(`durable: ${what}`, async () => {
        await at.with(MIB, async (path) => {
          Volume.format(path, { size: MIB, ...at.options })
          const volume = Volume.open(path, at.options)
          try {
            await make(volume)
            check(volume)
            afterCrash(at, path, check)
            reopened(at, volume, path, (again) => {
              assert.equal(again.recovery.clean, true)
              assert.equal(again.recovery.recordsReplayed, 0)
              check(again)
            })
          } finally {
            volume.close()
          }
        })
      })
    }

    it('close makes every store of every open chunk durable', () => {
      withVolume(at, (volume, path) => {
        const chunks = ['a', 'b', 'c'].map((name, i) => {
          const chunk = volume.allocate({ size: 12_288, name, zero: true })
          chunk.bytes.set(pattern(9000, i), 1000)
          return chunk
        })
        volume.transact((tx) => tx.setUint32(chunks[1]!, 0, 5))
        reopened(at, volume, path, (again) => {
          for (const [i, name] of ['a', 'b', 'c'].entries()) {
            assert.deepEqual(again.chunk(name).bytes.slice(1000, 10_000), pattern(9000, i))
          }
          assert.equal(again.chunk('b').view.getUint32(0, true), 5)
        })
      })
    })

    it('what nobody made durable does not reach the device', (t) => {
      if (!paged) return t.skip('stores go straight to the device here')
      withVolume(at, (volume, path) => {
        const chunk = volume.allocate({ size: 8192, name: 'c', zero: true })
        chunk.bytes.fill(7)
        // In the same page, a change that the log carries: only it may come through.
        volume.transact((tx) => tx.setUint32(chunk, 0, 1))
        afterCrash(at, path, (later) => {
          const { bytes } = later.chunk('c')
          assert.deepEqual([...bytes.subarray(0, 5)], [1, 0, 0, 0, 0])
          assert.ok(bytes.subarray(4096).every((byte) => byte === 0))
        })
      })
    })

    it('views are empty after close, free and the end of the volume', () => {
      withVolume(at, (volume) => {
        const ends: [name: string, end: (chunk: Chunk) => void][] = [
          ['close', (chunk) => chunk.close()],
          ['free', (chunk) => volume.free(chunk)],
          ['volume', () => volume.close()],
        ]
        for (const [name, end] of ends) {
          const chunk = volume.allocate({ size: 4096, name })
          const { bytes, view } = chunk
          assert.equal(chunk.bytes, bytes)
          assert.equal(chunk.view, view)
          bytes.fill(3)
          end(chunk)
          assert.throws(() => chunk.bytes, { code: 'ERR_CHUNK_CLOSED' }, name)
          assert.throws(() => chunk.view, { code: 'ERR_CHUNK_CLOSED' }, name)
          const calls = [
            () => chunk.persist(0, 1),
            () => chunk.flush(0, 1),
            () => chunk.write(0, Uint8Array.of(1)),
          ]
          const code = name === 'volume' ? 'ERR_VOLUME_CLOSED' : 'ERR_CHUNK_CLOSED'
          for (const call of calls) assert.throws(call, { code }, name)
          // mmap-io cannot take memory away from a view; the addon does.
          if (at.backend === 'native') {
            assert.equal(bytes.length, 0)
            assert.equal(bytes[0], undefined)
            assert.throws(() => view.getUint8(0), TypeError)
          }
        }
      })
    })

    it('a reader changes nothing and sees all, also of what is in the log alone', () => {
      withVolume(at, (volume, path) => {
        const kept = volume.allocate({ size: 8192, name: 'kept', zero: true })
        const freed = volume.allocate({ size: 8192, name: 'freed' })
        volume.checkpoint()
        volume.transact((tx) => {
          tx.write(kept, 4090, pattern(100, 8))
          volume.free(freed)
          volume.allocate({ size: 4096, name: 'new' })
        })
        const list = volume.chunks()
        const crashed = `${at.isFile ? path : '/dev/shm/plinth-test'}.${process.pid}.reader`
        const read = (where: string, options: object, clean: boolean) => {
          const before = hashOf(where)
          const reader = Volume.open(where, { ...options, readOnly: true, warmBytes: 8192 })
          try {
            assert.equal(reader.info.readOnly, true)
            assert.equal(reader.recovery.clean, clean)
            assert.deepEqual(reader.chunks(), list)
            for (let round = 0; round < 2; round++) {
              const chunk = reader.chunk('kept')
              assert.deepEqual(chunk.bytes.slice(4090, 4190), pattern(100, 8))
              assert.ok(chunk.bytes.subarray(0, 4090).every((byte) => byte === 0))
              chunk.close()
            }
            const chunk = reader.chunk('kept')
            const code = 'ERR_READ_ONLY'
            assert.throws(() => reader.allocate({ size: 1 }), { code })
            assert.throws(() => reader.reserve({ size: 1 }), { code })
            assert.throws(() => reader.free(chunk), { code })
            assert.throws(() => reader.publish(chunk), { code })
            assert.throws(() => reader.cancel(chunk), { code })
            assert.throws(() => reader.transact(() => 0), { code })
            assert.throws(() => reader.checkpoint(), { code })
            assert.throws(() => reader.fence(), { code })
            assert.throws(() => chunk.persist(0, 1), { code })
            assert.throws(() => chunk.flush(0, 1), { code })
            assert.throws(() => chunk.write(0, Uint8Array.of(1)), { code })
            // A reader's stores are its own.
            chunk.bytes.fill(1)
            chunk.close()
            reader.chunk('new').bytes.fill(2)
          } finally {
            reader.close()
          }
          assert.equal(hashOf(where), before)
        }
        try {
          copyDevice(path, crashed)
          read(crashed, at.isFile ? at.options : { backend: at.backend }, false)
        } finally {
          rmSync(crashed, { force: true })
        }
        volume.close()
        read(path, at.options, true)
      })
    })

    it('mappings of closed chunks are kept within warmBytes', () => {
      for (const warmBytes of [0, 8192, 20_000]) {
        withVolume(
          at,
          (volume) => {
            const names = ['a', 'b', 'c', 'd']
            for (const [i, name] of names.entries()) {
              const chunk = volume.allocate({ size: i === 3 ? 65_536 : 8192, name })
              chunk.bytes.fill(i + 1)
              chunk.close()
              assert.ok(volume.stats().warmBytes <= warmBytes)
            }
            assert.equal(volume.stats().warmBytes, Math.floor(warmBytes / 8192) * 8192)
            for (let round = 0; round < 3; round++) {
              for (const [i, name] of names.entries()) {
                const chunk = volume.chunk(name)
                assert.ok(
                  chunk.bytes.every((byte) => byte === i + 1 + (round === 0 ? 0 : 10 * round)),
                )
                chunk.bytes.fill(i + 1 + 10 * (round + 1))
                chunk.close()
                assert.ok(volume.stats().warmBytes <= warmBytes)
              }
            }
            // Freed while it is warm, and its space taken by another.
            volume.free(volume.chunk('c'))
            const next = volume.allocate({ size: 8192, name: 'c', zero: true })
            assert.ok(next.bytes.every((byte) => byte === 0))
          },
          { warmBytes },
        )
      }
    })

    it('reservations cost nothing on the device and end with the volume', () => {
      withVolume(at, (volume, path) => {
        const before = hashOf(path)
        const [a, b] = [volume.reserve({ size: 8192, name: 'a' }), volume.reserve({ size: 4096 })]
        assert.equal(volume.stats().usedBytes, 12_288)
        volume.cancel(b)
        assert.equal(volume.stats().usedBytes, 8192)
        assert.throws(() => volume.allocate({ size: 1, name: 'a' }), { code: 'ERR_CHUNK_EXISTS' })
        assert.equal(hashOf(path), before)
        afterCrash(at, path, (later) => assert.equal(later.stats().usedBytes, 0))
        const { bytes } = a
        reopened(at, volume, path, (again) => {
          assert.deepEqual([again.chunks(), again.stats().usedBytes], [[], 0])
        })
        if (at.backend === 'native') assert.equal(bytes.length, 0)
        assert.throws(() => a.bytes, { code: 'ERR_CHUNK_CLOSED' })
      })
    })

    it('closing while transactions wait makes them durable', async () => {
      await withVolume(at, async (volume, path) => {
        const chunk = volume.allocate({ size: 4096, name: 'c', zero: true })
        const waiting = [1, 2, 3].map((i) =>
          volume.transactAsync((tx) => tx.setUint32(chunk, 4 * i, i)),
        )
        await waiting[0]
        waiting.push(volume.transactAsync((tx) => tx.setUint32(chunk, 0, 9)))
        volume.close()
        await Promise.all(waiting)
        const again = Volume.open(path, at.options)
        try {
          const words = new Uint32Array(again.chunk('c').bytes.slice(0, 16).buffer)
          assert.deepEqual([...words], [9, 1, 2, 3])
        } finally {
          again.close()
        }
      })
    })

    it('a full volume can be emptied, as often as one likes', () => {
      withVolume(at, (volume) => {
        const { dataBytes } = volume.stats()
        for (let round = 0; round < 3; round++) {
          let count = 0
          for (; volume.stats().freeBytes > 0; count++) {
            volume.allocate({ size: Math.min(16_384, volume.stats().freeBytes) })
          }
          assert.ok(count > 10)
          assert.throws(() => volume.allocate({ size: 1 }), { code: 'ERR_NO_SPACE' })
          for (const { id } of volume.chunks()) volume.free(volume.chunk(id))
          const { freeBytes, usedBytes, largestFreeBytes, freeRuns, chunks } = volume.stats()
          assert.deepEqual(
            [freeBytes, usedBytes, largestFreeBytes, freeRuns, chunks],
            [dataBytes, 0, dataBytes, 1, 0],
          )
        }
      })
    })

    it('close twice, and by using', () => {
      withVolume(at, (volume, path) => {
        volume.close()
        volume.close()
        {
          using again = Volume.open(path, at.options)
          using chunk = again.allocate({ size: 1, name: 'c' })
          chunk.bytes[0] = 4
        }
        {
          using again = Volume.open(path, at.options)
          assert.equal(again.chunk('c').bytes[0], 4)
        }
      })
    })
  })
}
