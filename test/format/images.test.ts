import assert from 'node:assert/strict'
import { copyFileSync, writeFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { hashOf, MIB, type Place, places } from '../support/devices.js'
import { checkClosed, checkCrashed, image } from '../support/images.js'

const images: [name: string, check: (volume: Volume) => void, records: number][] = [
  ['format-1-closed', checkClosed, 0],
  ['format-1-crashed', checkCrashed, 4],
]

function onImage(at: Place, name: string, body: (path: string) => void): void {
  at.with(MIB, (path) => {
    writeFileSync(path, image(name))
    body(path)
  })
}

describe('stored images', () => {
  for (const [name, check, records] of images) {
    for (const at of places) {
      it(`${name} opens on ${at.name}`, { skip: at.skip }, () => {
        onImage(at, name, (path) => {
          const before = hashOf(path)
          const reader = Volume.open(path, { ...at.options, readOnly: true })
          try {
            check(reader)
            assert.equal(reader.recovery.recordsReplayed, records)
          } finally {
            reader.close()
          }
          assert.equal(hashOf(path), before, 'a reader changes nothing')
          for (let round = 0; round < 2; round++) {
            const volume = Volume.open(path, at.options)
            try {
              check(volume)
              assert.equal(volume.recovery.clean, round > 0 || records === 0)
              assert.equal(volume.recovery.recordsReplayed, round > 0 ? 0 : records)
              assert.equal(volume.recovery.healed, 0)
            } finally {
              volume.close()
            }
          }
        })
      })
    }
  }

  it('a byte copy of a closed volume opens at another path', () => {
    const at = places[0]!
    onImage(at, 'format-1-closed', (path) => {
      const copy = `${path}-copy`
      const original = Volume.open(path, at.options)
      original.close()
      copyFileSync(path, copy)
      const [first, second] = [path, copy].map((each) => Volume.open(each, at.options))
      try {
        checkClosed(first!)
        checkClosed(second!)
        assert.equal(first!.info.uuid, second!.info.uuid)
      } finally {
        first!.close()
        second!.close()
      }
    })
  })
})
