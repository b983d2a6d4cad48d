/** The checkpoint headers: both copies, which one counts, whether the volume was closed. */
import { PAGE_BYTES } from '../base/units.js'
import {
  CHECKPOINT,
  CHECKPOINT_STATE,
  decodeCheckpoint,
  newerCheckpoint,
} from '../layout/checkpoint-header.js'
import { CHECKPOINT_AT } from '../layout/geometry.js'
import type { PlannedFix, Problem } from './finding.js'
import type { Inspection } from './inspection.js'
import { isCheckpointPage } from './intruder.js'

const NAMES = ['first', 'second'] as const

/** The page of a checkpoint header: whatever else was there goes with it. */
function checkpointPage(line: Uint8Array): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES)
  page.set(line)
  return page
}

export function* checkCheckpoints(inspection: Inspection): Iterable<Problem> {
  const { device, geometry, seed, isOpen, takesBack } = inspection
  if (geometry === undefined) return
  const places = [CHECKPOINT_AT, geometry.checkpointCopyAt] as const
  const pages = places.map((at) => device.read(at, PAGE_BYTES))
  const lines = pages.map((page) => page.subarray(0, CHECKPOINT.bytes))
  const decoded = lines.map((line) => decodeCheckpoint(line, seed))
  // What somebody else has put behind a checkpoint header goes with its page, once the other can take its place.
  const clean = decoded.map((header, copy) => (isCheckpointPage(pages[copy]!) ? header : undefined))
  const found = takesBack && clean.some((header) => header !== undefined) ? clean : decoded
  const winner = newerCheckpoint(found[0], found[1])
  if (winner === undefined) {
    yield {
      code: 'checkpoint-damaged',
      severity: 'error',
      place: { area: 'checkpoint-header', offset: places[0] },
      message:
        'both checkpoint headers are damaged: where replay begins is not known, so nothing can be recovered safely',
    }
    return
  }
  const header = found[winner]!
  if (header.slotsUsed > geometry.slots) {
    yield {
      code: 'checkpoint-impossible',
      severity: 'error',
      place: { area: 'checkpoint-header', copy: winner, offset: places[winner] },
      message: `the checkpoint header names ${header.slotsUsed} chunk slots, the table has ${geometry.slots}`,
    }
    return
  }
  inspection.checkpointHeader = header
  const copy = winner === 0 ? 1 : 0
  const other = found[copy]
  const place = { area: 'checkpoint-header', copy, offset: places[copy] } as const
  const fixFor = (code: Problem['code']): PlannedFix => ({
    code,
    place,
    message: `the ${NAMES[copy]} checkpoint header is written from the ${NAMES[winner]}`,
    drops: false,
    offset: places[copy],
    bytes: checkpointPage(lines[winner]!),
  })
  if (other === undefined) {
    yield {
      code: 'checkpoint-damaged',
      severity: 'warning',
      place,
      message: `the ${NAMES[copy]} checkpoint header is damaged; the ${NAMES[winner]} serves`,
      fixes: [fixFor('checkpoint-damaged')],
    }
  } else if (Buffer.compare(lines[0]!, lines[1]!) !== 0) {
    yield {
      code: 'checkpoint-behind',
      severity: 'info',
      place,
      message: `the ${NAMES[copy]} checkpoint header is older than the ${NAMES[winner]}: a crash came between the two`,
      fixes: [fixFor('checkpoint-behind')],
    }
  }
  if (header.state === CHECKPOINT_STATE.OPEN && !isOpen) {
    yield {
      code: 'not-closed',
      severity: 'info',
      place: { area: 'checkpoint-header', copy: winner, offset: places[winner] },
      message: 'the last user did not close the volume; opening it replays the log',
    }
  }
}
