/**
 * The superblocks: both copies, and the volume that they describe.
 *
 * Opening a volume finds the second copy by the first, damaged or not, or at the device's end. Here it is looked
 * for further, in the last resort everywhere, so that a volume smaller than its device can be brought back too. Without a sign of a head the search is bounded.
 */
import { MIB, type Offset, PAGE_BYTES } from '../base/units.js'
import { CHECKPOINT, CHECKPOINT_MAGIC } from '../layout/checkpoint-header.js'
import { CHECKPOINT_AT, SUPERBLOCK_AT } from '../layout/geometry.js'
import { followSuperblock, type Refusal, unwritableFeatures } from '../layout/refusal.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  hasMagic,
  isLaterSuperblock,
  isSameSuperblock,
  SUPERBLOCK,
  type Superblock,
  secondSuperblockAt,
  volumeSeed,
} from '../layout/superblock.js'
import type { FindingCode, PlannedFix, Problem } from './finding.js'
import type { Inspection, Readable } from './inspection.js'
import { findIntruder, nameBoth } from './intruder.js'
import { findTails, isOfHead, likelyTails, newestTail, type Tail, tailIn } from './tails.js'

export function* checkSuperblocks(inspection: Inspection): Iterable<Problem> {
  const { device } = inspection
  if (device.sizeBytes < 2 * PAGE_BYTES) {
    yield nothingFound(new Uint8Array(PAGE_BYTES))
    return
  }
  const firstPage = device.read(SUPERBLOCK_AT, PAGE_BYTES)
  const first = wholeCopy(firstPage, 0)
  const at =
    first === undefined ? findSecond(device, firstPage) : secondSuperblockAt(first.sizeBytes)
  const second = at === undefined ? undefined : copyAt(device, at)
  const isBehind = first !== undefined && second !== undefined && isLaterSuperblock(second, first)
  const superblock = isBehind ? second : (first ?? second)
  if (superblock === undefined) {
    yield nothingFound(firstPage)
    return
  }
  const geometry = followSuperblock(superblock, device.sizeBytes)
  if ('why' in geometry) {
    yield refused(geometry, device)
    return
  }
  const intruder = findIntruder(device, superblock, geometry)
  if (intruder !== undefined) {
    yield {
      code: 'foreign-owner',
      severity: 'error',
      place: { area: 'device', offset: intruder.offset },
      message: `the device holds ${nameBoth(intruder, superblock)}; repair with force takes it back for the volume`,
    }
    if (!inspection.takesBack && !inspection.isOpen) return
  }
  inspection.superblock = superblock
  inspection.geometry = geometry
  inspection.seed = volumeSeed(superblock.uuid)
  const tooNew = unwritable(superblock)
  if (tooNew !== undefined) yield tooNew
  const secondAt = geometry.superblockCopyAt
  if (first === undefined) {
    const opens = [SUPERBLOCK.read(firstPage).sizeBytes, device.sizeBytes].some(
      (end) => secondAt === secondSuperblockAt(end),
    )
    yield {
      code: 'superblock-damaged',
      severity: opens ? 'warning' : 'error',
      place: { area: 'superblock', copy: 0, offset: SUPERBLOCK_AT },
      message: opens
        ? 'the first superblock is damaged; the second serves'
        : `the first superblock is damaged; the second, at ${secondAt}, is neither where the first says nor at the device's end, where opening looks for it`,
      fixes: fixesOf('superblock-damaged', superblock, 0, SUPERBLOCK_AT),
    }
  } else if (isBehind) {
    const code = 'superblock-differs'
    yield {
      code,
      severity: 'warning',
      place: { area: 'superblock', copy: 0, offset: SUPERBLOCK_AT },
      message: 'the first superblock is older than the second: a crash came between the two',
      fixes: fixesOf(code, superblock, 0, SUPERBLOCK_AT),
    }
  } else if (second === undefined || !isSameSuperblock(first, second)) {
    const code = second === undefined ? 'superblock-damaged' : 'superblock-differs'
    yield {
      code,
      severity: 'warning',
      place: { area: 'superblock', copy: 1, offset: secondAt },
      message:
        second === undefined
          ? 'the second superblock is damaged; the first serves'
          : 'the second superblock is whole, but not the same as the first; the first counts',
      fixes: fixesOf(code, superblock, 1, secondAt),
    }
  }
}

