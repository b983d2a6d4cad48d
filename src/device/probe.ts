/** Looking at a device without changing it: what it is, whether somebody has it. */
import fs from 'node:fs'
import type { BadBlocks } from '../media/bad-blocks.js'
import { loadAddon } from '../native/load.js'
import { whyCopiedOnWrite } from './file-space.js'
import { mapsSync, type Proof, proveGranularity } from './granularity.js'
import { type DeviceKind, identify } from './identify.js'
import { knownBad } from './known-bad.js'
import { openOrThrow, pathOf } from './open.js'
import { type Owner, ownerOf } from './owner.js'
import { namespaceOf, type Persistence } from './persistence.js'
import { readBytes } from './read.js'
import type { Evidence } from './sysfs.js'

export interface DeviceProbe {
  readonly kind: DeviceKind
  readonly sizeBytes: number
  readonly alignBytes: number
  readonly persistence: Persistence
  readonly proof: Proof
  /** What was looked at, and what it said. */
  readonly evidence: readonly Evidence[]
  readonly badBlocks: BadBlocks
  /** The namespace of persistent memory that it is, as ndctl names it; undefined for none. */
  readonly namespace: string | undefined
  readonly owner: Owner
  /** Why overwriting it takes new space; undefined when it does not. */
  readonly copiedOnWrite: string | undefined
  /** Bytes of it. */
  read(offset: number, length: number): Uint8Array
  close(): void
}

/**
 * @throws PlinthError ERR_DEVICE_MISSING, ERR_DEVICE_KIND, ERR_DEVICE_IO, ERR_BAD_BLOCKS
 */
export function probeDevice(path: string): DeviceProbe {
  identify(path)
  const addon = loadAddon()
  const fd = openOrThrow(path, fs.constants.O_RDONLY)
  try {
    const identity = identify(path, fd)
    const { sizeBytes, alignBytes, node } = identity
    const isSync = mapsSync(fd, identity, addon)
    const kind: DeviceKind = isSync ? 'fsdax' : identity.kind
    const { badBlocks, evidence } = knownBad(path, identity, fd, addon)
    const read = (offset: number, length: number) =>
      readBytes(fd, { path, kind, sizeBytes, alignBytes, badBlocks }, addon, offset, length)
    return {
      kind,
      sizeBytes,
      alignBytes,
      persistence: identity.persistence,
      proof: proveGranularity(kind, identity.persistence),
      evidence: [
        ...identity.evidence,
        ...(identity.kind === 'file' ? [mappingEvidence(isSync, addon !== undefined)] : []),
        ...evidence,
      ],
      badBlocks,
      namespace: node === undefined ? undefined : namespaceOf(node),
      owner: ownerOf(path, fd, identity, addon),
      copiedOnWrite: kind === 'file' ? whyCopiedOnWrite(pathOf(fd, path), fd, addon) : undefined,
      read,
      close: () => fs.closeSync(fd),
    }
  } catch (error) {
    fs.closeSync(fd)
    throw error
  }
}

function mappingEvidence(isSync: boolean, hasAddon: boolean): Evidence {
  const says = isSync
    ? 'the kernel accepts it'
    : hasAddon
      ? 'refused'
      : 'not tried: no native addon'
  return { of: 'granularity', source: 'mmap with MAP_SHARED_VALIDATE and MAP_SYNC', says }
}
