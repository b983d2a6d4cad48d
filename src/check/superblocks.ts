/**
 * The superblocks: both copies, and the volume that they describe.
 *
 * Opening a volume finds the second copy by the first, or at the device's end. Here it is looked for
 * further: where the damaged first copy still says, and in the last resort everywhere, so that a
 * volume smaller than its device can be brought back too. Without a sign of a head the search is bounded.
 */
import { crc32c } from '../base/checksum.js'
import { alignDown, MIB, type Offset, PAGE_BYTES } from '../base/units.js'
import { ANCHOR, ANCHOR_MAGIC, decodeAnchor } from '../layout/anchor.js'
import { ANCHOR_AT, geometryOf, SUPERBLOCK_AT } from '../layout/geometry.js'
import {
  decodeSuperblock,
  FEATURES_KNOWN,
  FORMAT_VERSION,
  INCOMPATIBLE,
  MAGIC,
  SUPERBLOCK,
  type Superblock,
  volumeSeed,
} from '../layout/superblock.js'
import type { FindingCode, PlannedFix, Problem } from './finding.js'
import type { Inspection, Readable } from './inspection.js'
import { findIntruder, nameBoth } from './intruder.js'
import { findTails } from './tails.js'

/** A whole copy, and the page it was read from. */
interface Copy {
  readonly superblock: Superblock
  readonly page: Uint8Array
}

export function* checkSuperblocks(inspection: Inspection): Iterable<Problem> {
  const { device } = inspection
  if (device.sizeBytes < 2 * PAGE_BYTES) {
    yield nothingFound(new Uint8Array(PAGE_BYTES))
    return
  }
  const firstPage = device.read(SUPERBLOCK_AT, PAGE_BYTES)
  const first = wholeCopy(firstPage, 0)
  const at = first === undefined ? findSecond(device, firstPage) : secondPlace(first.superblock)
  const second = at === undefined ? undefined : copyAt(device, at)
  const whole = first ?? second
  if (whole === undefined) {
    yield nothingFound(firstPage)
    return
  }
  const { superblock } = whole
  const problem = refusal(superblock, device)
  if (problem !== undefined) {
    yield problem
    return
  }
  const geometry = geometryOf(superblock)!
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
    const opens = secondAt === endOf(device)
    yield {
      code: 'superblock-damaged',
      severity: opens ? 'warning' : 'error',
      place: { area: 'superblock', copy: 0, offset: SUPERBLOCK_AT },
      message: opens
        ? 'the first superblock is damaged; the second serves'
        : `the first superblock is damaged; the second, at ${secondAt}, is not at the device's end, where opening looks for it`,
      fixes: fixesOf('superblock-damaged', whole, 0, SUPERBLOCK_AT),
    }
  } else if (second === undefined || !isSame(first, second)) {
    const code = second === undefined ? 'superblock-damaged' : 'superblock-differs'
    yield {
      code,
      severity: 'warning',
      place: { area: 'superblock', copy: 1, offset: secondAt },
      message:
        second === undefined
          ? 'the second superblock is damaged; the first serves'
          : 'the second superblock is whole, but not the same as the first; the first counts',
      fixes: fixesOf(code, whole, 1, secondAt),
    }
  }
}

function fixesOf(code: FindingCode, from: Copy, copy: 0 | 1, offset: Offset): PlannedFix[] {
  const { readOnlyCompatible } = from.superblock
  // What this version may not write it does not repair either.
  if ((readOnlyCompatible & ~FEATURES_KNOWN.readOnlyCompatible) !== 0) return []
  const [to, other] = copy === 0 ? ['first', 'second'] : ['second', 'first']
  return [
    {
      code,
      place: { area: 'superblock', copy, offset },
      message: `the ${to} superblock is written from the ${other}`,
      drops: false,
      offset,
      bytes: pageFor(copy, from.page),
    },
  ]
}

/** The page as it is for that copy. */
function pageFor(copy: 0 | 1, of: Uint8Array): Uint8Array {
  const page = of.slice()
  const view = new DataView(page.buffer)
  view.setUint32(SUPERBLOCK.fields.copy[0], copy, true)
  view.setUint32(SUPERBLOCK.fields.checksum[0], 0, true)
  view.setUint32(SUPERBLOCK.fields.checksum[0], crc32c(0, page), true)
  return page
}

function isSame(first: Copy, second: Copy): boolean {
  return Buffer.compare(pageFor(0, first.page), pageFor(0, second.page)) === 0
}

function wholeCopy(page: Uint8Array, copy: 0 | 1): Copy | undefined {
  const superblock = decodeSuperblock(page)
  return typeof superblock !== 'string' && superblock.copy === copy
    ? { superblock, page }
    : undefined
}

function endOf(device: Readable): Offset {
  return alignDown(device.sizeBytes, PAGE_BYTES) - PAGE_BYTES
}

