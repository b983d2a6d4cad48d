/** What `wipe` and `format` leave: nothing that has a device found as what it was before. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { findSignatures } from '../../src/layout/signature.js'
import { plinth } from '../support/cli.js'
import { readableOf } from '../support/damage.js'
import {
  hashOf,
  inMemory,
  MIB,
  PAGE,
  places,
  readDevice,
  tmpfsPage,
  writeAt,
} from '../support/devices.js'
import { damage, LABEL_AT, put } from '../support/settings.js'

const NONE = { name: 'PlinthError', code: 'ERR_NOT_A_VOLUME' }

const codesOf = (path: string) => Volume.check(path).map(({ code }) => code)

/** A file that holds a volume of 4 MiB, or of less in a device of 4 MiB. */
function inVolume(size: number, body: (path: string) => void): void {
  inMemory((folder) => {
    const path = join(folder, 'device')
    writeFileSync(path, new Uint8Array(4 * MIB))
    Volume.format(path, { size, label: 'old' })
    const volume = Volume.open(path)
    volume.allocate({ size: 4096, name: 'a' })
    volume.close()
    body(path)
  })
}

describe('wipe', { skip: tmpfsPage.skip }, () => {
  for (const at of places) {
    it(`nobody finds the volume again: ${at.name}`, { skip: at.skip }, () => {
      at.with(2 * MIB, (path) => {
        Volume.format(path, { size: 2 * MIB, ...at.options })
        const owner = Volume.open(path, at.options)
        assert.throws(() => Volume.wipe(path), { code: 'ERR_VOLUME_BUSY' })
        owner.close()
        Volume.wipe(path)
        assert.throws(() => Volume.open(path, at.options), NONE)
        assert.throws(() => Volume.wipe(path, { force: true }), NONE)
        assert.deepEqual(codesOf(path), ['not-a-volume'])
        assert.equal(Volume.probe(path).volume, undefined)
      })
    })
  }

  it('nor an older and larger one, nor one that is smaller than its device', () => {
    inVolume(4 * MIB, (path) => {
      const end = readDevice(path).subarray(4 * MIB - 2 * PAGE)
      Volume.format(path, { size: 3 * MIB, force: true })
      writeAt(path, 4 * MIB - 2 * PAGE, end)
      Volume.wipe(path)
      writeAt(path, 0, new Uint8Array(2 * PAGE))
      assert.deepEqual(codesOf(path), ['not-a-volume'])
      assert.equal(Volume.probe(path).contents, 'data of an unknown kind')
    })
  })

  it('what somebody else has is left alone, and with force too', () => {
    inVolume(4 * MIB, (path) => {
      const table = Uint8Array.from([...new Array(64).fill(7), 0x55, 0xaa])
      writeAt(path, 446, table)
      const before = hashOf(path)
      assert.throws(() => Volume.wipe(path), { code: 'ERR_DEVICE_IN_USE' })
      assert.equal(hashOf(path), before)
      Volume.wipe(path, { force: true })
      const image = readDevice(path)
      assert.deepEqual(image.subarray(446, 512), Buffer.from(table))
      assert.ok(image.subarray(0, 446).every((byte) => byte === 0))
      assert.deepEqual(codesOf(path), ['not-a-volume'])
    })
  })

  it('of a damaged volume, with force', () => {
    inVolume(4 * MIB, (path) => {
      const image = Uint8Array.from(readDevice(path))
      damage(LABEL_AT, 4 * MIB - PAGE + LABEL_AT)(image)
      writeFileSync(path, image)
      assert.throws(() => Volume.wipe(path), { code: 'ERR_VOLUME_CORRUPT' })
      Volume.wipe(path, { force: true })
      assert.throws(() => Volume.open(path), NONE)
    })
  })

  it('the command asks, and wants --force where nobody can be asked', () => {
    inVolume(4 * MIB, (path) => {
      const asked = plinth(['wipe', path])
      assert.equal(asked.code, 2)
      assert.match(asked.err, /the plinth volume 'old'.*--force/)
      Volume.open(path).close()
      assert.equal(plinth(['wipe', path, '--force']).code, 0)
      assert.throws(() => Volume.open(path), NONE)
    })
  })

  it('a head that is lost: probe says where the volume was, repair with force brings it back', () => {
    for (const size of [3 * MIB, 2 * MIB + 5 * PAGE]) {
      inVolume(size, (path) => {
        writeAt(path, 0, new Uint8Array(2 * PAGE))
        const { contents, volume } = Volume.probe(path)
        assert.equal(contents, `the end of the plinth volume 'old' of ${size} bytes`)
        assert.equal(volume, undefined)
        assert.deepEqual(codesOf(path), ['foreign-owner'])
        assert.deepEqual(Volume.repair(path, { dryRun: false, force: true }).remaining, [])
        using back = Volume.open(path)
        assert.ok(back.findChunk('a') !== undefined)
      })
    }
  })
})

describe('format with force leaves no signature of others', { skip: tmpfsPage.skip }, () => {
  const SIZE = 4 * MIB
  const uberblocks = [0, 256, SIZE / 1024 - 512, SIZE / 1024 - 256].flatMap((label) =>
    [128, 129, 255].map((kib) => put((label + kib) * 1024, [0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0])),
  )
  const cases: [what: string, ...changes: ((image: Uint8Array) => void)[]][] = [
    ['labels of ZFS', ...uberblocks],
    ['an old RAID superblock', put(SIZE - 65536, [0xfc, 0x4e, 0x2b, 0xa9])],
    ['the backup of a GPT', put(SIZE - 512, 'EFI PART')],
    ['the second header of LUKS', put(0x100000, 'SKUL\xba\xbe')],
    ['btrfs', put(65600, '_BHRfS_M')],
  ]
  for (const [what, ...changes] of cases) {
    // All of the device, and a part of it; a small and a large log.
    for (const options of [{}, { size: MIB }, { granule: 64 * 1024 }, { logSize: 2 * MIB }]) {
      it(`${what}, ${JSON.stringify(options)}`, () => {
        inMemory((folder) => {
          const path = join(folder, 'device')
          const image = new Uint8Array(SIZE)
          for (const change of changes) change(image)
          writeFileSync(path, image)
          assert.notDeepEqual([...findSignatures(readableOf(image))], [])
          assert.throws(() => Volume.format(path, options), { code: 'ERR_DEVICE_IN_USE' })
          Volume.format(path, { ...options, force: true })
          assert.deepEqual([...findSignatures(readableOf(readDevice(path)))], [])
          Volume.open(path).close()
        })
      })
    }
  }
})
