/**
 * The log: the valid prefix, what it says, why it ends where it ends.
 *
 *          head            end
 *   ───────┼────────────────┼──────────────────────────────▶ LSN
 *          │ valid records  │ broken │ later records?
 *
 * Recovery takes the first record that is not whole for the torn tail, unless it can tell that it was
 * durable: by a whole record behind it that says so. Three more signs of damage are seen here: an open
 * volume knows where its log ends; a record that one flipped bit makes whole was hardly torn; and what
 * destroyed all of the head that is kept twice has not stopped before the log, which is kept once.
 *
 * Flipping that bit back is right in either case. A record that was durable is itself again; one that
 * was torn so is what its commit wrote, and of a commit that never returned both outcomes are allowed.
 * Where there is no such bit, what stands behind the damage can only be given up.
 */

import { PAGE_BYTES } from '../base/units.js'
import {
  CHECKPOINT,
  CHECKPOINT_STATE,
  type CheckpointHeader,
  decodeCheckpoint,
  encodeCheckpoint,
} from '../layout/checkpoint-header.js'
import { CHUNK_SLOT, chunkSlotSeed, decodeChunkSlot } from '../layout/chunk-slot.js'
import { CHECKPOINT_AT, type Geometry, SUPERBLOCK_AT } from '../layout/geometry.js'
import { RECORD_ALIGN } from '../layout/record.js'
import { decodeSuperblock } from '../layout/superblock.js'
import { readLog } from '../log/changes.js'
import {
  findLoss,
  type LogBytes,
  type LogLoss,
  type LogPrefix,
  logOf,
  walkPrefix,
} from '../log/replay.js'
import { findFlippedBit } from './bit-flip.js'
import type { FindingCode, PlannedFix, Problem } from './finding.js'
import type { Inspection } from './inspection.js'

export function* checkLog(inspection: Inspection): Iterable<Problem> {
  const { geometry, checkpointHeader, isOpen } = inspection
  if (geometry === undefined || checkpointHeader === undefined) return
  const ring = inspection.device.read(geometry.logAt, geometry.logBytes)
  const log = logOf(geometry, ring, checkpointHeader, inspection.seed)
  const { prefix, slots, changes } = readLog(log, walkPrefix)
  for (const [slot, from] of slots) {
    inspection.loggedSlots.set(slot, ring.subarray(from, from + CHUNK_SLOT.bytes))
  }
  inspection.changes = changes
  if (!isOpen && !log.closed && isHeadGone(inspection, geometry)) inspection.logIsGone = true
  yield* checkEnd(inspection, log, prefix)
}

/** Of the slots those are nearest to the log. */
const SLOTS_LOOKED_AT = 1024

/**
 * Whether nothing that stands before the log is whole but in its second copy. A sector that is lost, or a
 * label that somebody put there, leaves more; what has overwritten the device from its beginning leaves no
 * more, and may have gone on into the log.
 */
function isHeadGone(
  { device, seed, checkpointHeader, loggedSlots }: Inspection,
  geometry: Geometry,
): boolean {
  if (decodeCheckpoint(device.read(CHECKPOINT_AT, CHECKPOINT.bytes), seed) !== undefined)
    return false
  // The first extent is the one that stands there.
  const { slots, firstAt, secondAt } = geometry.extents[0]!
  const slotsUsed = Math.min(checkpointHeader!.slotsUsed, slots)
  const from = Math.max(0, slotsUsed - SLOTS_LOOKED_AT)
  const [first, second] = [firstAt, secondAt].map((tableAt) =>
    device.read(tableAt + from * CHUNK_SLOT.bytes, (slotsUsed - from) * CHUNK_SLOT.bytes),
  )
  let isAny = false
  for (let slot = from; slot < slotsUsed; slot++) {
    const at = (slot - from) * CHUNK_SLOT.bytes
    const slotSeed = chunkSlotSeed(seed, slot)
    if (loggedSlots.has(slot) || typeof decodeChunkSlot(second!, at, slotSeed) !== 'object')
      continue
    if (typeof decodeChunkSlot(first!, at, slotSeed) === 'object') return false
    isAny = true
  }
  return isAny || typeof decodeSuperblock(device.read(SUPERBLOCK_AT, PAGE_BYTES)) === 'string'
}

