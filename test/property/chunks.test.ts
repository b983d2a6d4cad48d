import assert from 'node:assert/strict'
import fs from 'node:fs'
import { describe, it } from 'node:test'
import { type Chunk, PlinthError, Volume } from 'plinth'
import { planGeometry } from '../../src/layout/geometry.js'
import { ChunkModel, type ModelChunk } from '../support/chunk-model.js'
import { MIB, type Place, readDevice, tmpfsLine, tmpfsPage } from '../support/devices.js'
import { placesOf } from '../support/places.js'
import { Random, seeded } from '../support/random.js'

const NAMES = Array.from({ length: 12 }, (_, i) => `name-${i}`)
const TYPES = ['log', 'tree', 'blob']
const geometry = planGeometry({ sizeBytes: MIB, alignBytes: 4096 })
const { tableAt, tableCopyAt } = placesOf(geometry)

/** What stands where no chunk can: `#` head, log and table. Worked out from a volume of 1 MiB by hand. */
const CELLS = `${'#'.repeat(26)}${'.'.repeat(220)}${'#'.repeat(8)}`

/** Thrown to abort a transaction, and for nothing else. */
class Abort extends Error {}

/** A volume, a model of it, and random steps for both. */
class Walk {
  readonly #at: Place
  readonly #path: string
  readonly #random: Random
  volume: Volume
  model: ChunkModel
  /** Ids of chunks that ever were on the volume. */
  readonly #ids = new Set<number>()
  readonly #reserved = new Map<number, Chunk>()
  readonly done: Record<string, number> = {}

  constructor(at: Place, path: string, random: Random) {
    this.#at = at
    this.#path = path
    this.#random = random
    Volume.format(path, { size: MIB, ...at.options })
    this.volume = Volume.open(path, at.options)
    this.model = new ChunkModel(geometry.granuleBytes, CELLS)
  }

  step(): void {
    const what = this.#random.below(100)
    if (what < 25) this.#count('allocate', this.#allocate(this.model))
    else if (what < 45) this.#count('free', this.#free(this.model))
    else if (what < 55) this.#count('reserve', this.#reserve())
    else if (what < 60) this.#count('publish', this.#publish())
    else if (what < 65) this.#count('cancel', this.#cancel())
    else if (what < 70) this.#count('store', this.#store())
    else if (what < 93) this.#transaction()
    else if (what < 96) this.#reopen()
    else if (what < 98) this.#crash()
    else this.#readOnly()
    this.check(this.volume)
  }

