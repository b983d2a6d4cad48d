/** All workloads of up to three operations, in an order that a seed decides, cut into parts for several processes. */
import { Random } from '../../src/testing/random.js'
import type { Model as CrashModel } from '../../src/testing/simulated-media.js'
import { type Age, makeAges } from './lab.js'
import { OPERATIONS, type Operation } from './world.js'

export const CRASH_MODELS: readonly CrashModel[] = ['cache-line', 'page', 'byte']

export interface Workload {
  readonly age: Age
  readonly crashModel: CrashModel
  readonly operations: readonly Operation[]
}

export function nameOf({ age, crashModel, operations }: Workload): string {
  return `${age.name}/${crashModel}/${operations.map(({ name }) => name).join('+')}`
}

function* sequences(length: number): Generator<readonly Operation[]> {
  if (length === 0) yield []
  else {
    for (const rest of sequences(length - 1)) {
      for (const operation of OPERATIONS) yield [...rest, operation]
    }
  }
}

/** Short sequences first; within a length shuffled by the seed, so that any part of them is a fair sample. */
export function* workloads(
  seed: number,
  part: { index: number; of: number } = { index: 0, of: 1 },
  longest = 3,
): Generator<Workload> {
  // Parts differ in the age of the volume: their images are never the same.
  const ages = makeAges().filter((_, i) => i % part.of === part.index)
  for (let length = 1; length <= longest; length++) {
    const all: Workload[] = []
    for (const operations of sequences(length)) {
      for (const age of ages) {
        for (const crashModel of CRASH_MODELS) all.push({ age, crashModel, operations })
      }
    }
    shuffle(all, new Random(seed + length))
    yield* all
  }
}

function shuffle<T>(items: T[], random: Random): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.below(i + 1)
    const kept = items[i]!
    items[i] = items[j]!
    items[j] = kept
  }
}

/** What sequences of three are about to find, sooner: for runs with a small budget. */
const DIRECTED = [
  'tx-write+free+publish',
  'tx-write+tx-write+tx-write',
  'tx-write+raw-persist+tx-write',
  'publish+free+allocate-zero',
  'tx-several+checkpoint+tx-several',
  'tx-write+checkpoint',
  'tx-several+close',
  'tx-several+tx-write+checkpoint',
]

export function* directedWorkloads(): Generator<Workload> {
  for (const sequence of DIRECTED) {
    for (const age of makeAges()) {
      for (const crashModel of CRASH_MODELS) {
        yield findWorkload(`${age.name}/${crashModel}/${sequence}`, age)!
      }
    }
  }
}

/** The one workload of a name, to repeat a failure. */
export function findWorkload(name: string, known?: Age): Workload | undefined {
  const [ageName, crashModel, sequence] = name.split('/')
  const age = known ?? makeAges().find((each) => each.name === ageName)
  const operations = sequence
    ?.split('+')
    .map((each) => OPERATIONS.find((operation) => operation.name === each))
  if (age === undefined || operations === undefined || operations.includes(undefined))
    return undefined
  if (!CRASH_MODELS.includes(crashModel as CrashModel)) return undefined
  return { age, crashModel: crashModel as CrashModel, operations: operations as Operation[] }
}
