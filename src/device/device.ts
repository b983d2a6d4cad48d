/** A device held open: locked, its granularity settled, its media ready. */
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import { PAGE_BYTES } from '../base/units.js'
import type { Granularity, Media } from '../media/media.js'
import type { NativeAddon } from '../native/addon.js'
import { loadAddon } from '../native/load.js'
import { type DeviceKind, type Identity, identify } from './identify.js'
import { LineMedia } from './line-media.js'
import { type Lock, lockDevice, openOrThrow } from './lock.js'
import { type Backend, CopyMapper, loadMapper, type Mapper, type Sharing } from './mapper.js'
import { PageMedia } from './page-media.js'
import { readBytes } from './read.js'

export interface DeviceOptions {
  readonly path: string
  readonly backend?: Backend | undefined
  readonly granularity?: Granularity | undefined
  readonly readOnly: boolean
}

export class Device {
  readonly path: string
  readonly kind: DeviceKind
  readonly granularity: Granularity
  readonly backend: Backend
  readonly alignBytes: number
  readonly #sharing: Sharing
  readonly #mapper: Mapper
  readonly #addon: NativeAddon | undefined
  readonly #readOnly: boolean
  readonly #lock: Lock
  readonly #fd: number
  #media: Media | undefined
  #open = true

  /**
   * Locks and opens what is at a path.
   * @throws PlinthError ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO, ERR_VOLUME_BUSY,
   *   ERR_BACKEND_MISSING, ERR_BACKEND_LIMIT, ERR_GRANULARITY
   */
  constructor(options: DeviceOptions) {
    const { path, readOnly } = options
    const identity = identify(path)
    this.path = path
    this.#readOnly = readOnly
    this.#mapper = loadMapper(options.backend)
    this.backend = this.#mapper.backend
    // The lock and aligned memory come from the addon, whatever does the mapping.
    this.#addon = loadAddon()
    this.alignBytes = identity.alignBytes
    this.#lock = lockDevice({ path, kind: identity.kind, readOnly, addon: this.#addon })
    try {
      this.#fd = openOrThrow(path, readOnly ? fs.constants.O_RDONLY : fs.constants.O_RDWR)
    } catch (error) {
      this.#lock.release()
      throw error
    }
    try {
      const isDax = identity.kind === 'dax' || this.#mapsSync(identity)
      this.kind = identity.kind === 'file' && isDax ? 'fsdax' : identity.kind
      this.granularity = settleGranularity(this.kind, identity, options.granularity)
      this.#sharing = isDax ? 'sync' : 'shared'
      if (this.granularity !== 'page' && this.backend !== 'native') {
        throw new PlinthError(
          'ERR_BACKEND_LIMIT',
          `granularity '${this.granularity}' needs cache write-back, which only the native backend has`,
        )
      }
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Bytes of the device, now. */
  get sizeBytes(): number {
    return identify(this.path).sizeBytes
  }

  /** Whether the kernel vouches for the mapping: MAP_SYNC with MAP_SHARED_VALIDATE works only on DAX. */
  #mapsSync(identity: Identity): boolean {
    if (identity.kind !== 'file' || identity.sizeBytes < PAGE_BYTES) return false
    if (this.#mapper.backend !== 'native' || this.#readOnly) return false
    try {
      this.#mapper.unmap(this.#mapper.map(this.#fd, 0, PAGE_BYTES, 'sync').slot)
      return true
    } catch {
      return false
    }
  }

  /** The media over the first `sizeBytes` of the device; made once. */
  media(sizeBytes: number): Media {
    this.#media ??=
      this.granularity === 'page' || this.#readOnly
        ? this.#pageMedia(sizeBytes)
        : new LineMedia({
            sizeBytes,
            granularity: this.granularity,
            mapper: this.#mapper,
            addon: this.#addon!,
            fd: this.#fd,
            sharing: this.#sharing,
          })
    return this.#media
  }

  #pageMedia(sizeBytes: number): PageMedia {
    return new PageMedia({
      sizeBytes,
      mapper: this.kind === 'dax' ? new CopyMapper(this.#addon!) : this.#mapper,
      fd: this.#fd,
      logFd: this.#readOnly ? undefined : openLog(this.path, this.#addon),
      addon: this.#addon,
      readOnly: this.#readOnly,
    })
  }

  /** Bytes of the device, read before any volume is known; zeros behind its end. */
  read(offset: number, length: number): Uint8Array {
    return readBytes(this.#fd, this, this.#addon, offset, length)
  }

  /** Makes a regular file so long, every byte of it backed. */
  allocate(sizeBytes: number): void {
    try {
      if (this.#addon !== undefined) {
        this.#addon.allocate(this.#fd, 0, sizeBytes)
      } else {
        const zeros = new Uint8Array(1024 * 1024)
        const from = fs.fstatSync(this.#fd).size
        for (let at = from; at < sizeBytes; at += zeros.length) {
          fs.writeSync(this.#fd, zeros, 0, Math.min(zeros.length, sizeBytes - at), at)
        }
      }
    } catch (cause) {
      throw new PlinthError(
        'ERR_DEVICE_IO',
        `${sizeBytes} bytes cannot be allocated for ${this.path}: ${(cause as Error).message}`,
        { cause },
      )
    }
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    if (this.#media === undefined) fs.closeSync(this.#fd)
    else this.#media.close()
    this.#lock.release()
  }
}

/**
 * The granularity of a device: what is known of it, or what was asked for where that loses nothing.
 */
function settleGranularity(
  kind: DeviceKind,
  identity: Identity,
  wanted: Granularity | undefined,
): Granularity {
  const isDax = kind === 'dax' || kind === 'fsdax'
  const proven: Granularity = !isDax ? 'page' : identity.persistsCaches ? 'byte' : 'cache-line'
  if (wanted === undefined || wanted === proven) return proven
  // Memory that no power loss spares anyway: the fast path may be developed and measured on it.
  if (kind === 'tmpfs') return wanted
  const isStronger =
    (kind !== 'dax' && wanted === 'page') || (proven === 'byte' && wanted === 'cache-line')
  if (isStronger) return wanted
  throw new PlinthError(
    'ERR_GRANULARITY',
    `granularity '${wanted}' would lose data on this device: it is a ${kind} device, whose granularity is '${proven}'`,
  )
}

/**
 * A descriptor whose writes are barriers. O_DIRECT saves the way through the page cache; where it
 * is refused (some filesystems) or memory cannot be aligned (no addon) it is left out.
 */
function openLog(path: string, addon: NativeAddon | undefined): number {
  const { O_RDWR, O_DSYNC, O_DIRECT } = fs.constants
  if (addon !== undefined && O_DIRECT !== undefined) {
    let fd: number | undefined
    try {
      fd = fs.openSync(path, O_RDWR | O_DSYNC | O_DIRECT)
      fs.readSync(fd, new Uint8Array(addon.alignedBuffer(PAGE_BYTES, PAGE_BYTES)), 0, PAGE_BYTES, 0)
      return fd
    } catch {
      if (fd !== undefined) fs.closeSync(fd)
    }
  }
  return openOrThrow(path, O_RDWR | O_DSYNC)
}
