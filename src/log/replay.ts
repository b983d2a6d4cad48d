/**
 * Reading a log after a crash: the longest valid prefix of records, what they say, and what later
 * ones have made void. Nothing here writes; nothing here trusts a byte before its checksum.
 */
import { isZero } from '../base/bits.js'
import { crc32c } from '../base/checksum.js'
import { PlinthError } from '../base/errors.js'
import { type Lsn, type Offset, WORD } from '../base/units.js'
import { CHECKPOINT_STATE, type CheckpointHeader } from '../layout/checkpoint-header.js'
import { CHUNK_SLOT, CHUNK_STATE, chunkSlotSeed, decodeChunkSlot } from '../layout/chunk-slot.js'
import type { Geometry } from '../layout/geometry.js'
import {
  ENTRY,
  ENTRY_KIND_SHIFT,
  ENTRY_WORDS_SHIFT,
  LSN_HIGH_MASK,
  RECORD_ALIGN,
  RECORD_HEADER_BYTES,
  RECORD_SKIP,
} from '../layout/record.js'
import { joinWords } from '../layout/struct.js'
import { recordSeed, spanOf } from './log.js'

export interface LogBytes {
  readonly geometry: Geometry
  /** The ring. */
  readonly bytes: Uint8Array
  readonly head: Lsn
  /** Start value of the checksums of this log salt. */
  readonly seed: number
  /** Start value of the checksums of this volume. */
  readonly volumeSeed: number
  /** The checkpoint header says that the volume was closed: then the log is empty. */
  readonly closed?: boolean
}

/** The log of a volume whose checkpoint header is known, with its ring. */
export function logOf(
  geometry: Geometry,
  bytes: Uint8Array,
  { head, logSalt, state }: CheckpointHeader,
  volumeSeed: number,
): LogBytes {
  const closed = state === CHECKPOINT_STATE.CLOSED
  return { geometry, bytes, head, seed: recordSeed(volumeSeed, logSalt), volumeSeed, closed }
}

export interface LogPrefix {
  /** LSN behind the last valid record. */
  readonly end: Lsn
  readonly records: number
  /** Whether the record at the end has the right checksum and says what no record can say. */
  readonly isImpossible: boolean
}

/**
 * Takes one change of a record: `bytes[from, from + length)` of the ring belong to device offset `offset`, or to the slot
 * of the chunk table with that number.
 */
export type Visitor = (kind: number, offset: Offset, length: number, from: number, lsn: Lsn) => void

/**
 * Walks the valid prefix and shows each entry to `visit`, in order. With `limit` it walks a prefix
 * that was found valid before, without looking at the records again.
 * @throws PlinthError ERR_VOLUME_CORRUPT when a record with a valid checksum makes no sense, and when
 *   one that was durable is damaged: a shorter prefix would lose what was acknowledged
 */
export function walkLog(log: LogBytes, visit: Visitor, limit?: LogPrefix): LogPrefix {
  const prefix = walkPrefix(log, visit, limit)
  const loss = limit === undefined ? findLoss(log, prefix) : undefined
  if (loss !== undefined) throw new PlinthError('ERR_VOLUME_CORRUPT', describeLoss(loss))
  return prefix
}

/** The same, wherever the prefix ends: for those who say what they find. */
export function walkPrefix(log: LogBytes, visit: Visitor, limit?: LogPrefix): LogPrefix {
  const { bytes, geometry } = log
  const ringBytes = geometry.logBytes
  const u32 = new Uint32Array(bytes.buffer, bytes.byteOffset, ringBytes / 4)
  // Of a closed volume nothing is in the log, whatever an earlier lap has left there.
  const farthest = limit?.end ?? (log.closed ? log.head : log.head + ringBytes)
  let lsn = log.head
  let records = 0
  let isImpossible = false
  while (lsn < farthest) {
    const span = validSpan(log, u32, lsn, limit === undefined)
    if (span === 0) break
    const at = lsn % ringBytes
    if ((u32[(at >>> 2) + 3]! & RECORD_SKIP) === 0) {
      // All of a record is looked at before any of it counts.
      if (limit === undefined && !walkRecord(log, u32, at, lsn, LOOK)) {
        isImpossible = true
        break
      }
      walkRecord(log, u32, at, lsn, visit)
      records++
    }
    lsn += span
  }
  return { end: lsn, records, isImpossible }
}

