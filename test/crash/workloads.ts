/** All workloads of up to three operations, in an order that a seed decides, cut into parts for several processes. */
import { MODELS } from '../../src/testing/crash-test.js'
import { Random } from '../../src/testing/random.js'
import type { Model as CrashModel } from '../../src/testing/simulated-media.js'
import { type Age, makeAges } from './lab.js'
import { OPERATIONS } from './operations.js'
import type { Operation } from './world.js'

export interface Workload {
  readonly age: Age
  readonly crashModel: CrashModel
  readonly operations: readonly Operation[]
}

/** A workload in the order of trying, with how many there are of its kind. */
export interface Planned extends Workload {
  readonly stage: string
  readonly ofStage: number
}

export function nameOf({ age, crashModel, operations }: Workload): string {
  return `${age.name}/${crashModel}/${operations.map(({ name }) => name).join('+')}`
}

function* sequences(of: readonly Operation[], length: number): Generator<readonly Operation[]> {
  if (length === 0) yield []
  else {
    for (const rest of sequences(of, length - 1)) {
      for (const operation of of) yield [...rest, operation]
    }
  }
}

let made: Age[] | undefined

/** Made once: nobody writes to their images. */
function allAges(): readonly Age[] {
  made ??= makeAges()
  return made
}

/** What is tried in every sequence of three; the others in every sequence of two, and as time allows. */
export const CORE_OPERATIONS = [
  'allocate',
  'free',
  'rename',
  'tx-write',
  'tx-several',
  'raw-persist',
  'publish',
  'cancel',
  'object-allocate',
  'object-free',
  'checkpoint',
  'close',
]
export const CORE_AGES = ['fresh', 'nearly-full', 'fragmented', 'log-nearly-full', 'log-at-end']

interface Stage {
  readonly name: string
  readonly length: number
  readonly operations: readonly Operation[]
  readonly ages: readonly Age[]
}

function stages(ages: readonly Age[]): Stage[] {
  const core = {
    name: 'three of the core',
    length: 3,
    operations: OPERATIONS.filter(({ name }) => CORE_OPERATIONS.includes(name)),
    ages: ages.filter(({ name }) => CORE_AGES.includes(name)),
  }
  const every = (name: string, length: number) => ({ name, length, operations: OPERATIONS, ages })
  return [every('one operation', 1), every('two', 2), core, every('three', 3)]
}

/**
 * Short sequences first, and of three those of the core; shuffled by the seed among those, so that any
 * part is a fair sample. None comes twice.
 */
export function* workloads(
  seed: number,
  part: { index: number; of: number } = { index: 0, of: 1 },
  longest = 3,
): Generator<Planned> {
  // Parts differ in the age of the volume: their images are never the same.
  const own = allAges().filter((_, i) => i % part.of === part.index)
  const done: Stage[] = []
  for (const stage of stages(own)) {
    const { length, operations, ages } = stage
    if (length > longest) return
    const before = done.filter((each) => each.length === length)
    const all: Workload[] = []
    for (const sequence of sequences(operations, length)) {
      for (const age of ages) {
        if (before.some((each) => includes(each, age, sequence)) || !isOf(age, sequence)) continue
        for (const crashModel of MODELS) all.push({ age, crashModel, operations: sequence })
      }
    }
    shuffle(all, new Random(seed + length))
    for (const each of all) yield { ...each, stage: stage.name, ofStage: all.length }
    done.push(stage)
  }
}

/** A state of an engine's volume takes five times as long to compare: those are for what engines do. */
function isOf(age: Age, sequence: readonly Operation[]): boolean {
  return !age.name.startsWith('engine') || sequence.some(({ name }) => name.startsWith('whole'))
}

function includes(stage: Stage, age: Age, sequence: readonly Operation[]): boolean {
  return stage.ages.includes(age) && sequence.every((each) => stage.operations.includes(each))
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
    for (const age of allAges()) {
      for (const crashModel of MODELS) {
        const workload = findWorkload(`${age.name}/${crashModel}/${sequence}`, age)!
        if (isOf(age, workload.operations)) yield workload
      }
    }
  }
}

/** The one workload of a name, to repeat a failure. */
export function findWorkload(name: string, known?: Age): Workload | undefined {
  const [ageName, crashModel, sequence] = name.split('/')
  const age = known ?? allAges().find((each) => each.name === ageName)
  const operations = sequence
    ?.split('+')
    .map((each) => OPERATIONS.find((operation) => operation.name === each))
  if (age === undefined || operations === undefined || operations.includes(undefined))
    return undefined
  if (!MODELS.includes(crashModel as CrashModel)) return undefined
  return { age, crashModel: crashModel as CrashModel, operations: operations as Operation[] }
}
