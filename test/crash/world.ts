/**
 * What the lab expects to find: a plain model beside a real volume. Contents are kept in cells of 64 bytes,
 * each filled from one number, so that a torn or foreign byte shows.
 */
import type { Chunk, Volume } from 'plinth'
import { compareEngine, type EngineModel, engineBytes } from './engine.js'
import { compareHeap, HEAP_NAME, type HeapModel } from './heap-operations.js'

export const CELL_BYTES = 64
export const CELLS = 8

export interface ModelChunk {
  readonly id: number
  readonly offset: number
  readonly size: number
  readonly type: string | undefined
  readonly name: string | undefined
  /** Value of each cell that its owner has written; undefined: unspecified. */
  readonly cells: readonly (number | undefined)[]
}

/** Immutable: each operation makes a new one. */
export interface Model {
  /** In order of creation. */
  readonly chunks: readonly ModelChunk[]
  /** The heap of the volume, when it has one. */
  readonly heap?: HeapModel
  /** Its two maps and the structure in memory beside them, when it has them. */
  readonly engine?: EngineModel
  readonly next: number
}

export const EMPTY: Model = { chunks: [], next: 1 }

/** What an operation may leave in cells when it is cut short, beside all or nothing. */
export interface Loose {
  readonly id: number
  readonly cell: number
  readonly value: number
}

export interface Operation {
  readonly name: string
  /** Does it to the volume and returns the model after it; undefined when the model does not allow it. */
  readonly run: (volume: Volume, model: Model) => Model | undefined
  /** A state between before and after that is as good: the operation is two. */
  readonly middle?: (model: Model) => Model
  /** Raw stores that are not atomic. */
  readonly loose?: (model: Model) => Loose[]
}

export function cellBytes(value: number): Uint8Array {
  const bytes = new Uint8Array(CELL_BYTES)
  if (value === 0) return bytes
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < CELL_BYTES; i += 8) {
    view.setUint32(i, Math.imul(value, 0x9e3779b1) + i, true)
    view.setUint32(i + 4, value * 8 + i / 8 + 1, true)
  }
  return bytes
}

export function chunkOf(volume: Volume, chunk: ModelChunk): Chunk {
  return volume.chunk(chunk.id)
}

export function added(
  model: Model,
  chunk: Chunk,
  name: string,
  cells: (number | undefined)[],
): Model {
  const { id, offset, size } = chunk
  return {
    ...model,
    chunks: [...model.chunks, { id, offset, size, type: 'lab', name, cells: pad(cells) }],
    next: model.next + 1,
  }
}

export function pad(cells: (number | undefined)[]): (number | undefined)[] {
  return Array.from({ length: CELLS }, (_, i) => cells[i])
}

export function withCell(model: Model, at: number, cell: number, value: number): Model {
  return {
    ...model,
    chunks: model.chunks.map((chunk, i) =>
      i === at ? { ...chunk, cells: chunk.cells.with(cell, value) } : chunk,
    ),
    next: model.next + 1,
  }
}

/** Whether the volume is in the state of the model. Returns what is different, undefined for nothing. */
export function compare(
  volume: Volume,
  model: Model,
  loose: readonly Loose[] = [],
): string | undefined {
  // A heap's own chunks are its own affair: they count by their bytes.
  const found = volume.chunks().filter(({ type }) => !type?.startsWith('plinth.'))
  const wanted = [...model.chunks].sort((a, b) => a.offset - b.offset)
  const list = (chunks: readonly Listed[]) =>
    chunks.map(({ id, name, offset }) => `${name}#${id}@${offset}`).join(' ')
  if (!isSameList(found, wanted)) return `chunks are ${list(found)}, wanted ${list(wanted)}`
  let used = 0
  for (const [i, chunk] of wanted.entries()) {
    const { size, type } = found[i]!
    if (size !== chunk.size || type !== chunk.type)
      return `${chunk.name}: size ${size}, type ${type}`
    used += size
    for (const [cell, value] of chunk.cells.entries()) {
      if (value === undefined) continue
      const { bytes } = volume.chunk(chunk.id)
      const at = cell * CELL_BYTES
      const stored = bytes.subarray(at, at + CELL_BYTES)
      const other = loose.find((each) => each.id === chunk.id && each.cell === cell)
      const bytesWanted = cellBytes(value)
      if (Buffer.compare(stored, bytesWanted) === 0) continue
      if (!isMix(stored, bytesWanted, other && cellBytes(other.value))) {
        return `${chunk.name}: cell ${cell} is not ${value}: ${Buffer.from(stored).toString('hex')}`
      }
    }
  }
  if (model.heap !== undefined) {
    const different = compareHeap(volume, model.heap)
    if (different !== undefined) return different
    used += volume.heap(HEAP_NAME).stats().deviceBytes
  }
  if (model.engine !== undefined) {
    const different = compareEngine(volume, model.engine)
    if (different !== undefined) return different
    used += engineBytes(volume)
  }
  const { usedBytes, freeBytes, dataBytes, largestFreeBytes } = volume.stats()
  if (usedBytes !== used || usedBytes + freeBytes !== dataBytes || largestFreeBytes > freeBytes) {
    return `${usedBytes} bytes used and ${freeBytes} free of ${dataBytes}, chunks have ${used}`
  }
  const [finding] = volume.check()
  return finding && JSON.stringify(finding)
}

interface Listed {
  readonly id: number
  readonly name?: string | undefined
  readonly offset: number
}

function isSameList(some: readonly Listed[], others: readonly Listed[]): boolean {
  return (
    some.length === others.length &&
    some.every(({ id, name, offset }, i) => {
      const other = others[i]!
      return id === other.id && name === other.name && offset === other.offset
    })
  )
}

/** Each 8-byte word of one or of the other. */
function isMix(stored: Uint8Array, one: Uint8Array, other: Uint8Array | undefined): boolean {
  for (let word = 0; word < CELL_BYTES; word += 8) {
    const bytes = stored.subarray(word, word + 8)
    const same = (wanted: Uint8Array) =>
      Buffer.compare(bytes, wanted.subarray(word, word + 8)) === 0
    if (!same(one) && !(other !== undefined && same(other))) return false
  }
  return true
}
