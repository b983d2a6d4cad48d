/**
 * A small volume with a history, as an image with what it must hold: chunks with names and types, a
 * checkpoint in the middle, records in the log that no checkpoint has taken home. And what becomes
 * of the image when bytes of it change.
 */
import assert from 'node:assert/strict'
import { type Finding, PlinthError, type Volume } from 'plinth'
import { alignUp, LINE_BYTES } from '../../src/base/units.js'
import { checkDevice } from '../../src/check/check.js'
import type { Readable } from '../../src/check/inspection.js'
import type { RepairReport } from '../../src/check/repair.js'
import { ANCHOR } from '../../src/layout/anchor.js'
import { CHUNK_SLOT } from '../../src/layout/chunk-slot.js'
import { ANCHOR_AT, type Geometry, planGeometry, TABLE_AT } from '../../src/layout/geometry.js'
import { RECORD_SKIP } from '../../src/layout/record.js'
import { type Model as CrashModel, SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { repairDevice } from '../../src/volume/inspect.js'

const MIB = 1024 * 1024
const CELL = 64
export const geometry: Geometry = planGeometry({ sizeBytes: MIB, alignBytes: 4096 })

interface KnownChunk {
  readonly id: number
  readonly offset: number
  readonly size: number
  readonly name: string | undefined
  readonly type: string | undefined
  /** Cells that were written: number of the cell to the byte it is filled with. */
  readonly cells: ReadonlyMap<number, number>
}
export type State = readonly KnownChunk[]

export interface Aged {
  readonly crashModel: CrashModel
  readonly image: Uint8Array
  /** What the device held earlier: for writes that were lost. */
  readonly older: Uint8Array
  /** After each commit whose record is in the log; the last one is what the volume holds. */
  readonly states: readonly State[]
  /** Bytes of the log in use. */
  readonly logBytes: number
  readonly slotsUsed: number
}

export interface AgeOptions {
  readonly crashModel: CrashModel
  /** How the process ended: `power` leaves what is durable, `kill` every store, `close` a closed volume. */
  readonly end: 'power' | 'kill' | 'close'
}

/** The volume. Always the same for the same options. */
export function makeAged({ crashModel, end }: AgeOptions): Aged {
  const media = new SimulatedMedia(crashModel, makeImage())
  const volume = openSimulated(media)
  let state: KnownChunk[] = []
  const states: State[] = []
  const note = (next: KnownChunk[]) => {
    state = next
    states.push(next)
  }
  const allocate = (name: string | undefined, size: number, type?: string) => {
    const chunk = volume.allocate({
      size,
      ...(name === undefined ? {} : { name }),
      ...(type === undefined ? {} : { type }),
    })
    note([
      ...state,
      { id: chunk.id, offset: chunk.offset, size: chunk.size, name, type, cells: new Map() },
    ])
  }
  const write = (index: number, ...cells: [cell: number, byte: number][]) => {
    const known = state[index]!
    const chunk = volume.chunk(known.id)
    volume.transact((tx) => {
      for (const [cell, byte] of cells) {
        tx.write(chunk, cell * CELL, new Uint8Array(CELL).fill(byte))
      }
    })
    note(state.with(index, { ...known, cells: new Map([...known.cells, ...cells]) }))
  }
  const rename = (index: number, name: string) => {
    const known = state[index]!
    volume.transact((tx) => tx.rename(volume.chunk(known.id), name))
    note(state.with(index, { ...known, name }))
  }
  const free = (index: number) => {
    volume.free(volume.chunk(state[index]!.id))
    note(state.filter((_, i) => i !== index))
  }
  const history = (round: number) => {
    allocate(`wal-${round}`, 8192, 'log')
    allocate(`tree-${round}`, 4096, 'tree')
    write(0, [0, 16 * round + 1], [9, 16 * round + 2])
    allocate(undefined, 12288)
    write(1, [3, 16 * round + 3])
    rename(0, `wal-renamed-${round}`)
    free(1)
    allocate(`größe-${round}`, 4096, 'blob')
    write(1, [0, 16 * round + 4], [5, 16 * round + 5], [60, 16 * round + 6])
  }
  history(1)
  const older = media.visible.slice()
  volume.checkpoint()
  states.splice(0, states.length - 1)
  history(2)
  write(0, [0, 200])
  allocate('last', 4096)
  write(2, [1, 201], [2, 202])
  const { logUsedBytes } = volume.stats()
  if (end === 'close') volume.close()
  const image = (end === 'power' ? media.durable : media.visible).slice()
  // What the library itself thinks of it, before anything is damaged.
  const { anchor, loggedSlots } = checkDevice(readableOf(image)).inspection
  const aged = {
    crashModel,
    image,
    older,
    states: end === 'close' ? states.slice(-1) : states,
    logBytes: end === 'close' ? 0 : logUsedBytes,
    slotsUsed: Math.max(anchor!.slotsUsed, ...[...loggedSlots.keys()].map((slot) => slot + 1)),
  }
  media.release()
  const outcome = evaluate(aged, image)
  assert.equal(outcome.state, aged.states.length - 1)
  return aged
}

export function readableOf(image: Uint8Array): Readable {
  return {
    sizeBytes: image.length,
    read(offset, length) {
      const bytes = new Uint8Array(length)
      bytes.set(image.subarray(offset, offset + length))
      return bytes
    },
  }
}

/** Index of the state that the volume is in; -1 for none of them. */
function stateOf(volume: Volume, states: readonly State[]): number {
  const found = volume.chunks()
  // The last is by far the most frequent.
  for (let index = states.length - 1; index >= 0; index--) {
    if (isIn(volume, found, states[index]!)) return index
  }
  return -1
}

function isIn(volume: Volume, found: ReturnType<Volume['chunks']>, state: State): boolean {
  if (found.length !== state.length) return false
  const byId = new Map(found.map((chunk) => [chunk.id, chunk]))
  return state.every(({ id, offset, size, name, type, cells }) => {
    const chunk = byId.get(id)
    if (chunk === undefined || chunk.offset !== offset || chunk.size !== size) return false
    if (chunk.name !== name || chunk.type !== type) return false
    const { bytes } = volume.chunk(id)
    for (const [cell, value] of cells) {
      for (let i = cell * CELL; i < (cell + 1) * CELL; i++) if (bytes[i] !== value) return false
    }
    return true
  })
}

export interface Outcome {
  readonly findings: readonly Finding[]
  /** Code of the error that opening gave; undefined when it opened. */
  readonly code: string | undefined
  readonly healed: number
  /** Index of the state; -1 when it is none of them, or the volume did not open. */
  readonly state: number
  /** What is left on the device when it was opened and closed again. */
  readonly after: Uint8Array | undefined
}

/** Checks and opens a damaged image. Anything but an outcome or a PlinthError is a failure. */
export function evaluate(
  aged: Aged,
  image: Uint8Array,
  { keep = false, thorough = true } = {},
): Outcome {
  const { findings } = checkDevice(readableOf(image))
  const media = new SimulatedMedia(aged.crashModel, image, false)
  try {
    const volume = openSimulated(media)
    const state = stateOf(volume, aged.states)
    const { healed } = volume.recovery
    if (thorough) {
      // What stands in unused slots is left alone until somebody needs them.
      const open = volume.check().filter(({ code }) => code !== 'slot-beyond-used')
      assert.deepEqual(open, [], 'an open volume is sound')
    }
    volume.close()
    const after = keep ? media.visible.slice() : undefined
    return { findings, code: undefined, healed, state, after }
  } catch (error) {
    if (!(error instanceof PlinthError)) throw error
    return { findings, code: error.code, healed: 0, state: -1, after: undefined }
  } finally {
    media.release()
  }
}

/** Repairs an image in place. */
export function repairImage(
  aged: Aged,
  image: Uint8Array,
  options: { dryRun?: boolean; dropDamaged?: boolean } = {},
): RepairReport {
  let media: SimulatedMedia | undefined
  const { dryRun = false, dropDamaged = false } = options
  const report = repairDevice(
    {
      device: {
        sizeBytes: image.length,
        read: (offset, length) => readableOf(media?.visible ?? image).read(offset, length),
      },
      alignBytes: 4096,
      openMedia() {
        media = new SimulatedMedia(aged.crashModel, image, false)
        return media
      },
    },
    { dryRun, dropDamaged },
  )
  if (media !== undefined) {
    image.set(media.visible)
    media.release()
  }
  return report
}

/** Bytes of a superblock that have a meaning. */
const SUPERBLOCK_NAMED = 144

/** A stretch of metadata. */
export interface Stretch {
  readonly name: string
  readonly from: number
  readonly to: number
  /** Whether anything that counts is in it. */
  readonly live: boolean
}

/** All of a volume's metadata, cut into what is in use and what is reserved, unused or padding. */
export function stretchesOf({ logBytes, slotsUsed, image }: Aged): Stretch[] {
  const { logAt, tableBytes, tableCopyAt, anchorCopyAt, superblockCopyAt } = geometry
  const used = slotsUsed * CHUNK_SLOT.bytes
  const ringBytes = geometry.logBytes
  const head = checkDevice(readableOf(image)).inspection.anchor!.head % ringBytes
  const list: [name: string, from: number, length: number, live: boolean][] = []
  const both = (name: string, first: number, second: number, length: number, live: boolean) => {
    list.push([name, first, length, live], [`second ${name}`, second, length, live])
  }
  const named = SUPERBLOCK_NAMED
  both('superblock', 0, superblockCopyAt, named, true)
  both('superblock, reserved', named, superblockCopyAt + named, 4096 - named, false)
  both('anchor', ANCHOR_AT, anchorCopyAt, ANCHOR.bytes, true)
  const beyond = ANCHOR.bytes
  both('anchor, reserved', ANCHOR_AT + beyond, anchorCopyAt + beyond, 4096 - beyond, false)
  both('table', TABLE_AT, tableCopyAt, used, true)
  both('table, unused', TABLE_AT + used, tableCopyAt + used, tableBytes - used, false)
  const view = new DataView(image.buffer, image.byteOffset)
  const end = head + logBytes
  for (let position = head; position < end; ) {
    const at = logAt + (position % ringBytes)
    const isSkip = (view.getUint32(at + 12, true) & RECORD_SKIP) !== 0
    const span = alignUp(view.getUint32(at + 4, true), LINE_BYTES)
    assert.ok(span > 0)
    const bytes = isSkip ? LINE_BYTES : span
    list.push(['log', at, bytes, true], ['log, padding', at + bytes, span - bytes, false])
    position += span
  }
  const wrapped = Math.max(0, end - ringBytes)
  list.push(['log before the head', logAt + wrapped, head - wrapped, false])
  list.push(['log behind the end', logAt + end, ringBytes - end, false])
  return list
    .filter(([, , length]) => length > 0)
    .map(([name, from, length, live]) => ({ name, from, to: from + length, live }))
}

/** Findings that say something is wrong. */
export function alarms(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ severity }) => severity !== 'info')
}

