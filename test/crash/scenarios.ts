/**
 * Crashes that three operations do not reach: each a story, told with exact cuts, for a mechanism
 * that would otherwise be taken for superfluous.
 */
import type { Volume } from 'plinth'
import { LINE_BYTES, PAGE_BYTES } from '../../src/base/units.js'
import {
  type ChunkSlot,
  chunkSlotSeed,
  decodeChunkSlot,
  encodeChunkSlot,
} from '../../src/layout/chunk-slot.js'
import { CHECKPOINT_AT, planGeometry } from '../../src/layout/geometry.js'
import { volumeSeed } from '../../src/layout/superblock.js'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { Random } from '../../src/testing/random.js'
import {
  type Model,
  type PointKind,
  SimulatedMedia,
  type Verdict,
} from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { CrashFailure } from './lab.js'

type Judge = (kind: PointKind) => Verdict

interface Scenario {
  readonly name: string
  readonly run: (judge: Judge) => void
}

const geometry = planGeometry({ sizeBytes: 1 << 20, alignBytes: 4096 })
const { firstAt: tableAt, secondAt: tableCopyAt } = geometry.extents[0]!

function open(model: Model, image: Uint8Array, judge: Judge): [SimulatedMedia, Volume] {
  const media = new SimulatedMedia(model, image)
  media.judge = judge
  return [media, openSimulated(media)]
}

function demand(claim: boolean, what: string): void {
  if (!claim) throw new CrashFailure(what)
}

const GO: Judge = () => 'go'

