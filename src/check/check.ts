/** The check: its steps, in order. Each stands on what those before it have made out. */
import { checkAnchors } from './anchors.js'
import { checkDirectory } from './directory.js'
import type { Finding, PlannedFix, Problem } from './finding.js'
import { Inspection, type Readable } from './inspection.js'
import { checkLog } from './log.js'
import { checkMemory, type Memory } from './memory.js'
import { checkSuperblocks } from './superblocks.js'
import { checkTable } from './table.js'

type Step = (inspection: Inspection) => Iterable<Problem>

/**
 * A step that looks into chunks (their own structures: type `plinth.…`) comes last: it finds them in
 * `inspection.chunks` and reads them with `inspection.readData`.
 */
const STEPS: readonly Step[] = [
  checkSuperblocks,
  checkAnchors,
  checkLog,
  checkTable,
  checkDirectory,
]

/** What an open volume adds. */
export interface OpenVolume extends Memory {
  readonly logUsedBytes: number
}

export interface Checked {
  readonly findings: Finding[]
  /** What would mend them, in the order in which it may be written. */
  readonly fixes: PlannedFix[]
  readonly inspection: Inspection
}

/** Looks at everything and writes nothing. */
export function checkDevice(device: Readable, open?: OpenVolume): Checked {
  const inspection = new Inspection(device, open)
  const findings: Finding[] = []
  const fixes: PlannedFix[] = []
  const take = (problems: Iterable<Problem>) => {
    for (const { fixes: its = [], ...finding } of problems) {
      findings.push({ ...finding, fixable: its.length > 0 && its.every(({ drops }) => !drops) })
      for (const fix of its) fixes.push(fix)
    }
  }
  for (const step of STEPS) take(step(inspection))
  if (open !== undefined) take(checkMemory(inspection, open))
  return { findings, fixes, inspection }
}
