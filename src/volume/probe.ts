/** What `Volume.probe` tells: the device, what is on it, and what to do next. */
import { PlinthError } from '../base/errors.js'
import type { DeviceKind } from '../device/identify.js'
import { type DeviceProbe, probeDevice } from '../device/probe.js'
import type { Evidence } from '../device/sysfs.js'
import { labelOf } from '../layout/superblock.js'
import type { Granularity } from '../media/media.js'
import { type Contents, readContents } from './contents.js'
import type { Found } from './superblocks.js'

export type { Evidence }

/** What `Volume.probe` found. */
export interface Probe {
  readonly path: string
  readonly kind: DeviceKind
  /** Bytes of the device. */
  readonly size: number
  /** What its mappings must be aligned to, in bytes. */
  readonly align: number
  /** The unit in which stores become durable on it: the safe one, where it is not proven. */
  readonly granularity: Granularity
  /** Whether the kernel vouches for it. */
  readonly granularityIsProven: boolean
  /** Why it is this one, in a sentence. */
  readonly granularityBecause: string
  /** What was looked at, and what it said. */
  readonly evidence: readonly Evidence[]
  /** Stretches that the kernel knows to be bad, rounded to pages: bytes from the device's start. */
  readonly badBlocks: readonly { readonly offset: number; readonly length: number }[]
  /** Whether a writer has it open, or it is mounted. */
  readonly busy: boolean
  /** Who has it, in words; undefined when nobody has, or it cannot be told. */
  readonly owner: string | undefined
  /** What is on it, in words; undefined for zeros. */
  readonly contents: string | undefined
  /** The volume on it, when there is one that can be opened by this version. */
  readonly volume:
    | { readonly size: number; readonly granule: number; readonly label: string }
    | undefined
  /** What to do next: a call, a command for the shell, or what is wrong. */
  readonly advice: string
  /** What else to know: lines for people, usually none. */
  readonly notes: readonly string[]
}

export function probe(path: string): Probe {
  const device = probeDevice(path)
  try {
    const { kind, sizeBytes, alignBytes, proof, evidence, badBlocks, owner } = device
    const contents = readContents(device, path)
    const { volume } = contents
    return {
      path,
      kind,
      size: sizeBytes,
      align: alignBytes,
      granularity: proof.granularity,
      granularityIsProven: proof.isProven,
      granularityBecause: proof.why,
      evidence,
      badBlocks: badBlocks.stretches,
      busy: owner.busy,
      owner: owner.who,
      contents: contents.what,
      volume: volume instanceof PlinthError ? undefined : summaryOf(volume),
      advice: advise(path, device, contents),
      notes: [...notesOf(device), ...(volume instanceof PlinthError ? [] : roomOf(volume, device))],
    }
  } finally {
    device.close()
  }
}

function summaryOf({ superblock, geometry }: Found): NonNullable<Probe['volume']> {
  return {
    size: geometry.sizeBytes,
    granule: geometry.granuleBytes,
    label: labelOf(superblock),
  }
}

function advise(path: string, device: DeviceProbe, { volume, what }: Contents): string {
  const { owner } = device
  const quoted = JSON.stringify(path)
  if (owner.busy) {
    if (owner.who?.startsWith('mounted at ')) return `umount ${path}`
    return `it is in use${owner.who === undefined ? '' : ` (${owner.who})`}: close the volume`
  }
  if (!(volume instanceof PlinthError)) return `Volume.open(${quoted})`
  if (volume.code !== 'ERR_NOT_A_VOLUME') return `${volume.code}: ${volume.message}`
  const wanted = isDurable(device) ? [] : ["unsafeGranularity: 'cache-line'"]
  if (what !== undefined) wanted.unshift('force: true')
  const call = `Volume.format(${quoted}${wanted.length === 0 ? '' : `, { ${wanted.join(', ')} }`})`
  return what === undefined ? call : `it holds ${what}; ${call} overwrites that`
}

/** Whether format and open take the device as it is. */
function isDurable({ kind, persistence }: DeviceProbe): boolean {
  return kind !== 'dax' || persistence !== 'none'
}

/** What the device has behind the volume. */
function roomOf({ geometry }: Found, { sizeBytes }: DeviceProbe): string[] {
  const more = sizeBytes - geometry.sizeBytes
  if (more < geometry.granuleBytes) return []
  return [`the device has ${more} bytes behind the volume: Volume.grow() takes them`]
}

function notesOf(device: DeviceProbe): string[] {
  const { kind, proof, badBlocks, namespace, alignBytes, copiedOnWrite } = device
  const notes: string[] = []
  if (!proof.isProven) notes.push(`granularity '${proof.granularity}' is not proven: ${proof.why}`)
  if (!isDurable(device)) notes.push('format and open refuse it without unsafeGranularity')
  if (kind === 'block' && namespace !== undefined) {
    notes.push(
      `it is persistent memory behind the page cache; as a DAX device, without what is on it: ` +
        `ndctl create-namespace --force --reconfig=${namespace} --mode=devdax`,
    )
  }
  if (!badBlocks.isEmpty) {
    notes.push(
      `${badBlocks.bytes} bytes are known to be bad: format keeps off them, chunks that have them are refused` +
        (namespace === undefined
          ? ''
          : `; to clear them, when nothing there is wanted any more: ndctl clear-errors ${namespace}`),
    )
  }
  if (copiedOnWrite !== undefined) {
    notes.push(`${copiedOnWrite}: on a full filesystem a volume in this file fails`)
  }
  if (kind === 'dax' && alignBytes > 2 ** 21) {
    notes.push(`mappings are aligned to ${alignBytes} bytes, so granules are as large`)
  }
  return notes
}
