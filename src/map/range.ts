/** Ranges of keys as callers give them. */
import { bytesIn, compareBytes } from './bytes.js'
import { KEY_BYTES_MAX, VALUE_BYTES_MAX } from './layout.js'

/** Which keys, and in which order. Without bounds all, ascending. */
export interface Range {
  /** After this key. */
  readonly gt?: Uint8Array | undefined
  /** This key and after. */
  readonly gte?: Uint8Array | undefined
  /** Before this key. */
  readonly lt?: Uint8Array | undefined
  /** This key and before. */
  readonly lte?: Uint8Array | undefined
  /** Descending. @default false */
  readonly reverse?: boolean | undefined
  /** At most so many entries. @default Infinity */
  readonly limit?: number | undefined
}

const NAMES = ['gt', 'gte', 'lt', 'lte', 'reverse', 'limit']

/** A range with its bounds in one form. */
export class Bounds {
  readonly lower: Uint8Array | undefined
  /** Whether the lower bound itself is outside. */
  readonly isAfter: boolean
  readonly upper: Uint8Array | undefined
  readonly isBefore: boolean
  readonly reverse: boolean
  readonly limit: number

  constructor(range: Range | undefined) {
    if (range !== undefined) checkNames(range)
    // Read once: what a getter answers the next time was not checked.
    const { gt, gte, lt, lte, reverse = false, limit = Number.POSITIVE_INFINITY } = range ?? {}
    checkRange({ gt, gte, lt, lte, reverse, limit })
    this.lower = copyOf(gt ?? gte)
    this.isAfter = gt !== undefined
    this.upper = copyOf(lt ?? lte)
    this.isBefore = lt !== undefined
    this.reverse = reverse
    this.limit = this.#isEmpty() ? 0 : limit
  }

  /** The same with another limit. */
  limited(limit: number): Bounds {
    const { lower, upper, reverse } = this
    return new Bounds({
      [this.isAfter ? 'gt' : 'gte']: lower,
      [this.isBefore ? 'lt' : 'lte']: upper,
      reverse,
      limit,
    })
  }

  /** Bounds that leave nothing between them: a leaf must not be asked for both. */
  #isEmpty(): boolean {
    if (this.lower === undefined || this.upper === undefined) return false
    const order = compareBytes(this.lower, this.upper)
    return order > 0 || (order === 0 && (this.isAfter || this.isBefore))
  }

  has(key: Uint8Array): boolean {
    const { lower, upper } = this
    if (lower !== undefined) {
      const order = compareBytes(key, lower)
      if (order < 0 || (order === 0 && this.isAfter)) return false
    }
    if (upper === undefined) return true
    const order = compareBytes(key, upper)
    return order < 0 || (order === 0 && !this.isBefore)
  }
}

/** The caller may use its buffers for something else while a cursor goes on. */
function copyOf(bound: Uint8Array | undefined): Uint8Array | undefined {
  return bound && new Uint8Array(bound)
}

function checkNames(range: Range): void {
  if (range === null || typeof range !== 'object') {
    throw typeError('ERR_INVALID_ARG_TYPE', 'a range must be an object')
  }
  for (const name in range) {
    if (!NAMES.includes(name)) {
      throw typeError('ERR_UNKNOWN_OPTION', `a range has ${NAMES.join(', ')}, not '${name}'`)
    }
  }
}

function checkRange({ gt, gte, lt, lte, reverse, limit }: Range): void {
  for (const key of [gt, gte, lt, lte]) if (key !== undefined) checkKey(key)
  if ((gt !== undefined && gte !== undefined) || (lt !== undefined && lte !== undefined)) {
    throw typeError('ERR_INVALID_ARG_VALUE', 'a range has one lower and one upper bound')
  }
  if (reverse !== undefined && typeof reverse !== 'boolean') {
    throw typeError('ERR_INVALID_ARG_TYPE', 'reverse must be true or false')
  }
  const isCount = limit === Number.POSITIVE_INFINITY || Number.isInteger(limit)
  if (limit !== undefined && !(isCount && limit >= 0)) {
    throw typeError('ERR_INVALID_ARG_VALUE', 'limit must be a whole number from 0, or Infinity')
  }
}

/** Returns how many bytes it has. */
export function checkKey(key: unknown): number {
  const bytes = bytesIn(key)
  if (bytes < 0) throw typeError('ERR_INVALID_ARG_TYPE', 'a key must be a Uint8Array')
  if (bytes > KEY_BYTES_MAX) {
    throw rangeError(`a key has at most ${KEY_BYTES_MAX} bytes, not ${bytes}`)
  }
  return bytes
}

/** Returns how many bytes it has. */
export function checkValue(value: unknown): number {
  const bytes = bytesIn(value)
  if (bytes < 0) throw typeError('ERR_INVALID_ARG_TYPE', 'a value must be a Uint8Array')
  if (bytes > VALUE_BYTES_MAX) {
    throw rangeError(`a value has at most ${VALUE_BYTES_MAX} bytes, not ${bytes}`)
  }
  return bytes
}

/** Returns how many bytes it has. */
export function checkTarget(target: unknown): number {
  const bytes = bytesIn(target)
  if (bytes < 0) throw typeError('ERR_INVALID_ARG_TYPE', 'the target must be a Uint8Array')
  return bytes
}

export function typeError(code: string, message: string): TypeError {
  return Object.assign(new TypeError(message), { code })
}

function rangeError(message: string): RangeError {
  return Object.assign(new RangeError(message), { code: 'ERR_OUT_OF_RANGE' })
}
