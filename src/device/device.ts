/** A device held open: locked, its granularity chosen, its media ready. */
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import { alignDown, alignUp, PAGE_BYTES } from '../base/units.js'
import type { BadBlocks } from '../media/bad-blocks.js'
import type { Granularity, Media } from '../media/media.js'
import type { NativeAddon } from '../native/addon.js'
import { loadAddon } from '../native/load.js'
import { lengthen, mayHaveHoles, takeSpace } from './file-space.js'
import { chooseGranularity, mapsSync } from './granularity.js'
import { type DeviceKind, identify } from './identify.js'
import { knownBad } from './known-bad.js'
import { LineMedia } from './line-media.js'
import { type Lock, lockDevice } from './lock.js'
import { type Backend, CopyMapper, loadMapper, type Mapper, type Sharing } from './mapper.js'
import { isSame, openAgain, openOrThrow, readOnlyDevice, switched } from './open.js'
import { PageMedia } from './page-media.js'
import { readBytes } from './read.js'
import { residentBytes, type VolumeRange } from './residency.js'
import { readText } from './sysfs.js'

export interface DeviceOptions {
  readonly path: string
  readonly backend?: Backend | undefined
  readonly granularity?: Granularity | undefined
  readonly unsafeGranularity?: Granularity | undefined
  readonly readOnly: boolean
  /** What was just made at the path: something else there is refused. */
  readonly created?: fs.Stats | undefined
}

export class Device {
  readonly path: string
  readonly kind: DeviceKind
  readonly granularity: Granularity
  readonly backend: Backend
  readonly alignBytes: number
  /** As the kernel knew them when the device was opened, or last made longer. */
  badBlocks: BadBlocks
  readonly #sharing: Sharing
  readonly #mapper: Mapper
  readonly #addon: NativeAddon | undefined
  readonly #readOnly: boolean
  #lock: Lock | undefined
  readonly #fd: number
  #media: Media | undefined
  #giveBack: () => void = () => {}
  #open = true