function* checkEnd(inspection: Inspection, log: LogBytes, prefix: LogPrefix): Iterable<Problem> {
  const { logAt, logBytes } = log.geometry
  const { isOpen, logUsedBytes } = inspection
  const { end, records } = prefix
  const place = { area: 'log', offset: logAt + (end % logBytes) } as const
  const where = `the log ends at LSN ${end}, after ${records} records`
  if (logUsedBytes !== undefined && end < log.head + logUsedBytes) {
    yield {
      code: 'log-damaged',
      severity: 'error',
      place,
      message: `${where}, but the open volume has committed up to ${log.head + logUsedBytes}: the record there is damaged; a checkpoint makes the changes safe`,
    }
    return
  }
  const loss = isOpen ? undefined : findLoss(log, prefix)
  inspection.loss = loss
  if (loss?.why === 'gone') inspection.logIsGone = true
  if (inspection.logIsGone) {
    yield gone(inspection, log.geometry, place, where, records)
    return
  }
  if (loss?.why === 'impossible') {
    const code = 'log-entry-impossible'
    yield {
      code,
      severity: 'error',
      place,
      message: `${where}, before a record with a valid checksum that says what no record can say; ${GIVES_UP}`,
      fixes: dropped(code, log, loss),
    }
    return
  }
  if (isOpen || log.closed || end === log.head + logBytes) return
  const flipped = findFlippedBit(log, end)
  const flip = (code: FindingCode): PlannedFix[] =>
    flipped === undefined
      ? []
      : [
          {
            code,
            place: { area: 'log', offset: logAt + flipped.at },
            message: `a bit of the log record at LSN ${end} is flipped back: its checksum is right then`,
            drops: false,
            offset: logAt + flipped.at,
            bytes: Uint8Array.of(flipped.byte),
          },
        ]
  if (loss !== undefined) {
    const code = 'log-damaged'
    const behind = `${loss.records} whole ${loss.records === 1 ? 'record is' : 'records are'} seen behind it, up to LSN ${end + loss.bytes}`
    yield {
      code,
      severity: 'error',
      place,
      message: `${where}, before a record that was durable and is damaged: ${behind}${flipped === undefined ? `; ${GIVES_UP}` : ''}`,
      fixes: flipped === undefined ? dropped(code, log, loss) : flip(code),
    }
  } else if (flipped !== undefined) {
    yield {
      code: 'log-bit-flip',
      severity: 'warning',
      place,
      message: `${where}, before a record that one flipped bit makes whole: damage, or a write cut short by a power loss; opening the volume gives that commit up`,
      fixes: flip('log-bit-flip'),
    }
  }
}

const GIVES_UP =
  'reading with salvage goes without what is behind it, and repair with dropDamaged gives that up'

/**
 * Zeroes the log from the end of the prefix to the end of what is seen behind it. A crash within leaves
 * the prefix, which ends where it did, and less behind it.
 */
function dropped(code: FindingCode, { geometry }: LogBytes, loss: LogLoss): PlannedFix[] {
  const { logAt, logBytes } = geometry
  const { lsn, records } = loss
  const bytes = Math.max(loss.bytes, RECORD_ALIGN)
  const at = lsn % logBytes
  const first = Math.min(bytes, logBytes - at)
  const stretches = [
    [logAt + at, first],
    [logAt, bytes - first],
  ] as const
  return stretches
    .filter(([, length]) => length > 0)
    .map(([offset, length]) => ({
      code,
      place: { area: 'log', offset },
      message: `${length} bytes of the log are zeroed: what was committed from LSN ${lsn} on is lost (${records} whole records are seen there)`,
      drops: true,
      offset,
      bytes: new Uint8Array(length),
    }))
}

/** Commits since the last checkpoint may be lost, and nothing tells. Accepting that says that there were none. */
function gone(
  { checkpointHeader, seed }: Inspection,
  { checkpointCopyAt }: Geometry,
  place: Problem['place'],
  where: string,
  records: number,
): Problem {
  const code = 'log-gone'
  const { sequence, logSalt, head, slotsUsed, holes }: CheckpointHeader = checkpointHeader!
  const bytes = encodeCheckpoint(
    { sequence: sequence + 1, logSalt, state: CHECKPOINT_STATE.CLOSED, head, slotsUsed, holes },
    seed,
  )
  // The copy that may be damaged first: never the only whole one.
  const places = [CHECKPOINT_AT, checkpointCopyAt] as const
  return {
    code,
    severity: 'error',
    place,
    message: `${where}, and nothing vouches for what may have followed: it was overwritten, or what stands before it was. Transactions that were acknowledged since the last checkpoint may be lost; repair with dropDamaged accepts that`,
    // What is there is kept: then it is repairing the rest that accepts it.
    fixes: (records > 0 ? [] : places).map((offset, copy) => ({
      code,
      place: { area: 'checkpoint-header', copy: copy as 0 | 1, offset },
      message:
        'the checkpoint header says that the log ends there: what may have followed is given up',
      drops: true,
      offset,
      bytes,
    })),
  }
}
