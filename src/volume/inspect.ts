/** Check and repair of a volume that nobody has open: it need not be one that can be opened. */

import { PlinthError } from '../base/errors.js'
import { checkDevice } from '../check/check.js'
import type { Finding } from '../check/finding.js'
import type { Readable } from '../check/inspection.js'
import {
  applyFixes,
  chooseFixes,
  type RepairOptions,
  type RepairReport,
  remainingAfter,
} from '../check/repair.js'
import { Device } from '../device/device.js'
import type { Media } from '../media/media.js'
import { mapAreas, mappingsOf } from './areas.js'
import { parseRepairOptions } from './options.js'

/** Repairing ends by itself; this is for a device that does not keep what is written. */
const PASSES_MAX = 100

export function checkAt(path: string): Finding[] {
  const device = new Device({ path, readOnly: true })
  try {
    device.dropCache()
    return checkDevice(device).findings
  } finally {
    device.close()
  }
}

export function repairAt(path: string, options: RepairOptions | undefined): RepairReport {
  const parsed = parseRepairOptions(options)
  const device = new Device({ path, readOnly: parsed.dryRun })
  try {
    device.dropCache()
    return repairDevice(
      {
        device,
        alignBytes: device.alignBytes,
        openMedia: (sizeBytes) => device.media(sizeBytes),
      },
      parsed,
    )
  } finally {
    device.close()
  }
}

/** What is repaired: a device, or an image in a test. */
export interface Repairable {
  readonly device: Readable
  readonly alignBytes: number
  /** Media to write through; asked for when there is something to write. */
  openMedia(sizeBytes: number): Media
}

export function repairDevice(
  { device, alignBytes, openMedia }: Repairable,
  { dryRun, dropDamaged, force }: { dryRun: boolean; dropDamaged: boolean; force: boolean },
): RepairReport {
  const { findings, fixes: possible, inspection } = checkDevice(device, undefined, force)
  const foreign = findings.find(({ code }) => code === 'foreign-owner')
  if (foreign !== undefined && !force && !dryRun) {
    throw new PlinthError('ERR_DEVICE_IN_USE', foreign.message)
  }
  const fixes = chooseFixes(possible, dropDamaged)
  let remaining: Finding[]
  if (dryRun || fixes.length === 0) {
    // What takes the device back is every fix together.
    const others = findings.filter((each) => each !== foreign || fixes.length === 0)
    remaining = remainingAfter(others, fixes)
  } else {
    const geometry = inspection.geometry!
    const media = openMedia(geometry.sizeBytes)
    const metadata = mappingsOf(mapAreas(media, geometry, inspection.seed, alignBytes))
    applyFixes(media, metadata, geometry, fixes)
    // What was repaired may show more to repair: behind a record of the log there are others.
    for (let pass = 1; ; pass++) {
      const checked = checkDevice(device, undefined, force)
      const more = chooseFixes(checked.fixes, dropDamaged)
      remaining = checked.findings
      if (more.length === 0 || pass === PASSES_MAX) break
      applyFixes(media, metadata, geometry, more)
      for (const fix of more) fixes.push(fix)
    }
  }
  const done = fixes.map(({ code, place, message, drops }) => ({ code, place, message, drops }))
  return { dryRun, findings, fixes: done, remaining }
}
