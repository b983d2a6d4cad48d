/**
 * A device of which some pages cannot be read: they read as zeros, as known bad blocks do, and are remembered.
 * Whoever reads on finds what is damaged by that, and repairs none of it there.
 */
import { PlinthError } from '../base/errors.js'
import { alignDown, alignUp, type Offset, PAGE_BYTES } from '../base/units.js'
import { BadBlocks, NO_BAD_BLOCKS, type Stretch } from '../media/bad-blocks.js'
import type { Inspected, Readable } from './inspection.js'

export class Lenient implements Inspected {
  readonly #device: Readable
  #unreadable = NO_BAD_BLOCKS

  constructor(device: Readable) {
    this.#device = device
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes
  }

  get unreadable(): BadBlocks {
    return this.#unreadable
  }

  get badBlocks(): BadBlocks {
    const known = this.#device.badBlocks ?? NO_BAD_BLOCKS
    if (this.#unreadable.isEmpty) return known
    return new BadBlocks([...known.stretches, ...this.#unreadable.stretches])
  }

  read(offset: Offset, length: number): Uint8Array {
    const whole = this.#try(offset, length)
    if (whole !== undefined) return whole
    const bytes = new Uint8Array(length)
    const failed: Stretch[] = []
    const from = alignDown(offset, PAGE_BYTES)
    this.#readParts(from, alignUp(offset + length, PAGE_BYTES), failed, (at, part) => {
      const start = Math.max(at, offset)
      const end = Math.min(at + part.length, offset + length)
      bytes.set(part.subarray(start - at, end - at), start - offset)
    })
    this.#unreadable = new BadBlocks([...this.#unreadable.stretches, ...failed])
    return bytes
  }

  /** Halves of what cannot be read whole, down to single pages. */
  #readParts(
    from: Offset,
    to: Offset,
    failed: Stretch[],
    take: (at: Offset, bytes: Uint8Array) => void,
  ): void {
    const bytes = this.#try(from, to - from)
    if (bytes !== undefined) take(from, bytes)
    else if (to - from === PAGE_BYTES) failed.push({ offset: from, length: PAGE_BYTES })
    else {
      const middle = alignUp(from + (to - from) / 2, PAGE_BYTES)
      this.#readParts(from, middle, failed, take)
      this.#readParts(middle, to, failed, take)
    }
  }

  #try(offset: Offset, length: number): Uint8Array | undefined {
    // What has failed once is not asked again: a disk takes seconds to fail.
    if (this.#unreadable.touches(offset, length)) return undefined
    try {
      return this.#device.read(offset, length)
    } catch (error) {
      if (error instanceof PlinthError && error.code === 'ERR_DEVICE_IO') return undefined
      throw error
    }
  }
}
