/**
 * A device that held a volume was given to somebody else, who wrote over its head and not over its end.
 * Opening it as a volume once more (a stale unit, the wrong device) once found the second superblock,
 * repaired the first copies from it, and so destroyed what the new owner had.
 */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { CHECKPOINT_AT } from '../../src/layout/geometry.js'
import { hashOf, inMemory, MIB, PAGE, readDevice, tmpfsPage } from '../support/devices.js'
import { put } from '../support/settings.js'

const SIZE = 8 * MIB
const GIVEN_AWAY = { name: 'PlinthError', code: 'ERR_DEVICE_IN_USE' }

/** A closed volume 'old' with a hundred chunks, and its bytes. */
function makeVolume(path: string): Uint8Array {
  Volume.format(path, { size: SIZE, label: 'old' })
  const volume = Volume.open(path)
  volume.transact(() => {
    for (let n = 0; n < 100; n++) volume.allocate({ size: 4096, name: `chunk ${n}` })
  })
  volume.close()
  return Uint8Array.from(readDevice(path))
}

const random = (from: number, to: number) => (image: Uint8Array) => {
  for (let at = from; at < to; at++) image[at] = (at * 2654435761) >>> 13
}
const both =
  (...changes: ((image: Uint8Array) => void)[]) =>
  (image: Uint8Array) => {
    for (const change of changes) change(image)
  }
const wiped = (to: number) => (image: Uint8Array) => void image.fill(0, 0, to)
const MD = [0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]
const UBERBLOCK = [0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0, 0x88, 0x13]

describe('a device that was given to somebody else', { skip: tmpfsPage.skip }, () => {
  const cases: [what: string, change: (image: Uint8Array) => void, says: RegExp][] = [
    ['swap', both(wiped(PAGE), put(1024, [1]), put(4086, 'SWAPSPACE2')), /a swap area/],
    [
      'a partition table of DOS',
      put(446, [...new Array(64).fill(7), 0x55, 0xaa]),
      /partition table/,
    ],
    ['a GPT', both(put(510, [0x55, 0xaa]), put(512, 'EFI PART')), /a GPT partition table/],
    ['LUKS', both(random(0, PAGE), put(0, 'LUKS\xba\xbe')), /a LUKS container/],
    [
      'LVM',
      both(wiped(PAGE), put(512, 'LABELONE'), put(536, 'LVM2 001')),
      /an LVM physical volume/,
    ],
    ['FAT', both(put(0, [0xeb]), put(54, 'FAT16   '), put(510, [0x55, 0xaa])), /a FAT filesystem/],
    ['ext4', both(wiped(1024), put(1080, [0x53, 0xef])), /an ext2, ext3 or ext4/],
    ['a RAID with its superblock at 4 KiB', put(CHECKPOINT_AT, MD), /Linux RAID, at 4096/],
    ['a RAID with its superblock at the end', put(SIZE - 2 * PAGE, MD), /Linux RAID, at 8380416/],
    [
      'bcache, its superblock alone',
      put(
        CHECKPOINT_AT + 24,
        [
          0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d,
          0x81,
        ],
      ),
      /a bcache device/,
    ],
    ['the backup of a GPT alone', put(SIZE - 512, 'EFI PART'), /backup of a GPT/],
    ['btrfs in a chunk slot', put(65600, '_BHRfS_M'), /a btrfs filesystem/],
    ['something unknown at the beginning', random(0, 512), /data of an unknown kind, at 0/],
    [
      'something unknown at 4 KiB',
      random(CHECKPOINT_AT, CHECKPOINT_AT + 4096),
      /unknown kind, at 4096/,
    ],
    ['a label of ZFS', put(128 * 1024, UBERBLOCK), /a member of a ZFS pool/],
    ['a label of ZFS at the end', put(SIZE - 128 * 1024, UBERBLOCK), /a member of a ZFS pool/],
    ['zeros, 8 KiB of them', wiped(2 * PAGE), /zeros, at 0/],
    ['zeros, a MiB of them', wiped(MIB), /zeros, at 0/],
  ]
  for (const [what, change, says] of cases) {
    it(what, () => {
      inMemory((folder) => {
        const path = join(folder, 'device')
        const image = makeVolume(path)
        const [reader, list] = [Volume.open(path, { readOnly: true }), [] as unknown[]]
        list.push(...reader.chunks())
        reader.close()
        change(image)
        writeFileSync(path, image)
        const before = hashOf(path)
        for (const options of [{}, { readOnly: true }]) {
          assert.throws(() => Volume.open(path, options), { ...GIVEN_AWAY, message: says })
        }
        assert.throws(() => Volume.repair(path, { dryRun: false }), {
          ...GIVEN_AWAY,
          message: says,
        })
        assert.throws(() => Volume.format(path), GIVEN_AWAY)
        const { volume, contents, advice } = Volume.probe(path)
        assert.equal(volume, undefined)
        assert.match(`${contents}; ${advice}`, says)
        assert.match(advice, /in the place of the plinth volume 'old'/)
        const [finding] = Volume.check(path)
        assert.deepEqual([finding?.code, finding?.fixable], ['foreign-owner', false])
        assert.deepEqual(Volume.repair(path).fixes, [])
        assert.equal(hashOf(path), before, 'nothing was written')

        assert.ok(Volume.repair(path, { force: true }).fixes.length > 0)
        assert.equal(hashOf(path), before, 'a dry run writes nothing')
        assert.deepEqual(Volume.repair(path, { dryRun: false, force: true }).remaining, [])
        const back = Volume.open(path)
        assert.deepEqual(back.chunks(), list)
        assert.equal(back.recovery.repaired, 0)
        back.close()
      })
    })
  }

  it('names and labels that look like others are nobody', () => {
    inMemory((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: 4 * MIB, label: 'FAT32   SWAPSPACE2 XFSB' })
      const volume = Volume.open(path)
      // Slot 448 is where btrfs has its signature: within the name.
      for (let n = 0; n < 460; n++) {
        volume.allocate({ size: 4096, name: `${String(n).padStart(16)}_BHRfS_M` })
      }
      volume.close()
      const image = readDevice(path)
      assert.equal(image.subarray(65600, 65608).toString(), '_BHRfS_M')
      assert.equal(Volume.probe(path).contents, 'a plinth volume')
      assert.deepEqual(Volume.check(path), [])
      Volume.open(path).close()
    })
  })
})
