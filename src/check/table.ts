/**
 * The chunk table: both copies of each slot. A slot that the log changes is what the log says, and
 * its copies may be anything: recovery writes both. Everywhere else both are whole and the same,
 * behind the slots that were ever used there is nothing, and among them no more are empty than the
 * checkpoint header says. Neighbours with the same thing wrong are one finding.
 */
import { isZero } from '../base/bits.js'
import { MIB, type Offset } from '../base/units.js'
import type { CheckpointHeader } from '../layout/checkpoint-header.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkSlotSeed,
  decodeChunkSlot,
  encodeFreeSlot,
  GENERATION_MAX,
  newerSlot,
  type SlotContents,
  versionOfSlot,
} from '../layout/chunk-slot.js'
import { extentEnd, type Geometry, slotPlaces } from '../layout/geometry.js'
import { FINDINGS_MAX, type FindingCode, type PlannedFix, type Problem } from './finding.js'
import type { FoundChunk, Inspection } from './inspection.js'

const SLOT_BYTES = CHUNK_SLOT.bytes
const WINDOW_SLOTS = MIB / SLOT_BYTES
const SLOTS_AT_ONCE = 64
const NAMES = ['first', 'second'] as const

/** The slots below the checkpoint header's `slotsUsed` that are empty in the copy that counts: there may be millions. */
class Empties {
  count = 0
  /** First and how many, in turn: neighbours, at most a window of them. */
  readonly runs: number[] = []
  /** Of those whose other copy is damaged: twice the slot, and one more where that is the second. */
  readonly odd: number[] = []

  add(slot: number, count: number, window: Window): void {
    const { runs } = this
    this.count += count
    const last = runs.length - 2
    // None goes on in the next window: that may be in another extent.
    const isNext = last >= 0 && slot > window.slot && runs[last]! + runs[last + 1]! === slot
    if (isNext) runs[last + 1]! += count
    else runs.push(slot, count)
  }
}

/** Neighbouring slots with the same thing wrong. */
interface Run {
  readonly code: FindingCode
  /** The copy that is to be written from the other; undefined when both are damaged. */
  readonly copy: 0 | 1 | undefined
  readonly slot: number
  count: number
}

/** A stretch of both copies. */
interface Window {
  readonly slot: number
  readonly count: number
  readonly copies: readonly [Uint8Array, Uint8Array]
}

export function* checkTable(inspection: Inspection): Iterable<Problem> {
  const { device, geometry, checkpointHeader, loggedSlots } = inspection
  if (geometry === undefined || checkpointHeader === undefined) return
  const inLog = Float64Array.from(loggedSlots.keys()).sort()
  const slotsUsed = Math.max(checkpointHeader.slotsUsed, (inLog.at(-1) ?? -1) + 1)
  const chunks: FoundChunk[] = []
  const empty = new Empties()
  let logged = 0
  let count = 0
  for (let slot = 0; slot < geometry.slots; slot += count) {
    count = Math.min(WINDOW_SLOTS, extentEnd(geometry, slot) - slot)
    const [one, other] = slotPlaces(geometry, slot)
    const window: Window = {
      slot,
      count,
      copies: [device.read(one, count * SLOT_BYTES), device.read(other, count * SLOT_BYTES)],
    }
    const first = logged
    while (logged < inLog.length && inLog[logged]! < slot + count) logged++
    yield* checkUsed(inspection, window, inLog.subarray(first, logged), slotsUsed, chunks, empty)
    yield* checkUnused(inspection, window, slotsUsed)
  }
  yield* checkEmpty(inspection, checkpointHeader, empty)
  inspection.chunks = chunks
}

