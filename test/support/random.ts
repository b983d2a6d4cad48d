import { randomInt } from 'node:crypto'
import { Random as Seeded } from 'plinth/testing'

/** Numbers that the same seed gives again, and what tests make of them. */
export class Random extends Seeded {
  /** `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1)
  }

  chance(of: number): boolean {
    return this.below(of) === 0
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
