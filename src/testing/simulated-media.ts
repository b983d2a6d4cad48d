/**
 * Media that remember what a power cut would leave.
 *
 *   visible   what the program sees            stores go here
 *   durable   what survives for certain        fences move flushed bytes here
 *   between   units whose contents a crash may leave in any of several versions
 *
 * A unit is a cache line (64 bytes; words of 8 whole) or, on page granularity, a sector (512 bytes).
 * A line may be evicted at any time, so each contents that it had at a point counts as a version; a
 * flushed line is at least as new as its flush once a fence has passed. A sector reaches the device
 * only by a write of plinth's, and then whole.
 *
 * `onPoint` is called before every flush and every fence (on `byte` before every store too): the
 * instants at which the lab cuts the power.
 */
import { LINE_BYTES, PAGE_BYTES } from '../base/units.js'
import { apart } from '../log/transaction-context.js'
import { COUNTER, type Granularity, linesOf, type Mapping, Media } from '../media/media.js'
import { fingerprintOf, mixLines } from './fingerprint.js'
import { giveBufferBack, Image, takeBuffer } from './images.js'

/**
 * What a power cut may leave: `byte`: all stores so far, in program order; `cache-line`: any subset of
 * the lines that no fence covers; `page`: any mix of the sectors written since the last barrier;
 * `page-prefix`: what was written since the last barrier up to some sector, and nothing behind it.
 */
export type Model = Granularity | 'page-prefix'

/** What a point is about to do. */
export type PointKind = 'store' | 'append' | 'flush' | 'fence'

export interface VolatileUnit {
  /** Index of the unit: device offset divided by the unit's bytes. */
  readonly unit: number
  /** Contents that the device may have instead of the durable ones, oldest first. */
  readonly versions: readonly Uint8Array[]
  /** When each of them was written: counts all writes to the device. */
  readonly order: readonly number[]
}

/**
 * What becomes of a call of the seam: done, left out, done only after the next fence, or failed with
 * an error of the device. Mutations and faults are made of these.
 */
export type Verdict = 'go' | 'skip' | 'delay' | 'fail'

const SECTOR_BYTES = 512
const NO_BYTES = new Uint8Array(0)

interface Unit {
  versions: Uint8Array[]
  order: number[]
  /** Index in `versions` of what was flushed last, -1 for nothing: a fence makes it durable. */
  flushed: number
}

/**
 * A simulated device with a volume of `makeImage` on it, for `openSimulated`. `visible` is what the program
 * sees, `durable` what a power cut leaves for certain.
 */
export class SimulatedMedia extends Media {
  readonly model: Model
  readonly granularity: Granularity
  readonly sizeBytes: number
  readonly appendBytes: number
  readonly dirtyUnitShift: number
  readonly dirtyUnitsMax: number
  readonly sharesFences: boolean
  /** Bytes of a unit of the crash model. */
  readonly unitBytes: number
  /** What loads see; on page granularity what the kernel has been handed. */
  readonly visible: Uint8Array
  readonly durable: Uint8Array
  readonly #visible: Image
  readonly #durable: Image | undefined
  /** The visible image as the last look found it. */
  readonly #seen: Image | undefined
  /** What mappings show: the visible image itself, or private copies of its pages. */
  readonly #mapped: Image
  readonly #units = new Map<number, Unit>()
  readonly #paged: boolean
  /** Mappings that the program may have views on. */
  readonly #viewed = new Set<Mapping>()
  /** While a volume is being opened nobody has views: whatever is stored comes through the seam. */
  opening = false
  #logBuffer: { at: number; bytes: Uint8Array }[] = []
  #isInPlaceUnfenced = false
  readonly #reads: Uint8Array[] = []
  #detached = new Map<Mapping, Uint8Array>()
  /** What was delayed, to be done after the next fence. */
  #delayed: (() => void)[] = []
  /** Called before each flush and fence (on `byte` also each store): the instants at which to cut the power. */
  onPoint: ((kind: PointKind) => void) | undefined
  /** Decides about each flush, fence and append, told by its kind; for mutations and faults. */
  judge: ((kind: PointKind) => Verdict) | undefined = undefined
  #fingerprint: number | undefined
  /** Changes whenever a crash may leave something else than before. */
  edition = 0
  /** Called for each flush that finds nothing to write back. */
  onNeedless: (() => void) | undefined

  /** Whether versions are kept. Without, it is memory that behaves as the device would, and quick. */
  readonly #tracks: boolean

