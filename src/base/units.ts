/**
 * Numbers with kinds. A kind is a brand that exists for the compiler alone; crossing from one to
 * another is a function that states its rounding.
 */
declare const kind: unique symbol
type Unit<K extends string> = number & { readonly [kind]?: K }

/** Bytes from the start of the device, exact up to 2^53. Not a pointer: mappings move, offsets do not. */
export type Offset = Unit<'Offset'>
/** Granules from the start of the volume's data area. */
export type GranuleIndex = Unit<'GranuleIndex'>
/** Log sequence number: bytes ever appended to the log of this volume, monotonic, never reused. */
export type Lsn = Unit<'Lsn'>

export const KIB = 1024
export const MIB = 1024 * 1024
export const GIB = 1024 * 1024 * 1024
export const TIB = 1024 * GIB
/** 2^32, the weight of the upper of two u32 that hold one number. */
export const WORD = 4294967296
/** One cache line: what the processors that plinth knows write back at a time. */
export const LINE_BYTES = 64
/** What the kernel writes back at a time, and the alignment of every area of a volume. */
export const PAGE_BYTES = 4096
/** Positions beyond this cannot be told apart in a double. */
export const POSITION_MAX = Number.MAX_SAFE_INTEGER

/** Rounds up to a multiple of `unit` (a power of two or not), exact up to 2^53. */
export function alignUp(value: number, unit: number): number {
  const rest = value % unit
  return rest === 0 ? value : value + unit - rest
}

/** Rounds down to a multiple of `unit`. */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit)
}

/** The largest power of two that is not above `value`; 1 for less. */
export function powerOfTwoFloor(value: number): number {
  let power = 1
  while (power * 2 <= value) power *= 2
  return power
}

/** The smallest power of two that is not below `value`, at least 1. */
export function powerOfTwoCeil(value: number): number {
  let power = 1
  while (power < value) power *= 2
  return power
}

export function isPowerOfTwo(value: number): boolean {
  return powerOfTwoFloor(value) === value
}
