/** What `Volume.probe` tells: the device, what is on it, and what to do next. */
import { PlinthError } from '../base/errors.js'
import type { DeviceKind } from '../device/identify.js'
import { type DeviceProbe, probeDevice } from '../device/probe.js'
import { MAGIC } from '../layout/superblock.js'
import type { Granularity } from '../media/media.js'
import { findSuperblock } from './load.js'

export interface Probe {
  readonly path: string
  readonly kind: DeviceKind
  /** Bytes of the device. */
  readonly size: number
  /** What its mappings must be aligned to, in bytes. */
  readonly align: number
  /** The unit in which stores become durable on it. */
  readonly granularity: Granularity
  /** Whether a writer has it open, or it is mounted. */
  readonly busy: boolean
  /** What is on it, in words; undefined for zeros. */
  readonly contents: string | undefined
  /** The volume on it, when there is one that can be opened by this version. */
  readonly volume:
    | { readonly size: number; readonly granule: number; readonly label: string }
    | undefined
  /** What to do next. */
  readonly advice: string
}

export function probe(path: string): Probe {
  const device = probeDevice(path, MAGIC)
  try {
    const { kind, sizeBytes, alignBytes, granularity, busy, contents } = device
    const found = findVolume(device, path)
    const volume = found instanceof PlinthError ? undefined : found
    return {
      path,
      kind,
      size: sizeBytes,
      align: alignBytes,
      granularity,
      busy,
      contents,
      volume,
      advice: advise(path, busy, contents, found),
    }
  } finally {
    device.close()
  }
}

function findVolume(device: DeviceProbe, path: string): NonNullable<Probe['volume']> | PlinthError {
  try {
    const { superblock, geometry } = findSuperblock(device, path, true)
    return {
      size: geometry.sizeBytes,
      granule: geometry.granuleBytes,
      label: Buffer.from(superblock.label).toString('utf8').replace(/\0+$/, ''),
    }
  } catch (error) {
    if (error instanceof PlinthError) return error
    throw error
  }
}

function advise(
  path: string,
  busy: boolean,
  contents: string | undefined,
  found: NonNullable<Probe['volume']> | PlinthError,
): string {
  const quoted = JSON.stringify(path)
  if (busy) return 'it is in use: close the volume, or unmount it'
  if (!(found instanceof PlinthError)) return `Volume.open(${quoted})`
  if (found.code !== 'ERR_NOT_A_VOLUME') return `${found.code}: ${found.message}`
  if (contents === undefined) return `Volume.format(${quoted})`
  return `it holds ${contents}; Volume.format(${quoted}, { force: true }) overwrites that`
}
