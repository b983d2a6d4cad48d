/** An ordered map as a plain sorted list, and what holds a real one against it. */
import assert from 'node:assert/strict'
import type { Volume } from 'plinth'
import type { MapOperation, MapSnapshot, OrderedMap, Range } from 'plinth/map'
import {
  LEAF_MAGIC,
  LEAF_SLOTS,
  LOW_AT,
  LOW_BYTES_MAX,
  RETIRED_SLOTS,
  SLOTS_AT,
  TYPE,
} from '../../src/map/layout.js'

/** Keys as strings of bytes: these compare as bytes do. */
export const textOf = (key: Uint8Array): string => Buffer.from(key).toString('latin1')
export const bytesOf = (key: string): Buffer => Buffer.from(key, 'latin1')

export type Reader = Pick<
  OrderedMap | MapSnapshot,
  'get' | 'has' | 'entries' | 'keys' | 'values' | 'count' | 'cursor'
>

export class MapModel {
  readonly #values: Map<string, Buffer>
  #sorted: string[] | undefined

  constructor(values: ReadonlyMap<string, Buffer> = new Map()) {
    this.#values = new Map(values)
  }

  copy(): MapModel {
    return new MapModel(this.#values)
  }

  get size(): number {
    return this.#values.size
  }

  get(key: string): Buffer | undefined {
    return this.#values.get(key)
  }

  put(key: string, value: Uint8Array): void {
    if (!this.#values.has(key)) this.#sorted = undefined
    this.#values.set(key, Buffer.from(value))
  }

  delete(key: string): boolean {
    const had = this.#values.delete(key)
    if (had) this.#sorted = undefined
    return had
  }

  apply(operations: readonly MapOperation[]): void {
    for (const operation of operations) {
      if (operation.type === 'put') this.put(textOf(operation.key), operation.value)
      else this.delete(textOf(operation.key))
    }
  }

  keys(): readonly string[] {
    this.#sorted ??= [...this.#values.keys()].sort((a, b) => (a < b ? -1 : 1))
    return this.#sorted
  }

  range(range: Range = {}): string[] {
    const { reverse = false, limit = Number.POSITIVE_INFINITY } = range
    const inside = this.keys().filter((key) => isInside(key, range))
    return (reverse ? inside.reverse() : inside).slice(0, limit)
  }
}

function isInside(key: string, { gt, gte, lt, lte }: Range): boolean {
  return (
    (gt === undefined || key > textOf(gt)) &&
    (gte === undefined || key >= textOf(gte)) &&
    (lt === undefined || key < textOf(lt)) &&
    (lte === undefined || key <= textOf(lte))
  )
}

/** What is different between a map and its model; undefined when nothing is. */
export function differenceOf(map: Reader, model: MapModel): string | undefined {
  const wanted = model.keys()
  let index = 0
  for (const [key, value] of map.entries()) {
    const text = textOf(key)
    if (text !== wanted[index]) {
      return `entry ${index} is ${show(text)} and not ${show(wanted[index])}`
    }
    if (Buffer.compare(value, model.get(text)!) !== 0) return `${show(text)} has another value`
    index++
  }
  return index === wanted.length ? undefined : `${index} entries, not ${wanted.length}`
}

export function assertSame(map: Reader, model: MapModel, what = ''): void {
  assert.equal(differenceOf(map, model), undefined, what)
}

export function assertBytes(
  found: Uint8Array | undefined,
  wanted: Uint8Array | undefined,
  what = '',
): void {
  const textOrNone = (bytes: Uint8Array | undefined) => show(bytes && textOf(bytes))
  assert.equal(found?.length, wanted?.length, what)
  if (found === undefined || wanted === undefined) return
  if (Buffer.compare(found, wanted) === 0) return
  assert.fail(`${textOrNone(found)} is not ${textOrNone(wanted)} ${what}`)
}

/** Keys and values of one range, in all the ways to ask for it. */
export function assertRange(map: Reader, model: MapModel, range: Range): void {
  const wanted = model.range(range)
  const found = [...map.keys(range)].map(textOf)
  assert.equal(listOf(found), listOf(wanted), describeRange(range))
  assert.equal(map.count(range), wanted.length, describeRange(range))
}

/** Short enough for a message. */
function listOf(keys: readonly string[]): string {
  return `${keys.length}: ${keys.map(show).join(' ')}`
}

export function describeRange(range: Range): string {
  const of = (key: Uint8Array | undefined) => key && show(textOf(key))
  const { gt, gte, lt, lte, ...rest } = range
  return JSON.stringify({ gt: of(gt), gte: of(gte), lt: of(lt), lte: of(lte), ...rest })
}

export function show(key: string | undefined): string {
  if (key === undefined) return 'none'
  const text = JSON.stringify(key)
  return text.length <= 80 ? text : `${text.slice(0, 60)}… (${key.length} bytes)`
}

export interface MapObjects {
  readonly entries: number
  readonly leaves: number
  readonly keys: number
  /** Entries that only snapshots see. */
  readonly retired: number
  /** One stays. */
  readonly retiredPages: number
}

/**
 * Counts the objects of a map's heap and holds them against each other, straight from the device:
 * every entry in one leaf or one page of retired ones, every long low key in one leaf, and nothing else.
 */
export function auditMap(volume: Volume, name = 'map'): MapObjects {
  const heap = volume.heap(name)
  const of = (type: number) => new Set(heap.objects({ type }))
  const found = { entries: of(TYPE.ENTRY), leaves: of(TYPE.LEAF), keys: of(TYPE.KEY) }
  const retiredPages = of(TYPE.RETIRED)
  assert.deepEqual([...of(TYPE.HEADER)], [heap.root])
  const entries = new Set<number>()
  const take = (set: Set<number>, pointer: number, owner: string) => {
    assert.ok(!set.has(pointer), `${owner} has ${pointer}, which somebody else has`)
    set.add(pointer)
  }
  const keys = new Set<number>()
  for (const leaf of found.leaves) {
    assert.equal(heap.getUint32(leaf), LEAF_MAGIC)
    if (heap.getUint32(leaf + 4) > LOW_BYTES_MAX) {
      take(keys, heap.getUint64(leaf + LOW_AT), `leaf ${leaf}`)
    }
    for (let slot = 0; slot < LEAF_SLOTS; slot++) {
      const pointer = heap.getUint64(leaf + SLOTS_AT + slot * 8)
      if (pointer !== 0) take(entries, pointer, `leaf ${leaf}`)
    }
  }
  const inLeaves = entries.size
  for (const page of retiredPages) {
    for (let slot = 0; slot < RETIRED_SLOTS; slot++) {
      const pointer = heap.getUint64(page + slot * 8)
      if (pointer === 0) break
      take(entries, pointer, `the retired page ${page}`)
    }
  }
  assert.deepEqual(sorted(found.entries), sorted(entries), 'entries')
  assert.deepEqual(sorted(found.keys), sorted(keys), 'low keys')
  const all = [...heap.objects()].length
  const known = found.entries.size + found.leaves.size + found.keys.size + retiredPages.size + 1
  assert.equal(all, known, 'objects of no known type')
  return {
    entries: inLeaves,
    leaves: found.leaves.size,
    keys: keys.size,
    retired: entries.size - inLeaves,
    retiredPages: retiredPages.size,
  }
}

const sorted = (pointers: Set<number>) => [...pointers].sort((a, b) => a - b)
