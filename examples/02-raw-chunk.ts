// A chunk without transactions: an append-only file of measurements that keeps its own order of
// stores. This is the fast way for data that has a structure of its own to tell what is valid.
//
//   chunk   0  u64  length    bytes of entries that are valid
//          64  …    entries   16 bytes each: u64 time, f64 value
//
//   node dist/examples/02-raw-chunk.js
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Chunk, Volume } from 'plinth'

const LENGTH_AT = 0
const ENTRIES_AT = 64
const ENTRY_BYTES = 16

const folder = mkdtempSync(join(tmpdir(), 'plinth-raw-'))
try {
  const path = join(folder, 'measurements.plinth')
  Volume.format(path, { size: 16 * 1024 * 1024 })
  {
    using volume = Volume.open(path)
    // `zero`, so that the length starts as 0: a chunk's first contents are whatever was there.
    const chunk = volume.allocate({ name: 'measurements', size: 1024 * 1024, zero: true })

    // 1. Stores through a view, then `persist`: durable when it returns. The entry goes first, the
    //    length that makes it valid second: a crash in between leaves an entry that nobody sees.
    append(chunk, 1000, 20.5)
    append(chunk, 2000, 20.7)
    console.log(`two entries appended: ${lengthOf(chunk)} bytes`)

    // 2. The halves of `persist`, for many stores at a time: flush each, fence once. What was
    //    flushed is durable after the fence, in no order before it.
    const first = lengthOf(chunk)
    for (let i = 0; i < 100; i++) {
      store(chunk, first + i * ENTRY_BYTES, 3000 + i, i / 10)
      chunk.flush(ENTRIES_AT + first + i * ENTRY_BYTES, ENTRY_BYTES)
    }
    const { counters } = volume.stats()
    volume.fence()
    setLength(chunk, first + 100 * ENTRY_BYTES)
    const fences = volume.stats().counters.fences - counters.fences
    console.log(`a hundred more: ${lengthOf(chunk)} bytes, ${fences} fences`)

    // 3. `write`: copy and persist in one call, the fastest way for large data.
    const many = new Uint8Array(1000 * ENTRY_BYTES)
    const view = new DataView(many.buffer)
    for (let i = 0; i < 1000; i++) {
      view.setBigUint64(i * ENTRY_BYTES, BigInt(4000 + i), true)
      view.setFloat64(i * ENTRY_BYTES + 8, i, true)
    }
    chunk.write(ENTRIES_AT + lengthOf(chunk), many)
    setLength(chunk, lengthOf(chunk) + many.length)
    console.log(`a thousand by write: ${lengthOf(chunk)} bytes`)

    // A range is checked before anything happens.
    try {
      chunk.persist(chunk.size - 8, 16)
    } catch (error) {
      console.log(`beyond the end: ${(error as { code: string }).code}`)
    }

    // Closing makes every store durable that was not yet, and empties the views: one that was kept
    // by mistake reads nothing, instead of ending the process.
    const kept = chunk.bytes
    chunk.close()
    console.log(`closed: the view that was kept has ${kept.length} bytes`)
  }

  using volume = Volume.open(path)
  const chunk = volume.chunk('measurements')
  const count = lengthOf(chunk) / ENTRY_BYTES
  const last = chunk.view.getFloat64(ENTRIES_AT + lengthOf(chunk) - 8, true)
  console.log(`opened again: ${count} entries, the last is ${last}`)
} finally {
  rmSync(folder, { recursive: true })
}

function lengthOf(chunk: Chunk): number {
  return Number(chunk.view.getBigUint64(LENGTH_AT, true))
}

function setLength(chunk: Chunk, length: number): void {
  chunk.view.setBigUint64(LENGTH_AT, BigInt(length), true)
  chunk.persist(LENGTH_AT, 8)
}

function store(chunk: Chunk, at: number, time: number, value: number): void {
  chunk.view.setBigUint64(ENTRIES_AT + at, BigInt(time), true)
  chunk.view.setFloat64(ENTRIES_AT + at + 8, value, true)
}

function append(chunk: Chunk, time: number, value: number): void {
  const length = lengthOf(chunk)
  store(chunk, length, time, value)
  chunk.persist(ENTRIES_AT + length, ENTRY_BYTES)
  setLength(chunk, length + ENTRY_BYTES)
}