/** Whether a record is at an LSN that is whole and says what one can say. */
export function isRecord(log: LogBytes, lsn: Lsn): boolean {
  const { bytes, geometry } = log
  const u32 = new Uint32Array(bytes.buffer, bytes.byteOffset, geometry.logBytes / 4)
  if (validSpan(log, u32, lsn, true) === 0) return false
  const at = lsn % geometry.logBytes
  const isSkip = (u32[(at >>> 2) + 3]! & RECORD_SKIP) !== 0
  return isSkip || walkRecord(log, u32, at, lsn, LOOK)
}

/** What was durable in the log and cannot be reached. */
export interface LogLoss {
  /**
   * `damaged`: a record that was durable; `impossible`: a record whose checksum is right and that no commit
   * writes; `gone`: the log is empty, and was not.
   */
  readonly why: 'damaged' | 'impossible' | 'gone'
  /** LSN at which replay ends. */
  readonly lsn: Lsn
  /** Whole records that are seen behind it. */
  readonly records: number
  /** From that LSN to the end of the last of them. */
  readonly bytes: number
}

/** Whether the prefix ends before something that was durable; undefined when all can be as a crash leaves it. */
export function findLoss(log: LogBytes, prefix: LogPrefix): LogLoss | undefined {
  const { end: lsn, isImpossible } = prefix
  if (!isImpossible && log.closed) return undefined
  const { records, end, isDamage } = findBehind(log, lsn)
  const loss = (why: LogLoss['why']) => ({ why, lsn, records, bytes: end - lsn })
  if (isImpossible) return loss('impossible')
  if (isDamage) return loss('damaged')
  // Nothing takes records out of the ring: behind a head that has moved there are some.
  const isGone = log.head > 0 && prefix.records === 0 && lsn === log.head && isZero(log.bytes)
  return isGone ? loss('gone') : undefined
}

export function describeLoss({ why, lsn }: LogLoss): string {
  const record = `the log record at LSN ${lsn}`
  if (why === 'damaged') {
    return `${record} was durable and is damaged; commits behind it would be lost`
  }
  return why === 'impossible'
    ? `${record} has a valid checksum and an impossible entry`
    : `the log is empty from LSN ${lsn} on, and was not: commits since the last checkpoint are lost`
}

/** Bytes that the record at an LSN takes in the ring; 0 when there is no valid one. */
function validSpan(log: LogBytes, u32: Uint32Array, lsn: Lsn, checksummed: boolean): number {
  const ringBytes = log.geometry.logBytes
  const at = lsn % ringBytes
  const word = at >>> 2
  const recordBytes = u32[word + 1]!
  const high = u32[word + 3]!
  const written = (high & LSN_HIGH_MASK) * WORD + u32[word + 2]!
  if (written !== lsn) return 0
  if (high > (LSN_HIGH_MASK | RECORD_SKIP)) return 0
  const isSkip = (high & RECORD_SKIP) !== 0
  const checkedBytes = isSkip ? RECORD_HEADER_BYTES : recordBytes
  const span = isSkip ? recordBytes : spanOf(recordBytes)
  if (span === 0 || span % RECORD_ALIGN !== 0 || recordBytes > ringBytes - at) return 0
  if (checkedBytes < RECORD_HEADER_BYTES || checkedBytes % 8 !== 0) return 0
  if (lsn + span > log.head + ringBytes) return 0
  if (!checksummed) return span
  return u32[word] === crc32c(log.seed, log.bytes, at + 4, at + checkedBytes) ? span : 0
}

