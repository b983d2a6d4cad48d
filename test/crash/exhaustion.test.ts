/**
 * Full and empty again, a thousand times for each way to take space: the accounting comes back
 * exactly, and frees never fail, whatever fills the log meanwhile.
 *
 * PLINTH_LONG=1 runs ten times as many rounds.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Chunk, PlinthError, type Volume } from 'plinth'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { type Random, seeded } from '../support/random.js'

const ROUNDS = 1000
const LONG = process.env.PLINTH_LONG === '1'
const GRANULE = 4096

/** Calls `take` until the volume says that it is full. */
function fill(take: () => Chunk[]): Chunk[] {
  const chunks: Chunk[] = []
  for (;;) {
    try {
      chunks.push(...take())
    } catch (error) {
      if (!(error instanceof PlinthError) || error.code !== 'ERR_NO_SPACE') throw error
      return chunks
    }
  }
}

const sizeOf = (random: Random) => random.between(1, random.chance(3) ? 40 : 8) * GRANULE

const ways: Record<string, (volume: Volume, random: Random) => Chunk[]> = {
  allocate: (volume, random) => [volume.allocate({ size: sizeOf(random) })],
  'a transaction of several': (volume, random) =>
    volume.transact((tx) => {
      const chunks = Array.from({ length: random.between(2, 4) }, () =>
        volume.allocate({ size: sizeOf(random) }),
      )
      tx.write(chunks[0]!, 0, new Uint8Array(random.between(1, 600)).fill(1))
      return chunks
    }),
  'reserve and publish': (volume, random) => {
    const chunk = volume.reserve({ size: sizeOf(random) })
    if (random.chance(4)) {
      volume.cancel(chunk)
      return []
    }
    volume.publish(chunk)
    return [chunk]
  },
}

/** The free space in pieces of one granule: nothing is left then. */
function fillUp(volume: Volume): Chunk[] {
  const chunks = fill(() => [volume.allocate({ size: GRANULE })])
  const { freeBytes, largestFreeBytes, freeRuns } = volume.stats()
  assert.deepEqual([freeBytes, largestFreeBytes, freeRuns], [0, 0, 0])
  return chunks
}

/** In some order, one at a time or several in a transaction. */
function freeAll(volume: Volume, chunks: Chunk[], random: Random): void {
  for (let i = chunks.length - 1; i > 0; i--) {
    const j = random.below(i + 1)
    ;[chunks[i], chunks[j]] = [chunks[j]!, chunks[i]!]
  }
  while (chunks.length > 0) {
    const some = chunks.splice(-random.pick([1, 1, 1, 7]))
    if (some.length === 1) volume.free(some[0]!)
    else volume.transact(() => some.forEach((chunk) => void volume.free(chunk)))
  }
}

function space(volume: Volume) {
  const { dataBytes, usedBytes, freeBytes, largestFreeBytes, freeRuns, chunks } = volume.stats()
  return { dataBytes, usedBytes, freeBytes, largestFreeBytes, freeRuns, chunks }
}

describe('a thousand times full and empty', () => {
  for (const crashModel of ['cache-line', 'page'] as const) {
    for (const [name, take] of Object.entries(ways)) {
      test(`${name}, ${crashModel}`, (t) => {
        const media = new SimulatedMedia(crashModel, makeImage(), false)
        let volume = openSimulated(media)
        const start = space(volume)
        const rounds = LONG ? 10 * ROUNDS : ROUNDS
        let taken = 0
        seeded((random) => {
          for (let round = 0; round < rounds; round++) {
            const chunks = fill(() => take(volume, random))
            assert.ok(chunks.length > 0)
            if (round % 20 === 0) {
              chunks.push(...fillUp(volume))
              assert.deepEqual(volume.check(), [])
            }
            taken += chunks.length
            freeAll(volume, chunks, random)
            assert.deepEqual(space(volume), start)
            if (round % 100 === 0) {
              assert.deepEqual(volume.check(), [])
              volume.close()
              volume = openSimulated(media)
              assert.deepEqual(space(volume), start)
            }
          }
        })
        t.diagnostic(`${rounds} rounds, ${taken} chunks`)
        media.release()
      })
    }
  }
})

describe('frees on a full volume', () => {
  for (const crashModel of ['cache-line', 'page', 'byte'] as const) {
    for (const logSize of [64 * 1024, 128 * 1024]) {
      test(`with every fill of a log of ${logSize} bytes, ${crashModel}`, () => {
        const media = new SimulatedMedia(crashModel, makeImage({ logSize }), false)
        const volume = openSimulated(media)
        const kept = volume.allocate({ size: GRANULE })
        seeded((random) => {
          // The log is filled to some point behind the last checkpoint, then one free comes.
          for (let filled = 0; filled < logSize; filled += random.between(64, 3000)) {
            const chunks = fillUp(volume)
            volume.checkpoint()
            while (volume.stats().logUsedBytes < filled) {
              const before = volume.stats().checkpoints
              volume.transact((tx) => tx.write(kept, 0, new Uint8Array(random.between(8, 2000))))
              if (volume.stats().checkpoints > before) break
            }
            for (const chunk of chunks) volume.free(chunk)
            assert.equal(volume.stats().usedBytes, GRANULE)
          }
        })
        assert.deepEqual(volume.check(), [])
        volume.close()
        media.release()
      })
    }
  }

  test('all of them in one transaction, when it fits the log', () => {
    const media = new SimulatedMedia('page', makeImage({ logSize: 128 * 1024 }), false)
    const volume = openSimulated(media)
    const before = space(volume)
    const chunks = fillUp(volume)
    volume.transact(() => {
      for (const chunk of chunks) volume.free(chunk)
    })
    assert.deepEqual(space(volume), before)
    volume.close()
  })

  test('waiting for one barrier, all at once', async () => {
    const media = new SimulatedMedia('page', makeImage(), false)
    const volume = openSimulated(media)
    const before = space(volume)
    const chunks = fillUp(volume)
    await Promise.all(chunks.map((chunk) => volume.transactAsync(() => volume.free(chunk))))
    assert.deepEqual(space(volume), before)
    assert.deepEqual(volume.check(), [])
    volume.close()
  })
})
