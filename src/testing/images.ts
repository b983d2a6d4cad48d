/**
 * Memory for images, used again and again: the lab needs some for every state, and two that follow
 * each other differ in a few pages. An image remembers which one it was copied from, and each of the
 * two when its pages were written: to be the same again, only pages written since are copied.
 *
 * Whoever writes to an image does it by `set`, or says so with `note`. A page that somebody has a
 * view on counts as written at all times.
 */
import { MIB, PAGE_BYTES } from '../base/units.js'

const ALWAYS = Number.POSITIVE_INFINITY
/** While less memory than this is free, an image that was a copy of something else is not taken. */
const FREE_BYTES_MIN = 64 * MIB
/** Counts writes to all images. */
let clock = 0
const free: Image[] = []
const images = new WeakMap<Uint8Array, Image>()

export class Image {
  readonly bytes: Uint8Array
  /** When each page was written last. */
  readonly #written: Float64Array
  /** What this was copied from, and when. */
  #origin: Image | undefined
  #copied = 0

  private constructor(bytes: number) {
    this.bytes = new Uint8Array(bytes)
    this.#written = new Float64Array(Math.ceil(bytes / PAGE_BYTES))
    images.set(this.bytes, this)
  }

  /** A copy of an image or of any other array. */
  static copyOf(source: Uint8Array): Image {
    const origin = images.get(source)
    const image = takeFree(source.length, origin) ?? new Image(source.length)
    if (origin !== undefined && image.isCopyOf(origin)) image.#update(origin)
    else {
      image.bytes.set(source)
      image.#written.fill(++clock)
    }
    image.#origin = origin
    image.#copied = clock
    return image
  }

  /** Gives the memory back; nobody may hold a view on it any more. */
  giveBack(): void {
    free.push(this)
  }

  isCopyOf(origin: Image): boolean {
    return this.#origin === origin
  }

  set(bytes: Uint8Array, at: number): void {
    this.bytes.set(bytes, at)
    this.note(at, bytes.length)
  }

  /** A range was written. */
  note(at: number, length: number): void {
    const now = ++clock
    for (let page = pageOf(at), end = pageEnd(at + length); page < end; page++) {
      if (this.#written[page] !== ALWAYS) this.#written[page] = now
    }
  }

  /** A range may be written at any time from here on. */
  noteView(at: number, length: number): void {
    this.#written.fill(ALWAYS, pageOf(at), pageEnd(at + length))
  }

  /** Takes a range over from an image that began as a copy of the same. */
  follow(other: Image, at: number, length: number): void {
    for (let page = pageOf(at), end = pageEnd(at + length); page < end; page++) {
      if (this.#isWritten(page) || other.#isWritten(page)) this.#take(other, page)
    }
  }

  #update(origin: Image): void {
    for (let page = 0; page < this.#written.length; page++) {
      if (this.#isWritten(page) || origin.#written[page]! > this.#copied) this.#take(origin, page)
    }
  }

  #isWritten(page: number): boolean {
    return this.#written[page]! > this.#copied
  }

  #take(from: Image, page: number): void {
    const at = page * PAGE_BYTES
    this.bytes.set(from.bytes.subarray(at, at + PAGE_BYTES), at)
    this.#written[page] = ++clock
  }
}

/** An image that was given back: a copy of the same, or the one that nobody has wanted for longest. */
function takeFree(bytes: number, origin: Image | undefined): Image | undefined {
  let oldest = -1
  let freeBytes = 0
  for (let i = free.length - 1; i >= 0; i--) {
    const image = free[i]!
    freeBytes += image.bytes.length
    if (image.bytes.length !== bytes) continue
    if (origin !== undefined && image.isCopyOf(origin)) return free.splice(i, 1)[0]
    oldest = i
  }
  if (oldest === -1 || freeBytes < FREE_BYTES_MIN) return undefined
  return free.splice(oldest, 1)[0]
}

/** Memory for what is read of a device, by length. */
const buffers = new Map<number, Uint8Array[]>()

export function takeBuffer(bytes: number): Uint8Array {
  return buffers.get(bytes)?.pop() ?? new Uint8Array(bytes)
}

export function giveBufferBack(buffer: Uint8Array): void {
  const kept = buffers.get(buffer.length)
  if (kept === undefined) buffers.set(buffer.length, [buffer])
  else kept.push(buffer)
}

const pageOf = (at: number) => Math.floor(at / PAGE_BYTES)
const pageEnd = (end: number) => Math.ceil(end / PAGE_BYTES)
