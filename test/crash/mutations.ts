/**
 * The mutation score: `npm run test:mutations`. Every flush, fence and append of the library is left
 * out or delayed past the next fence, one place at a time, every named check is switched off, and the
 * lab is run: it must notice. Places are told by who calls the media seam, read from the stack, so a
 * new call is a new mutation without anybody listing it.
 *
 * What is harmless is listed with the reason, and a listed one that is caught is an error too.
 */
import { parseArgs } from 'node:util'
import type { PointKind, Verdict } from '../../src/testing/simulated-media.js'
import { Lab } from './lab.js'
import { SCENARIOS } from './scenarios.js'
import { CHECKS, importWithout } from './without.js'
import { directedWorkloads, type Workload, workloads } from './workloads.js'

/** Mutations that no crash state can show, and why. */
export const HARMLESS: Readonly<Record<string, string>> = {}

export interface Mutation {
  readonly name: string
  readonly judge: (kind: PointKind) => Verdict
  /** A name of `CHECKS`. */
  readonly check?: string
}

/** Who calls the seam: the two nearest functions outside of it. */
function callSite(kind: PointKind): string {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 14
  const { stack } = new Error('site')
  Error.stackTraceLimit = limit
  const frames = stack!
    .split('\n')
    .slice(1)
    .filter(
      (line) => !/simulated-media\.js|media\/media\.js|mutations\.js|node:internal/.test(line),
    )
    .map((line) => /at (?:async )?(?:new )?([^\s]+) \(/.exec(line)?.[1] ?? 'anonymous')
  return `${kind} of ${frames[0]} for ${frames[1]}`
}

const GO = () => 'go' as const

/** Every place that calls the seam in a sample of workloads. */
export function findSites(sample: number): string[] {
  const sites = new Set<string>()
  const lab = newLab((kind) => {
    if (kind !== 'store') sites.add(callSite(kind))
    return 'go'
  })
  let left = sample
  for (const { age, operations, crashModel } of workloads(7, { index: 0, of: 1 }, 2)) {
    // A workload of an engine's volume takes as long as twenty others, and comes to the same places.
    if (age.name.startsWith('engine')) continue
    if (left-- === 0) break
    lab.run(age, operations, crashModel)
  }
  return [...sites].sort()
}

function newLab(judge: (kind: PointKind) => Verdict): Lab {
  return new Lab({
    seed: 3,
    limits: { exhaustive: 16, samples: 4 },
    nestOneIn: 6,
    probeOneIn: 6,
    judge,
  })
}

export function allMutations(sites: readonly string[]): Mutation[] {
  const ofSites = sites.flatMap((site) =>
    (['skip', 'delay'] as const).map((verdict) => ({
      name: `${verdict} ${site}`,
      judge: (kind: PointKind) => (kind !== 'store' && callSite(kind) === site ? verdict : 'go'),
    })),
  )
  const ofChecks = Object.keys(CHECKS).map((check) => ({
    name: `without ${check}`,
    judge: GO,
    check,
  }))
  return [...ofSites, ...ofChecks]
}

/** What noticed the mutation, undefined when nothing did within the budget, of the processor's seconds. */
export async function tryMutation(
  { check, judge }: Mutation,
  seconds: number,
): Promise<string | undefined> {
  if (check === undefined) return tryJudge(judge, seconds)
  const own = await importWithout<{ tryJudge: typeof tryJudge }>(check, new URL(import.meta.url))
  return own.tryJudge(judge, seconds)
}

/** The same of the library as it was loaded here. */
export function tryJudge(judge: Mutation['judge'], seconds: number): string | undefined {
  try {
    for (const scenario of SCENARIOS) scenario.run(judge)
    const until = process.cpuUsage().user + seconds * 1e6
    const lab = newLab(judge)
    for (const { age, operations, crashModel } of mostTellingFirst()) {
      if (process.cpuUsage().user > until) return undefined
      lab.run(age, operations, crashModel)
    }
    return undefined
  } catch (error) {
    return (error as Error).message.split('\n')[0]!
  }
}

function* mostTellingFirst(): Generator<Workload> {
  const all = { index: 0, of: 1 }
  yield* directedWorkloads()
  yield* workloads(7, all, 1)
  yield* workloads(7, all, 2)
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      only: { type: 'string', default: '' },
      verbose: { type: 'boolean', default: false },
    },
  })
  const mutations = allMutations(findSites(400)).filter(({ name }) => name.includes(values.only))
  let caught = 0
  const wrong: string[] = []
  for (const mutation of mutations) {
    const { name } = mutation
    const noticed = await tryMutation(mutation, Number(values.seconds))
    const reason = HARMLESS[name]
    if (noticed !== undefined) caught++
    if (noticed === undefined && reason === undefined)
      wrong.push(`no crash state needs it: ${name}`)
    if (noticed !== undefined && reason !== undefined) wrong.push(`listed and caught: ${name}`)
    const verdict = noticed !== undefined ? 'caught' : reason ? 'harmless' : 'SURVIVED'
    console.log(
      `${verdict.padEnd(9)} ${name}${values.verbose ? `\n          ${noticed ?? reason}` : ''}`,
    )
  }
  const listed = mutations.filter(({ name }) => HARMLESS[name] !== undefined).length
  console.log(`mutations ${mutations.length}: caught ${caught}, harmless and listed ${listed}`)
  console.log(`score ${((100 * caught) / (mutations.length - listed)).toFixed(1)} %`)
  for (const what of wrong) console.log(what)
  if (wrong.length > 0) process.exitCode = 1
}

if (process.argv[1]?.endsWith('mutations.js') && new URL(import.meta.url).search === '')
  await main()
