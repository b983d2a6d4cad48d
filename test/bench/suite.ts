/** What a suite is given and what it gives back. */
import type { Plan, Result } from './measure.js'
import type { Scratch } from './scratch.js'

export interface Bench {
  /** A run for the tests: the same cases, too few rounds for figures to be believed. */
  readonly quick: boolean
  readonly scratch: Scratch
  wants(name: string): boolean
  /** Takes the place of `full` in a quick run. */
  plan(full: Plan): Plan
  report(result: Result): void
  /** A count that a goal is about. */
  count(name: string, value: number): void
}

/** Cases that are measured against each other. */
export interface Suite {
  readonly names: readonly string[]
  run(bench: Bench): Promise<void>
}
