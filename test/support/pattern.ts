import { Random } from './random.js'

/** Bytes that tell their seed, none of them zero. */
export function pattern(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const random = new Random(seed)
  return Uint8Array.from({ length }, () => 1 + random.below(255))
}