function secondPlace({ sizeBytes }: Superblock): Offset | undefined {
  const at = alignDown(sizeBytes, PAGE_BYTES) - PAGE_BYTES
  return Number.isSafeInteger(at) && at >= PAGE_BYTES ? at : undefined
}

function copyAt(device: Readable, at: Offset): Copy | undefined {
  if (at < PAGE_BYTES || at + PAGE_BYTES > device.sizeBytes) return undefined
  return wholeCopy(device.read(at, PAGE_BYTES), 1)
}

/** Where the second superblock of this volume is when the first does not say. */
function findSecond(device: Readable, firstPage: Uint8Array): Offset | undefined {
  const told = SUPERBLOCK.read(firstPage).sizeBytes
  const likely = [endOf(device), alignDown(told, PAGE_BYTES) - PAGE_BYTES]
  const found = likely.filter((at) => Number.isSafeInteger(at) && describesPlace(device, at))
  // An older, larger volume may have left its end: the head's anchor tells which one is of this.
  const ofHead = found.find((at) => anchorPasses(device, at))
  if (ofHead !== undefined) return ofHead
  if (found.length > 0) return found[0]
  if (!looksLikeHead(device, firstPage)) return findTails(device).next().value?.offset
  const everywhere = [...scan(device)]
  const one = everywhere.filter((at) => anchorPasses(device, at))
  return one[0] ?? (everywhere.length === 1 ? everywhere[0] : undefined)
}

/** Whether a second superblock is there that belongs to just this place. */
function describesPlace(device: Readable, at: Offset): boolean {
  return copyAt(device, at)?.superblock.sizeBytes === at + PAGE_BYTES
}

/** Whether the anchor at the head is of the volume whose second superblock is at this place. */
function anchorPasses(device: Readable, at: Offset): boolean {
  const uuid = copyAt(device, at)!.superblock.uuid
  return decodeAnchor(device.read(ANCHOR_AT, ANCHOR.bytes), volumeSeed(uuid)) !== undefined
}

/** Whether something of a volume's head is still to be seen: only then all of the device is read. */
function looksLikeHead(device: Readable, firstPage: Uint8Array): boolean {
  const { magic } = ANCHOR.read(device.read(ANCHOR_AT, ANCHOR.bytes))
  return hasMagic(firstPage, 0) || magic === ANCHOR_MAGIC
}

function* scan(device: Readable): Iterable<Offset> {
  for (let from = 0; from < device.sizeBytes; from += MIB) {
    const bytes = device.read(from, Math.min(MIB, device.sizeBytes - from))
    for (let page = 0; page + PAGE_BYTES <= bytes.length; page += PAGE_BYTES) {
      if (hasMagic(bytes, page) && describesPlace(device, from + page)) yield from + page
    }
  }
}

function hasMagic(bytes: Uint8Array, at: number): boolean {
  return MAGIC.every((byte, i) => bytes[at + i] === byte)
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
function unwritable({ readOnlyCompatible }: Superblock): Problem | undefined {
  const unknown = readOnlyCompatible & ~FEATURES_KNOWN.readOnlyCompatible
  if (unknown === 0) return undefined
  return {
    code: 'format-too-new',
    severity: 'warning',
    place: { area: 'superblock', offset: SUPERBLOCK_AT },
    message: `the volume has features (${unknown >>> 0}) that this version cannot write: it opens with readOnly alone`,
  }
}

/** Why a whole superblock cannot be followed. */
function refusal(superblock: Superblock, device: Readable): Problem | undefined {
  const place = { area: 'superblock', offset: SUPERBLOCK_AT } as const
  const unknown = superblock.incompatible & ~FEATURES_KNOWN.incompatible
  if (superblock.version !== FORMAT_VERSION || unknown !== 0) {
    return {
      code: 'format-too-new',
      severity: 'error',
      place,
      message: `the volume has format ${superblock.version} with features ${unknown}; this version knows format ${FORMAT_VERSION}`,
    }
  }
  if ((superblock.incompatible & INCOMPATIBLE.RESTORING) !== 0) {
    return {
      code: 'restore-incomplete',
      severity: 'error',
      place,
      message: 'a restore to this volume did not end; restore it again',
    }
  }
  const geometry = geometryOf(superblock)
  if (geometry === undefined) {
    return {
      code: 'geometry-impossible',
      severity: 'error',
      place,
      message: 'the superblock describes an impossible volume',
    }
  }
  if (device.sizeBytes < geometry.sizeBytes) {
    return {
      code: 'device-truncated',
      severity: 'error',
      place: { area: 'device', offset: device.sizeBytes },
      message: `the device has ${device.sizeBytes} bytes, the volume ${geometry.sizeBytes}: it was truncated, or copied in part`,
    }
  }
  return undefined
}
