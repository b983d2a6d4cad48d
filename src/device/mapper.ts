/**
 * The two ways to map a device: the addon of this package, and the npm package mmap-io.
 *
 *   native    64-bit positions, MAP_SYNC, views emptied before the memory goes, pages given back
 *   mmap-io   positions below 2 GiB, no detach: memory goes when the garbage collector says so
 *
 * What mmap-io cannot do exactly is refused here and never tried: it takes sizes and offsets as
 * 32-bit numbers and maps the wrong place without an error (its issue 31).
 */
import { createRequire } from 'node:module'
import { PlinthError } from '../base/errors.js'
import { PAGE_BYTES } from '../base/units.js'
import { MAP, type NativeAddon } from '../native/addon.js'
import { addonError, loadAddon } from '../native/load.js'
import { readNumber } from './sysfs.js'

/** What maps devices: the addon, or the package mmap-io, which does less and says so with ERR_BACKEND_LIMIT. */
export type Backend = 'native' | 'mmap-io'
/** `private`: stores stay in this process. `shared`: they reach the device. `sync`: shared, and only on real DAX. */
export type Sharing = 'private' | 'shared' | 'sync'

export interface Mapper {
  readonly backend: Backend
  map(
    fd: number,
    offset: number,
    length: number,
    sharing: Sharing,
  ): { slot: number; bytes: Uint8Array }
  /** Empties the views; the mapping stays. */
  detach(slot: number): void
  attach(slot: number): Uint8Array
  unmap(slot: number): void
  /** Bytes of a page of the kernel's: what is given back, and told of, is made of these. */
  readonly pageBytes: number
  /** Pages that differ from the device by stores of this process, as page indices; undefined: cannot tell. */
  privatePages(
    slot: number,
    fromPage: number,
    pageCount: number,
    out: Uint32Array,
  ): number | undefined
  /** Gives private copies back: the device's bytes show through again. False: cannot. */
  discard(slot: number, offset: number, length: number): boolean
}

const SHARING_FLAGS = { private: MAP.PRIVATE, shared: 0, sync: MAP.SYNC } as const

/** The kernel's limit on the mappings of a process, and what it is unless somebody changed it (its sysctl/vm.rst). */
const MAX_MAP_COUNT = '/proc/sys/vm/max_map_count'
const MAX_MAP_COUNT_DEFAULT = 65530

/**
 * Mappings that plinth makes in one process, all threads together: the rest is V8's, which ends the
 * process when it gets no memory.
 */
export function mappingsMax(maxMapCount: number): number {
  return Math.floor((maxMapCount / 4) * 3)
}

/** What a refused mapping means to who asked for it. */
function mappingError(cause: NodeJS.ErrnoException, offset: number, length: number): Error {
  const what = `${length} bytes at ${offset}`
  if (cause.code === 'ERR_OUT_OF_RANGE') {
    return new PlinthError(
      'ERR_DEVICE_TRUNCATED',
      `${what} are not within the device any more: it was truncated`,
      { cause },
    )
  }
  if (cause.code === 'ENOMEM' || cause.code === 'EAGAIN') {
    return new PlinthError(
      'ERR_MAPPING_LIMIT',
      `${what} cannot be mapped: the process is at the limit of its mappings (vm.max_map_count), of its address space (ulimit -v) or of locked memory`,
      { cause },
    )
  }
  return new PlinthError('ERR_DEVICE_IO', `${what} cannot be mapped: ${cause.message}`, { cause })
}

export class NativeMapper implements Mapper {
  readonly backend = 'native'
  readonly #addon: NativeAddon
  readonly #mappingsMax: number
  readonly pageBytes: number

  constructor(
    addon: NativeAddon,
    max = mappingsMax(readNumber(MAX_MAP_COUNT) ?? MAX_MAP_COUNT_DEFAULT),
  ) {
    this.#addon = addon
    this.pageBytes = addon.pageBytes
    this.#mappingsMax = max
  }