function fixesOf(code: FindingCode, from: Superblock, copy: 0 | 1, offset: Offset): PlannedFix[] {
  // What this version may not write it does not repair either.
  if (unwritableFeatures(from) !== 0) return []
  const [to, other] = copy === 0 ? ['first', 'second'] : ['second', 'first']
  return [
    {
      code,
      place: { area: 'superblock', copy, offset },
      message: `the ${to} superblock is written from the ${other}`,
      drops: false,
      offset,
      bytes: encodeSuperblock({ ...from, copy }),
    },
  ]
}

function wholeCopy(page: Uint8Array, copy: 0 | 1): Superblock | undefined {
  const superblock = decodeSuperblock(page, copy)
  return typeof superblock === 'string' ? undefined : superblock
}

function copyAt(device: Readable, at: Offset): Superblock | undefined {
  if (at + PAGE_BYTES > device.sizeBytes) return undefined
  return wholeCopy(device.read(at, PAGE_BYTES), 1)
}

/** Where the second superblock of this volume is when the first does not say. */
function findSecond(device: Readable, firstPage: Uint8Array): Offset | undefined {
  const told = SUPERBLOCK.read(firstPage).sizeBytes
  const bounded = [...likelyTails(device, told), ...findTails(device)]
  // An older, larger volume may have left its end: the head's checkpoint header tells which one is of this.
  const found = newestTail(device, bounded)
  if (found !== undefined && isOfHead(device, found)) return found.offset
  if (!looksLikeHead(device, firstPage)) return found?.offset
  const everywhere = [...scan(device)]
  const one = newestTail(device, everywhere)
  if (one !== undefined && (isOfHead(device, one) || everywhere.length === 1)) return one.offset
  return found?.offset
}

/** Whether something of a volume's head is still to be seen: only then all of the device is read. */
function looksLikeHead(device: Readable, firstPage: Uint8Array): boolean {
  const { magic } = CHECKPOINT.read(device.read(CHECKPOINT_AT, CHECKPOINT.bytes))
  return hasMagic(firstPage) || magic === CHECKPOINT_MAGIC
}

function* scan(device: Readable): Iterable<Tail> {
  for (let from = 0; from < device.sizeBytes; from += MIB) {
    const bytes = device.read(from, Math.min(MIB, device.sizeBytes - from))
    for (let page = 0; page + PAGE_BYTES <= bytes.length; page += PAGE_BYTES) {
      if (!hasMagic(bytes, page)) continue
      const tail = tailIn(bytes.subarray(page, page + PAGE_BYTES), from + page)
      if (tail !== undefined) yield tail
    }
  }
}

function nothingFound(firstPage: Uint8Array): Problem {
  const place = { area: 'superblock', copy: 0, offset: SUPERBLOCK_AT } as const
  return decodeSuperblock(firstPage) === 'no-magic'
    ? {
        code: 'not-a-volume',
        severity: 'error',
        place,
        message: 'the device does not hold a plinth volume: no superblock was found',
      }
    : {
        code: 'superblock-damaged',
        severity: 'error',
        place,
        message: 'the first superblock is damaged and no second one was found',
      }
}

/** A volume that this version can read and not write is one that it does not open as usual. */
function unwritable(superblock: Superblock): Problem | undefined {
  const unknown = unwritableFeatures(superblock)
  if (unknown === 0) return undefined
  return {
    code: 'format-too-new',
    severity: 'warning',
    place: { area: 'superblock', offset: SUPERBLOCK_AT },
    message: `the volume has features (${unknown}) that this version cannot write: it opens with readOnly alone`,
  }
}

const REFUSED = {
  newer: 'format-too-new',
  older: 'format-too-old',
  restoring: 'restore-incomplete',
  impossible: 'geometry-impossible',
  truncated: 'device-truncated',
} as const

function refused({ why, message }: Refusal, { sizeBytes }: Readable): Problem {
  const place =
    why === 'truncated'
      ? ({ area: 'device', offset: sizeBytes } as const)
      : ({ area: 'superblock', offset: SUPERBLOCK_AT } as const)
  return { code: REFUSED[why], severity: 'error', place, message }
}