export const SCENARIOS: readonly Scenario[] = [
  {
    // Two transactions wait for one barrier. The power fails: the first record is lost, the second
    // arrives. A later run writes a record of the same length over the first, and crashes again. The
    // second must not come back to life behind it.
    name: 'a record behind a lost one never returns',
    run(judge) {
      const [setup, volume] = open('page', makeImage(), GO)
      volume.allocate({ size: 4096, name: 'a' })
      volume.close()
      const [media, crashed] = open('page', setup.durable, judge)
      const a = crashed.chunk('a')
      // Each record fills a block to the byte (header 24, entry 16), so that the next one of its length
      // lies over the first and touches nothing of the second.
      const whole = new Uint8Array(PAGE_BYTES - 40)
      crashed.transactAsync((tx) => tx.write(a, 0, whole.fill(1))).catch(() => {})
      crashed.transactAsync((tx) => tx.write(a, 0, whole.fill(2))).catch(() => {})
      let image: Uint8Array | undefined
      media.onPoint = (kind) => {
        const units = media.volatileUnits()
        if (kind !== 'fence' || units.length === 0 || image !== undefined) return
        image = media.durable.slice()
        const first = Math.min(...units.map(({ unit }) => unit)) + 8
        for (const { unit, versions } of units) {
          if (unit >= first) image.set(versions.at(-1)!, unit * media.unitBytes)
        }
      }
      crashed.fence()
      demand(image !== undefined, 'no state with one record of two')
      const [again, second] = open('page', image!, judge)
      second.transact((tx) => tx.write(second.chunk('a'), 0, whole.fill(3)))
      const [, third] = open('page', again.durable, judge)
      const { bytes } = third.chunk('a')
      demand(
        bytes.subarray(0, whole.length).every((byte) => byte === 3),
        'a record behind a lost one came back',
      )
    },
  },
  {
    // A barrier for transactions that share it ends in the middle of a block. The record that leads from there to the next
    // block is durable with them: the next one relies on it, whatever becomes of its own write.
    name: 'a shared barrier leads on to the next record',
    run(judge) {
      const [setup, volume] = open('page', makeImage(), GO)
      volume.allocate({ size: 4096, name: 'a', zero: true })
      volume.close()
      const [media, crashed] = open('page', setup.durable, judge)
      const a = crashed.chunk('a')
      const explore = (...wanted: number[]) => {
        const limits = { exhaustive: 64, samples: 16 }
        forEachCrashState(media, new Random(1), limits, new Set(), (image) => {
          const [again, reopened] = open('page', image, judge)
          const found = reopened.chunk('a').view.getUint32(0, true)
          demand(wanted.includes(found), `${found} is there, and not ${wanted.join(' or ')}`)
          again.release()
        })
      }
      crashed.transactAsync((tx) => tx.setUint32(a, 0, 1)).catch(() => {})
      crashed.fence()
      explore(1)
      media.onPoint = () => explore(1, 2)
      crashed.transact((tx) => tx.setUint32(a, 0, 2))
      media.onPoint = undefined
      explore(2)
      media.release()
    },
  },
  {
    // The newer checkpoint header counts, whichever copy it is: the older one points to log space that may be
    // used again.
    name: 'the newer checkpoint header counts',
    run(judge) {
      const [setup, volume] = open('cache-line', makeImage(), GO)
      volume.allocate({ size: 4096, name: 'a' })
      const old = setup.durable.slice(CHECKPOINT_AT, CHECKPOINT_AT + LINE_BYTES)
      volume.transact((tx) => tx.setUint32(volume.chunk('a'), 0, 1))
      volume.checkpoint()
      for (let i = 0; i < 1500; i++) {
        volume.transact((tx) => tx.setUint32(volume.chunk('a'), 0, i))
      }
      const image = setup.durable.slice()
      image.set(old, CHECKPOINT_AT)
      const [, reopened] = open('cache-line', image, judge)
      demand(
        reopened.chunk('a').view.getUint32(0, true) === 1499,
        'an old checkpoint header was believed',
      )
    },
  },
  {
    // One copy of a slot is older: a sector that was not written. The newer counts.
    name: 'the newer copy of a slot counts',
    run(judge) {
      const [setup, volume] = open('cache-line', makeImage(), GO)
      volume.allocate({ size: 4096, name: 'a' })
      volume.checkpoint()
      const old = setup.durable.slice(tableAt, tableAt + 128)
      volume.transact(() => volume.rename(volume.chunk('a'), 'b'))
      volume.close()
      for (const at of [tableAt, tableCopyAt]) {
        const image = setup.durable.slice()
        image.set(old, at)
        const [, reopened] = open('cache-line', image, judge)
        demand(reopened.findChunk('b') !== undefined, 'an old copy of a slot was believed')
        reopened.close()
      }
    },
  },
  {
    // A bit of an acknowledged record flips. It is not the end of the log: what lies behind it was
    // acknowledged too.
    name: 'a damaged record is not a torn one',
    run(judge) {
      const [setup, volume] = open('cache-line', makeImage(), GO)
      volume.allocate({ size: 4096, name: 'a' })
      const { logUsedBytes } = volume.stats()
      for (let i = 0; i < 3; i++) volume.transact((tx) => tx.setUint32(volume.chunk('a'), 0, i))
      const image = setup.durable.slice()
      const at = geometry.logAt + logUsedBytes + 30
      image[at] = image[at]! ^ 1
      let refused = false
      try {
        open('cache-line', image, judge)
      } catch {
        refused = true
      }
      demand(refused, 'commits behind a damaged record were dropped')
    },
  },
  {
    // Two chunks whose slots are whole and claim the same granule: somebody wrote nonsense.
    name: 'overlapping chunks are refused',
    run(judge) {
      const [setup, volume] = open('cache-line', makeImage(), GO)
      volume.allocate({ size: 4096, name: 'a' })
      volume.allocate({ size: 4096, name: 'b' })
      volume.close()
      const image = setup.durable.slice()
      const seed = chunkSlotSeed(volumeSeed(image.subarray(32, 48)), 1)
      const slot = decodeChunkSlot(image, tableAt + 128, seed) as ChunkSlot
      for (const at of [tableAt, tableCopyAt]) {
        encodeChunkSlot({ ...slot, start: slot.start - 1 }, seed, image, at + 128)
      }
      let refused = false
      try {
        open('cache-line', image, judge)
      } catch {
        refused = true
      }
      demand(refused, 'overlapping chunks were accepted')
    },
  },
  {
    // A flipped bit in one copy: the other one counts.
    name: 'a flipped bit is never believed',
    run(judge) {
      const [setup, volume] = open('cache-line', makeImage(), GO)
      volume.allocate({ size: 4096, name: 'name-of-it' })
      volume.close()
      const places = [
        [tableAt + 48, 'slot'],
        [tableCopyAt + 48, 'slot'],
        [CHECKPOINT_AT + 24, 'checkpoint header'],
        [geometry.checkpointCopyAt + 24, 'checkpoint header'],
        [80, 'superblock'],
      ] as const
      for (const [at, what] of places) {
        const image = setup.durable.slice()
        image[at] = image[at]! ^ 1
        const [, reopened] = open('cache-line', image, judge)
        demand(
          reopened.findChunk('name-of-it') !== undefined &&
            reopened.info.label === undefined &&
            reopened.recovery.repaired > 0,
          `a flipped bit of the ${what} was not noticed`,
        )
      }
    },
  },
]
