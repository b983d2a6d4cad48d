/** The granularity that a device is known to have, and the one that it is used with. */
import { PlinthError } from '../base/errors.js'
import { PAGE_BYTES } from '../base/units.js'
import type { Granularity } from '../media/media.js'
import { MAP, type NativeAddon } from '../native/addon.js'
import type { DeviceKind, Identity } from './identify.js'
import type { Persistence } from './persistence.js'

export interface Proof {
  /** The finest that loses nothing, as far as is known. */
  readonly granularity: Granularity
  /** Whether it is known, by what the kernel vouches for. */
  readonly isProven: boolean
  /** Why it is this one, in a sentence. */
  readonly why: string
}

/** Whether the kernel vouches for a file's mapping: MAP_SYNC with MAP_SHARED_VALIDATE works on DAX alone. */
export function mapsSync(
  fd: number,
  { kind, sizeBytes }: Identity,
  addon: NativeAddon | undefined,
): boolean {
  if (kind !== 'file' || addon === undefined || sizeBytes < PAGE_BYTES) return false
  try {
    addon.unmap(addon.map(fd, 0, PAGE_BYTES, MAP.SYNC | MAP.READ_ONLY))
    return true
  } catch {
    return false
  }
}

export function proveGranularity(kind: DeviceKind, persistence: Persistence): Proof {
  const proof = (granularity: Granularity, isProven: boolean, why: string): Proof => ({
    granularity,
    isProven,
    why,
  })
  if (kind === 'block' || kind === 'file') {
    return proof(
      'page',
      true,
      'it is reached through the page cache: writes and barriers of the kernel',
    )
  }
  if (kind === 'tmpfs') {
    return proof('page', true, 'it is ordinary memory: nothing on it survives a power loss at all')
  }
  if (persistence === 'cpu_cache') {
    return proof('byte', true, 'the platform saves processor caches at a power loss (eADR)')
  }
  if (persistence === 'memory_controller') {
    return proof(
      'cache-line',
      true,
      'what has left the processor caches survives a power loss (ADR)',
    )
  }
  if (kind === 'fsdax') {
    return proof(
      'cache-line',
      true,
      'MAP_SYNC works; that caches are saved is not said, so they are flushed',
    )
  }
  return persistence === 'unsaid'
    ? proof('cache-line', false, 'the firmware does not say what it saves, so caches are flushed')
    : proof('cache-line', false, 'nothing says that this memory survives a power loss')
}

/**
 * The granularity to use: the proven one, or another that was asked for and loses nothing. What may lose
 * something goes by `unsafeGranularity` alone.
 * @throws PlinthError ERR_GRANULARITY
 */
export function chooseGranularity(
  kind: DeviceKind,
  persistence: Persistence,
  wanted: {
    readonly granularity?: Granularity | undefined
    readonly unsafeGranularity?: Granularity | undefined
    readonly readOnly: boolean
  },
): Granularity {
  const known = proveGranularity(kind, persistence)
  const asked = wanted.unsafeGranularity ?? wanted.granularity ?? known.granularity
  if (kind === 'dax' && asked === 'page') {
    throw refused(asked, 'device-dax has no write and no barrier of the kernel')
  }
  if (wanted.unsafeGranularity !== undefined) return asked
  if (kind === 'dax' && persistence === 'none' && !wanted.readOnly) {
    throw refused(asked, `${known.why}; the option unsafeGranularity takes your word for it`)
  }
  // Whatever is asked of tmpfs, a power loss takes all of it: the way of persistent memory may be tried there.
  if (kind === 'tmpfs' || ORDER[asked] >= ORDER[known.granularity]) return asked
  throw refused(asked, `it has '${known.granularity}', as a device of kind '${kind}': ${known.why}`)
}

/** What is safe on one is safe on those before it. */
const ORDER = { byte: 0, 'cache-line': 1, page: 2 } as const

function refused(granularity: Granularity, why: string): PlinthError {
  return new PlinthError(
    'ERR_GRANULARITY',
    `granularity '${granularity}' would lose data on this device: ${why}`,
  )
}
