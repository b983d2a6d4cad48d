/**
 * Reading a log after a crash: the longest valid prefix of records, what they say, and what later
 * ones have made void. Nothing here writes; nothing here trusts a byte before its checksum.
 */
import { checks } from '../base/checks.js'
import { crc32c } from '../base/checksum.js'
import { PlinthError } from '../base/errors.js'
import { type LogPosition, type Offset, WORD } from '../base/units.js'
import { CHUNK_SLOT } from '../layout/chunk-slot.js'
import { type Geometry, TABLE_AT } from '../layout/geometry.js'
import {
  ENTRY,
  ENTRY_KIND_SHIFT,
  ENTRY_WORDS_SHIFT,
  POSITION_HIGH_MASK,
  RECORD_ALIGN,
  RECORD_HEADER_BYTES,
  RECORD_SKIP,
} from '../layout/record.js'
import { joinWords } from '../layout/struct.js'
import { spanOf } from './log.js'

export interface LogBytes {
  readonly geometry: Geometry
  /** The ring. */
  readonly bytes: Uint8Array
  readonly head: LogPosition
  /** Start value of the checksums of this epoch. */
  readonly seed: number
  /** The anchor says that the volume was closed: then the log is empty, and need not be searched for damage. */
  readonly closed?: boolean
}

export interface LogPrefix {
  /** Position behind the last valid record. */
  readonly end: LogPosition
  readonly records: number
}

/** Takes one change of a record: `bytes[from, from + length)` of the ring belong to device offset `offset`. */
export type Visitor = (
  kind: number,
  offset: Offset,
  length: number,
  from: number,
  position: LogPosition,
) => void

/**
 * Walks the valid prefix and shows each entry to `visit`, in order. With `limit` it walks a prefix
 * that was found valid before, without working out the checksums again.
 * @throws PlinthError ERR_VOLUME_CORRUPT when a record with a valid checksum makes no sense, and when
 *   one that was durable is damaged: a shorter prefix would lose what was acknowledged
 */
export function walkLog(log: LogBytes, visit: Visitor, limit?: LogPrefix): LogPrefix {
  const prefix = walkPrefix(log, visit, limit)
  const mayBeDamaged = limit === undefined && !log.closed && checks.recordDamage
  if (mayBeDamaged && isDamagedAt(log, prefix.end)) {
    throw new PlinthError(
      'ERR_VOLUME_CORRUPT',
      `the log record at position ${prefix.end} was durable and is damaged; commits behind it would be lost`,
    )
  }
  return prefix
}

/** The same, wherever the prefix ends: for the check, which says what it finds. */
export function walkPrefix(log: LogBytes, visit: Visitor, limit?: LogPrefix): LogPrefix {
  const { bytes, geometry } = log
  const ringBytes = geometry.logBytes
  const u32 = new Uint32Array(bytes.buffer, bytes.byteOffset, ringBytes / 4)
  const farthest = limit === undefined ? log.head + ringBytes : limit.end
  let position = log.head
  let records = 0
  while (position < farthest) {
    const span = validSpan(log, u32, position, limit === undefined)
    if (span === 0) break
    const at = position % ringBytes
    if ((u32[(at >>> 2) + 3]! & RECORD_SKIP) === 0) {
      walkEntries(geometry, u32, at, u32[(at >>> 2) + 1]!, position, visit)
      records++
    }
    position += span
  }
  return { end: position, records }
}

/** Bytes that the record at a position takes in the ring; 0 when there is no valid one. */
function validSpan(
  log: LogBytes,
  u32: Uint32Array,
  position: LogPosition,
  checksummed: boolean,
): number {
  const ringBytes = log.geometry.logBytes
  const at = position % ringBytes
  const word = at >>> 2
  const recordBytes = u32[word + 1]!
  const high = u32[word + 3]!
  const written = (high & POSITION_HIGH_MASK) * WORD + u32[word + 2]!
  if (checks.recordPosition && written !== position) return 0
  if (high > (POSITION_HIGH_MASK | RECORD_SKIP)) return 0
  const isSkip = (high & RECORD_SKIP) !== 0
  const checkedBytes = isSkip ? RECORD_HEADER_BYTES : recordBytes
  const span = isSkip ? recordBytes : spanOf(recordBytes)
  if (span === 0 || span % RECORD_ALIGN !== 0 || recordBytes > ringBytes - at) return 0
  if (checkedBytes < RECORD_HEADER_BYTES || checkedBytes % 8 !== 0) return 0
  if (position + span > log.head + ringBytes) return 0
  if (checksummed && checks.recordChecksum) {
    if (u32[word] !== crc32c(log.seed, log.bytes, at + 4, at + checkedBytes)) return 0
  }
  return span
}

