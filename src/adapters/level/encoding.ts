/** Keys and values between the formats that `abstract-level` hands over and the bytes of the map. */
import type { Range } from '../../map/index.js'

/** What a key or value is between `abstract-level` and a database. */
export type Format = 'utf8' | 'buffer' | 'view'
export type Data = string | Uint8Array

/** Bounds as `abstract-level` gives them: encoded, and some of them perhaps beside each other. */
export interface EncodedRange {
  readonly gt?: Data
  readonly gte?: Data
  readonly lt?: Data
  readonly lte?: Data
  readonly reverse: boolean
}

export function toBytes(data: Data): Uint8Array {
  return typeof data === 'string' ? Buffer.from(data) : data
}

export function fromBytes(bytes: Uint8Array, format: Exclude<Format, 'utf8'>): Data {
  if (format === 'view') return bytes
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

const text = Buffer.allocUnsafeSlow(64 * 1024)

/**
 * Text, from what `copy` copies to the start of a target, returning the length of all of it; undefined when that is -1. It takes no
 * buffer of its own, which for most texts costs more than all the rest.
 */
export function readText(copy: (target: Uint8Array) => number): string | undefined {
  const length = copy(text)
  if (length <= text.length) return length < 0 ? undefined : text.toString('utf8', 0, length)
  const whole = Buffer.allocUnsafeSlow(length)
  copy(whole)
  return whole.toString()
}

/** Where both are given, the bound that includes its key is the one that counts, as in other databases. */
export function toRange({ gt, gte, lt, lte, reverse }: EncodedRange): Range {
  const range: { -readonly [Name in keyof Range]: Range[Name] } = { reverse }
  if (gte !== undefined) range.gte = toBytes(gte)
  else if (gt !== undefined) range.gt = toBytes(gt)
  if (lte !== undefined) range.lte = toBytes(lte)
  else if (lt !== undefined) range.lt = toBytes(lt)
  return range
}
