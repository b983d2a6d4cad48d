import { randomInt } from 'node:crypto'

/** Numbers that the same seed gives again. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** 32 bits (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return (t ^ (t >>> 14)) >>> 0
  }

  /** 0 to `end`, without `end`. */
  below(end: number): number {
    return this.next() % end
  }

  /** `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1)
  }

  chance(of: number): boolean {
    return this.below(of) === 0
  }

  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new Error('nothing to pick from')
    return list[this.below(list.length)]!
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length }, () => this.next())
  }
}

/** The seed of this run: TEST_SEED repeats one. */
export const seedOfRun: number =
  process.env.TEST_SEED === undefined ? randomInt(2 ** 31) : Number(process.env.TEST_SEED)

/** Runs `body` with the seed of this run plus `offset`; a failure says how to repeat it. */
export function seeded<T>(body: (random: Random, seed: number) => T, offset = 0): T {
  const seed = (seedOfRun + offset) >>> 0
  const explain = (error: unknown): never => {
    throw new Error(`repeat with TEST_SEED=${seedOfRun}: ${(error as Error)?.message ?? error}`, {
      cause: error,
    })
  }
  try {
    const result = body(new Random(seed), seed)
    return result instanceof Promise ? (result.catch(explain) as T) : result
  } catch (error) {
    return explain(error)
  }
}