  /** Media on a copy of `image`; its fingerprint may be given when it is known. */
  constructor(model: Model, image: Uint8Array, tracks = true, fingerprint?: number) {
    super()
    this.#fingerprint = fingerprint
    this.#tracks = tracks
    this.model = model
    this.granularity = model === 'page-prefix' ? 'page' : model
    this.#paged = this.granularity === 'page'
    this.sizeBytes = image.length
    this.appendBytes = this.#paged ? PAGE_BYTES : LINE_BYTES
    this.dirtyUnitShift = this.#paged ? 12 : 6
    this.dirtyUnitsMax = this.#paged ? 16384 : 65536
    this.sharesFences = this.#paged
    this.unitBytes = this.#paged ? SECTOR_BYTES : LINE_BYTES
    this.#visible = Image.copyOf(image)
    this.#mapped = this.#paged ? Image.copyOf(image) : this.#visible
    this.#durable = tracks ? Image.copyOf(image) : undefined
    this.#seen = tracks && !this.#paged ? Image.copyOf(image) : undefined
    this.visible = this.#visible.bytes
    this.durable = this.#durable?.bytes ?? NO_BYTES
  }

  /** The number of the durable image. Worked out once, then kept up with each change. */
  get fingerprint(): number {
    this.#fingerprint ??= fingerprintOf(this.durable)
    return this.#fingerprint
  }

  /** Bytes that nothing can take back. */
  #makeDurable(at: number, bytes: Uint8Array): void {
    if (this.#fingerprint !== undefined) {
      const without = mixLines(this.#fingerprint, at, this.durable.subarray(at, at + bytes.length))
      this.#fingerprint = mixLines(without, at, bytes)
    }
    this.edition++
    this.#durable!.set(bytes, at)
  }

  /** The device is as long as its image. */
  extend(): void {}

