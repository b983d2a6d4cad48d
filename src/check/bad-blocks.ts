/**
 * Known bad blocks of the device, and pages that this check could not read, against what the volume has there.
 * They were read as zeros, so what stood there is reported as damaged too; nothing repairs it before the
 * blocks are cleared. Opening goes around those that are known alone.
 */
import { PAGE_BYTES } from '../base/units.js'
import { CHUNK_SLOT } from '../layout/chunk-slot.js'
import { CHECKPOINT_AT, type Geometry, granuleToOffset, SUPERBLOCK_AT } from '../layout/geometry.js'
import type { Place, Problem, Severity } from './finding.js'
import type { Inspection } from './inspection.js'

/** A part of the volume, and what a bad block in it means. */
interface Part {
  readonly at: number
  readonly length: number
  readonly severity: Severity
  readonly place: Omit<Place, 'offset'>
  readonly meaning: string
}

export function* checkBadBlocks(inspection: Inspection): Iterable<Problem> {
  const { geometry, chunks = [], device } = inspection
  const { badBlocks, unreadable } = device
  if (geometry === undefined) {
    for (const { offset, length } of unreadable.stretches) {
      yield cannotRead(length, { area: 'device', offset }, 'error', '')
    }
    return
  }
  if (badBlocks.isEmpty) return
  const parts = metadataOf(geometry)
  for (const { slot, values } of chunks) {
    parts.push({
      at: granuleToOffset(geometry, values.start),
      length: values.granules * geometry.granuleBytes,
      severity: 'error',
      place: { area: 'device' },
      meaning: `in the chunk of slot ${slot}, whose bytes there are lost`,
    })
  }
  for (const { at, length, severity, place, meaning } of parts) {
    for (const bad of badBlocks.within(at, length)) {
      const itsPlace = { ...place, offset: bad.offset }
      if (unreadable.touches(bad.offset, bad.length)) {
        const isTable = place.area === 'chunk-table'
        const itsMeaning = isTable ? 'in the chunk table: opening ends the process' : meaning
        yield cannotRead(bad.length, itsPlace, isTable ? 'error' : severity, `, ${itsMeaning}`)
      } else {
        yield {
          code: 'bad-blocks',
          severity,
          place: itsPlace,
          message: `${bad.length} bytes are known to be bad, ${meaning}`,
        }
      }
    }
  }
}

function cannotRead(bytes: number, place: Place, severity: Severity, where: string): Problem {
  return {
    code: 'unreadable',
    severity,
    place,
    message: `${bytes} bytes cannot be read${where}`,
  }
}

function metadataOf(geometry: Geometry): Part[] {
  const { logAt, logBytes, extents, checkpointCopyAt, superblockCopyAt } = geometry
  const twice = (copy: 0 | 1, at: number, length: number, area: 'superblock' | 'chunk-table') => ({
    at,
    length,
    severity: 'warning' as const,
    place: { area, copy },
    meaning: 'in metadata that is used from its other copy',
  })
  const header = (copy: 0 | 1, at: number) => ({
    at,
    length: PAGE_BYTES,
    severity: 'error' as const,
    place: { area: 'checkpoint-header' as const, copy },
    meaning: 'in a checkpoint header: the volume can only be read',
  })
  return [
    twice(0, SUPERBLOCK_AT, PAGE_BYTES, 'superblock'),
    header(0, CHECKPOINT_AT),
    ...extents.flatMap(({ slots, firstAt, secondAt }) => [
      twice(0, firstAt, slots * CHUNK_SLOT.bytes, 'chunk-table'),
      twice(1, secondAt, slots * CHUNK_SLOT.bytes, 'chunk-table'),
    ]),
    {
      at: logAt,
      length: logBytes,
      severity: 'error',
      place: { area: 'log' },
      meaning: 'in the log: the volume does not open',
    },
    header(1, checkpointCopyAt),
    twice(1, superblockCopyAt, PAGE_BYTES, 'superblock'),
  ]
}
