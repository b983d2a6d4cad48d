/**
 * The chunk table: both copies of each slot. A slot that the log changes is what the log says, and
 * its copies may be anything: recovery writes both. Everywhere else both are whole and the same,
 * behind the slots that were ever used there is nothing, and among them no more are empty than the
 * anchor says.
 */
import { MIB, type Offset } from '../base/units.js'
import type { Anchor } from '../layout/anchor.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  type ChunkSlot,
  chunkSlotSeed,
  decodeChunkSlot,
  encodeFreeSlot,
  GENERATION_MAX,
  versionOfSlot,
} from '../layout/chunk-slot.js'
import { type Geometry, TABLE_AT } from '../layout/geometry.js'
import type { FindingCode, PlannedFix, Problem } from './finding.js'
import type { FoundChunk, Inspection } from './inspection.js'

const SLOT_BYTES = CHUNK_SLOT.bytes
const WINDOW_SLOTS = MIB / SLOT_BYTES
const SLOTS_AT_ONCE = 64
const NAMES = ['first', 'second'] as const
const ZEROS = new Uint8Array(MIB)

type Decoded = ChunkSlot | 'unused' | undefined

/** The slots below `slotsUsed` that are empty in the copy that counts. */
interface Empties {
  readonly slots: number[]
  /** What is wrong with other copies, if those may be empty. */
  readonly problems: Problem[]
}

/** A stretch of both copies. */
interface Window {
  readonly slot: number
  readonly count: number
  readonly copies: readonly [Uint8Array, Uint8Array]
}

export function* checkTable(inspection: Inspection): Iterable<Problem> {
  const { device, geometry, anchor, loggedSlots } = inspection
  if (geometry === undefined || anchor === undefined) return
  let slotsUsed = anchor.slotsUsed
  for (const slot of loggedSlots.keys()) slotsUsed = Math.max(slotsUsed, slot + 1)
  const chunks: FoundChunk[] = []
  const empty: Empties = { slots: [], problems: [] }
  for (let slot = 0; slot < geometry.slots; slot += WINDOW_SLOTS) {
    const count = Math.min(WINDOW_SLOTS, geometry.slots - slot)
    const [first, second] = placesOf(geometry, slot)
    const window: Window = {
      slot,
      count,
      copies: [device.read(first, count * SLOT_BYTES), device.read(second, count * SLOT_BYTES)],
    }
    yield* checkUsed(inspection, window, slotsUsed, chunks, empty)
    yield* checkUnused(inspection, window, slotsUsed)
  }
  yield* checkEmpty(inspection, anchor, empty)
  inspection.chunks = chunks
}

/** Where the two copies of a slot are. */
export function placesOf(geometry: Geometry, slot: number): readonly [Offset, Offset] {
  return [TABLE_AT + slot * SLOT_BYTES, geometry.tableCopyAt + slot * SLOT_BYTES]
}

function* checkUsed(
  inspection: Inspection,
  window: Window,
  slotsUsed: number,
  chunks: FoundChunk[],
  empty: Empties,
): Iterable<Problem> {
  const { seed, loggedSlots } = inspection
  const geometry = inspection.geometry!
  const end = Math.min(window.slot + window.count, slotsUsed)
  for (let slot = window.slot; slot < end; slot++) {
    // There may be millions that were never written: they are passed by many at a time.
    if (loggedSlots.size === 0) {
      for (const next = zeroUntil(window, slot, end); slot < next; slot++) empty.slots.push(slot)
      if (slot === end) break
    }
    const slotSeed = chunkSlotSeed(seed, slot)
    const logged = loggedSlots.get(slot)
    let values: Decoded
    if (logged !== undefined) {
      values = decodeChunkSlot(logged, 0, slotSeed)
      if (values === undefined) {
        yield {
          code: 'log-entry-impossible',
          severity: 'error',
          place: { area: 'log', offset: geometry.logAt },
          message: `the log changes chunk slot ${slot} to something that is not whole`,
        }
      } else yield* checkNotAhead(inspection, window, slot, versionOfSlot(values))
    } else {
      const at = (slot - window.slot) * SLOT_BYTES
      const copies = window.copies.map((bytes) => bytes.subarray(at, at + SLOT_BYTES))
      const found = copies.map((bytes) => decodeChunkSlot(bytes, 0, slotSeed))
      const [first, second] = found
      const winner = versionOfSlot(first) >= versionOfSlot(second) ? 0 : 1
      values = found[winner]
      const places = placesOf(geometry, slot)
      let problem: Problem | undefined
      if (values === undefined) problem = lost(geometry, slot, seed, copies)
      else if (Buffer.compare(copies[0]!, copies[1]!) !== 0) {
        const code = codeFor(first, second)
        const copy = winner === 0 ? 1 : 0
        problem = differing(code, places[copy], copy, slot, copies[winner]!)
      }
      if (values === 'unused') {
        empty.slots.push(slot)
        if (problem !== undefined) empty.problems.push(problem)
      } else if (problem !== undefined) yield problem
    }
    if (values !== undefined && values !== 'unused' && values.state === CHUNK_STATE.CHUNK) {
      chunks.push({ slot, values })
    }
  }
}

