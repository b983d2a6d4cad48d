/** The device reports an error at each barrier of each operation: the volume fails, and reopening finds before or after. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { forEachCrashState } from '../../src/testing/crash-states.js'
import { Random } from '../../src/testing/random.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { openSimulated } from '../../src/testing/simulated-volume.js'
import { type Age, makeAges } from './lab.js'
import {
  compare,
  type Loose,
  type Model,
  OPERATIONS,
  type Operation,
  tryOperation,
} from './world.js'

const LIMITS = { exhaustive: 16, samples: 4 }
const FENCES_MAX = 40

/** Fails the fence of this number; false when the operation has not so many. */
function failAt(age: Age, operation: Operation, number: number): boolean {
  const wanted = statesOf(age, operation)
  if (wanted === undefined) return false
  const media = new SimulatedMedia('page', age.image)
  const volume = openSimulated(media)
  age.warmUp(volume)
  let fences = 0
  media.judge = (kind) => (kind === 'fence' && fences++ === number ? 'fail' : 'go')
  let failure: unknown
  let after: Model | undefined
  try {
    after = operation.run(volume, age.model)
  } catch (error) {
    failure = error
  }
  if (fences <= number) return false
  media.judge = undefined
  assert.equal((failure as { code?: string } | undefined)?.code, 'ERR_VOLUME_FAILED')
  assert.equal(after, undefined)
  // Every later call says so, until it is opened again; a volume that was being closed is closed.
  const code = operation.name === 'close' ? 'ERR_VOLUME_CLOSED' : 'ERR_VOLUME_FAILED'
  for (const call of [
    () => volume.chunks(),
    () => volume.stats(),
    () => volume.checkpoint(),
    () => volume.allocate({ size: 1 }),
    () => volume.transact(() => {}),
  ]) {
    assert.throws(call, { code })
  }
  forEachCrashState(media, new Random(1), LIMITS, new Set(), (image) => {
    const reopened = openSimulated(new SimulatedMedia('page', image, false))
    const differences = wanted.map(([model, loose]) => compare(reopened, model, loose))
    assert.ok(differences.includes(undefined), differences.join(' / '))
  })
  volume.close()
  return true
}

/** Undefined when the operation is not possible there. */
function statesOf(age: Age, operation: Operation): [Model, readonly Loose[]][] | undefined {
  const volume = openSimulated(new SimulatedMedia('page', age.image, false))
  age.warmUp(volume)
  const after = tryOperation(operation, volume, age.model)
  if (after === undefined) return undefined
  const states: [Model, readonly Loose[]][] = [
    [age.model, operation.loose?.(age.model) ?? []],
    [after, []],
  ]
  if (operation.middle) states.push([operation.middle(age.model), []])
  return states
}

describe('a barrier fails', () => {
  for (const age of makeAges()) {
    it(age.name, () => {
      let failed = 0
      for (const operation of OPERATIONS) {
        for (let number = 0; number < FENCES_MAX && failAt(age, operation, number); number++)
          failed++
      }
      assert.ok(failed >= 10, `${failed} failures`)
    })
  }
})
