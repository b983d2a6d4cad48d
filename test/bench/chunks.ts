/** Allocating and freeing a chunk, each durable, on volumes that differ in nothing but size. */

import { GIB, MIB, TIB } from '../../src/base/units.js'
import type { Chunk } from '../../src/index.js'
import type { Volume } from '../../src/volume/volume.js'
import { type Plan, timeRounds } from './measure.js'
import { makeSparseVolume, operationsPerLap, type SparseVolume, scattered } from './scratch.js'
import type { Bench, Suite } from './suite.js'

const GRANULE_BYTES = 2 * MIB
const LOG_BYTES = MIB
const SIZES = { '1GiB': GIB, '1TiB': TIB }

const EMPTY = 'chunk-alloc-free'
const SCATTERED = 'chunk-free-alloc-half-full'

/** A volume with the operation that is timed on it. */
interface Used {
  readonly made: SparseVolume
  readonly volume: Volume
  readonly operation: () => void
  readonly note: string
}

export const chunks: Suite = {
  names: [EMPTY, SCATTERED].flatMap((name) => Object.keys(SIZES).map((size) => `${name}-${size}`)),
  async run(bench: Bench): Promise<void> {
    await timeVolumes(bench, EMPTY, { rounds: 300, warmup: 30 }, useEmpty)
    await timeVolumes(bench, SCATTERED, { rounds: 100, warmup: 10 }, useHalfFull)
  },
}

async function timeVolumes(
  bench: Bench,
  prefix: string,
  plan: Plan,
  use: (made: SparseVolume) => Used,
): Promise<void> {
  const wanted = Object.entries(SIZES)
    .map(([size, sizeBytes]) => ({ name: `${prefix}-${size}`, sizeBytes }))
    .filter(({ name }) => bench.wants(name))
  const opened: Used[] = []
  try {
    for (const { sizeBytes } of wanted) {
      const made = makeSparseVolume(bench.scratch, {
        sizeBytes,
        granuleBytes: GRANULE_BYTES,
        logBytes: LOG_BYTES,
        storedBytes: 0,
      })
      opened.push(use(made))
    }
    const cases = wanted.map(({ name }, i) => {
      const { volume, operation } = opened[i]!
      return {
        name,
        operations: operationsPerLap(volume, operation),
        run(operations: number) {
          for (let done = 0; done < operations; done++) operation()
        },
      }
    })
    const samples = await timeRounds(cases, bench.plan(plan))
    cases.forEach(({ name }, i) => {
      const { note } = opened[i]!
      bench.report({ name, unit: 'ns', samples: samples.get(name)!, sample: 'round', note })
    })
  } finally {
    for (const { volume, made } of opened) {
      volume.close()
      made.remove()
    }
  }
}

function useEmpty(made: SparseVolume): Used {
  const volume = made.open()
  return {
    made,
    volume,
    operation: () => volume.free(volume.allocate({ size: GRANULE_BYTES })),
    note: 'a pair, two fences, 2 MiB granules, volume empty',
  }
}

/** Half of the space in use in runs of 1 to 8 granules, half free in holes of all lengths. */
function useHalfFull(made: SparseVolume): Used {
  const volume = made.open()
  const lengths = scattered(2 ** 16, 8)
  const live: Chunk[] = []
  const rest: Chunk[] = []
  // The table grows with them, and takes some.
  const fits = () => volume.stats().largestFreeBytes >= 8 * GRANULE_BYTES
  let taken = 0
  while (fits()) {
    volume.transact(() => {
      for (let i = 0; i < 64 && fits(); i++) {
        const granules = 1 + lengths[(live.length + rest.length) % lengths.length]!
        const chunk = volume.allocate({ size: granules * GRANULE_BYTES })
        taken += granules
        if (lengths[taken % lengths.length]! < 4) live.push(chunk)
        else rest.push(chunk)
      }
    })
  }
  for (let at = 0; at < rest.length; at += 64) {
    volume.transact(() => {
      for (const chunk of rest.slice(at, at + 64)) volume.free(chunk)
    })
  }
  const victims = scattered(2 ** 16, live.length)
  let done = 0
  return {
    made,
    volume,
    operation() {
      const victim = victims[done % victims.length]!
      volume.free(live[victim]!)
      const granules = 1 + lengths[done++ % lengths.length]!
      live[victim] = volume.allocate({ size: granules * GRANULE_BYTES })
    },
    note: `a pair: one of ${live.length} chunks freed, 2 to 16 MiB allocated`,
  }
}
