/** The anchors: both copies, which one counts, whether the volume was closed. */
import { PAGE_BYTES } from '../base/units.js'
import { ANCHOR, ANCHOR_STATE, decodeAnchor, newerAnchor } from '../layout/anchor.js'
import { ANCHOR_AT } from '../layout/geometry.js'
import type { PlannedFix, Problem } from './finding.js'
import type { Inspection } from './inspection.js'
import { isAnchorPage } from './intruder.js'

const NAMES = ['first', 'second'] as const

/** The page of an anchor: whatever else was there goes with it. */
function anchorPage(line: Uint8Array): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES)
  page.set(line)
  return page
}

export function* checkAnchors(inspection: Inspection): Iterable<Problem> {
  const { device, geometry, seed, isOpen, takesBack } = inspection
  if (geometry === undefined) return
  const places = [ANCHOR_AT, geometry.anchorCopyAt] as const
  const pages = places.map((at) => device.read(at, PAGE_BYTES))
  const lines = pages.map((page) => page.subarray(0, ANCHOR.bytes))
  const decoded = lines.map((line) => decodeAnchor(line, seed))
  // What somebody else has put behind an anchor goes with the anchor's page, once the other can take its place.
  const clean = decoded.map((anchor, copy) => (isAnchorPage(pages[copy]!) ? anchor : undefined))
  const found = takesBack && clean.some((anchor) => anchor !== undefined) ? clean : decoded
  const winner = newerAnchor(found[0], found[1])
  if (winner === undefined) {
    yield {
      code: 'anchor-damaged',
      severity: 'error',
      place: { area: 'anchor', offset: places[0] },
      message:
        'both anchors are damaged: where replay begins is not known, so nothing can be recovered safely',
    }
    return
  }
  const anchor = found[winner]!
  if (anchor.slotsUsed > geometry.slots) {
    yield {
      code: 'anchor-impossible',
      severity: 'error',
      place: { area: 'anchor', copy: winner, offset: places[winner] },
      message: `the anchor names ${anchor.slotsUsed} chunk slots, the table has ${geometry.slots}`,
    }
    return
  }
  inspection.anchor = anchor
  const copy = winner === 0 ? 1 : 0
  const other = found[copy]
  const place = { area: 'anchor', copy, offset: places[copy] } as const
  const fixFor = (code: Problem['code']): PlannedFix => ({
    code,
    place,
    message: `the ${NAMES[copy]} anchor is written from the ${NAMES[winner]}`,
    drops: false,
    offset: places[copy],
    bytes: anchorPage(lines[winner]!),
  })
  if (other === undefined) {
    yield {
      code: 'anchor-damaged',
      severity: 'warning',
      place,
      message: `the ${NAMES[copy]} anchor is damaged; the ${NAMES[winner]} serves`,
      fixes: [fixFor('anchor-damaged')],
    }
  } else if (Buffer.compare(lines[0]!, lines[1]!) !== 0) {
    yield {
      code: 'anchor-behind',
      severity: 'info',
      place,
      message: `the ${NAMES[copy]} anchor is older than the ${NAMES[winner]}: a crash came between the two`,
      fixes: [fixFor('anchor-behind')],
    }
  }
  if (anchor.state === ANCHOR_STATE.OPEN && !isOpen) {
    yield {
      code: 'not-closed',
      severity: 'info',
      place: { area: 'anchor', copy: winner, offset: places[winner] },
      message: 'the last user did not close the volume; opening it replays the log',
    }
  }
}
