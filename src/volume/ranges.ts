/** Ranges of a volume, as callers name them. */
import { checkInteger, describe } from '../base/arguments.js'
import { argumentTypeError } from '../base/errors.js'

/** An array of ranges that end inside the volume. */
export function checkRanges(ranges: unknown, sizeBytes: number): void {
  if (!Array.isArray(ranges)) {
    throw argumentTypeError(`an array of ranges is wanted, not ${describe(ranges)}`)
  }
  for (const range of ranges) {
    if (range === null || typeof range !== 'object') {
      throw argumentTypeError(`a range is an object with offset and size, not ${describe(range)}`)
    }
    const { offset, size } = range
    checkInteger(offset, 'offset', 0, sizeBytes)
    checkInteger(size, 'size', 0, sizeBytes - offset)
  }
}
