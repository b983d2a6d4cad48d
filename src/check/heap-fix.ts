/** Writes that repair a heap. It is kept once: they write what is certain, or give something up. */
import type { Offset } from '../base/units.js'
import type { FindingCode, Place, PlannedFix } from './finding.js'
import type { Inspection } from './inspection.js'

export interface HeapFix {
  readonly code: FindingCode
  readonly offset: Offset
  readonly bytes: Uint8Array
  readonly message: string
  readonly drops: boolean
}

export function placeIn(offset: Offset): Place {
  return { area: 'heap', offset }
}

/** None where recovery would write as well: its bytes would come over these. */
export function heapFix(inspection: Inspection, fix: HeapFix): PlannedFix[] {
  const { offset, bytes } = fix
  return inspection.isLogged(offset, bytes.length) ? [] : [{ ...fix, place: placeIn(offset) }]
}
