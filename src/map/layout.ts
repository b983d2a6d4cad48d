/**
 * What an ordered map keeps on the device: objects of one heap, told apart by their type tags.
 *
 *   HEADER   one, the heap's root        magic, version
 *   ENTRY    one a key                   word: length of the key in the low 12 bits, of the value above;
 *                                        or all ones, then both as u32. Then the key, then the value.
 *   LEAF     a range of keys             u32 magic, u32 length of the low key; that key if it is short,
 *                                        else the pointer of a KEY. At 64: pointers of entries, in no
 *                                        order, 0 for none.
 *   KEY      a low key too long for its leaf
 *   RETIRED  entries that snapshots saw  pointers of entries that no leaf has any more, up to the first
 *                                        0; freed when the last of those snapshots ends, or at opening. One page stays
 *
 * Leaves are in no order on the device: their low keys tell it. A leaf has the keys from its low one
 * up to the next leaf's. One leaf has the empty low key.
 */
export const TYPE = { ENTRY: 1, LEAF: 2, KEY: 3, RETIRED: 4, HEADER: 5 } as const

/** ASCII "plth-map". */
export const HEADER_MAGIC = [0x68746c70, 0x70616d2d] as const
export const HEADER_VERSION = 1
export const HEADER_BYTES = 64

/** ASCII "leaf". */
export const LEAF_MAGIC = 0x6661656c
export const LEAF_SLOTS = 64
export const SLOTS_AT = 64
export const LEAF_BYTES = SLOTS_AT + LEAF_SLOTS * 8
export const LOW_AT = 8
/** A longer low key is an object of its own, whose pointer is at `LOW_AT`. */
export const LOW_BYTES_MAX = SLOTS_AT - LOW_AT

export const RETIRED_SLOTS = 64
export const RETIRED_BYTES = RETIRED_SLOTS * 8

export const KEY_BYTES_MAX = 65536
export const VALUE_BYTES_MAX = 2 ** 30

const SHORT_KEY_BITS = 12
export const SHORT_KEY_MAX = 2 ** SHORT_KEY_BITS - 2
export const SHORT_VALUE_MAX = 2 ** (32 - SHORT_KEY_BITS) - 2
/** First word of an entry whose lengths follow as two words. */
export const LONG = 0xffffffff
export const SHORT_HEAD_BYTES = 4
export const LONG_HEAD_BYTES = 12

export function isShort(keyBytes: number, valueBytes: number): boolean {
  return keyBytes <= SHORT_KEY_MAX && valueBytes <= SHORT_VALUE_MAX
}

export function shortHead(keyBytes: number, valueBytes: number): number {
  return ((valueBytes << SHORT_KEY_BITS) | keyBytes) >>> 0
}

export function shortKeyBytes(head: number): number {
  return head & (2 ** SHORT_KEY_BITS - 1)
}

export function shortValueBytes(head: number): number {
  return head >>> SHORT_KEY_BITS
}
