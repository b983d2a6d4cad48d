/**
 * A process is killed at any moment of its work; what it was told to be durable is there, and the
 * rest is whole or not there at all. PLINTH_KILL_ROUNDS says how often, over all configurations.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Volume } from 'plinth'
import { hashOf, MIB, type Place, places, pmemPlaces } from '../support/devices.js'
import { KillModel, prepare, stateOf } from '../support/kill-model.js'
import { type Random, seeded, seedOfRun } from '../support/random.js'

const rounds = Number(process.env.PLINTH_KILL_ROUNDS ?? 200)
const child = fileURLToPath(new URL('../support/kill-child.js', import.meta.url))

/** An emulated processor comes less far in the same time. */
const workMs = pmemPlaces.length > 0 ? 400 : 40

const named = (name: string) => places.find((at) => at.name === name)!
/** Each with its share of the rounds. */
const usual = (): [at: Place, share: number][] => [
  [named('tmpfs, cache-line, native'), 0.4],
  [named('tmpfs, page, native'), 0.25],
  [named('file, page, native'), 0.2],
  [named('tmpfs, page, mmap-io'), 0.15],
]
const configurations =
  pmemPlaces.length > 0
    ? places.map((at): [at: Place, share: number] => [at, 1 / places.length])
    : usual()

/** Runs the child from operation `first`, kills it, and gives the operations that it acknowledged. */
async function killed(
  at: Place,
  path: string,
  seed: number,
  first: number,
  killAfterMs: number,
): Promise<number[]> {
  const process_ = spawn(
    process.execPath,
    [child, path, JSON.stringify(at.options), String(seed), String(first)],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let text = ''
  let errors = ''
  process_.stderr.setEncoding('utf8').on('data', (part) => {
    errors += part
  })
  process_.stdout.setEncoding('utf8').on('data', (part) => {
    const before = text
    text += part
    if (!before.startsWith('ready') && text.startsWith('ready')) {
      setTimeout(() => process_.kill('SIGKILL'), killAfterMs)
    }
  })
  const [code, signal] = await once(process_, 'close')
  assert.deepEqual([code, signal, errors], [null, 'SIGKILL', ''])
  // The last line may be cut.
  return text.split('\n').slice(1, -1).map(Number)
}

async function run(at: Place, count: number, random: Random, seed: number): Promise<number> {
  let operations = 0
  await at.with(MIB, async (path) => {
    Volume.format(path, { size: MIB, ...at.options })
    const volume = Volume.open(path, at.options)
    prepare(volume)
    volume.close()
    let model = new KillModel(seed)
    for (let round = 0; round < count; round++) {
      const acknowledged = await killed(at, path, seed, model.done + 1, random.between(0, workMs))
      const last = acknowledged.length === 0 ? model.done : Math.max(...acknowledged)
      acknowledged.forEach((n, i) => {
        assert.equal(n, model.done + 1 + i, 'acknowledged in order')
      })
      while (model.done < last) model.advance()
      // A reader sees the state that recovery will make, and writes nothing.
      const before = hashOf(path)
      const reader = Volume.open(path, { ...at.options, readOnly: true })
      try {
        model = stateOf(reader, model)
      } finally {
        reader.close()
      }
      assert.equal(hashOf(path), before)
      const recovered = Volume.open(path, at.options)
      try {
        assert.equal(model.difference(recovered), undefined)
        assert.equal(recovered.recovery.repaired, 0)
      } finally {
        recovered.close()
      }
      operations = model.done
    }
  })
  return operations
}

describe('killed processes', { concurrency: 2 }, () => {
  for (const [i, [at, share]] of configurations.entries()) {
    const count = Math.max(1, Math.round(rounds * share))
    it(`${count} times on ${at.name}`, { skip: at.skip }, async (t) => {
      await seeded(async (random, seed) => {
        const operations = await run(at, count, random, seed)
        assert.ok(operations > 0, 'nothing was ever done before a kill')
        t.diagnostic(`${count} kills, ${operations} operations, TEST_SEED=${seedOfRun}`)
      }, i)
    })
  }
})
