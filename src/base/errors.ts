/**
 * Every error that plinth raises carries a `code` from one of the two tables below. Codes are
 * stable within a major version; messages are for people and may change.
 *
 *   mistakes   TypeError, RangeError    a wrong argument: fix the call
 *   mishaps    PlinthError              what a careful caller can still meet
 *
 * Messages quote names and paths, which may hold anything: all of them are printable lines.
 */
import { printable } from './printable.js'

/** What a careful caller can meet, each with what it means. README has this table, and a test compares. */
export const ERROR_CODES = {
  ERR_BACKEND_LIMIT: 'the mmap-io backend cannot do this exactly, so it does not try',
  ERR_BACKEND_MISSING: 'the wanted mapping backend cannot be loaded',
  ERR_BAD_BLOCKS: 'known bad blocks of the device are where they cannot be left alone',
  ERR_BAD_POINTER: 'this is not the pointer of a live object of this heap',
  ERR_CHUNK_CLOSED: 'the chunk handle was closed or its chunk was freed',
  ERR_CHUNK_EXISTS: 'another chunk has this name',
  ERR_CHUNK_NOT_FOUND: 'no chunk has this name or id',
  ERR_CHUNK_OWNED: 'the chunk belongs to a heap, which alone may use it',
  ERR_CHUNK_TOO_LARGE: 'this process cannot hold so large a chunk in one ArrayBuffer',
  ERR_DEVICE_IO: 'the operating system reported a failure of the device',
  ERR_DEVICE_IN_USE: 'the device holds something; `force` overwrites it',
  ERR_DEVICE_KIND: 'this is not a device, a file or a DAX node',
  ERR_DEVICE_MISSING: 'nothing is there at this path',
  ERR_DEVICE_TOO_SMALL: 'the device is smaller than the smallest volume or the wanted size',
  ERR_DEVICE_TRUNCATED: 'the device is smaller than the volume on it',
  ERR_FORMAT_TOO_NEW: 'the volume uses a format or a feature that this version does not know',
  ERR_FORMAT_TOO_OLD: 'the volume has a format from before the first release',
  ERR_GRANULARITY: 'this granularity would lose data on this device',
  ERR_HEAP_CLASSES: 'the heap exists without the wanted size classes',
  ERR_HEAP_NOT_FOUND: 'no heap has this name, and a reader makes none',
  ERR_MAPPING_LIMIT: 'the kernel maps no more for this process: vm.max_map_count, or memory',
  ERR_NO_ENTRY: 'the cursor of an ordered map is at no entry',
  ERR_NO_SPACE: 'no free run of granules is long enough',
  ERR_NOT_A_MAP: 'the heap of this name holds something else than an ordered map',
  ERR_NOT_A_VOLUME: 'the device does not hold a plinth volume',
  ERR_READ_ONLY: 'the volume is open for reading only, or its device is read-only',
  ERR_REENTRANT:
    'called by a subscriber that is being told of an operation of the volume: call it later',
  ERR_SNAPSHOT_CLOSED: 'the snapshot of an ordered map was closed',
  ERR_TX_ACTIVE: 'a transaction is under way: transactions do not nest',
  ERR_TX_ENDED: 'the transaction has ended',
  ERR_TX_PROMISE: 'a transaction function must be synchronous',
  ERR_TX_TOO_LARGE: 'the transaction does not fit the log',
  ERR_VOLUME_BUSY: 'somebody else has the volume open',
  ERR_VOLUME_CLOSED: 'the volume is closed',
  ERR_VOLUME_CORRUPT: 'the bytes on the device contradict their checksums or each other',
  ERR_VOLUME_FAILED: 'a barrier failed: close the volume and open it again',
  ERR_VOLUME_INCOMPLETE: 'a restore to this volume did not end',
} as const

/** A code of a `PlinthError`. */
export type ErrorCode = keyof typeof ERROR_CODES

/** Codes of the argument errors, which are plain `TypeError` and `RangeError` as Node's own are. */
export type ArgumentCode =
  | 'ERR_INVALID_ARG_TYPE'
  | 'ERR_INVALID_ARG_VALUE'
  | 'ERR_OUT_OF_RANGE'
  | 'ERR_UNKNOWN_OPTION'

/** What a careful caller can still meet: a full volume, a damaged device, a second opener. */
export class PlinthError extends Error {
  /** Stable within a major version; the message is not. */
  readonly code: ErrorCode

  /** @internal */
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(printable(message), options)
    this.name = 'PlinthError'
    this.code = code
  }
}

export function argumentTypeError(message: string): TypeError {
  return Object.assign(new TypeError(printable(message)), { code: 'ERR_INVALID_ARG_TYPE' as const })
}

export function argumentValueError(message: string): TypeError {
  return Object.assign(new TypeError(printable(message)), {
    code: 'ERR_INVALID_ARG_VALUE' as const,
  })
}

export function unknownOptionError(message: string): TypeError {
  return Object.assign(new TypeError(printable(message)), { code: 'ERR_UNKNOWN_OPTION' as const })
}

export function rangeError(message: string): RangeError {
  return Object.assign(new RangeError(printable(message)), { code: 'ERR_OUT_OF_RANGE' as const })
}
