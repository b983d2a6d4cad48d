/** What a log says of the data area, by place: the same as in the order of the log, within its bounds of memory. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeCheckpoint } from '../../src/layout/checkpoint-header.js'
import { CHECKPOINT_AT, type Geometry, planGeometry } from '../../src/layout/geometry.js'
import { ENTRY } from '../../src/layout/record.js'
import { volumeSeed } from '../../src/layout/superblock.js'
import { Changes } from '../../src/log/changes.js'
import { recordSeed } from '../../src/log/log.js'
import { type LogBytes, walkLog } from '../../src/log/replay.js'
import { Revocations } from '../../src/log/revocations.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { type Random, seeded } from '../support/random.js'

const MIB = 1024 * 1024
/** Several stretches of 16 MiB, and a log that holds the whole history. */
const SIZE = 96 * MIB
const CHUNKS = 16

/** A volume with changes of all sizes in its log, chunks freed and their space given out again. */
function history(random: Random, granule: number): { image: Uint8Array; geometry: Geometry } {
  const options = { size: SIZE, granule, logSize: 8 * MIB }
  const media = new SimulatedMedia('cache-line', makeImage(options), false)
  const volume = openSimulated(media)
  const chunks = Array.from({ length: CHUNKS }, () => volume.allocate({ size: 4 * MIB }))
  volume.checkpoint()
  for (let i = 0; i < 200; i++) {
    const which = random.below(CHUNKS)
    if (random.chance(40)) {
      volume.free(chunks[which]!)
      chunks[which] = volume.allocate({ size: random.pick([1, 3, 4]) * MIB })
      continue
    }
    volume.transact((tx) => {
      for (let n = random.between(1, 4); n > 0; n--) {
        const chunk = random.pick(chunks)
        const length = random.pick([1, 8, 100, 5000, random.between(1, 20_000)])
        // Near each other, so that they overlap.
        const at = random.chance(2) ? random.below(2000) : random.below(chunk.size - length)
        tx.write(chunk, at, random.bytes(length))
      }
    })
  }
  const geometry = planGeometry({
    sizeBytes: SIZE,
    granuleBytes: granule,
    logBytes: options.logSize,
    alignBytes: 4096,
  })
  return { image: media.visible, geometry }
}

for (const granule of [4096, 4 * MIB]) {
  test(`changes by place are those of the log, granules of ${granule}`, () => {
    seeded((random) => {
      const { image, geometry } = history(random, granule)
      const { dataAt, tailAt, logAt, logBytes } = geometry
      const seed = volumeSeed(image.subarray(32, 48))
      const header = decodeCheckpoint(image.subarray(CHECKPOINT_AT, CHECKPOINT_AT + 64), seed)!
      const log: LogBytes = {
        geometry,
        bytes: image.subarray(logAt, logAt + logBytes),
        head: header.head,
        seed: recordSeed(seed, header.logSalt),
        volumeSeed: seed,
      }
      const revocations = new Revocations()
      const inOrder: Parameters<Revocations['pieces']>[] = []
      const from: number[] = []
      const prefix = walkLog(log, (kind, offset, length, at, lsn) => {
        if (kind === ENTRY.REVOKE) revocations.add(offset, length, lsn)
        else if (kind !== ENTRY.SLOT) from[inOrder.push([offset, length, lsn, () => {}]) - 1] = at
      })
      revocations.cut()
      assert.ok(inOrder.length > 200)
      const expected = new Uint8Array(tailAt - dataAt)
      for (const [i, [offset, length, lsn]] of inOrder.entries()) {
        revocations.pieces(offset, length, lsn, (skip, rest) => {
          const at = from[i]! + skip
          expected.set(log.bytes.subarray(at, at + rest), offset + skip - dataAt)
        })
      }
      const changes = new Changes(log, prefix, revocations, inOrder.length)
      const found = new Uint8Array(tailAt - dataAt)
      changes.applyTo(found, dataAt)
      assert.ok(Buffer.compare(found, expected) === 0, 'all at once')
      for (let i = 0; i < 100; i++) {
        const at = random.below(found.length)
        const length = Math.min(random.pick([1, 4096, 100_000]), found.length - at)
        const part = new Uint8Array(length)
        changes.applyTo(part, dataAt + at)
        assert.ok(
          Buffer.compare(part, expected.subarray(at, at + length)) === 0,
          `${length} at ${at}`,
        )
      }
      // In order of place: each stretch of 16 MiB is over when the next one comes.
      const bytes = new Uint8Array(found.length)
      let stretch = 0
      changes.forEachByPlace((offset, at, length) => {
        const its = Math.floor((offset - dataAt) / (16 * MIB))
        assert.ok(its >= stretch)
        assert.equal(Math.floor((offset + length - 1 - dataAt) / (16 * MIB)), its)
        stretch = its
        bytes.set(log.bytes.subarray(at, at + length), offset - dataAt)
      })
      assert.ok(stretch > 2)
      assert.ok(Buffer.compare(bytes, expected) === 0, 'by place')
      assert.ok(changes.memoryBytes <= prefix.end - log.head)
    })
  })
}

test('the densest log there can be takes no more than twice its bytes', () => {
  const logBytes = 2 * MIB
  const media = new SimulatedMedia(
    'cache-line',
    makeImage({ size: 16 * MIB, logSize: logBytes }),
    false,
  )
  const volume = openSimulated(media)
  const chunk = volume.allocate({ size: 8 * MIB })
  volume.checkpoint()
  // Words that are no neighbours: each is an entry of its own, and nothing is shorter. Always of the same lines,
  // so that no checkpoint comes.
  const words = 4000
  const rounds = 20
  for (let round = 0; round < rounds; round++) {
    volume.transact((tx) => {
      for (let i = 0; i < words; i++) tx.setUint32(chunk, i * 64 + (round % 8) * 8, i)
    })
  }
  const geometry = planGeometry({ sizeBytes: 16 * MIB, logBytes, alignBytes: 4096 })
  const image = media.visible
  const seed = volumeSeed(image.subarray(32, 48))
  const header = decodeCheckpoint(image.subarray(CHECKPOINT_AT, CHECKPOINT_AT + 64), seed)!
  const log: LogBytes = {
    geometry,
    bytes: image.subarray(geometry.logAt, geometry.logAt + logBytes),
    head: header.head,
    seed: recordSeed(seed, header.logSalt),
    volumeSeed: seed,
  }
  let entries = 0
  const prefix = walkLog(log, () => entries++)
  const revocations = new Revocations()
  revocations.cut()
  const { count, memoryBytes } = new Changes(log, prefix, revocations, entries)
  assert.equal(count, words * rounds)
  const bytes = prefix.end - log.head
  assert.ok(bytes > logBytes / 2, `${bytes} bytes of log`)
  assert.ok(memoryBytes <= 2 * bytes, `${memoryBytes} bytes for ${bytes} bytes of log`)
})