function* checkUsed(
  inspection: Inspection,
  window: Window,
  inLog: Float64Array,
  slotsUsed: number,
  chunks: FoundChunk[],
  empty: Empties,
): Iterable<Problem> {
  const { seed, loggedSlots } = inspection
  const geometry = inspection.geometry!
  const emptyEnd = inspection.checkpointHeader!.slotsUsed
  const addEmpty = (slot: number, to: number) => {
    if (slot < emptyEnd) empty.add(slot, Math.min(to, emptyEnd) - slot, window)
  }
  const end = Math.min(window.slot + window.count, slotsUsed)
  let passed = 0
  let run: Run | undefined
  for (let slot = window.slot; slot < end; slot++) {
    // There may be millions that were never written: they are passed by many at a time.
    const stop = Math.min(end, inLog[passed] ?? end)
    const next = zeroUntil(window, slot, stop)
    if (next > slot) addEmpty(slot, next)
    slot = next
    if (slot === end) break
    const slotSeed = chunkSlotSeed(seed, slot)
    let values: SlotContents
    let wrong: Pick<Run, 'code' | 'copy'> | undefined
    if (slot === inLog[passed]) {
      passed++
      values = decodeChunkSlot(loggedSlots.get(slot)!, 0, slotSeed)
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
      const isSame = Buffer.compare(slotIn(window, slot, 0), slotIn(window, slot, 1)) === 0
      const first = decodeChunkSlot(window.copies[0], at, slotSeed)
      const second = isSame ? first : decodeChunkSlot(window.copies[1], at, slotSeed)
      const winner = newerSlot(first, second)
      const copy = winner === 1 ? 0 : 1
      values = winner === 1 ? second : first
      if (values === 'unused') {
        addEmpty(slot, slot + 1)
        if (!isSame && slot < emptyEnd) empty.odd.push(2 * slot + copy)
      } else if (values === undefined) wrong = { code: 'slot-lost', copy: undefined }
      else if (!isSame) wrong = { code: codeFor(first, second), copy }
    }
    if (run !== undefined) {
      const isMore = wrong?.code === run.code && wrong.copy === run.copy
      if (isMore && run.slot + run.count === slot) {
        run.count++
        wrong = undefined
      } else {
        yield problemOf(inspection, window, run)
        run = undefined
      }
    }
    if (wrong !== undefined) run = { ...wrong, slot, count: 1 }
    if (values !== undefined && values !== 'unused' && values.state === CHUNK_STATE.CHUNK) {
      chunks.push({ slot, values })
    }
  }
  if (run !== undefined) yield problemOf(inspection, window, run)
}

function slotIn({ slot: first, copies }: Window, slot: number, copy: 0 | 1): Uint8Array {
  return copies[copy].subarray((slot - first) * SLOT_BYTES, (slot - first + 1) * SLOT_BYTES)
}

function problemOf({ geometry, seed }: Inspection, window: Window, run: Run): Problem {
  const { code, copy, slot, count } = run
  if (copy === undefined) return lost(geometry!, seed, window, run)
  const from = (slot - window.slot) * SLOT_BYTES
  const winner = copy === 0 ? 1 : 0
  const bytes = window.copies[winner].slice(from, from + count * SLOT_BYTES)
  return differing(code, slotPlaces(geometry!, slot)[copy], copy, slot, bytes)
}

/** `slot 7`, or `slots 7 to 9`. */
function namesOf(slot: number, count: number): string {
  return count === 1 ? `slot ${slot}` : `slots ${slot} to ${slot + count - 1}`
}

/** For findings that stand for more than one slot. */
function counted(count: number): { count?: number } {
  return count === 1 ? {} : { count }
}

/** The first slot from `slot` on that has something in either copy, at most `end`; looks at many at once. */
function zeroUntil(window: Window, slot: number, end: number): number {
  const isEmpty = (from: number, to: number) =>
    window.copies.every((bytes) =>
      isZero(bytes, (from - window.slot) * SLOT_BYTES, (to - window.slot) * SLOT_BYTES),
    )
  let at = slot
  for (let next = at; at < end; at = next) {
    next = Math.min(at + SLOTS_AT_ONCE, end)
    if (!isEmpty(at, next)) break
  }
  return at
}

/** An in-place location is written after its record is durable: a slot newer than the log says so of a lost one. */
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
  yield {
    code,
    severity: 'error',
    place: {
      area: 'chunk-table',
      copy: ahead === 0 ? 0 : 1,
      offset: slotPlaces(geometry!, slot)[0],
    },
    message: `chunk slot ${slot} is newer than the log knows: a record that changed it was durable and is damaged`,
    // While the end of the log is in doubt its newer state may still be the right one.
    fixes:
      loss !== undefined
        ? []
        : bothMade(
            geometry!,
            code,
            slot,
            loggedSlots.get(slot)!,
            'is made what the log says: its newer state belongs to a commit that is lost',
          ),
  }
}

function codeFor(first: SlotContents, second: SlotContents): FindingCode {
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
  const count = bytes.length / SLOT_BYTES
  const one = `the ${NAMES[copy]} copy of chunk ${namesOf(slot, count)}`
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
    ...counted(count),
    fixes: [
      { code, place, message: `${one} is written from ${other}`, drops: false, offset, bytes },
    ],
  }
}

