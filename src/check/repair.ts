/**
 * Repair: the fixes that a check has found, written one at a time.
 *
 * Each fix overwrites a copy that does not count, from the one that does; so at any instant
 * everything that the volume stands on is whole, and a crash leaves it no worse. Of what is kept once (heaps) it
 * writes damaged bytes alone, and what a crash leaves of that is repaired by the next repair. Only
 * `dropDamaged` writes where nothing tells what was there.
 */
import { alignDown, alignUp, type Offset } from '../base/units.js'
import type { Geometry } from '../layout/geometry.js'
import type { Mapping, Media } from '../media/media.js'
import {
  describePlace,
  type Finding,
  type Fix,
  formatFindings,
  type Place,
  type PlannedFix,
} from './finding.js'

/** Options of `Volume.repair`. */
export interface RepairOptions {
  /** Say what would be done and write nothing. @default true */
  readonly dryRun?: boolean | undefined
  /**
   * Give up what nothing on the device can restore, so that the rest can be used: chunks of which both
   * slots are damaged, what was committed behind a damaged record of the log, slabs whose entry is lost,
   * chunks of heaps that are gone, a root that is no pointer.
   * @default false
   */
  readonly dropDamaged?: boolean | undefined
  /**
   * Take the device back from whoever has it now: what stands in the place of the volume's metadata is
   * overwritten. @default false: a device that somebody else has is refused with ERR_DEVICE_IN_USE
   */
  readonly force?: boolean | undefined
}

/** What `Volume.repair` found and did. */
export interface RepairReport {
  /** Whether nothing was written. */
  readonly dryRun: boolean
  /** What was found before. */
  readonly findings: readonly Finding[]
  /** What was done, or in a dry run would be, in order. */
  readonly fixes: readonly Fix[]
  /** What is found afterwards; in a dry run what no fix would repair. */
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
  const repaired = new Set<string>()
  const key = (code: string, area: string, offset: Offset) => `${code} ${area} ${offset}`
  for (const { code, place, offset } of fixes) {
    repaired.add(key(code, place.area, offset)).add(key(code, place.area, place.offset))
  }
  return findings.filter(({ code, place }) => !repaired.has(key(code, place.area, place.offset)))
}

/** Writes fixes. Durable when it returns. */
export function applyFixes(
  media: Media,
  metadata: readonly Mapping[],
  { granuleBytes }: Geometry,
  fixes: readonly PlannedFix[],
): void {
  for (const [i, { offset, bytes, place }] of fixes.entries()) {
    const end = offset + bytes.length
    const isWithin = (each: Mapping) => offset >= each.offset && end <= each.offset + each.length
    const known = metadata.find(isWithin)
    const start = alignDown(offset, granuleBytes)
    const mapping = known ?? media.map(start, alignUp(end - start, granuleBytes))
    // One copy, then a fence: the other copy is whole while this one is written. A crash here leaves
    // this one damaged, as it was. Slots of one copy are written together: the other has all of them.
    media.write(mapping, offset - mapping.offset, bytes)
    if (!isSameCopy(place, fixes[i + 1]?.place)) media.fence()
    if (known === undefined) media.unmap(mapping)
  }
}

function isSameCopy(place: Place, next: Place | undefined): boolean {
  return place.area === 'chunk-table' && next?.area === 'chunk-table' && place.copy === next.copy
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