  /** Gives the memory back. Nothing of these media may be used any more. */
  release(): void {
    const images = new Set([this.#visible, this.#mapped, this.#durable, this.#seen])
    for (const image of images) image?.giveBack()
    for (const buffer of this.#reads) giveBufferBack(buffer)
  }

  /** A copy of what is on the device. Of media without versions it is given back with them. */
  read(offset: number, length: number): Uint8Array {
    const stored = this.visible.subarray(offset, offset + length)
    if (this.#tracks) return stored.slice()
    const bytes = takeBuffer(length)
    bytes.set(stored)
    this.#reads.push(bytes)
    return bytes
  }

  map(offset: number, length: number): Mapping {
    const slot = this.freeSlot()
    if (this.#paged) this.#mapped.follow(this.#visible, offset, length)
    const bytes = this.#mapped.bytes.subarray(offset, offset + length)
    const mapping: Mapping = { slot, offset, length, bytes, dirty: undefined }
    this.mappings[slot] = mapping
    if (!this.opening) {
      this.#viewed.add(mapping)
      this.#mapped.noteView(offset, length)
    }
    return mapping
  }

  detach(mapping: Mapping): void {
    this.#lookAt(mapping.offset, mapping.length)
    this.#detached.set(mapping, mapping.bytes)
    mapping.bytes = NO_BYTES
  }

  attach(mapping: Mapping): void {
    mapping.bytes = this.#detached.get(mapping)!
    this.#detached.delete(mapping)
  }

  unmap(mapping: Mapping): void {
    this.#lookAt(mapping.offset, mapping.bytes.length)
    this.mappings[mapping.slot] = undefined
    this.#viewed.delete(mapping)
    mapping.bytes = NO_BYTES
  }

  override store(mapping: Mapping, offset: number, source: Uint8Array): void {
    if (this.granularity === 'byte') this.#point('store')
    super.store(mapping, offset, source)
    this.#mapped.note(mapping.offset + offset, source.length)
    this.#lookAt(mapping.offset + offset, source.length)
  }

  protected appendBytesOf(at: number, record: Uint8Array): void {
    const verdict = this.#point('append')
    if (verdict === 'skip') return
    if (verdict === 'delay') {
      const kept = record.slice()
      this.#delayed.push(() => this.#append(at, kept))
      return
    }
    this.#append(at, record)
  }

  #append(at: number, record: Uint8Array): void {
    this.counters[COUNTER.BYTES_APPENDED]! += record.length
    if (this.#paged) {
      this.#logBuffer.push({ at, bytes: record.slice() })
      return
    }
    this.#visible.set(record, at)
    this.#lookAt(at, record.length)
    this.#writeBack(at, record.length)
    this.counters[COUNTER.LINES_FLUSHED]! += linesOf(at, record.length)
  }

  flush(mapping: Mapping, offset: number, length: number): void {
    if (this.granularity === 'byte') return
    const verdict = this.#point('flush')
    if (verdict === 'skip') return
    if (verdict === 'delay') this.#delayed.push(() => this.#flush(mapping, offset, length))
    else this.#flush(mapping, offset, length)
  }

  #flush(mapping: Mapping, offset: number, length: number): void {
    const at = mapping.offset + offset
    if (this.#paged) {
      this.#isInPlaceUnfenced = true
      this.#write(at, mapping.bytes.subarray(offset, offset + length))
      return
    }
    this.counters[COUNTER.LINES_FLUSHED]! += linesOf(at, length)
    if (!this.#writeBack(at, length)) this.onNeedless?.()
  }

  persistDirtyUnits(list: Uint32Array, count: number): void {
    const bytes = 2 ** this.dirtyUnitShift
    for (let i = 0; i < count; i++) {
      const mapping = this.mappings[list[2 * i]!]!
      const offset = list[2 * i + 1]! * bytes
      this.flush(mapping, offset, Math.min(bytes, mapping.length - offset))
    }
    this.fence()
  }

  flushStores(mapping: Mapping): void {
    if (this.granularity === 'byte') return
    const verdict = this.#point('flush')
    if (verdict === 'skip') return
    if (verdict === 'delay') this.#delayed.push(() => this.#flushStores(mapping))
    else this.#flushStores(mapping)
  }

  #flushStores(mapping: Mapping): void {
    if (!this.#paged) {
      this.#writeBack(mapping.offset, mapping.length)
      return
    }
    for (let page = 0; page < mapping.length; page += PAGE_BYTES) {
      const stored = mapping.bytes.subarray(page, page + PAGE_BYTES)
      const at = mapping.offset + page
      if (Buffer.compare(stored, this.visible.subarray(at, at + PAGE_BYTES)) !== 0) {
        this.#flush(mapping, page, PAGE_BYTES)
      }
    }
  }

  zero(mapping: Mapping, offset: number, length: number): void {
    this.write(mapping, offset, new Uint8Array(length))
  }

  fence(): void {
    if (this.failure !== undefined) throw this.failure
    const verdict = this.#point('fence')
    this.counters[COUNTER.FENCES]!++
    if (verdict === 'fail') throw this.fail(new Error('EIO: simulated failure of a barrier'))
    if (this.#paged) this.#barrier(verdict)
    else if (verdict === 'go') this.#makeUnitsDurable()
    else if (verdict === 'delay') this.#delayed.push(() => this.#makeUnitsDurable())
    if (verdict !== 'go' || this.#delayed.length === 0) return
    const delayed = this.#delayed
    this.#delayed = []
    for (const act of delayed) act()
  }

  /** A log write that is its own barrier, then a barrier for in-place locations, if there are any. */
  #barrier(verdict: Verdict): void {
    if (this.#logBuffer.length > 0) {
      const inPlace = new Map(this.#units)
      this.#units.clear()
      for (const { at, bytes } of this.#logBuffer) this.#write(at, bytes)
      this.#logBuffer = []
      // The write is under way: any of its sectors may be there, and any of the stores in place before it.
      for (const [unit, held] of inPlace) if (!this.#units.has(unit)) this.#units.set(unit, held)
      this.#pointOnly('fence')
      if (verdict === 'go') {
        for (const unit of [...this.#units.keys()])
          if (!inPlace.has(unit)) this.#makeUnitDurable(unit)
      }
      this.counters[COUNTER.BARRIERS]!++
    }
    if (this.#isInPlaceUnfenced) {
      if (verdict === 'go') this.#makeUnitsDurable()
      this.#isInPlaceUnfenced = false
      this.counters[COUNTER.BARRIERS]!++
    }
  }

  close(): void {}

  /** Every unit of which a crash now may leave something else than what is durable. */
  volatileUnits(): VolatileUnit[] {
    this.#look()
    const units: VolatileUnit[] = []
    for (const [unit, { versions, order }] of this.#units) units.push({ unit, versions, order })
    return units
  }

  /** Units that hold stores which nobody flushed: different from the device with nothing under way. */
  unflushed(): number[] {
    if (this.#paged) {
      const units: number[] = []
      for (const mapping of this.mappings) {
        if (mapping === undefined) continue
        for (let at = 0; at < mapping.length; at += SECTOR_BYTES) {
          const stored = mapping.bytes.subarray(at, at + SECTOR_BYTES)
          const offset = mapping.offset + at
          const known = this.visible.subarray(offset, offset + stored.length)
          if (Buffer.compare(stored, known) !== 0) units.push(offset / SECTOR_BYTES)
        }
      }
      return units
    }
    this.#look()
    return [...this.#units]
      .filter(([, held]) => held.flushed < held.versions.length - 1)
      .map(([unit]) => unit)
  }

  #point(kind: PointKind): Verdict {
    this.#pointOnly(kind)
    return this.judge?.(kind) ?? 'go'
  }

  #pointOnly(kind: PointKind): void {
    if (this.onPoint === undefined) return
    this.#look()
    const { onPoint } = this
    apart(() => onPoint(kind))
  }

  /** Page granularity: bytes handed to the kernel. */
  #write(at: number, bytes: Uint8Array): void {
    this.#visible.set(bytes, at)
    this.counters[COUNTER.BYTES_WRITTEN]! += bytes.length
    const last = Math.floor((at + bytes.length - 1) / SECTOR_BYTES)
    for (let unit = Math.floor(at / SECTOR_BYTES); unit <= last; unit++) this.#version(unit)
  }

  /**
   * Takes note of every line that was stored to through views since the last look. Stores through
   * the seam are noted when they are made.
   */
  #look(): void {
    for (const { offset, length } of this.#viewed) this.#lookAt(offset, length)
  }

  #lookAt(from: number, length: number): void {
    if (this.#seen === undefined) return
    const { visible } = this
    const seen = this.#seen.bytes
    const end = from + length
    for (let page = from - (from % PAGE_BYTES); page < end; page += PAGE_BYTES) {
      const start = Math.max(page, from - (from % LINE_BYTES))
      const stop = Math.min(page + PAGE_BYTES, end)
      if (isSame(visible, seen, start, stop - start)) continue
      for (let at = start; at < stop; at += LINE_BYTES) {
        if (isSame(visible, seen, at, LINE_BYTES)) continue
        this.#seen.set(visible.subarray(at, at + LINE_BYTES), at)
        if (this.granularity === 'byte') {
          this.#makeDurable(at, visible.subarray(at, at + LINE_BYTES))
        } else this.#version(at / LINE_BYTES)
      }
    }
  }

  /** The unit's present contents are one more version. */
  #version(unit: number): void {
    if (!this.#tracks) return
    this.edition++
    const at = unit * this.unitBytes
    const contents = this.visible.slice(at, at + this.unitBytes)
    const held = this.#units.get(unit)
    if (held === undefined) {
      if (!isSame(this.visible, this.durable, at, this.unitBytes)) {
        this.#units.set(unit, { versions: [contents], order: [this.edition], flushed: -1 })
      }
    } else {
      held.versions.push(contents)
      held.order.push(this.edition)
    }
  }

  /** Marks lines as flushed; false when none of them had anything to write back. */
  #writeBack(at: number, length: number): boolean {
    if (!this.#tracks) return true
    this.#lookAt(at, length)
    let any = false
    const last = Math.floor((at + length - 1) / LINE_BYTES)
    for (let unit = Math.floor(at / LINE_BYTES); unit <= last; unit++) {
      const held = this.#units.get(unit)
      if (held === undefined) continue
      if (held.flushed < held.versions.length - 1) any = true
      held.flushed = held.versions.length - 1
    }
    return any
  }

  #makeUnitsDurable(): void {
    for (const unit of [...this.#units.keys()]) this.#makeUnitDurable(unit)
  }

  #makeUnitDurable(unit: number): void {
    const held = this.#units.get(unit)!
    const upTo = this.#paged ? held.versions.length - 1 : held.flushed
    if (upTo < 0) return
    this.#makeDurable(unit * this.unitBytes, held.versions[upTo]!)
    held.versions.splice(0, upTo + 1)
    held.order.splice(0, upTo + 1)
    held.flushed = -1
    if (held.versions.length === 0) this.#units.delete(unit)
  }
}

function isSame(a: Uint8Array, b: Uint8Array, at: number, length: number): boolean {
  // Words first: most stretches are the same, and a view for each would cost more than the look.
  return Buffer.compare(a.subarray(at, at + length), b.subarray(at, at + length)) === 0
}
