/** A volume over all of a device: crashed, damaged at either end, recovered. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { CHECKPOINT_AT, type Geometry, planGeometry } from '../../src/layout/geometry.js'
import { MIB, type Place, pmemPlaces, writeAt } from '../support/devices.js'
import { pattern } from '../support/pattern.js'
import { placesOf } from '../support/places.js'

const FILE_BYTES = 16 * MIB

/** Works and is killed with changes in the log alone. */
const victim = `
  import { Volume } from 'plinth'
  const [path, options] = process.argv.slice(1)
  const volume = Volume.open(path, JSON.parse(options))
  const a = volume.chunk('a')
  volume.transact((tx) => {
    tx.write(a, 100, new Uint8Array(1000).fill(7))
    volume.allocate({ size: 5000, name: 'b' })
  })
  a.bytes.fill(9, 8192, 8292)
  a.persist(8192, 100)
  volume.transact((tx) => tx.setUint32(a, 100, 0x01020304))
  process.kill(process.pid, 'SIGKILL')`

/** A formatted volume over the whole place, crashed. */
function crashed<T>(at: Place, body: (path: string, geometry: Geometry) => T): T {
  return at.with(FILE_BYTES, (path) => {
    const size = at.isFile ? { size: FILE_BYTES } : {}
    Volume.format(path, { ...size, force: true, ...at.options })
    const made = Volume.open(path, at.options)
    made.allocate({ size: 16_384, name: 'a', zero: true }).write(12_000, pattern(300, 1))
    const { size: sizeBytes, granule: granuleBytes } = made.info
    made.close()
    const { signal, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '--eval', victim, path, JSON.stringify(at.options)],
      { encoding: 'utf8', cwd: import.meta.dirname },
    )
    assert.equal(signal, 'SIGKILL', stderr)
    const { align } = Volume.probe(path)
    return body(path, planGeometry({ sizeBytes, granuleBytes, alignBytes: align }))
  })
}

function checkContents(volume: Volume): void {
  const { bytes, view } = volume.chunk('a')
  assert.equal(view.getUint32(100, true), 0x01020304)
  assert.ok(bytes.subarray(104, 1100).every((byte) => byte === 7))
  assert.ok(bytes.subarray(8192, 8292).every((byte) => byte === 9))
  assert.deepEqual(bytes.slice(12_000, 12_300), pattern(300, 1))
  assert.deepEqual(
    volume
      .chunks()
      .map(({ name }) => name)
      .sort(),
    ['a', 'b'],
  )
}

function checkOpens(at: Place, path: string, repaired: number): void {
  const reader = Volume.open(path, { ...at.options, readOnly: true })
  try {
    checkContents(reader)
  } finally {
    reader.close()
  }
  for (const expected of [repaired, 0]) {
    const volume = Volume.open(path, at.options)
    try {
      assert.equal(volume.recovery.repaired, expected)
      checkContents(volume)
    } finally {
      volume.close()
    }
  }
}

for (const at of pmemPlaces) {
  describe(`recovery: ${at.name}`, () => {
    it('of a killed process, and by a reader that writes nothing', () => {
      crashed(at, (path) => {
        const reader = Volume.open(path, { ...at.options, readOnly: true })
        try {
          assert.ok(reader.recovery.recordsReplayed > 0)
          checkContents(reader)
        } finally {
          reader.close()
        }
        const volume = Volume.open(path, at.options)
        try {
          assert.ok(volume.recovery.recordsReplayed > 0)
          assert.equal(volume.info.granularity, at.granularity)
          checkContents(volume)
          assert.deepEqual(volume.check(), [])
        } finally {
          volume.close()
        }
        assert.deepEqual(Volume.check(path), [])
      })
    })

    const damages: [what: string, repaired: number, stretch: (g: Geometry) => [number, number]][] =
      [
        ['the first superblock', 1, () => [0, 4096]],
        ['the first checkpoint header', 1, () => [CHECKPOINT_AT, 64]],
        ['the first chunk table', 2, (g) => [placesOf(g).tableAt, placesOf(g).tableBytes]],
        ['the second chunk table', 2, (g) => [placesOf(g).tableCopyAt, placesOf(g).tableBytes]],
        ['the second checkpoint header', 1, (g) => [g.checkpointCopyAt, 64]],
        ['the second superblock', 1, (g) => [g.superblockCopyAt, 4096]],
        [
          'all of the tail',
          4,
          (g) => [placesOf(g).tableCopyAt, g.sizeBytes - placesOf(g).tableCopyAt],
        ],
      ]
    it('of what is kept twice, from the other copy', () => {
      crashed(at, (path, geometry) => {
        const volume = Volume.open(path, at.options)
        volume.close()
        for (const [what, repaired, stretch] of damages) {
          const [offset, length] = stretch(geometry)
          writeAt(path, offset, new Uint8Array(length))
          try {
            checkOpens(at, path, repaired)
          } catch (cause) {
            throw new Error(`${what} was zeroed`, { cause })
          }
        }
      })
    })

    it('chunks are where the device can map them', () => {
      crashed(at, (path) => {
        const volume = Volume.open(path, at.options)
        try {
          const { align } = Volume.probe(path)
          assert.equal(volume.info.granule % align, 0)
          for (const { offset, size } of volume.chunks()) {
            assert.deepEqual([offset % align, size % align], [0, 0])
          }
          const { freeBytes } = volume.stats()
          const rest = volume.allocate({ size: volume.stats().largestFreeBytes })
          assert.equal(rest.bytes.length, freeBytes)
          rest.bytes[freeBytes - 1] = 1
          rest.persist(freeBytes - 1, 1)
          volume.free(rest)
        } finally {
          volume.close()
        }
      })
    })
  })
}
