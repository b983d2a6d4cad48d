/** Checks of what callers hand in. Each throws a TypeError or RangeError with a code and changes nothing. */
import { types } from 'node:util'
import { argumentTypeError, argumentValueError, rangeError, unknownOptionError } from './errors.js'
import { isPowerOfTwo, POSITION_MAX } from './units.js'

/** An options object with no other names than these. `undefined` is an empty one. */
export function checkOptions(
  options: unknown,
  names: readonly string[],
  where: string,
): asserts options is object | undefined {
  if (options === undefined) return
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw argumentTypeError(`${where}: options must be an object`)
  }
  for (const name in options) {
    if (!names.includes(name)) {
      throw unknownOptionError(
        `${where}: unknown option '${name}'; it takes ${names.length === 0 ? 'none' : names.join(', ')}`,
      )
    }
  }
}

/** A whole number within bounds, both included. */
export function checkInteger(
  value: unknown,
  what: string,
  min: number,
  max: number = POSITION_MAX,
): asserts value is number {
  if (typeof value !== 'number') {
    throw argumentTypeError(`${what} must be a number, not ${describe(value)}`)
  }
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw rangeError(`${what} must be a whole number from ${min} to ${max}, not ${value}`)
  }
}

/** A power of two within bounds, both included. */
export function checkPowerOfTwo(
  value: unknown,
  what: string,
  min: number,
  max: number,
): asserts value is number {
  if (typeof value === 'number' && !isPowerOfTwo(value)) {
    throw rangeError(`${what} must be a power of two from ${min} to ${max}, not ${value}`)
  }
  checkInteger(value, what, min, max)
}

export function checkBoolean(value: unknown, what: string): asserts value is boolean {
  if (typeof value !== 'boolean') {
    throw argumentTypeError(`${what} must be true or false, not ${describe(value)}`)
  }
}

// What every array of bytes has, whatever it or its class says of itself.
const typedArray: object = Object.getPrototypeOf(Uint8Array.prototype)
const getterOf = (name: string) => Object.getOwnPropertyDescriptor(typedArray, name)!.get!
const lengthGetter = getterOf('length')
const bufferGetter = getterOf('buffer')
const offsetGetter = getterOf('byteOffset')

/** Bytes, of this realm or another. Returns how many they are, which need not be what they say. */
export function checkBytes(value: unknown, what: string): number {
  if (types.isUint8Array(value)) return lengthGetter.call(value)
  throw argumentTypeError(`${what} must be a Uint8Array, not ${describe(value)}`)
}

/** The first `length` of these bytes under a view that says no other: theirs may, or may grow meanwhile. */
export function plainBytes(value: Uint8Array, length: number): Uint8Array {
  return new Uint8Array(bufferGetter.call(value), offsetGetter.call(value), length)
}

/** A path as a string without NUL. */
export function checkPath(value: unknown): asserts value is string {
  if (typeof value !== 'string') {
    throw argumentTypeError(`the path must be a string, not ${describe(value)}`)
  }
  if (value === '' || value.includes('\0')) {
    throw argumentValueError('the path must not be empty and must not contain a NUL')
  }
}

const encoder = new TextEncoder()

/**
 * Text that is kept on media: 1 to `bytesMax` bytes of UTF-8 without NUL. Returns the bytes.
 * Lone surrogates are refused: they would not come back.
 */
export function encodeText(value: unknown, what: string, bytesMax: number): Uint8Array {
  if (typeof value !== 'string') {
    throw argumentTypeError(`${what} must be a string, not ${describe(value)}`)
  }
  if (value.includes('\0')) throw argumentValueError(`${what} must not contain a NUL`)
  // A string has at least as many bytes as code units: no need to encode a huge one to refuse it.
  const bytes = value.length <= bytesMax ? encoder.encode(value) : undefined
  if (bytes === undefined || bytes.length === 0 || bytes.length > bytesMax) {
    throw rangeError(`${what} must have 1 to ${bytesMax} bytes of UTF-8`)
  }
  if (!value.isWellFormed()) throw argumentValueError(`${what} must be well-formed Unicode`)
  return bytes
}

/** What a value is, for a message: never its contents. */
export function describe(value: unknown): string {
  if (value === null) return 'null'
  if (typeof value !== 'object') return typeof value
  const name: unknown = value.constructor?.name
  return typeof name === 'string' ? name : 'an object'
}