  #count(what: string, happened: boolean): void {
    const key = happened ? what : `no ${what}`
    this.done[key] = (this.done[key] ?? 0) + 1
  }

  #pick(model: ChunkModel, published: boolean): ModelChunk | undefined {
    const chunks = [...model.chunks.values()].filter((chunk) => chunk.published === published)
    return chunks.length === 0 ? undefined : this.#random.pick(chunks)
  }

  /** Allocates or reserves, and demands the place that the model says, or the refusal. */
  #take(model: ChunkModel, take: (options: Parameters<Volume['allocate']>[0]) => Chunk) {
    const random = this.#random
    const granules = random.chance(8) ? random.between(1, 120) : random.between(1, 8)
    const size = granules * 4096 - random.below(4096)
    const align = random.chance(4) ? 2 ** random.between(0, 18) : undefined
    const name = random.chance(2) ? random.pick(NAMES) : undefined
    const type = random.chance(2) ? random.pick(TYPES) : undefined
    const zero = random.chance(6)
    const start = model.find(granules, align ?? 1)
    let chunk: Chunk
    try {
      chunk = take({ size, name, type, align, zero })
    } catch (error) {
      if (!(error instanceof PlinthError)) throw error
      if (name !== undefined && model.hasName(name)) assert.equal(error.code, 'ERR_CHUNK_EXISTS')
      else {
        assert.equal(error.code, 'ERR_NO_SPACE')
        assert.equal(start, -1)
      }
      return undefined
    }
    assert.ok(name === undefined || !model.hasName(name), `a second chunk named ${name}`)
    assert.equal(chunk.offset, start * 4096)
    assert.equal(chunk.size, granules * 4096)
    assert.equal(chunk.name, name)
    assert.equal(chunk.type, type)
    assert.ok(!this.#ids.has(chunk.id), 'an id is given once')
    if (zero) assert.ok(chunk.bytes.every((byte) => byte === 0))
    const word = zero ? 0 : undefined
    model.add({ id: chunk.id, start, granules, name, type, published: false, word })
    return chunk
  }

  #allocate(model: ChunkModel): boolean {
    const chunk = this.#take(model, (options) => this.volume.allocate(options))
    if (chunk === undefined) return false
    model.chunks.get(chunk.id)!.published = true
    this.#learn(model)
    return true
  }

  #learn(model: ChunkModel): void {
    if (model !== this.model) return
    for (const { id, published } of model.chunks.values()) if (published) this.#ids.add(id)
  }

  #free(model: ChunkModel): boolean {
    const chosen = this.#pick(model, true)
    if (chosen === undefined) return false
    const chunk = this.volume.chunk(chosen.id)
    this.volume.free(chunk)
    model.free(chosen.id)
    if (model === this.model) model.makeDurable()
    return true
  }

  #reserve(): boolean {
    const chunk = this.#take(this.model, (options) => this.volume.reserve(options))
    if (chunk !== undefined) this.#reserved.set(chunk.id, chunk)
    return chunk !== undefined
  }

  #publish(): boolean {
    const chosen = this.#pick(this.model, false)
    if (chosen === undefined) return false
    this.volume.publish(this.#reserved.get(chosen.id)!)
    this.#reserved.delete(chosen.id)
    chosen.published = true
    this.#learn(this.model)
    return true
  }

  #cancel(): boolean {
    const chosen = this.#pick(this.model, false)
    if (chosen === undefined) return false
    this.volume.cancel(this.#reserved.get(chosen.id)!)
    this.#reserved.delete(chosen.id)
    this.model.free(chosen.id)
    this.model.makeDurable()
    return true
  }

  /** A raw store, made durable. */
  #store(): boolean {
    const chosen = this.#pick(this.model, true)
    if (chosen === undefined) return false
    const chunk = this.volume.chunk(chosen.id)
    chosen.word = this.#random.next()
    chunk.view.setUint32(0, chosen.word, true)
    chunk.persist(0, 4)
    if (this.#random.chance(2)) chunk.close()
    return true
  }

  #transaction(): void {
    const model = this.model.copy()
    const random = this.#random
    const aborts = random.chance(3)
    const published: number[] = []
    try {
      this.volume.transact((tx) => {
        for (let n = random.between(1, 6); n > 0; n--) {
          const what = random.below(10)
          const chosen = this.#pick(model, true)
          if (what < 4) this.#allocate(model)
          else if (what < 6) this.#free(model)
          else if (what < 7) {
            const reserved = this.#pick(model, false)
            if (reserved === undefined) continue
            this.volume.publish(this.#reserved.get(reserved.id)!)
            reserved.published = true
            published.push(reserved.id)
          } else if (chosen !== undefined) {
            const chunk = this.volume.chunk(chosen.id)
            if (what < 8) this.#rename(model, chunk, chosen)
            else {
              chosen.word = random.next()
              tx.setUint32(chunk, 0, chosen.word)
              assert.equal(tx.getUint32(chunk, 0), chosen.word)
            }
          }
        }
        if (aborts) throw new Abort()
      })
    } catch (error) {
      if (!(error instanceof Abort)) throw error
      this.#count('abort', true)
      return
    }
    model.makeDurable()
    this.model = model
    for (const id of published) this.#reserved.delete(id)
    this.#learn(model)
    this.#count('commit', true)
  }

  #rename(model: ChunkModel, chunk: Chunk, chosen: ModelChunk): void {
    const name = this.#random.chance(4) ? undefined : this.#random.pick(NAMES)
    if (name !== undefined && model.hasName(name)) {
      if (name !== chosen.name) {
        assert.throws(() => this.volume.rename(chunk, name), { code: 'ERR_CHUNK_EXISTS' })
      }
      return
    }
    this.volume.rename(chunk, name)
    chosen.name = name
  }

  #reopen(): void {
    const before = this.volume.chunks().length
    this.volume.close()
    this.volume = Volume.open(this.#path, this.#at.options)
    assert.equal(this.volume.recovery.clean, true)
    assert.ok(this.volume.chunks().length <= before)
    this.#reopened()
    this.#count('reopen', true)
  }

  /** What the device has now is all that a process that ends leaves. */
  #crash(): void {
    const image = readDevice(this.#path)
    this.volume.close()
    writeBack(this.#path, image)
    this.volume = Volume.open(this.#path, this.#at.options)
    assert.equal(this.volume.recovery.clean, false)
    this.#reopened()
    this.#count('crash', true)
  }

  #reopened(): void {
    this.#reserved.clear()
    this.model.reopen()
    this.checkContents(this.volume)
  }

  /** A reader sees the same, of a closed volume and of one that crashed. */
  #readOnly(): void {
    const image = readDevice(this.#path)
    this.volume.close()
    if (this.#random.chance(2)) writeBack(this.#path, image)
    const before = readDevice(this.#path)
    const reader = Volume.open(this.#path, { ...this.#at.options, readOnly: true })
    this.#reserved.clear()
    this.model.reopen()
    try {
      this.check(reader)
      this.checkContents(reader)
    } finally {
      reader.close()
    }
    assert.equal(Buffer.compare(before, readDevice(this.#path)), 0)
    this.volume = Volume.open(this.#path, this.#at.options)
    this.#count('reader', true)
  }

  check(volume: Volume): void {
    const reserved = this.#reserved
    const chunks = volume.chunks().filter(({ id }) => !reserved.has(id))
    assert.deepEqual(chunks, this.model.list())
    for (let i = 1; i < chunks.length; i++) {
      assert.ok(chunks[i - 1]!.offset + chunks[i - 1]!.size <= chunks[i]!.offset, 'no overlap')
    }
    const { usedBytes, freeBytes, largestFreeBytes, freeRuns } = volume.stats()
    assert.deepEqual({ usedBytes, freeBytes, largestFreeBytes, freeRuns }, this.model.space())
    for (const { id, name, offset, size } of chunks) {
      const chunk = volume.chunk(id)
      assert.deepEqual([chunk.offset, chunk.size, chunk.name], [offset, size, name])
      if (name !== undefined) assert.equal(volume.chunk(name), chunk)
    }
    for (const name of NAMES) {
      if (!this.model.hasName(name)) assert.equal(volume.findChunk(name), undefined)
    }
  }

  checkContents(volume: Volume): void {
    for (const { id, word, published } of this.model.chunks.values()) {
      if (published && word !== undefined) {
        assert.equal(volume.chunk(id).view.getUint32(0, true), word, `chunk ${id}`)
      }
    }
  }

  /** Closes, and gives both tables without what differs by the volume's uuid: the checksums. */
  end(): { chunks: unknown; tables: [string, string] } {
    const chunks = this.volume.chunks().filter(({ id }) => !this.#reserved.has(id))
    this.volume.close()
    const image = readDevice(this.#path)
    const table = (at: number) => {
      const bytes = Buffer.from(image.subarray(at, at + geometry.slots * 128))
      for (let slot = 0; slot < geometry.slots; slot++) bytes.writeUInt32LE(0, slot * 128)
      return bytes.toString('hex')
    }
    return { chunks, tables: [table(tableAt), table(tableCopyAt)] }
  }
}

/** Puts an image back over a closed volume, as a crash would have left it. */
function writeBack(path: string, image: Uint8Array): void {
  fs.writeFileSync(path, image)
}

function walk(at: Place, seed: number, steps: number) {
  return at.with(MIB, (path) => {
    const walk = new Walk(at, path, new Random(seed))
    try {
      for (let step = 0; step < steps; step++) walk.step()
      walk.checkContents(walk.volume)
      return { done: walk.done, ...walk.end() }
    } finally {
      walk.volume.close()
    }
  })
}

describe('chunks beside a plain model', () => {
  for (const at of [tmpfsLine, tmpfsPage]) {
    it(`on ${at.name}`, { skip: at.skip }, () => {
      seeded((_, seed) => {
        const { done } = walk(at, seed, 1000)
        // The walk came by everything that it is for.
        for (const what of ['allocate', 'no allocate', 'free', 'reserve', 'publish', 'cancel']) {
          assert.ok((done[what] ?? 0) > 5, `${what}: ${JSON.stringify(done)}`)
        }
        for (const what of ['store', 'commit', 'abort', 'reopen', 'crash', 'reader']) {
          assert.ok((done[what] ?? 0) > 5, `${what}: ${JSON.stringify(done)}`)
        }
      })
    })
  }

  it('the same steps give the same layout and the same table on any device', {
    skip: tmpfsLine.skip,
  }, () => {
    seeded((_, seed) => {
      const [first, second] = [tmpfsLine, tmpfsPage].map((at) => walk(at, seed, 300))
      assert.deepEqual(first!.chunks, second!.chunks)
      assert.deepEqual(first!.tables, second!.tables)
      assert.equal(first!.tables[0], first!.tables[1])
    }, 1)
  })
})
