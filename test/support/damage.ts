/**
 * A small volume with a history, as an image with what it must hold: chunks with names and types, a
 * heap with objects of several sizes, a checkpoint in the middle, records in the log that no checkpoint
 * has made durable in place. And what becomes of the image when bytes of it change.
 */
import assert from 'node:assert/strict'
import { type Finding, type Heap, PlinthError, type Volume } from 'plinth'
import { alignUp, LINE_BYTES } from '../../src/base/units.js'
import { checkDevice } from '../../src/check/check.js'
import type { Readable } from '../../src/check/inspection.js'
import type { RepairReport } from '../../src/check/repair.js'
import { CHECKPOINT } from '../../src/layout/checkpoint-header.js'
import { CHUNK_SLOT } from '../../src/layout/chunk-slot.js'
import { CHECKPOINT_AT, type Geometry, planGeometry } from '../../src/layout/geometry.js'
import { HEAP_HEADER, HEAP_ROOT_AT, OWN_TYPE_PREFIX, SLAB_ENTRY } from '../../src/layout/heap.js'
import { RECORD_SKIP } from '../../src/layout/record.js'
import { type Model as CrashModel, SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { repairDevice } from '../../src/volume/inspect.js'
import { placesOf } from './places.js'

const MIB = 1024 * 1024
const CELL = 64
export const geometry: Geometry = planGeometry({ sizeBytes: MIB, alignBytes: 4096 })
const { tableAt, tableCopyAt, tableBytes, chunksAt, chunksEnd } = placesOf(geometry)

const HEAP = 'things'

interface KnownObject {
  readonly size: number
  readonly type: number
  /** With which it is filled. */
  readonly byte: number
}

interface KnownHeap {
  readonly objects: ReadonlyMap<number, KnownObject>
  readonly root: number
}
const NO_HEAP: KnownHeap = { objects: new Map(), root: 0 }

interface KnownChunk {
  readonly id: number
  readonly offset: number
  readonly size: number
  readonly name: string | undefined
  readonly type: string | undefined
  /** Cells that were written: number of the cell to the byte it is filled with. */
  readonly cells: ReadonlyMap<number, number>
}
export interface State {
  readonly chunks: readonly KnownChunk[]
  readonly heap: KnownHeap
}

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

/** What the history does to the heap in each round. */
const OBJECTS: readonly (readonly [size: number, type: number])[] = [
  [16, 0],
  [40, 7],
  [16, 0],
  [200, 0],
  [3000, 7],
  [20_000, 9],
  [40, 7],
]

/** The volume. Always the same for the same options. */
export function makeAged({ crashModel, end }: AgeOptions): Aged {
  const media = new SimulatedMedia(crashModel, makeImage())
  const volume = openSimulated(media)
  let state: KnownChunk[] = []
  let known: KnownHeap = NO_HEAP
  const states: State[] = []
  const note = (next: KnownChunk[]) => {
    state = next
    states.push({ chunks: state, heap: known })
  }
  const noteHeap = (next: KnownHeap) => {
    known = next
    states.push({ chunks: state, heap: known })
  }
  const publish = (size: number, type: number, byte: number) => {
    const heap = volume.heap(HEAP)
    const pointer = heap.reserve(size, type)
    heap.copyIn(pointer, new Uint8Array(size).fill(byte))
    heap.publish(pointer)
    noteHeap({ ...known, objects: new Map([...known.objects, [pointer, { size, type, byte }]]) })
  }
  const freeObject = (nth: number) => {
    const pointer = [...known.objects.keys()][nth]!
    volume.heap(HEAP).free(pointer)
    const objects = new Map(known.objects)
    objects.delete(pointer)
    noteHeap({ ...known, objects })
  }
  const setRoot = (nth: number) => {
    const root = [...known.objects.keys()][nth]!
    volume.heap(HEAP).setRoot(root)
    noteHeap({ ...known, root })
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
    const before = state[index]!
    const chunk = volume.chunk(before.id)
    volume.transact((tx) => {
      for (const [cell, byte] of cells) {
        tx.write(chunk, cell * CELL, new Uint8Array(CELL).fill(byte))
      }
    })
    note(state.with(index, { ...before, cells: new Map([...before.cells, ...cells]) }))
  }
  const rename = (index: number, name: string) => {
    const before = state[index]!
    volume.transact(() => volume.rename(volume.chunk(before.id), name))
    note(state.with(index, { ...before, name }))
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
    const wanted = OBJECTS.slice(round === 1 ? 0 : 3)
    for (const [index, [size, type]] of wanted.entries()) publish(size, type, 32 * round + index)
    setRoot(3)
    freeObject(0)
    freeObject(4)
  }
  volume.heap(HEAP)
  noteHeap(known)
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
  const { checkpointHeader, loggedSlots } = checkDevice(readableOf(image)).inspection
  const aged = {
    crashModel,
    image,
    older,
    states: end === 'close' ? states.slice(-1) : states,
    logBytes: end === 'close' ? 0 : logUsedBytes,
    slotsUsed: Math.max(
      checkpointHeader!.slotsUsed,
      ...[...loggedSlots.keys()].map((slot) => slot + 1),
    ),
  }
  media.release()
  const { state: found, findings } = evaluate(aged, image)
  assert.equal(found, aged.states.length - 1)
  assert.deepEqual(alarms(findings), [])
  return aged
}

export function readableOf(image: Uint8Array): Readable {
  return {
    sizeBytes: image.length,
    read(offset, length) {
      if (offset + length <= image.length) return image.slice(offset, offset + length)
      const bytes = new Uint8Array(length)
      bytes.set(image.subarray(offset))
      return bytes
    },
  }
}

/** Index of the last state that `isIn` accepts; -1 for none. */
function lastState(states: readonly State[], isIn: (state: State) => boolean): number {
  // The last is by far the most frequent.
  for (let index = states.length - 1; index >= 0; index--) if (isIn(states[index]!)) return index
  return -1
}

function hasChunks(
  volume: Volume,
  found: ReturnType<Volume['chunks']>,
  known: readonly KnownChunk[],
): boolean {
  if (found.length !== known.length) return false
  const byId = new Map(found.map((chunk) => [chunk.id, chunk]))
  return known.every(({ id, offset, size, name, type, cells }) => {
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

/** What a heap turns out to be: what is in it, or the code with which it is refused. */
type FoundHeap = { readonly code: string } | KnownHeap

function readHeap(volume: Volume): FoundHeap {
  try {
    const heap = volume.heap(HEAP)
    const objects = new Map<number, KnownObject>()
    for (const pointer of heap.objects()) {
      const bytes = new Uint8Array(heap.size(pointer))
      heap.copyOut(pointer, bytes)
      objects.set(pointer, { size: bytes.length, type: heap.type(pointer), byte: bytes[0]! })
    }
    assert.equal(heap.stats().objects, objects.size)
    return { objects, root: heap.root }
  } catch (error) {
    if (!(error instanceof PlinthError)) throw error
    return { code: error.code }
  }
}

function hasHeap(found: FoundHeap, known: KnownHeap): boolean {
  if ('code' in found || found.root !== known.root) return false
  if (found.objects.size !== known.objects.size) return false
  return [...known.objects].every(([pointer, { size, type, byte }]) => {
    const object = found.objects.get(pointer)
    return (
      object !== undefined && object.size >= size && object.type === type && object.byte === byte
    )
  })
}

/** Everything that a user does to a heap, to one that may be damaged: nothing but a PlinthError comes of it. */
function useHeap(volume: Volume): void {
  const attempt = (body: (heap: Heap) => void) => {
    try {
      body(volume.heap(HEAP))
    } catch (error) {
      if (!(error instanceof PlinthError)) throw error
    }
  }
  attempt((heap) => heap.bytes(heap.root).fill(1, 0, 1))
  for (const [size, type] of OBJECTS) {
    attempt((heap) => heap.free(heap.allocate(size, type)))
    attempt((heap) => void heap.allocate(size, type))
    attempt((heap) => heap.publish(heap.reserve(size, type)))
    attempt((heap) => heap.cancel(heap.reserve(size, type)))
  }
  attempt((heap) => {
    let nth = 0
    for (const pointer of heap.objects()) if (nth++ % 2 === 0) heap.free(pointer)
  })
  attempt((heap) => {
    volume.transact(() => {
      for (let n = 0; n < 20; n++) heap.allocate(100)
      heap.setRoot(heap.allocate(500))
    })
  })
  attempt((heap) => void heap.stats())
}

export interface Outcome {
  readonly findings: readonly Finding[]
  /** Code of the error that opening gave; undefined when it opened. */
  readonly code: string | undefined
  readonly repaired: number
  /** Index of the state; -1 when it is none of them, or the volume did not open. */
  readonly state: number
  /** The same of the chunks alone. */
  readonly chunkState: number
  readonly heap: FoundHeap | undefined
}

/** Checks, opens and uses a damaged image. Anything but an outcome or a PlinthError is a failure. */
export function evaluate(aged: Aged, image: Uint8Array, { thorough = true } = {}): Outcome {
  const { findings } = checkDevice(readableOf(image))
  const media = new SimulatedMedia(aged.crashModel, image, false)
  try {
    const volume = openSimulated(media)
    const chunks = volume.chunks().filter(({ type }) => !type?.startsWith(OWN_TYPE_PREFIX))
    const heap = readHeap(volume)
    const { states } = aged
    const chunkState = lastState(states, (state) => hasChunks(volume, chunks, state.chunks))
    const state = lastState(
      states,
      (each) => hasChunks(volume, chunks, each.chunks) && hasHeap(heap, each.heap),
    )
    const { repaired } = volume.recovery
    if (thorough) {
      // What stands in unused slots is left alone until somebody needs them; heaps are kept once.
      const known = ({ code, place }: Finding) =>
        code === 'slot-beyond-used' || code === 'heap-orphan' || place.area === 'heap'
      const open = volume.check().filter((finding) => !known(finding))
      assert.deepEqual(open, [], 'an open volume is sound')
      useHeap(volume)
    }
    volume.close()
    return { findings, code: undefined, repaired, state, chunkState, heap }
  } catch (error) {
    if (!(error instanceof PlinthError)) throw error
    const { code } = error
    return { findings, code, repaired: 0, state: -1, chunkState: -1, heap: undefined }
  } finally {
    media.release()
  }
}

/** Repairs an image in place. */
export function repairImage(
  aged: Pick<Aged, 'crashModel'>,
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
    // Damage may look like another owner.
    { dryRun, dropDamaged, force: true },
  )
  if (media !== undefined) {
    image.set(media.visible)
    media.release()
  }
  return report
}

/** Bytes of a superblock that have a meaning. */
const SUPERBLOCK_NAMED = 960

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
  const { logAt, checkpointCopyAt, superblockCopyAt } = geometry
  const used = slotsUsed * CHUNK_SLOT.bytes
  const ringBytes = geometry.logBytes
  const head = checkDevice(readableOf(image)).inspection.checkpointHeader!.head % ringBytes
  const list: HeapStretch[] = []
  const both = (name: string, first: number, second: number, length: number, live: boolean) => {
    list.push([name, first, length, live], [`second ${name}`, second, length, live])
  }
  const named = SUPERBLOCK_NAMED
  both('superblock', 0, superblockCopyAt, named, true)
  both('superblock, reserved', named, superblockCopyAt + named, 4096 - named, false)
  both('checkpoint header', CHECKPOINT_AT, checkpointCopyAt, CHECKPOINT.bytes, true)
  const beyond = CHECKPOINT.bytes
  both(
    'checkpoint header, reserved',
    CHECKPOINT_AT + beyond,
    checkpointCopyAt + beyond,
    4096 - beyond,
    false,
  )
  both('table', tableAt, tableCopyAt, used, true)
  both('table, unused', tableAt + used, tableCopyAt + used, tableBytes - used, false)
  const view = new DataView(image.buffer, image.byteOffset)
  const end = head + logBytes
  for (let lsn = head; lsn < end; ) {
    const at = logAt + (lsn % ringBytes)
    const isSkip = (view.getUint32(at + 12, true) & RECORD_SKIP) !== 0
    const span = alignUp(view.getUint32(at + 4, true), LINE_BYTES)
    assert.ok(span > 0)
    const bytes = isSkip ? LINE_BYTES : span
    list.push(['log', at, bytes, true], ['log, padding', at + bytes, span - bytes, false])
    lsn += span
  }
  const wrapped = Math.max(0, end - ringBytes)
  for (const stretch of heapStretches(image)) list.push(stretch)
  list.push(['log before the head', logAt + wrapped, head - wrapped, false])
  list.push(['log behind the end', logAt + end, ringBytes - end, false])
  return list
    .filter(([, , length]) => length > 0)
    .map(([name, from, length, live]) => ({ name, from, to: from + length, live }))
}

type HeapStretch = readonly [name: string, from: number, length: number, live: boolean]

/** Those of images that are not damaged, which are asked for with each damage. */
const heapStretchesOf = new WeakMap<Uint8Array, readonly HeapStretch[]>()

/** The heads of a heap's chunks: what `HeapChunk` reads, and what stands between. */
function heapStretches(image: Uint8Array): readonly HeapStretch[] {
  const known = heapStretchesOf.get(image)
  if (known !== undefined) return known
  const list: HeapStretch[] = []
  for (const { offset: root, chunks, classes } of heapsOf(image)) {
    const named = HEAP_HEADER.fields.sizes[0] + 4 * classes.sizes.length
    list.push(['heap header', root, named, true])
    list.push(['heap header, reserved', root + named, HEAP_HEADER.bytes - named, false])
    for (const { offset, units, layout } of chunks) {
      const { headerAt, entriesAt, bitmapsAt, headBytes } = layout
      const entries = units * SLAB_ENTRY.bytes
      list.push(['heap slab header', offset + headerAt, entriesAt - headerAt, true])
      list.push(['heap slab entries', offset + entriesAt, entries, true])
      const gap = bitmapsAt - entriesAt - entries
      list.push(['heap, between', offset + entriesAt + entries, gap, false])
      list.push(['heap bitmaps', offset + bitmapsAt, headBytes - bitmapsAt, true])
    }
  }
  heapStretchesOf.set(image, list)
  return list
}

/** Puts back what users have stored, which nobody checks: damage is to metadata alone. */
export function keepContents({ image }: Aged, damaged: Uint8Array): void {
  const heads = heapStretches(image).map(([, from, length]) => ({
    from,
    bytes: damaged.slice(from, from + length),
  }))
  damaged.set(image.subarray(chunksAt, chunksEnd), chunksAt)
  for (const { from, bytes } of heads) damaged.set(bytes, from)
}

function heapsOf(image: Uint8Array) {
  return checkDevice(readableOf(image)).inspection.heaps.values()
}

/**
 * Bits that have no checksum, so that an object costs one word; damage to them cannot be told from
 * what somebody did. Numbers of bits from the start of the device.
 *
 *   object   whether a block has an object: the flipped one makes an object or frees one
 *   root     which object is the root: seen only when it points to none
 */
export function uncheckedBits({ image }: Aged): Map<number, 'object' | 'root'> {
  const bits = new Map<number, 'object' | 'root'>()
  for (const { offset: root, chunks } of heapsOf(image)) {
    for (let bit = 0; bit < 64; bit++) bits.set((root + HEAP_ROOT_AT) * 8 + bit, 'root')
    for (const { offset, slabs, layout } of chunks) {
      for (const { unit, blocks } of slabs) {
        const first = (offset + layout.bitmapsAt + unit * layout.bitmapBytes) * 8
        for (let block = 0; block < blocks; block++) bits.set(first + block, 'object')
      }
    }
  }
  return bits
}

/** Findings that say something is wrong. */
export function alarms(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ severity }) => severity !== 'info')
}