/**
 * Whether a damaged image has all that it needs: of everything that is kept twice one copy as it was,
 * and the log as it was.
 */
export function isRestorable(aged: Aged, damaged: Uint8Array): boolean {
  const { image, slotsUsed } = aged
  const same = (from: number, length: number) =>
    Buffer.compare(image.subarray(from, from + length), damaged.subarray(from, from + length)) === 0
  const { logAt, logBytes, superblockCopyAt, anchorCopyAt, tableCopyAt } = geometry
  if (!same(0, 4096) && !same(superblockCopyAt, 4096)) return false
  if (!same(ANCHOR_AT, ANCHOR.bytes) && !same(anchorCopyAt, ANCHOR.bytes)) return false
  if (!same(logAt, logBytes)) return false
  for (let slot = 0; slot < slotsUsed; slot++) {
    const at = slot * CHUNK_SLOT.bytes
    if (!same(TABLE_AT + at, CHUNK_SLOT.bytes) && !same(tableCopyAt + at, CHUNK_SLOT.bytes)) {
      return false
    }
  }
  return true
}

/**
 * Why nothing on the device can tell the damage from something that is allowed: the log's last group
 * of records is not whole, as a power cut leaves it, or both copies of a slot are as if never used.
 */
export function whyUndecidable(aged: Aged, damaged: Uint8Array): 'tail' | 'zeroed' | undefined {
  const { image, slotsUsed } = aged
  const records = stretchesOf(aged).filter(({ name }) => name === 'log')
  const isTorn = records
    .slice(aged.crashModel === 'page' ? -2 : -1)
    .some(
      ({ from, to }) => Buffer.compare(image.subarray(from, to), damaged.subarray(from, to)) !== 0,
    )
  if (isTorn) return 'tail'
  const isZero = (bytes: Uint8Array, at: number) =>
    bytes.subarray(at, at + CHUNK_SLOT.bytes).every((byte) => byte === 0)
  for (let slot = 0; slot < slotsUsed; slot++) {
    const places = [TABLE_AT, geometry.tableCopyAt].map((at) => at + slot * CHUNK_SLOT.bytes)
    if (places.every((at) => isZero(damaged, at) && !isZero(image, at))) return 'zeroed'
  }
  return undefined
}