/** The first slot from `slot` on that has something in either copy, at most `end`; looks at many at once. */
function zeroUntil(window: Window, slot: number, end: number): number {
  const isEmpty = (from: number, to: number) =>
    window.copies.every((bytes) =>
      isZero(bytes.subarray((from - window.slot) * SLOT_BYTES, (to - window.slot) * SLOT_BYTES)),
    )
  let at = slot
  for (let next = at; at < end; at = next) {
    next = Math.min(at + SLOTS_AT_ONCE, end)
    if (!isEmpty(at, next)) break
  }
  return at
}

/** A home place is written after its record is durable: a slot newer than the log says so of a lost one. */
function* checkNotAhead(
  { seed, loggedSlots, loss, geometry }: Inspection,
  window: Window,
  slot: number,
  version: number,
): Iterable<Problem> {
  const at = (slot - window.slot) * SLOT_BYTES
  const ahead = window.copies.findIndex(
    (bytes) => versionOfSlot(decodeChunkSlot(bytes, at, chunkSlotSeed(seed, slot))) > version,
  )
  if (ahead === -1) return
  const code = 'log-damaged'
  const places = placesOf(geometry!, slot)
  yield {
    code,
    severity: 'error',
    place: { area: 'chunk-table', copy: ahead === 0 ? 0 : 1, offset: places[0] },
    message: `chunk slot ${slot} is newer than the log knows: a record that changed it was durable and is damaged`,
    // While the end of the log is in doubt its newer state may still be the right one.
    fixes:
      loss !== undefined
        ? []
        : places.map((offset, copy) => ({
            code,
            place: { area: 'chunk-table', copy: copy as 0 | 1, offset },
            message: `the ${NAMES[copy as 0 | 1]} copy of chunk slot ${slot} is made what the log says: its newer state belongs to a commit that is lost`,
            drops: true,
            offset,
            bytes: loggedSlots.get(slot)!,
          })),
  }
}

function codeFor(first: Decoded, second: Decoded): FindingCode {
  if (first === undefined || second === undefined) return 'slot-damaged'
  return versionOfSlot(first) === versionOfSlot(second) ? 'slot-differs' : 'slot-behind'
}

function differing(
  code: FindingCode,
  offset: Offset,
  copy: 0 | 1,
  slot: number,
  bytes: Uint8Array,
): Problem {
  const place = { area: 'chunk-table', copy, offset } as const
  const one = `the ${NAMES[copy]} copy of chunk slot ${slot}`
  const other = `the ${NAMES[1 - copy]}`
  const said: Partial<Record<FindingCode, string>> = {
    'slot-damaged': `${one} is damaged; ${other} serves`,
    'slot-behind': `${one} is older than ${other}: a write to it was lost`,
    'slot-differs': `${one} is as new as ${other} and says something else; ${other} counts`,
  }
  return {
    code,
    severity: 'warning',
    place,
    message: said[code]!,
    fixes: [
      { code, place, message: `${one} is written from ${other}`, drops: false, offset, bytes },
    ],
  }
}

/** Some slots below the anchor's `slotsUsed` were never written. More are empty: those had chunks, or had had some. */
function* checkEmpty(
  { geometry, seed }: Inspection,
  { slotsUsed, holes }: Anchor,
  empty: Empties,
): Iterable<Problem> {
  const slots = empty.slots.filter((slot) => slot < slotsUsed)
  if (slots.length <= holes) {
    yield* empty.problems
    return
  }
  const which = slots.length === 1 ? `slot ${slots[0]} is` : `${slots.length} slots are`
  yield {
    code: 'slot-lost',
    severity: 'error',
    place: { area: 'chunk-table', offset: TABLE_AT + slots[0]! * SLOT_BYTES },
    message:
      `${which} empty in the chunk table, ${holes === 0 ? 'none' : `at most ${holes}`} of which can be: what was there is lost; ` +
      'repair with dropDamaged gives it up, so that the rest can be opened',
    fixes: runsOf(slots).flatMap(([slot, count]) => givenUp(geometry!, seed, slot, count)),
  }
}

/** Neighbours as one: first and how many, at most a window of them. */
function runsOf(slots: readonly number[]): [first: number, count: number][] {
  const runs: [number, number][] = []
  for (const slot of slots) {
    const last = runs.at(-1)
    if (last !== undefined && slot === last[0] + last[1] && last[1] < WINDOW_SLOTS) last[1]++
    else runs.push([slot, 1])
  }
  return runs
}