/** Whether behind the end of the prefix a record knew what stood at the end to be durable. */
export function isDamagedAt(log: LogBytes, end: LogPosition): boolean {
  const { bytes } = log
  const ringBytes = log.geometry.logBytes
  const u32 = new Uint32Array(bytes.buffer, bytes.byteOffset, ringBytes / 4)
  // Checksums over so many bytes: real records have no more, and a forged image gets no more time.
  let bytesMax = 2 * ringBytes
  for (let at = end + RECORD_ALIGN; at < log.head + ringBytes; at += RECORD_ALIGN) {
    const word = (at % ringBytes) >>> 2
    const settled = joinWords(u32[word + 4]!, u32[word + 5]!)
    // Its position is looked at first: nearly always that ends it.
    if (u32[word + 2] !== at >>> 0 || settled <= end || settled > at) continue
    bytesMax -= validSpan(log, u32, at, false)
    if (bytesMax < 0 || validSpan(log, u32, at, true) > 0) return true
  }
  return false
}

function walkEntries(
  geometry: Geometry,
  u32: Uint32Array,
  recordAt: number,
  recordBytes: number,
  position: LogPosition,
  visit: Visitor,
): void {
  const end = recordAt + recordBytes
  let at = recordAt + RECORD_HEADER_BYTES
  while (at < end) {
    const low = u32[at >>> 2]!
    const high = u32[(at >>> 2) + 1]!
    const kind = (high >>> ENTRY_KIND_SHIFT) & 15
    const offset = (high & POSITION_HIGH_MASK) * WORD + low
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
    if (next > end || !isSane(geometry, kind, offset, length)) {
      throw new PlinthError(
        'ERR_VOLUME_CORRUPT',
        `the log record at position ${position} has a valid checksum and an impossible entry`,
      )
    }
    visit(kind, offset, length, from, position)
    at = next
  }
}

/** Records change chunks and the chunk table, nothing else. */
function isSane(geometry: Geometry, kind: number, offset: Offset, length: number): boolean {
  if (length === 0) return false
  if (kind === ENTRY.SLOT) {
    return (
      length === CHUNK_SLOT.bytes &&
      (offset - TABLE_AT) % CHUNK_SLOT.bytes === 0 &&
      offset >= TABLE_AT &&
      offset < TABLE_AT + geometry.slots * CHUNK_SLOT.bytes
    )
  }
  if (kind !== ENTRY.WORDS && kind !== ENTRY.BYTES && kind !== ENTRY.REVOKE) return false
  return offset >= geometry.dataAt && offset + length <= geometry.tailAt
}

/**
 * Which ranges later records have made void, and up to which position.
 *
 * Revocations overlap as they like (a chunk is freed, its granules given out in other cuts and
 * freed again), so their ends cut the device into segments, and each segment keeps the last
 * position that covers it.
 */
export class Revocations {
  readonly #ranges: { offset: Offset; end: Offset; position: LogPosition }[] = []
  #cuts: Float64Array = new Float64Array(0)
  #positions: Float64Array = new Float64Array(0)

  get isEmpty(): boolean {
    return this.#cuts.length === 0
  }

  add(offset: Offset, length: number, position: LogPosition): void {
    this.#ranges.push({ offset, end: offset + length, position })
  }

  /** To be called once, after all were added in order of position. */
  settle(): void {
    const cuts = new Float64Array(this.#ranges.length * 2)
    this.#ranges.forEach(({ offset, end }, i) => {
      cuts[2 * i] = offset
      cuts[2 * i + 1] = end
    })
    this.#cuts = cuts.sort()
    this.#positions = new Float64Array(cuts.length).fill(-1)
    // The latest paints first; `next` leads over what is painted, so each segment is painted once.
    const next = Int32Array.from({ length: cuts.length + 1 }, (_, i) => i)
    const unpainted = (from: number): number => {
      let segment = from
      while (next[segment] !== segment) {
        next[segment] = next[next[segment]!]!
        segment = next[segment]!
      }
      return segment
    }
    for (const { offset, end, position } of this.#ranges.reverse()) {
      let segment = unpainted(this.#firstCutFrom(offset))
      while (segment < cuts.length && this.#cuts[segment]! < end) {
        this.#positions[segment] = position
        next[segment] = segment + 1
        segment = unpainted(segment)
      }
    }
  }

  /**
   * Cuts a range at the ends of segments and calls `keep` with each piece that a record at
   * `position` may still write: `skip` bytes into the range, `length` long.
   */
  pieces(
    offset: Offset,
    length: number,
    position: LogPosition,
    keep: (skip: number, length: number) => void,
  ): void {
    const cuts = this.#cuts
    const end = offset + length
    let at = offset
    // Segment i is [cuts[i], cuts[i + 1]); before the first cut nothing is void.
    let segment = this.#firstCutFrom(offset)
    if (segment === cuts.length || cuts[segment]! > offset) segment--
    while (at < end) {
      const until = Math.min(end, segment + 1 < cuts.length ? cuts[segment + 1]! : end)
      const voidBefore = segment < 0 ? -1 : this.#positions[segment]!
      if (until > at && (voidBefore < position || !checks.revocation)) keep(at - offset, until - at)
      at = Math.max(at, until)
      segment++
    }
  }

  /** Index of the first cut at or behind `offset`. */
  #firstCutFrom(offset: Offset): number {
    let low = 0
    let high = this.#cuts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#cuts[middle]! < offset) low = middle + 1
      else high = middle
    }
    return low
  }
}
