import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { CHECKPOINT_AT } from '../../src/layout/geometry.js'
import { decodeSuperblock } from '../../src/layout/superblock.js'
import { hashOf, inMemory, MIB, readDevice, tmpfsPage } from '../support/devices.js'
import { placesOf } from '../support/places.js'
import { damage, geometry, gone, LABEL_AT, superblock, volume } from '../support/settings.js'

const { tableAt, tableCopyAt, tableBytes } = placesOf(geometry)

describe('damage that a second copy repairs', { skip: tmpfsPage.skip }, () => {
  const copyAt = geometry.superblockCopyAt
  const cases: [what: string, change: (image: Uint8Array) => void, repaired: number][] = [
    ['nothing', () => {}, 0],
    ['the first superblock damaged', damage(LABEL_AT), 1],
    ['the first superblock gone', gone([0, 4096]), 1],
    ['the second superblock damaged', damage(copyAt + LABEL_AT), 1],
    ['the second superblock gone', gone([copyAt, MIB]), 1],
    ['the second superblock over the first', (image) => image.copyWithin(0, copyAt), 1],
    ['the first superblock over the second', (image) => image.copyWithin(copyAt, 0, 4096), 1],
    ['the first checkpoint header damaged', damage(CHECKPOINT_AT), 1],
    ['the second checkpoint header damaged', damage(geometry.checkpointCopyAt + 20), 1],
    ['a slot of the first table damaged', damage(tableAt + 128 + 4), 1],
    [
      'a slot of the second table gone',
      (image) => image.fill(0, tableCopyAt, tableCopyAt + 128),
      1,
    ],
    ['the first table gone', (image) => image.fill(0, tableAt, tableAt + tableBytes), 2],
    ['all of the tail gone', (image) => image.fill(0, tableCopyAt), 4],
  ]
  for (const [what, change, repaired] of cases) {
    it(what, () => {
      inMemory((folder) => {
        const path = join(folder, 'device')
        volume()(path)
        const whole = Volume.open(path)
        const chunks = whole.chunks()
        whole.close()
        const image = Uint8Array.from(readDevice(path))
        change(image)
        writeFileSync(path, image)
        const before = hashOf(path)
        const reader = Volume.open(path, { readOnly: true })
        try {
          assert.deepEqual(reader.chunks(), chunks)
        } finally {
          reader.close()
        }
        assert.equal(hashOf(path), before, 'a reader repairs nothing')
        for (const expected of [repaired, 0]) {
          const each = Volume.open(path)
          try {
            assert.equal(each.recovery.repaired, expected)
            assert.deepEqual(each.chunks(), chunks)
          } finally {
            each.close()
          }
        }
      })
    })
  }
})

describe('features that a volume may have', { skip: tmpfsPage.skip }, () => {
  it('an unknown compatible one changes nothing, and stays', () => {
    inMemory((folder) => {
      const path = join(folder, 'device')
      volume(superblock({ compatible: 2 ** 31 + 1 }))(path)
      const each = Volume.open(path)
      each.allocate({ size: 1 })
      each.close()
      const read = decodeSuperblock(readDevice(path).subarray(0, 4096))
      assert.ok(typeof read === 'object')
      assert.equal(read.compatible, 2 ** 31 + 1)
    })
  })

  it('with one that forbids writing it can be read', () => {
    inMemory((folder) => {
      const path = join(folder, 'device')
      volume(superblock({ readOnlyCompatible: 1 }))(path)
      const each = Volume.open(path, { readOnly: true })
      assert.equal(each.chunks().length, 2)
      each.close()
    })
  })
})
