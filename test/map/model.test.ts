// Seeded walks on maps of all devices, with a plain model beside each.
//
// PLINTH_LONG=1 walks twenty times as far.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { MIB, places } from '../support/devices.js'
import { type KeyKind, MapWalk } from '../support/map-walk.js'
import { seeded } from '../support/random.js'

const FAR = process.env.PLINTH_LONG === '1' ? 20 : 1

interface Walk {
  readonly name: string
  readonly keys: readonly KeyKind[]
  readonly loaded: number
  readonly cacheBytes?: number
  readonly valueBytesMax: number
  readonly steps: number
}

const walks: readonly Walk[] = [
  { name: 'small', keys: ['prefixed'], loaded: 0, valueBytesMax: 40_000, steps: 1500 },
  {
    name: 'long keys, large values',
    keys: ['prefixed', 'long'],
    loaded: 0,
    valueBytesMax: 3 * MIB,
    steps: 500,
  },
  {
    // So few leaves in memory that each operation may have to read one.
    name: 'leaves that come and go',
    keys: ['random', 'ascending', 'descending', 'prefixed'],
    loaded: 6000,
    cacheBytes: 0,
    valueBytesMax: 2000,
    steps: 300,
  },
]

const chosen = places.filter(({ name }) => name.startsWith('tmpfs'))

for (const [index, place] of chosen.entries()) {
  describe(`a map on ${place.name}`, { skip: place.skip }, () => {
    for (const walk of walks) {
      it(walk.name, async (t) => {
        const size = 192 * MIB
        await place.with(size, (path) =>
          seeded(async (random) => {
            Volume.format(path, { size, ...place.options })
            const open = () => Volume.open(path, place.options)
            const walked = new MapWalk({ ...walk, random, open })
            try {
              walked.load(walk.loaded)
              for (let i = 1; i <= walk.steps * FAR; i++) {
                await walked.step()
                if (i % 250 === 0) walked.verify()
              }
              await walked.end()
            } finally {
              if (walked.volume.isOpen) walked.volume.close()
            }
            assert.ok(Object.keys(walked.done).length > 8)
            t.diagnostic(JSON.stringify(walked.done))
          }, index),
        )
      })
    }
  })
}
