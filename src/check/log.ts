/**
 * The log: the valid prefix, what it says, why it ends where it ends.
 *
 *          head            end
 *   ───────┼────────────────┼──────────────────────────────▶ position
 *          │ valid records  │ broken │ later records?
 *
 * Recovery takes the first record that is not whole for the torn tail, unless it can tell that it was
 * durable: by a whole record behind it that says so. Two more signs of damage are seen here: an open
 * volume knows where its log ends; and a record that one flipped bit makes whole was hardly torn.
 *
 * Flipping that bit back is right in either case. A record that was durable is itself again; one that
 * was torn so is what its commit wrote, and of a commit that never returned both outcomes are allowed.
 */
import { PlinthError } from '../base/errors.js'
import { CHUNK_SLOT } from '../layout/chunk-slot.js'
import { TABLE_AT } from '../layout/geometry.js'
import { ENTRY } from '../layout/record.js'
import { recordSeed } from '../log/log.js'
import {
  isDamagedAt,
  type LogBytes,
  type LogPrefix,
  Revocations,
  walkPrefix,
} from '../log/replay.js'
import { findFlippedBit } from './bit-flip.js'
import type { FindingCode, Problem } from './finding.js'
import type { Inspection } from './inspection.js'

export function* checkLog(inspection: Inspection): Iterable<Problem> {
  const { geometry, anchor } = inspection
  if (geometry === undefined || anchor === undefined) return
  const log = {
    geometry,
    bytes: inspection.device.read(geometry.logAt, geometry.logBytes),
    head: anchor.head,
    seed: recordSeed(inspection.seed, anchor.epoch),
  }
  let prefix: LogPrefix
  try {
    prefix = follow(inspection, log)
  } catch (error) {
    if (!(error instanceof PlinthError)) throw error
    yield {
      code: 'log-entry-impossible',
      severity: 'error',
      place: { area: 'log', offset: geometry.logAt },
      message: error.message,
    }
    return
  }
  yield* checkEnd(inspection, log, prefix)
}

/** Collects what the valid prefix says, as recovery would replay it. */
function follow(inspection: Inspection, log: LogBytes): LogPrefix {
  const { loggedSlots, changes } = inspection
  const revocations = new Revocations()
  const prefix = walkPrefix(log, (kind, offset, length, from, position) => {
    if (kind === ENTRY.REVOKE) revocations.add(offset, length, position)
    if (kind === ENTRY.SLOT) {
      const slot = (offset - TABLE_AT) / CHUNK_SLOT.bytes
      loggedSlots.set(slot, log.bytes.subarray(from, from + length))
    }
  })
  revocations.settle()
  walkPrefix(
    log,
    (kind, offset, length, from, position) => {
      if (kind !== ENTRY.WORDS && kind !== ENTRY.BYTES) return
      revocations.pieces(offset, length, position, (skip, rest) => {
        const at = from + skip
        changes.push({ offset: offset + skip, bytes: log.bytes.subarray(at, at + rest) })
      })
    },
    prefix,
  )
  return prefix
}

function* checkEnd(
  inspection: Inspection,
  log: LogBytes,
  { end, records }: LogPrefix,
): Iterable<Problem> {
  const { logAt, logBytes } = log.geometry
  const { isOpen, logUsedBytes } = inspection
  const place = { area: 'log', offset: logAt + (end % logBytes) } as const
  const where = `the log ends at position ${end}, after ${records} records`
  if (end === log.head + logBytes) return
  const flipped = isOpen ? undefined : findFlippedBit(log, end)
  const fixesFor = (code: FindingCode) =>
    flipped === undefined
      ? []
      : [
          {
            code,
            place: { area: 'log', offset: logAt + flipped.at } as const,
            message: `a bit of the log record at position ${end} is flipped back: its checksum is right then`,
            drops: false,
            offset: logAt + flipped.at,
            bytes: Uint8Array.of(flipped.byte),
          },
        ]
  if (logUsedBytes !== undefined && end < log.head + logUsedBytes) {
    yield {
      code: 'log-damaged',
      severity: 'error',
      place,
      message: `${where}, but the open volume has committed up to ${log.head + logUsedBytes}: the record there is damaged; a checkpoint makes the changes safe`,
    }
  } else if (isDamagedAt(log, end)) {
    inspection.logIsDamaged = true
    yield {
      code: 'log-damaged',
      severity: 'error',
      place,
      message: `${where}, before a record that was durable and is damaged: commits behind it cannot be reached`,
      fixes: fixesFor('log-damaged'),
    }
  } else if (flipped !== undefined) {
    yield {
      code: 'log-bit-flip',
      severity: 'warning',
      place,
      message: `${where}, before a record that one flipped bit makes whole: damage, or a write cut short by a power loss; opening the volume gives that commit up`,
      fixes: fixesFor('log-bit-flip'),
    }
  }
}
