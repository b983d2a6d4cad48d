import assert from 'node:assert/strict'
import { copyFileSync, writeFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { hashOf, MIB, type Place, places } from '../support/devices.js'
import { checkClosed, checkCrashed, checkGrown, GROWN, image } from '../support/images.js'

const images: [name: string, check: (volume: Volume) => void, records: number, bytes: number][] = [
  ['format-2-closed', checkClosed, 0, MIB],
  ['format-2-crashed', checkCrashed, 4, MIB],
  ['format-2-grown', checkGrown, 0, GROWN.size],
]

function onImage(at: Place, name: string, body: (path: string) => void, bytes = MIB): void {
  at.with(bytes, (path) => {
    writeFileSync(path, image(name))
    body(path)
  })
}

describe('stored images', () => {
  for (const [name, check, records, bytes] of images) {
    for (const at of places) {
      it(`${name} opens on ${at.name}`, { skip: at.skip }, () => {
        onImage(
          at,
          name,
          (path) => {
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
                assert.equal(volume.recovery.repaired, 0)
              } finally {
                volume.close()
              }
            }
          },
          bytes,
        )
      })
    }
  }

  it('one of format 1, from before the first release, is refused and stays as it was', () => {
    const at = places[0]!
    onImage(at, 'format-1-closed', (path) => {
      const before = hashOf(path)
      const old = {
        name: 'PlinthError',
        code: 'ERR_FORMAT_TOO_OLD',
        message: /the volume has format 1, from before the first release; .* knows format 2 alone$/,
      }
      for (const options of [{}, { readOnly: true }, { readOnly: true, salvage: true }]) {
        assert.throws(() => Volume.open(path, { ...at.options, ...options }), old)
      }
      const findings = Volume.check(path)
      assert.deepEqual(
        findings.map(({ code, severity, fixable }) => [code, severity, fixable]),
        [['format-too-old', 'error', false]],
      )
      assert.deepEqual(Volume.repair(path, { dryRun: false, dropDamaged: true }).fixes, [])
      assert.equal(hashOf(path), before)
      // It is somebody's: only who says so writes over it.
      assert.throws(() => Volume.format(path, { ...at.options, size: MIB }), {
        code: 'ERR_DEVICE_IN_USE',
      })
      assert.equal(hashOf(path), before)
    })
  })

  it('a byte copy of a closed volume opens at another path', () => {
    const at = places[0]!
    onImage(at, 'format-2-closed', (path) => {
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
