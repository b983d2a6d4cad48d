/** The check: its steps, in order. Each stands on what those before it have made out. */

import { checkBadBlocks } from './bad-blocks.js'
import { checkCheckpoints } from './checkpoint-headers.js'
import { checkDirectory } from './directory.js'
import {
  FINDINGS_MAX,
  type Finding,
  type FindingCode,
  type PlannedFix,
  type Problem,
} from './finding.js'
import { checkHeaps } from './heaps.js'
import { Inspection, type Readable } from './inspection.js'
import { Lenient } from './lenient.js'
import { checkLog } from './log.js'
import { checkMemory, type Memory } from './memory.js'
import { checkSuperblocks } from './superblocks.js'
import { checkTable } from './table.js'

type Step = (inspection: Inspection) => Iterable<Problem>

const STEPS: readonly Step[] = [
  checkSuperblocks,
  checkCheckpoints,
  checkLog,
  checkTable,
  checkDirectory,
  checkHeaps,
  checkBadBlocks,
]

/** What is found, in order; beyond a number of each code it is counted. */
class Problems {
  readonly #told: Problem[] = []
  readonly #counts = new Map<FindingCode, number>()
  readonly #rest = new Map<FindingCode, Problem & { count: number }>()

  add(problem: Problem): void {
    const { code, severity, place, count = 1 } = problem
    const told = this.#counts.get(code) ?? 0
    const rest = this.#rest.get(code)
    if (told < FINDINGS_MAX) {
      this.#told.push(problem)
      this.#counts.set(code, told + 1)
    } else if (rest !== undefined) rest.count += count
    else this.#rest.set(code, { code, severity, place, message: '', count })
  }

  *told(): Iterable<Problem> {
    yield* this.#told
    for (const rest of this.#rest.values()) {
      yield {
        ...rest,
        message: `${rest.count} more of the kind are from here on: a repair of those before comes to them, and a check then`,
      }
    }
  }
}

/** What an open volume adds. */
export interface OpenVolume extends Memory {
  readonly logUsedBytes: number
}

export interface Checked {
  readonly findings: Finding[]
  /** What would repair them, in the order in which it may be written. */
  readonly fixes: PlannedFix[]
  readonly inspection: Inspection
}

/**
 * Looks at everything and writes nothing. On a device that somebody else has now, nothing more is looked at
 * and nothing fixed, unless the volume takes it back.
 */
export function checkDevice(device: Readable, open?: OpenVolume, takesBack = false): Checked {
  const inspection = new Inspection(new Lenient(device), open, takesBack)
  const problems = new Problems()
  const take = (found: Iterable<Problem>) => {
    for (const problem of found) problems.add(problem)
  }
  for (const step of STEPS) take(step(inspection))
  if (open !== undefined) take(checkMemory(inspection, open))
  const findings: Finding[] = []
  const fixes: PlannedFix[] = []
  for (const { fixes: all = [], ...finding } of problems.told()) {
    // What would be written to a bad block, or to what cannot be read, repairs nothing.
    // The bytes of many slots are not made to be asked for their length alone.
    const { badBlocks } = inspection.device
    const its = badBlocks.isEmpty
      ? all
      : all.filter(({ offset, bytes }) => !badBlocks.touches(offset, bytes.length))
    const drops = (fix: PlannedFix) => fix.drops || inspection.logIsGone
    findings.push({
      ...finding,
      fixable: its.length > 0 && its.length === all.length && !its.some(drops),
    })
    for (const fix of its) fixes.push(fix.drops === drops(fix) ? fix : { ...fix, drops: true })
  }
  return { findings, fixes, inspection }
}