/** Both copies are damaged. What can be done is to give the slot, and with it the chunk, up. */
function lost(
  geometry: Geometry,
  slot: number,
  seed: number,
  copies: readonly Uint8Array[],
): Problem {
  // An id must not come again: beyond what either copy may have had; not at all where neither tells.
  const told = copies.map((bytes) => CHUNK_SLOT.read(bytes))
  const generations = told.map(({ generation }) => generation)
  const known = generations.filter((each) => each > 0 && each < GENERATION_MAX)
  const generation = known.length === 0 ? GENERATION_MAX : Math.max(...known) + 1
  const told0 = told.find(({ granules }) => granules > 0)
  return {
    code: 'slot-lost',
    severity: 'error',
    place: { area: 'chunk-table', offset: placesOf(geometry, slot)[0] },
    message:
      `both copies of chunk slot ${slot} are damaged: which granules its chunk has is not known for certain` +
      `${told0 === undefined ? '' : ` (they may say ${told0.granules} from granule ${told0.start})`}; ` +
      'repair with dropDamaged gives the chunk up, so that the rest can be opened',
    fixes: givenUp(geometry, seed, slot, 1, generation),
  }
}

/** Both copies of slots as ones that are free. */
function givenUp(
  geometry: Geometry,
  seed: number,
  slot: number,
  count: number,
  generation = GENERATION_MAX,
): PlannedFix[] {
  const which = count === 1 ? `slot ${slot}` : `slots ${slot} to ${slot + count - 1}`
  return placesOf(geometry, slot).map((offset, copy) => ({
    code: 'slot-lost',
    place: { area: 'chunk-table', copy: copy as 0 | 1, offset },
    message: `the ${NAMES[copy as 0 | 1]} copy of chunk ${which} is made free: ${count === 1 ? 'its chunk is' : 'their chunks are'} lost`,
    drops: true,
    offset,
    // Made when it is asked for: there may be millions of slots.
    get bytes() {
      const bytes = new Uint8Array(count * SLOT_BYTES)
      for (let i = 0; i < count; i++) {
        bytes.set(encodeFreeSlot(slot + i, seed, 1, generation), i * SLOT_BYTES)
      }
      return bytes
    },
  }))
}

/**
 * Both copies of a slot made `bytes`, which gives something up. None where the log says what the slot is, and
 * while the end of the log is in doubt.
 */
export function rewritten(
  { geometry, loggedSlots, loss }: Inspection,
  code: FindingCode,
  slot: number,
  bytes: Uint8Array,
  message: string,
): PlannedFix[] {
  if (loggedSlots.has(slot) || loss !== undefined) return []
  return placesOf(geometry!, slot).map((offset, copy) => ({
    code,
    place: { area: 'chunk-table', copy: copy as 0 | 1, offset },
    message: `the ${NAMES[copy as 0 | 1]} copy of chunk slot ${slot} ${message}`,
    drops: true,
    offset,
    bytes,
  }))
}

/** Slots that were never used are zero. Neighbours that are not are one finding. */
function* checkUnused(
  inspection: Inspection,
  window: Window,
  slotsUsed: number,
): Iterable<Problem> {
  const { loss } = inspection
  const geometry = inspection.geometry!
  const from = Math.max(window.slot, slotsUsed)
  const end = window.slot + window.count
  if (from >= end) return
  for (const copy of [0, 1] as const) {
    const bytes = window.copies[copy].subarray((from - window.slot) * SLOT_BYTES)
    if (isZero(bytes)) continue
    for (let slot = from; slot < end; slot++) {
      const start = slot
      while (
        slot < end &&
        !isZero(bytes.subarray((slot - from) * SLOT_BYTES, (slot - from + 1) * SLOT_BYTES))
      )
        slot++
      if (slot === start) continue
      const offset = placesOf(geometry, start)[copy]
      const place = { area: 'chunk-table', copy, offset } as const
      const which = slot === start + 1 ? `slot ${start}` : `slots ${start} to ${slot - 1}`
      const code = 'slot-beyond-used'
      yield {
        code,
        severity: 'warning',
        place,
        message: `something is in the ${NAMES[copy]} copy of chunk ${which}, which were never used: damage, or a change whose record is lost`,
        // Where the log is damaged these may be changes that it knew.
        fixes:
          loss !== undefined
            ? []
            : [
                {
                  code,
                  place,
                  message: `the ${NAMES[copy]} copy of chunk ${which} is zeroed`,
                  drops: false,
                  offset,
                  bytes: new Uint8Array((slot - start) * SLOT_BYTES),
                },
              ],
      }
    }
  }
}

function isZero(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) === 0
}
