/** A file on a disk: barriers decide, so operations are timed one by one and barriers counted. */
import { performance } from 'node:perf_hooks'
import { MIB, PAGE_BYTES } from '../../src/base/units.js'
import { Volume } from '../../src/volume/volume.js'
import { timeOnce } from './measure.js'
import { scattered } from './scratch.js'
import type { Bench, Suite } from './suite.js'

const BARRIER = 'barrier-page'
const COMMIT = 'commit-64B-page'
const ASYNC = 'commit-async-1000'
const CONCURRENT = 1000
const CHUNK_BYTES = 16 * MIB

export const disk: Suite = {
  names: [BARRIER, COMMIT, ASYNC],
  async run(bench: Bench): Promise<void> {
    const path = bench.scratch.diskPath()
    // The log is large enough for all rounds: barriers of checkpoints are not counted with the commits'.
    Volume.format(path, { size: 128 * MIB, logSize: 64 * MIB })
    // Asked for, as the temporary directory may be on something better.
    const volume = Volume.open(path, { granularity: 'page' })
    try {
      await timeSync(bench, volume)
      if (bench.wants(ASYNC)) await timeAsync(bench, volume)
    } finally {
      volume.close()
    }
  },
}

async function timeSync(bench: Bench, volume: Volume): Promise<void> {
  const places = scattered(4096, CHUNK_BYTES / PAGE_BYTES)
  const bytes = new Uint8Array(64).fill(7)
  const raw = volume.allocate({ size: CHUNK_BYTES, zero: true })
  const logged = volume.allocate({ size: CHUNK_BYTES, zero: true })
  const { view } = raw
  const { rounds, warmup } = bench.plan({ rounds: 1000, warmup: 20 })
  const cases = [
    {
      name: BARRIER,
      run(at: number) {
        view.setUint32(at, at, true)
        raw.persist(at, PAGE_BYTES)
      },
    },
    { name: COMMIT, run: (at: number) => volume.transact((tx) => tx.write(logged, at, bytes)) },
  ]
    .filter(({ name }) => bench.wants(name))
    .map((one) => ({ ...one, samples: new Float64Array(rounds), barriers: 0 }))

  for (let round = -warmup; round < rounds; round++) {
    const at = places[(round + warmup) % places.length]! * PAGE_BYTES
    for (const one of cases) {
      const before = barriersOf(volume)
      const elapsed = timeOnce(() => one.run(at))
      if (round < 0) continue
      one.samples[round] = elapsed
      one.barriers = Math.max(one.barriers, barriersOf(volume) - before)
    }
  }
  for (const { name, samples, barriers } of cases) {
    const note = `${barriersText(barriers)} each${whereText(volume)}`
    bench.report({ name, unit: 'us', samples, sample: 'operation', note })
    bench.count(`${name} barriers`, barriers)
  }
}

async function timeAsync(bench: Bench, volume: Volume): Promise<void> {
  const bytes = new Uint8Array(64).fill(7)
  const chunk = volume.allocate({ size: CHUNK_BYTES, zero: true })
  const places = scattered(CONCURRENT, CHUNK_BYTES / bytes.length)
  const { rounds, warmup } = bench.plan({ rounds: 100, warmup: 10 })
  const samples = new Float64Array(rounds)
  let barriers = 0
  for (let round = -warmup; round < rounds; round++) {
    const before = barriersOf(volume)
    const started = performance.now()
    const under: Promise<void>[] = []
    for (const place of places) {
      under.push(volume.transactAsync((tx) => tx.write(chunk, place * bytes.length, bytes)))
    }
    await Promise.all(under)
    const elapsed = (performance.now() - started) * 1e6
    if (round < 0) continue
    samples[round] = elapsed
    barriers = Math.max(barriers, barriersOf(volume) - before)
  }
  const note = `${barriersText(barriers)} for all ${CONCURRENT}${whereText(volume)}`
  bench.report({ name: ASYNC, unit: 'us', samples, sample: 'operation', note })
  bench.count(`${ASYNC} barriers`, barriers)
}

function barriersOf(volume: Volume): number {
  return volume.stats().counters.barriers
}

function barriersText(count: number): string {
  return `${count} barrier${count === 1 ? '' : 's'} at most`
}

function whereText(volume: Volume): string {
  return volume.info.kind === 'tmpfs' ? '; in memory, where a barrier is nothing' : ''
}