  map(fd: number, offset: number, length: number, sharing: Sharing) {
    const slot = this.#mapSlot(fd, offset, length, sharing)
    try {
      return { slot, bytes: new Uint8Array(this.#addon.buffer(slot)) }
    } catch (error) {
      this.#addon.unmap(slot)
      throw error
    }
  }

  #mapSlot(fd: number, offset: number, length: number, sharing: Sharing): number {
    const { mappingCount } = this.#addon
    if (mappingCount() >= this.#mappingsMax) {
      throw new PlinthError(
        'ERR_MAPPING_LIMIT',
        `this process has ${mappingCount()} mappings of plinth; more would leave too few of vm.max_map_count for others: close chunks, or raise it`,
      )
    }
    try {
      return this.#addon.map(fd, offset, length, SHARING_FLAGS[sharing])
    } catch (cause) {
      throw mappingError(cause as NodeJS.ErrnoException, offset, length)
    }
  }

  detach(slot: number): void {
    this.#addon.detach(slot)
  }

  attach(slot: number): Uint8Array {
    return new Uint8Array(this.#addon.buffer(slot))
  }

  unmap(slot: number): void {
    this.#addon.unmap(slot)
  }

  privatePages(
    slot: number,
    fromPage: number,
    pageCount: number,
    out: Uint32Array,
  ): number | undefined {
    return this.#addon.privatePages(slot, fromPage, pageCount, out)
  }

  discard(slot: number, offset: number, length: number): boolean {
    try {
      this.#addon.discard(slot, offset, length)
      return true
    } catch (error) {
      // madvise(2): not of a mapping that is locked in memory (mlockall).
      if ((error as NodeJS.ErrnoException).code === 'EINVAL') return false
      throw error
    }
  }
}

/** For readers that cannot be given a private mapping: copies in memory, made by `read`. */
export class CopyMapper implements Mapper {
  readonly backend = 'native'
  readonly pageBytes = PAGE_BYTES
  readonly #read: (offset: number, length: number) => Uint8Array
  readonly #copies: (Uint8Array | undefined)[] = []

  constructor(read: (offset: number, length: number) => Uint8Array) {
    this.#read = read
  }

  map(_fd: number, offset: number, length: number) {
    const bytes = this.#read(offset, length)
    return { slot: putInFreeSlot(this.#copies, bytes), bytes }
  }

  detach(): void {
    // A copy belongs to whoever looks at it.
  }

  attach(slot: number): Uint8Array {
    return this.#copies[slot]!
  }

  unmap(slot: number): void {
    this.#copies[slot] = undefined
  }

  privatePages(): undefined {
    return undefined
  }

  discard(): boolean {
    return false
  }
}

/** What plinth uses of mmap-io. */
interface MmapIo {
  readonly PROT_READ: number
  readonly PROT_WRITE: number
  readonly MAP_SHARED: number
  readonly MAP_PRIVATE: number
  map(size: number, protection: number, flags: number, fd: number, offset: number): Buffer
}

/** Both are 32-bit and signed in mmap-io. */
const MMAP_IO_LIMIT = 2 ** 31 - PAGE_BYTES

class MmapIoMapper implements Mapper {
  readonly backend = 'mmap-io'
  readonly pageBytes = PAGE_BYTES
  readonly #package: MmapIo
  readonly #buffers: (Uint8Array | undefined)[] = []

  constructor(mmapIo: MmapIo) {
    this.#package = mmapIo
  }

  map(fd: number, offset: number, length: number, sharing: Sharing) {
    const { PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_SHARED } = this.#package
    if (sharing === 'sync') throw backendLimit('a mapping with MAP_SYNC')
    if (offset > MMAP_IO_LIMIT || length > MMAP_IO_LIMIT || offset % PAGE_BYTES !== 0) {
      throw backendLimit(`${length} bytes at ${offset}: it reaches to 2 GiB only`)
    }
    const flags = sharing === 'private' ? MAP_PRIVATE : MAP_SHARED
    const buffer = this.#package.map(length, PROT_READ | PROT_WRITE, flags, fd, offset)
    const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length)
    return { slot: putInFreeSlot(this.#buffers, bytes), bytes }
  }

  detach(_slot: number): void {
    // Its memory cannot be taken away from views; plinth's own calls check, forgotten views go on.
  }

  attach(slot: number): Uint8Array {
    return this.#buffers[slot]!
  }

  unmap(slot: number): void {
    this.#buffers[slot] = undefined
  }

  privatePages(): undefined {
    return undefined
  }

  discard(): boolean {
    return false
  }
}

/** Mappers without slots of the addon number their own: the lowest free one is taken. */
function putInFreeSlot(slots: (Uint8Array | undefined)[], bytes: Uint8Array): number {
  const free = slots.indexOf(undefined)
  const slot = free === -1 ? slots.length : free
  slots[slot] = bytes
  return slot
}

function backendLimit(what: string): PlinthError {
  return new PlinthError(
    'ERR_BACKEND_LIMIT',
    `the mmap-io backend cannot map ${what}; use the native backend`,
  )
}

/**
 * The mapper that was asked for, or the best there is.
 * @throws PlinthError ERR_BACKEND_MISSING when it cannot be loaded
 */
export function loadMapper(wanted: Backend | undefined): Mapper {
  const addon = wanted === 'mmap-io' ? undefined : loadAddon()
  if (addon !== undefined) return new NativeMapper(addon)
  if (wanted === 'native') {
    throw new PlinthError('ERR_BACKEND_MISSING', 'the native addon cannot be loaded', {
      cause: addonError(),
    })
  }
  try {
    return new MmapIoMapper(createRequire(import.meta.url)('mmap-io') as MmapIo)
  } catch (cause) {
    throw new PlinthError(
      'ERR_BACKEND_MISSING',
      wanted === undefined
        ? 'neither the native addon nor mmap-io can be loaded'
        : 'the package mmap-io cannot be loaded; it is optional and does not build on every Node',
      { cause: wanted === undefined ? (addonError() ?? cause) : cause },
    )
  }
}