/** Some slots below the checkpoint header's `slotsUsed` were never written. More are empty: those had chunks, or had had some. */
function* checkEmpty(
  { geometry, seed }: Inspection,
  { holes }: CheckpointHeader,
  empty: Empties,
): Iterable<Problem> {
  const { count, runs, odd } = empty
  if (count <= holes) {
    for (const each of odd) {
      const [slot, copy] = [Math.floor(each / 2), each % 2 === 0 ? 0 : 1] as const
      const at = slotPlaces(geometry!, slot)[copy]
      yield differing('slot-damaged', at, copy, slot, new Uint8Array(SLOT_BYTES))
    }
    return
  }
  const which = count === 1 ? `slot ${runs[0]} is` : `${count} slots are`
  const fixes: PlannedFix[] = []
  // The rest is for the next pass.
  for (let i = 0; i < Math.min(runs.length, 2 * FINDINGS_MAX); i += 2) {
    fixes.push(...givenUp(geometry!, seed, runs[i]!, runs[i + 1]!))
  }
  yield {
    code: 'slot-lost',
    severity: 'error',
    place: { area: 'chunk-table', offset: slotPlaces(geometry!, runs[0]!)[0] },
    message:
      `${which} empty in the chunk table, ${holes === 0 ? 'none' : `at most ${holes}`} of which can be: what was there is lost; ` +
      'repair with dropDamaged gives it up, so that the rest can be opened',
    ...counted(count),
    fixes,
  }
}

/** Both copies are damaged. What can be done is to give the slots, and with them the chunks, up. */
function lost(geometry: Geometry, seed: number, window: Window, { slot, count }: Run): Problem {
  const generations = new Float64Array(count)
  let may = ''
  for (let i = 0; i < count; i++) {
    const told = [0, 1].map((copy) => CHUNK_SLOT.read(slotIn(window, slot + i, copy as 0 | 1)))
    // An id must not come again: beyond what either copy may have had; not at all where neither tells.
    const all = told.map(({ generation }) => generation)
    const known = all.filter((each) => each > 0 && each < GENERATION_MAX)
    generations[i] = known.length === 0 ? GENERATION_MAX : Math.max(...known) + 1
    const told0 = told.find(({ granules }) => granules > 0)
    if (count === 1 && told0 !== undefined) {
      may = ` (they may say ${told0.granules} from granule ${told0.start})`
    }
  }
  const [its, chunk] = count === 1 ? ['its chunk has', 'chunk'] : ['their chunks have', 'chunks']
  return {
    code: 'slot-lost',
    severity: 'error',
    place: { area: 'chunk-table', offset: slotPlaces(geometry, slot)[0] },
    message:
      `both copies of chunk ${namesOf(slot, count)} are damaged: which granules ${its} is not known for certain${may}; ` +
      `repair with dropDamaged gives the ${chunk} up, so that the rest can be opened`,
    ...counted(count),
    fixes: givenUp(geometry, seed, slot, count, generations),
  }
}

/** Both copies of slots as ones that are free. */
function givenUp(
  geometry: Geometry,
  seed: number,
  slot: number,
  count: number,
  generations?: Float64Array,
): PlannedFix[] {
  const length = count * SLOT_BYTES
  return slotPlaces(geometry, slot).map((offset, copy) => ({
    code: 'slot-lost',
    place: { area: 'chunk-table', copy: copy as 0 | 1, offset },
    message: `the ${NAMES[copy as 0 | 1]} copy of chunk ${namesOf(slot, count)} is made free: ${count === 1 ? 'its chunk is' : 'their chunks are'} lost`,
    drops: true,
    offset,
    // Made when it is asked for: there may be millions of slots.
    get bytes() {
      const bytes = new Uint8Array(length)
      for (let i = 0; i < count; i++) {
        const generation = generations?.[i] ?? GENERATION_MAX
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
  return bothMade(geometry!, code, slot, bytes, message)
}

function bothMade(
  geometry: Geometry,
  code: FindingCode,
  slot: number,
  bytes: Uint8Array,
  message: string,
): PlannedFix[] {
  return slotPlaces(geometry, slot).map((offset, copy) => ({
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
        !isZero(bytes, (slot - from) * SLOT_BYTES, (slot - from + 1) * SLOT_BYTES)
      )
        slot++
      if (slot === start) continue
      const offset = slotPlaces(geometry, start)[copy]
      const place = { area: 'chunk-table', copy, offset } as const
      const which = namesOf(start, slot - start)
      const code = 'slot-beyond-used'
      yield {
        code,
        severity: 'warning',
        place,
        message: `something is in the ${NAMES[copy]} copy of chunk ${which}, which were never used: damage, or a change whose record is lost`,
        ...counted(slot - start),
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
