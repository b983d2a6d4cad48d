/**
 * Timing on a machine that others use: short rounds, each case once a round in turn, so that what
 * disturbs the machine disturbs all cases alike. Figures are medians over rounds; two cases are
 * compared within each round, and the ratio is the median of those ratios.
 */
import { performance } from 'node:perf_hooks'
import { setImmediate } from 'node:timers/promises'

export type Unit = 'ns' | 'us' | 'ms'
export const NS_PER: Record<Unit, number> = { ns: 1, us: 1e3, ms: 1e6 }

export interface Result {
  readonly name: string
  /** In which the figures are shown. */
  readonly unit: Unit
  /** Nanoseconds of one operation, one for each sample. */
  readonly samples: Float64Array
  /** What a sample is: the average of a round, or a single operation. */
  readonly sample: 'round' | 'operation'
  readonly note: string
}

/** A case whose operations are too short to be timed one by one. */
export interface Timed {
  readonly name: string
  /** Operations of one round. */
  readonly operations: number
  run(operations: number): void
}

export interface Plan {
  /** Rounds that count. */
  readonly rounds: number
  /** Rounds before, for the compiler, the caches and the page tables. */
  readonly warmup: number
}

/** Runs the cases in rounds and returns the samples of each: nanoseconds of one operation. */
export async function timeRounds(
  cases: readonly Timed[],
  plan: Plan,
): Promise<Map<string, Float64Array>> {
  const samples = cases.map(() => new Float64Array(plan.rounds))
  for (let round = -plan.warmup; round < plan.rounds; round++) {
    for (let i = 0; i < cases.length; i++) {
      // Another one begins each time: none always runs in the caches that the same other one left.
      const index = (i + round + plan.warmup) % cases.length
      const { operations, run } = cases[index]!
      const started = performance.now()
      run(operations)
      const elapsed = performance.now() - started
      if (round >= 0) samples[index]![round] = (elapsed * 1e6) / operations
    }
    // Outside of what is timed; a signal is heard here alone.
    if (round % 16 === 0) await setImmediate()
  }
  return new Map(cases.map(({ name }, i) => [name, samples[i]!]))
}

/** Times one operation, in nanoseconds. */
export function timeOnce(run: () => void): number {
  const started = performance.now()
  run()
  return (performance.now() - started) * 1e6
}

export function median(samples: ArrayLike<number>): number {
  return quantile(samples, 0.5)
}

/** The sample below which `share` of them lie. */
export function quantile(samples: ArrayLike<number>, share: number): number {
  const sorted = Float64Array.from(samples).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
}

/** The ratios of samples that were taken in the same round. */
export function ratios(above: Float64Array, below: Float64Array): Float64Array {
  return above.map((value, round) => value / below[round]!)
}
