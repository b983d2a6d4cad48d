/**
 * Repair: the fixes that a check has found, written one at a time.
 *
 * Each fix overwrites a copy that does not count, from the one that does; so at any instant
 * everything that the volume stands on is whole, and a crash leaves it no worse. Only `dropDamaged`
 * writes where nothing is whole.
 */
import { assert } from '../base/assert.js'
import type { Mapping, Media } from '../media/media.js'
import {
  describePlace,
  type Finding,
  type Fix,
  formatFindings,
  type PlannedFix,
} from './finding.js'

export interface RepairOptions {
  /** Say what would be done and write nothing. @default true */
  readonly dryRun?: boolean | undefined
  /**
   * Give up chunks of which both slots are damaged, so that the rest of the volume can be opened.
   * @default false
   */
  readonly dropDamaged?: boolean | undefined
}

export interface RepairReport {
  readonly dryRun: boolean
  /** What was found before. */
  readonly findings: readonly Finding[]
  /** What was done, or in a dry run would be, in order. */
  readonly fixes: readonly Fix[]
  /** What is found afterwards; in a dry run what no fix would mend. */
  readonly remaining: readonly Finding[]
}

/** The fixes that these options allow. */
export function chooseFixes(fixes: readonly PlannedFix[], dropDamaged: boolean): PlannedFix[] {
  return fixes.filter(({ drops }) => dropDamaged || !drops)
}

/** The findings that remain when these fixes are made. */
export function remainingAfter(
  findings: readonly Finding[],
  fixes: readonly PlannedFix[],
): Finding[] {
  return findings.filter(
    ({ code, place }) =>
      !fixes.some(
        (fix) =>
          fix.code === code &&
          fix.place.area === place.area &&
          (fix.offset === place.offset || fix.place.offset === place.offset),
      ),
  )
}

/** Writes fixes. Durable when it returns. */
export function applyFixes(
  media: Media,
  mappings: readonly Mapping[],
  fixes: readonly PlannedFix[],
): void {
  for (const { offset, bytes } of fixes) {
    const mapping = mappings.find(
      (each) => offset >= each.offset && offset + bytes.length <= each.offset + each.length,
    )
    assert(mapping !== undefined, 'fixes are within the metadata')
    // One copy, then a fence: the other copy is whole while this one is written. A crash here leaves
    // this one damaged, as it was.
    media.write(mapping, offset - mapping.offset, bytes)
    media.fence()
  }
}

/** The report as text: a line for each fix, then what remains. */
export function formatRepair({ dryRun, fixes, remaining }: RepairReport): string {
  const lines = fixes.map(
    ({ code, place, message }) =>
      `${dryRun ? 'would fix' : 'fixed'}: ${code} at ${describePlace(place)}: ${message}`,
  )
  if (fixes.length === 0) lines.push('nothing to fix')
  if (remaining.length > 0) lines.push('remaining:', formatFindings(remaining))
  return lines.join('\n')
}
