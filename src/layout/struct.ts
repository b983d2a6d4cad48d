/**
 * A struct on media is one table: name, offset, kind, and what the field protects against. The
 * table is checked when the module loads: fields do not overlap, are aligned and end within the
 * struct. Little-endian. Bytes that no field names are reserved: written as zero, and checked.
 */
import { assert } from '../base/assert.js'
import { isZero } from '../base/bits.js'
import { WORD } from '../base/units.js'

type Kind = 'u16' | 'u32' | 'u64' | `bytes${number}`
export type FieldTable = Readonly<
  Record<string, readonly [offset: number, kind: Kind, why: string]>
>
export type Values<T extends FieldTable> = {
  -readonly [K in keyof T]: T[K][1] extends `bytes${number}` ? Uint8Array : number
}

export interface Struct<T extends FieldTable> {
  readonly bytes: number
  readonly fields: T
  /** A u64 beyond 2^53 reads as Infinity, so that every range check refuses it. */
  read(from: Uint8Array, at?: number): Values<T>
  /** Writes the fields that have a value and zeroes everything else of the struct. Allocates nothing. */
  write(values: Partial<Values<T>>, to: Uint8Array, at?: number): void
  /** Whether all bytes that no field names are zero. */
  reservedIsZero(from: Uint8Array, at?: number): boolean
}

export function defineStruct<const T extends FieldTable>(definition: {
  bytes: number
  fields: T
}): Struct<T> {
  const { bytes, fields } = definition
  const entries = Object.entries(fields).map(([name, [offset, kind]]) => ({
    name,
    offset,
    kind,
    size: sizeOf(kind),
  }))
  const named = new Uint8Array(bytes)
  for (const { name, offset, kind, size } of entries) {
    assert(offset + size <= bytes, `field ${name} ends behind its struct`)
    assert(kind.startsWith('bytes') || offset % size === 0, `field ${name} is not aligned`)
    assert(
      named.subarray(offset, offset + size).every((owner) => owner === 0),
      `field ${name} overlaps`,
    )
    named.fill(1, offset, offset + size)
  }
  const reserved = runsOf(named, 0)
  return {
    bytes,
    fields,
    read(from, at = 0) {
      const view = new DataView(from.buffer, from.byteOffset + at, bytes)
      const values: Record<string, number | Uint8Array> = {}
      for (const { name, offset, kind, size } of entries) {
        values[name] =
          kind === 'u16'
            ? view.getUint16(offset, true)
            : kind === 'u32'
              ? view.getUint32(offset, true)
              : kind === 'u64'
                ? joinWords(view.getUint32(offset, true), view.getUint32(offset + 4, true))
                : from.slice(at + offset, at + offset + size)
      }
      return values as Values<T>
    },
    write(values, to, at = 0) {
      to.fill(0, at, at + bytes)
      for (let i = 0; i < entries.length; i++) {
        const { name, offset, kind, size } = entries[i]!
        const value = values[name as keyof T] as number | Uint8Array | undefined
        if (value === undefined) continue
        if (typeof value !== 'number') {
          assert(value.length <= size, `value of field ${name} is too long`)
          to.set(value, at + offset)
        } else if (kind === 'u16') {
          to[at + offset] = value
          to[at + offset + 1] = value >>> 8
        } else {
          putUint32(to, at + offset, value % WORD)
          if (kind === 'u64') putUint32(to, at + offset + 4, Math.floor(value / WORD))
        }
      }
    },
    reservedIsZero(from, at = 0) {
      return reserved.every(([start, end]) => isZero(from, at + start, at + end))
    },
  }
}

/** Runs of one value, each as start and end. */
function runsOf(bytes: Uint8Array, value: number): [number, number][] {
  const runs: [number, number][] = []
  for (const [i, byte] of bytes.entries()) {
    if (byte !== value) continue
    const last = runs.at(-1)
    if (last?.[1] === i) last[1] = i + 1
    else runs.push([i, i + 1])
  }
  return runs
}

export function putUint32(to: Uint8Array, at: number, value: number): void {
  to[at] = value
  to[at + 1] = value >>> 8
  to[at + 2] = value >>> 16
  to[at + 3] = value >>> 24
}

/** Two u32 as one number; Infinity where it would not be exact. */
export function joinWords(low: number, high: number): number {
  return high > 0x1fffff ? Number.POSITIVE_INFINITY : high * WORD + low
}

function sizeOf(kind: Kind): number {
  if (kind === 'u16') return 2
  if (kind === 'u32') return 4
  if (kind === 'u64') return 8
  return Number(kind.slice(5))
}