/** The whole records behind the end of the prefix, and whether one of them knew what stood there to be durable. */
function findBehind(log: LogBytes, end: Lsn): { records: number; end: Lsn; isDamage: boolean } {
  const { bytes } = log
  const ringBytes = log.geometry.logBytes
  const u32 = new Uint32Array(bytes.buffer, bytes.byteOffset, ringBytes / 4)
  const found = { records: 0, end, isDamage: false }
  // Checksums over so many bytes: real records have no more, and a forged image gets no more time.
  let bytesMax = 2 * ringBytes
  for (let at = end + RECORD_ALIGN; at < log.head + ringBytes; ) {
    const word = (at % ringBytes) >>> 2
    const durableLsn = joinWords(u32[word + 4]!, u32[word + 5]!)
    // Its LSN is looked at first: nearly always that ends it.
    const mayBe = u32[word + 2] === at >>> 0 && durableLsn <= at
    if (mayBe) bytesMax -= validSpan(log, u32, at, false)
    if (bytesMax < 0) return { ...found, isDamage: true }
    const span = mayBe ? validSpan(log, u32, at, true) : 0
    if (span > 0) {
      if ((u32[word + 3]! & RECORD_SKIP) === 0) found.records++
      if (durableLsn > end) found.isDamage = true
      found.end = at + span
    }
    at += span > 0 ? span : RECORD_ALIGN
  }
  return found
}

/** To look at the entries of a record before they count. */
const LOOK: Visitor = () => {}

/** Shows the entries of a record; false when it comes to one that cannot be. */
function walkRecord(
  log: LogBytes,
  u32: Uint32Array,
  recordAt: number,
  lsn: Lsn,
  visit: Visitor,
): boolean {
  const end = recordAt + u32[(recordAt >>> 2) + 1]!
  let at = recordAt + RECORD_HEADER_BYTES
  while (at < end) {
    const low = u32[at >>> 2]!
    const high = u32[(at >>> 2) + 1]!
    const kind = (high >>> ENTRY_KIND_SHIFT) & 15
    const offset = (high & LSN_HIGH_MASK) * WORD + low
    let from = at + 8
    let length = (high >>> ENTRY_WORDS_SHIFT) * 8
    let next = from + length
    if (kind === ENTRY.BYTES) {
      length = from < end ? u32[from >>> 2]! : 0
      from += 8
      next = from + Math.ceil(length / 8) * 8
    } else if (kind === ENTRY.REVOKE) {
      length = from < end ? u32[(from >>> 2) + 1]! * WORD + u32[from >>> 2]! : 0
      next = from + 8
    }
    if (next > end || !isSane(log.geometry, kind, offset, length)) return false
    if (visit === LOOK && kind === ENTRY.SLOT && !isWholeSlot(log, offset, from)) return false
    visit(kind, offset, length, from, lsn)
    at = next
  }
  return true
}

/** Whether what a record says of a slot of the chunk table can stand there. */
function isWholeSlot(log: LogBytes, slot: number, from: number): boolean {
  const values = decodeChunkSlot(log.bytes, from, chunkSlotSeed(log.volumeSeed, slot))
  if (typeof values !== 'object') return false
  const { dataAt, granuleBytes, granules } = log.geometry
  const { state, start } = values
  if (state === CHUNK_STATE.FREE) return true
  return start >= dataAt / granuleBytes && start + values.granules <= granules
}

/** Records change chunks and the chunk table, nothing else. */
function isSane(geometry: Geometry, kind: number, offset: Offset, length: number): boolean {
  if (length === 0) return false
  if (kind === ENTRY.SLOT) return length === CHUNK_SLOT.bytes && offset < geometry.slots
  if (kind === ENTRY.REVOKE) {
    // Chunks are freed, and those are whole granules.
    const { granuleBytes } = geometry
    if (offset % granuleBytes !== 0 || length % granuleBytes !== 0) return false
  } else if (kind !== ENTRY.WORDS && kind !== ENTRY.BYTES) return false
  return isOfChunks(geometry, offset, offset + length)
}

/** What becomes part of log or table is named by no record: a checkpoint comes first. */
function isOfChunks(geometry: Geometry, from: Offset, to: Offset): boolean {
  const { dataAt, tailAt, logAt, logBytes, extents } = geometry
  if (from < dataAt || to > tailAt || (from < logAt + logBytes && to > logAt)) return false
  for (let i = 0; i < extents.length; i++) {
    const { firstAt, secondAt, slots } = extents[i]!
    const bytes = slots * CHUNK_SLOT.bytes
    if (from < firstAt + bytes && to > firstAt) return false
    if (from < secondAt + bytes && to > secondAt) return false
  }
  return true
}