/**
 * Whether a damaged image has all that it needs: of everything that is kept twice one copy as it was,
 * and the log and the heads of heaps as they were.
 */
export function isRestorable(aged: Aged, damaged: Uint8Array): boolean {
  const { image, slotsUsed } = aged
  const same = (from: number, length: number) =>
    Buffer.compare(image.subarray(from, from + length), damaged.subarray(from, from + length)) === 0
  const { logAt, logBytes, superblockCopyAt, checkpointCopyAt } = geometry
  if (!same(0, 4096) && !same(superblockCopyAt, 4096)) return false
  if (!same(CHECKPOINT_AT, CHECKPOINT.bytes) && !same(checkpointCopyAt, CHECKPOINT.bytes))
    return false
  if (!same(logAt, logBytes)) return false
  for (let slot = 0; slot < slotsUsed; slot++) {
    const at = slot * CHUNK_SLOT.bytes
    if (!same(tableAt + at, CHUNK_SLOT.bytes) && !same(tableCopyAt + at, CHUNK_SLOT.bytes)) {
      return false
    }
  }
  return heapStretches(image).every(([, from, length]) => same(from, length))
}

/** Why nothing on the device can tell a damage from something that is allowed. */
export type Undecidable =
  /** The log's last group of records is not whole, as a power cut leaves it. */
  | 'tail'
  /** Only bits without a checksum changed: objects that somebody allocated or freed, another root. */
  | 'objects'

export function whyUndecidable(aged: Aged, damaged: Uint8Array): Undecidable | undefined {
  const { image } = aged
  const isTorn = stretchesOf(aged)
    .filter(({ name }) => name === 'log')
    .slice(aged.crashModel === 'page' ? -2 : -1)
    .some(
      ({ from, to }) => Buffer.compare(image.subarray(from, to), damaged.subarray(from, to)) !== 0,
    )
  if (isTorn) return 'tail'
  // In-place locations that the log writes anew are not what counts.
  const [good, bad] = [image, damaged].map((each) => checkDevice(readableOf(each)).inspection)
  const unchecked = uncheckedBits(aged)
  for (const [, from, length, live] of heapStretches(image)) {
    if (!live) continue
    const [before, after] = [good!.readData(from, length), bad!.readData(from, length)]
    for (let bit = 0; bit < length * 8; bit++) {
      const changed = (before[bit >>> 3]! ^ after[bit >>> 3]!) & (1 << (bit & 7))
      if (changed !== 0 && !unchecked.has(from * 8 + bit)) return undefined
    }
  }
  return 'objects'
}
