/**
 * Copies of pages on media of page granularity: what was made durable takes no memory of this process.
 *
 * It stayed until the chunk was closed, so memory grew to all bytes that were ever persisted, and a map
 * with large values was killed in a small container.
 */
import assert from 'node:assert/strict'
import { readFileSync, realpathSync } from 'node:fs'
import { describe, it } from 'node:test'
import type { Chunk, Volume } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { MIB, PAGE, places, withVolume } from '../support/devices.js'
import { pattern } from '../support/pattern.js'

/** Bytes of this process that stand for pages of the device (proc_pid_smaps(5)). */
function copiedBytes(path: string): number {
  const name = realpathSync(path)
  let isOurs = false
  let bytes = 0
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isOurs = line.endsWith(` ${name}`)
    const anonymous = isOurs ? /^Anonymous:\s+(\d+) kB/.exec(line) : null
    if (anonymous !== null) bytes += Number(anonymous[1]) * 1024
  }
  return bytes
}

/** Kept until it is looked whether they are the same as on the device. */
const EDGES = 16 * MIB

const makers: [what: string, make: (volume: Volume, chunk: Chunk) => void, most: number][] = [
  [
    'stores that were persisted',
    (_, chunk) => {
      for (let at = 0; at < chunk.size; at += MIB) {
        chunk.bytes.fill(7, at, at + MIB)
        chunk.persist(at, MIB)
      }
    },
    0,
  ],
  [
    'stores that were flushed',
    (volume, chunk) => {
      chunk.bytes.fill(7)
      for (let at = 0; at < chunk.size; at += MIB) chunk.flush(at, MIB)
      volume.fence()
    },
    0,
  ],
  [
    'stores that were persisted a part of a page at a time',
    (_, chunk) => {
      const { view } = chunk
      for (let at = 0; at + 1000 <= chunk.size; at += 1000) {
        view.setUint32(at, at, true)
        chunk.flush(at, 1000)
      }
    },
    EDGES,
  ],
  [
    'bytes that were written, between pages',
    (_, chunk) => {
      const bytes = pattern(10_000, 3)
      for (let at = 0; at + bytes.length <= chunk.size; at += bytes.length) chunk.write(at, bytes)
    },
    0,
  ],
  [
    'contents of objects that were published',
    (volume) => {
      const heap = volume.heap('h')
      for (let i = 0; i < 1000; i++) {
        const pointer = heap.reserve(40_000)
        heap.bytes(pointer).fill(i)
        heap.publish(pointer)
      }
    },
    EDGES,
  ],
]

const place = places.find(({ name }) => name === 'file, page, native')

describe('copies of pages', {
  skip: place === undefined ? 'other devices are tested' : place.skip,
}, () => {
  for (const [what, make, most] of makers) {
    it(`none of ${what}, but for ${most} bytes`, () => {
      withVolume(
        place!,
        (volume, path) => {
          const chunk = volume.allocate({ size: 24 * MIB, name: 'c' })
          volume.checkpoint()
          const before = copiedBytes(path)
          make(volume, chunk)
          volume.checkpoint()
          const copied = copiedBytes(path) - before
          assert.ok(copied <= most, `${copied} bytes are copied`)
        },
        { size: 128 * MIB },
      )
    })
  }

  it('a page with other stores stays a copy, and closing makes them durable', () => {
    withVolume(
      place!,
      (volume, path) => {
        const chunk = volume.allocate({ size: 24 * MIB, name: 'c', zero: true })
        const { view } = chunk
        const pages = chunk.size / PAGE
        // More pages than are noted, each with a word that was persisted and one that was not.
        for (let page = 0; page < pages; page++) {
          view.setUint32(page * PAGE, page + 1, true)
          view.setUint32(page * PAGE + 2048, page + 1, true)
          chunk.flush(page * PAGE, 4)
        }
        assert.equal(copiedBytes(path) >= chunk.size, true)
        for (let page = 0; page < pages; page++) {
          assert.equal(view.getUint32(page * PAGE, true), page + 1)
          assert.equal(view.getUint32(page * PAGE + 2048, true), page + 1)
        }
        chunk.close()
        const again = volume.chunk('c')
        for (let page = 0; page < pages; page++) {
          assert.equal(again.view.getUint32(page * PAGE + 2048, true), page + 1)
        }
      },
      { size: 32 * MIB },
    )
  })

  it('a page that a transaction changed is not given back before it is durable in place', () => {
    withVolume(place!, (volume) => {
      const chunk = volume.allocate({ size: 2 * PAGE, name: 'c', zero: true })
      const { view } = chunk
      for (let round = 1; round < 100; round++) {
        view.setUint32(8, round, true)
        chunk.persist(8, 4)
        volume.transact((tx) => tx.setUint32(chunk, 4, round))
        view.setUint32(PAGE + 8, round, true)
        chunk.persist(4, PAGE)
        assert.deepEqual(
          [4, 8, PAGE + 8].map((at) => view.getUint32(at, true)),
          [round, round, round],
        )
      }
    })
  })

  it('one persist of whole pages is one write and one barrier', () => {
    withVolume(
      place!,
      (volume) => {
        const chunk = volume.allocate({ size: MIB, name: 'c', zero: true })
        chunk.bytes.fill(1)
        const before = volume.stats().counters
        chunk.persist(0, MIB)
        const after = volume.stats().counters
        assert.equal(after.barriers - before.barriers, 1)
        assert.equal(after.systemCalls - before.systemCalls, 2)
      },
      { size: 4 * MIB },
    )
  })

  it('a map with large values keeps none of them', () => {
    withVolume(
      place!,
      (volume, path) => {
        const map = OrderedMap.open(volume, 'm')
        const value = pattern(40_000, 1)
        for (let i = 0; i < 1000; i++) map.put(Buffer.from(`k${i}`), value)
        volume.checkpoint()
        const copied = copiedBytes(path)
        assert.ok(copied <= EDGES, `${copied} bytes are copied`)
        assert.deepEqual(map.get(Buffer.from('k17')), value)
      },
      { size: 128 * MIB },
    )
  })
})