  /**
   * Locks and opens what is at a path.
   * @throws PlinthError ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO, ERR_VOLUME_BUSY, ERR_READ_ONLY,
   *   ERR_BACKEND_MISSING, ERR_BACKEND_LIMIT, ERR_GRANULARITY, ERR_BAD_BLOCKS
   */
  constructor(options: DeviceOptions) {
    const { path, readOnly } = options
    // Of the wrong kind nothing is opened; what counts is what was opened then.
    identify(path)
    this.path = path
    this.#readOnly = readOnly
    this.#mapper = loadMapper(options.backend)
    this.backend = this.#mapper.backend
    // The lock and aligned memory come from the addon, whatever does the mapping.
    this.#addon = loadAddon()
    this.#fd = openOrThrow(path, readOnly ? fs.constants.O_RDONLY : fs.constants.O_RDWR)
    try {
      const identity = identify(path, this.#fd)
      if (options.created !== undefined && !isSame(options.created, fs.fstatSync(this.#fd))) {
        throw switched(path)
      }
      if (!readOnly && readText(`${identity.node}/ro`) === '1' && identity.kind === 'block') {
        throw readOnlyDevice(path, 'is a device that is read-only')
      }
      this.alignBytes = identity.alignBytes
      this.#lock = lockDevice({ path, fd: this.#fd, identity, readOnly, addon: this.#addon })
      const isDax =
        identity.kind === 'dax' ||
        mapsSync(this.#fd, identity, this.backend === 'native' ? this.#addon : undefined)
      this.kind = identity.kind === 'file' && isDax ? 'fsdax' : identity.kind
      this.granularity = chooseGranularity(this.kind, identity.persistence, options)
      this.#sharing = isDax ? 'sync' : 'shared'
      if (this.granularity !== 'page' && this.backend !== 'native') {
        throw new PlinthError(
          'ERR_BACKEND_LIMIT',
          `granularity '${this.granularity}' needs cache write-back, which only the native backend has`,
        )
      }
      this.badBlocks = knownBad(path, identity, this.#fd, this.#addon).badBlocks
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Bytes of the device, now. */
  get sizeBytes(): number {
    return identify(this.path, this.#fd).sizeBytes
  }

  /**
   * The media over the first `sizeBytes` of the device; made once. Holes of a file are filled before it
   * is written, unless it stays `sparse`.
   * @throws PlinthError ERR_DEVICE_IO when its filesystem has no space for that
   */
  media(sizeBytes: number, sparse = false): Media {
    const fills = this.#media === undefined && !this.#readOnly && !sparse
    if (fills && this.#isSparse) this.allocate(sizeBytes)
    this.#media ??=
      this.granularity === 'page' || this.#readOnly
        ? this.#pageMedia(sizeBytes)
        : this.#lineMedia(sizeBytes, this.granularity)
    this.#media.badBlocks = this.badBlocks
    return this.#media
  }

  #lineMedia(sizeBytes: number, granularity: 'byte' | 'cache-line'): LineMedia {
    return new LineMedia({
      sizeBytes,
      granularity,
      mapper: this.#mapper,
      addon: this.#addon!,
      fd: this.#fd,
      sharing: this.#sharing,
    })
  }

  /** Whether a store, and in memory a load as well, may meet a full filesystem: a copy made by `cp --sparse`. */
  get #isSparse(): boolean {
    return this.kind !== 'block' && this.kind !== 'dax' && mayHaveHoles(this.#fd)
  }

  /**
   * Whether a reader gets copies: device-dax refuses private mappings, of bad blocks only a copy can show
   * something, and a load from a hole of a file in memory takes a page, which is a fault when none is left.
   */
  get #copies(): boolean {
    if (!this.#readOnly) return false
    return (
      this.kind === 'dax' || !this.badBlocks.isEmpty || (this.kind === 'tmpfs' && this.#isSparse)
    )
  }

  #pageMedia(sizeBytes: number): PageMedia {
    return new PageMedia({
      sizeBytes,
      mapper: this.#copies ? new CopyMapper((at, length) => this.read(at, length)) : this.#mapper,
      fd: this.#fd,
      logFd: this.#readOnly ? undefined : openLog(this.#fd, this.path, this.#addon),
      addon: this.#addon,
      readOnly: this.#readOnly,
    })
  }

  /** Bytes of the device, read before any volume is known; zeros behind its end and for bad blocks. */
  read(offset: number, length: number): Uint8Array {
    return readBytes(this.#fd, this, this.#addon, offset, length)
  }

  /**
   * The same as the device has them: after a failed barrier the page cache keeps what the device never took.
   * What is dirty is from memory: the next barrier writes it, or fails.
   */
  readStored(offset: number, length: number): Uint8Array {
    if (this.#hasCache) {
      const from = alignDown(offset, PAGE_BYTES)
      this.#addon?.dropCached(this.#fd, from, alignUp(offset + length, PAGE_BYTES) - from)
    }
    return this.read(offset, length)
  }

  /**
   * Has all that is read from now on come from the device: what the page cache holds is written, and then
   * forgotten. Pages that another process maps stay; without the addon all do.
   * @throws PlinthError ERR_DEVICE_IO
   */
  dropCache(): void {
    if (!this.#hasCache) return
    try {
      try {
        fs.fsyncSync(this.#fd)
      } catch {
        // An earlier writer's failure is told once: the device is what it is. What fails again is its own.
        fs.fsyncSync(this.#fd)
      }
      this.#addon?.dropCached(this.#fd, 0, 0)
    } catch (cause) {
      throw new PlinthError(
        'ERR_DEVICE_IO',
        `what the page cache has of ${this.path} cannot be written: ${(cause as Error).message}`,
        { cause },
      )
    }
  }

  /** Whether there is a page cache between the device and a load. */
  get #hasCache(): boolean {
    return this.kind === 'file' || this.kind === 'block'
  }

  /**
   * For each range its bytes that the page cache holds; undefined where there is none, because loads
   * go to the device itself, or where the kernel does not tell.
   * @throws PlinthError ERR_DEVICE_IO
   */
  residentBytes(ranges: readonly VolumeRange[]): number[] | undefined {
    if (this.#sharing === 'sync' || this.backend !== 'native') return undefined
    return residentBytes(this.#fd, this.path, this.#addon!, ranges)
  }

  /** Makes a regular file so long, every byte of it backed, until `giveBack`. */
  allocate(sizeBytes: number): void {
    try {
      this.#giveBack = takeSpace(this.#fd, sizeBytes, this.#addon)
    } catch (cause) {
      throw new PlinthError(
        'ERR_DEVICE_IO',
        `${sizeBytes} bytes cannot be allocated for ${this.path}: ${(cause as Error).message}`,
        { cause },
      )
    }
    this.#learnBad()
  }

  #learnBad(): void {
    const identity = identify(this.path, this.#fd)
    this.badBlocks = knownBad(this.path, identity, this.#fd, this.#addon).badBlocks
  }

  /**
   * Makes a regular file at least so long, every byte behind `from` backed; durable when it returns. Else it is as long as
   * it was. What is bad is known anew.
   * @throws PlinthError ERR_DEVICE_TOO_SMALL when it is no file, ERR_NO_SPACE when its filesystem is full, ERR_DEVICE_IO
   */
  extend(from: number, sizeBytes: number): void {
    const { path, kind } = this
    const isFile = kind !== 'block' && kind !== 'dax'
    if (!isFile && sizeBytes > this.sizeBytes) {
      throw new PlinthError(
        'ERR_DEVICE_TOO_SMALL',
        `${path} has ${this.sizeBytes} bytes, ${sizeBytes} are wanted: make the device larger first`,
      )
    }
    try {
      if (isFile) lengthen(this.#fd, from, sizeBytes, this.#addon)
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException
      const isFull = code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG'
      throw new PlinthError(
        isFull ? 'ERR_NO_SPACE' : 'ERR_DEVICE_IO',
        `${path} cannot grow to ${sizeBytes} bytes: ${isFull ? 'its filesystem has no space for that: ' : ''}${message}`,
        { cause },
      )
    }
    this.#learnBad()
    if (this.#media !== undefined) this.#media.badBlocks = this.badBlocks
  }

  /** Gives back what the last `allocate` took: the file is as long as it was. */
  giveBack(): void {
    this.#giveBack()
    this.#giveBack = () => {}
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    if (this.#media === undefined) fs.closeSync(this.#fd)
    else this.#media.close()
    this.#lock?.release()
  }
}

/**
 * A descriptor whose writes are barriers. O_DIRECT saves the way through the page cache; where it
 * is refused (some filesystems) or memory cannot be aligned (no addon) it is left out.
 */
function openLog(of: number, path: string, addon: NativeAddon | undefined): number {
  const { O_RDWR, O_DSYNC, O_DIRECT } = fs.constants
  if (addon !== undefined && O_DIRECT !== undefined) {
    let fd: number | undefined
    try {
      fd = openAgain(of, path, O_RDWR | O_DSYNC | O_DIRECT)
      fs.readSync(fd, new Uint8Array(addon.alignedBuffer(PAGE_BYTES, PAGE_BYTES)), 0, PAGE_BYTES, 0)
      return fd
    } catch {
      if (fd !== undefined) fs.closeSync(fd)
    }
  }
  return openAgain(of, path, O_RDWR | O_DSYNC)
}
