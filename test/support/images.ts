/** The stored volumes under test/format/images: what they hold, how they are made, how they are checked. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import type { Volume } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { pattern } from './pattern.js'

/** Compiled, this file is in dist/test/support. */
export const imageFolder = new URL('../../../test/format/images/', import.meta.url)

export const LABEL = 'stored image'
export const LONG_NAME = `${'Größe-'.repeat(9)}`.slice(0, 46)

export function image(name: string): Uint8Array {
  return gunzipSync(readFileSync(new URL(`${name}.gz`, imageFolder)))
}

/** What the images of 1 MiB have: chunks of every look, one of them freed again. */
export function fill(volume: Volume): void {
  const wal = volume.allocate({ size: 8192, name: 'wal', type: 'log', zero: true })
  const gone = volume.allocate({ size: 12_288, name: 'gone', zero: true })
  const tree = volume.allocate({
    size: 4096,
    name: LONG_NAME,
    type: 'sixteen bytes !!',
    zero: true,
  })
  volume.allocate({ size: 20_000, align: 65_536, zero: true })
  volume.free(gone)
  wal.write(100, pattern(1000, 1))
  volume.transact((tx) => {
    tx.write(wal, 5000, pattern(777, 2))
    tx.setUint64(tree, 8, 2 ** 53 - 1)
    tx.setUint32(tree, 0, 2 ** 32 - 1)
  })
  tree.bytes.set(pattern(64, 3), 128)
  tree.persist(128, 64)
}

/** What the crashed one has besides, all of it in its log alone. */
export function change(volume: Volume): void {
  volume.transact((tx) => {
    const late = volume.allocate({ size: 4096, name: 'late' })
    tx.write(late, 0, pattern(300, 4))
    volume.rename(volume.chunk(LONG_NAME), 'tree')
    tx.write(volume.chunk('wal'), 0, pattern(50, 5))
  })
  volume.transact((tx) => tx.setUint64(volume.chunk('tree'), 8, 12_345))
  volume.free(volume.chunk('wal'))
  volume.allocate({ size: 4096, name: 'last', type: 'x' })
}

const at = 106_496
const rounded = (
  name: string | undefined,
  type: string | undefined,
  offset: number,
  size: number,
) => ({
  name,
  type,
  offset,
  size,
})

export const closedChunks = [
  rounded('wal', 'log', at, 8192),
  rounded(LONG_NAME, 'sixteen bytes !!', at + 20_480, 4096),
  rounded(undefined, undefined, 131_072, 20_480),
]

export const crashedChunks = [
  rounded('last', 'x', at, 4096),
  rounded('late', undefined, at + 8192, 4096),
  rounded('tree', 'sixteen bytes !!', at + 20_480, 4096),
  rounded(undefined, undefined, 131_072, 20_480),
]

function checkChunks(volume: Volume, expected: typeof closedChunks): void {
  assert.deepEqual(
    volume.chunks().map(({ name, type, offset, size }) => ({ name, type, offset, size })),
    expected,
  )
  assert.equal(volume.info.label, LABEL)
  assert.equal(volume.info.size, 1024 * 1024)
}

function checkTree(bytes: Uint8Array, low: bigint): void {
  const tree = new Uint8Array(4096)
  const view = new DataView(tree.buffer)
  view.setUint32(0, 2 ** 32 - 1, true)
  view.setBigUint64(8, low, true)
  tree.set(pattern(64, 3), 128)
  assert.deepEqual(bytes.slice(), tree)
}

export function checkClosed(volume: Volume): void {
  checkChunks(volume, closedChunks)
  const wal = new Uint8Array(8192)
  wal.set(pattern(1000, 1), 100)
  wal.set(pattern(777, 2), 5000)
  assert.deepEqual(volume.chunk('wal').bytes.slice(), wal)
  checkTree(volume.chunk(LONG_NAME).bytes, 2n ** 53n - 1n)
  const { id } = volume.chunks()[2]!
  assert.ok(volume.chunk(id).bytes.every((byte) => byte === 0))
  assert.equal(volume.findChunk('gone'), undefined)
}

export function checkCrashed(volume: Volume): void {
  checkChunks(volume, crashedChunks)
  assert.deepEqual(volume.chunk('late').bytes.slice(0, 300), pattern(300, 4))
  checkTree(volume.chunk('tree').bytes, 12_345n)
  assert.equal(volume.findChunk('wal'), undefined)
}

/** What the one that has grown was before, and is. */
export const GROWN = { before: 1024 * 1024, size: 2 * 1024 * 1024, slots: 256 }
/** More chunks than the first extent of its table has slots. */
const SMALL = 262
const KEYS = 40
const key = (i: number) => Buffer.from(`key ${String(i).padStart(3, '0')}`)
const value = (i: number) => pattern(1 + i * 13, i)

/** A volume that grows, and its table too; with a heap and a map. */
export function fillGrown(volume: Volume): void {
  const heap = volume.heap('things')
  const object = heap.allocate(200, 3)
  const other = heap.allocate(5000, 4)
  volume.transact((tx) => {
    tx.writeObject(heap, object, pattern(200, 6))
    tx.writeObject(heap, other, pattern(5000, 7))
  })
  heap.setRoot(object)
  const map = OrderedMap.open(volume, 'map')
  for (let i = 0; i < KEYS; i++) map.put(key(i), value(i))
  map.delete(key(7))
  volume.allocate({ size: 8192, name: 'before' }).write(0, pattern(8192, 8))
  volume.grow(GROWN.size)
  for (let i = 0; i < SMALL; i++) volume.allocate({ size: 4096, type: 'small' })
  volume.allocate({ size: 4096, name: 'after' }).write(0, pattern(4096, 9))
}

export function checkGrown(volume: Volume): void {
  assert.equal(volume.info.size, GROWN.size)
  const tables = volume.stats().areas.filter(({ name }) => name === 'chunk table')
  assert.deepEqual(
    tables.map(({ size }) => size).sort((a, b) => a - b),
    [32_768, 32_768, 32_768, 32_768],
  )
  const chunks = volume.chunks()
  assert.equal(chunks.filter(({ type }) => type === 'small').length, SMALL)
  // Of both extents.
  const slots = chunks.map(({ id }) => id % 2 ** 24)
  assert.ok(Math.max(...slots) > GROWN.slots && slots.includes(GROWN.slots - 1))
  const { offset } = volume.chunk('after')
  assert.ok(offset > GROWN.before)
  assert.deepEqual(volume.chunk('before').bytes.slice(), pattern(8192, 8))
  assert.deepEqual(volume.chunk('after').bytes.slice(), pattern(4096, 9))
  const heap = volume.heap('things')
  assert.deepEqual(heap.bytes(heap.root).slice(0, 200), pattern(200, 6))
  const others = [...heap.objects({ type: 4 })]
  assert.equal(others.length, 1)
  assert.deepEqual(heap.bytes(others[0]!).slice(0, 5000), pattern(5000, 7))
  assert.equal(heap.type(heap.root), 3)
  const map = OrderedMap.open(volume, 'map')
  assert.equal(map.count(), KEYS - 1)
  for (let i = 0; i < KEYS; i++) {
    assert.deepEqual(map.get(key(i))?.slice(), i === 7 ? undefined : Uint8Array.from(value(i)))
  }
  assert.deepEqual(volume.check(), [])
}
