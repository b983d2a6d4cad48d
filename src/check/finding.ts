/**
 * What `check` reports: a finding says what is wrong, where, how bad it is, and whether `repair` can
 * repair it from what else is on the device.
 *
 *   info      nothing is wrong: what a crash leaves and opening the volume puts right
 *   warning   something is damaged; the volume still has everything, or may have
 *   error     the volume does not open, or something is lost
 */
import type { Offset } from '../base/units.js'

/** Every code with what it means. docs/guarantees.md has this table, and a test compares. */
export const FINDING_CODES = {
  'not-a-volume': 'neither superblock is there',
  'foreign-owner':
    "something else is where the volume's metadata was: the device was given away, or wiped",
  'superblock-damaged': 'a copy of the superblock does not pass its checksum or is gone',
  'superblock-differs': 'both superblocks are whole and say different things',
  'bad-blocks': 'the device has known bad blocks where the volume has something',
  unreadable: 'the device gives an error where the volume has something',
  'format-too-new': 'the volume uses a format or a feature that this version does not know',
  'format-too-old': 'the volume has a format from before the first release',
  'restore-incomplete': 'a restore to this volume did not end',
  'geometry-impossible': 'the superblock describes a volume that cannot be',
  'device-truncated': 'the device is smaller than the volume on it',
  'checkpoint-damaged':
    'a copy of the checkpoint header does not pass its checksum or makes no sense',
  'checkpoint-behind': 'one copy of the checkpoint header is older: a crash came between the two',
  'checkpoint-impossible': 'the checkpoint header contradicts the size of the volume',
  'not-closed': 'the last user did not close the volume; opening it replays the log',
  'log-entry-impossible': 'a record with a valid checksum says what no record can say',
  'log-damaged': 'a record that was durable is damaged',
  'log-gone':
    'the log may have been lost, and with it what was committed since the last checkpoint',
  'log-bit-flip': 'the log ends at a record that one flipped bit makes whole',
  'slot-damaged': 'one copy of a slot of the chunk table does not pass its checksum',
  'slot-behind': 'one copy of a slot of the chunk table is older than the other',
  'slot-differs': 'both copies of a slot are whole, equally new, and say different things',
  'slot-lost': 'both copies of a slot of the chunk table are damaged or gone',
  'slot-beyond-used': 'something is in slots of the chunk table that were never used',
  'chunk-out-of-bounds': 'a chunk runs past the end of the volume',
  'chunk-overlap': 'two chunks have the same granules',
  'name-twice': 'two chunks have the same name',
  'text-invalid': 'a name or a type is not UTF-8 or not padded with zeros',
  'heap-damaged': 'the header of a heap does not pass its checksum or contradicts its chunk',
  'heap-root': 'the root of a heap is not the pointer of one of its live objects',
  'heap-chunk-invalid':
    "a chunk has the type of a heap's chunk, and a name or place that no such chunk has",
  'heap-orphan': 'a chunk belongs to a heap that is not there',
  'slab-header-damaged': 'the header of a slab chunk is not what the chunk table says',
  'slab-entry-damaged': 'the entry of a slab does not pass its checksum or cannot be there',
  'slab-bits-impossible': 'a bitmap has objects where there are no blocks',
  'space-miscounted': 'used, free and metadata bytes do not add up to the volume',
  'memory-differs': 'what the open volume has in memory is not what is on the device',
} as const

/**
 * So many findings of a code are told one by one, and fixed in one pass of a repair; the rest is one more, with a
 * count. It bounds the memory of a check: a forged volume has as much wrong as it has bytes.
 */
export const FINDINGS_MAX = 32_768

/** What a finding is. */
export type FindingCode = keyof typeof FINDING_CODES
/** How bad a finding is: nothing wrong, damaged but whole, or lost. */
export type Severity = 'info' | 'warning' | 'error'
/** The part of a volume that a finding is about. */
export type Area =
  | 'device'
  | 'superblock'
  | 'checkpoint-header'
  | 'log'
  | 'chunk-table'
  | 'heap'
  | 'memory'

/** Where a finding is. */
export interface Place {
  readonly area: Area
  /** Of what is kept twice: the one at the head or the one at the tail. */
  readonly copy?: 0 | 1
  /** Bytes from the start of the device. */
  readonly offset: number
}

/** One thing that `check` reports. */
export interface Finding {
  readonly code: FindingCode
  readonly severity: Severity
  readonly place: Place
  /** A sentence for people. */
  readonly message: string
  /** How many it stands for, where that is more than one: slots side by side, and what is not told one by one. */
  readonly count?: number
  /** Whether it can be repaired without losing anything. */
  readonly fixable: boolean
}

/** A write that repairs something. */
export interface Fix {
  readonly code: FindingCode
  readonly place: Place
  /** What is written, and from which copy it comes. */
  readonly message: string
  /** Whether something that may still be wanted is given up; done with `dropDamaged` alone. */
  readonly drops: boolean
}

/** A fix with the bytes that it writes. Each is one fence for itself. */
export interface PlannedFix extends Fix {
  readonly offset: Offset
  readonly bytes: Uint8Array
}

/** A finding as a step of the check gives it, with the writes that would repair it. */
export interface Problem extends Omit<Finding, 'fixable'> {
  readonly fixes?: readonly PlannedFix[]
}

/** What is at an offset of the device is not what memory has. */
export function differs(offset: Offset, message: string): Problem {
  return {
    code: 'memory-differs',
    severity: 'error',
    place: { area: 'memory', offset },
    message: `${message}; close the volume and open it again`,
  }
}

/** One line a finding, the worst first; 'no findings' for none. */
export function formatFindings(findings: readonly Finding[]): string {
  if (findings.length === 0) return 'no findings'
  const order = { error: 0, warning: 1, info: 2 }
  return [...findings]
    .sort((a, b) => order[a.severity] - order[b.severity])
    .map(
      ({ severity, code, place, message, fixable }) =>
        `${severity}: ${code} at ${describePlace(place)}: ${message}${fixable ? ' (fixable)' : ''}`,
    )
    .join('\n')
}

export function describePlace({ area, copy, offset }: Place): string {
  const which = copy === undefined ? '' : copy === 0 ? ' (first copy)' : ' (second copy)'
  return `${area}${which}, offset ${offset}`
}
