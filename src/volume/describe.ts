/** What a volume tells of itself, from the parts that it has. */
import { type Geometry, metadataRuns } from '../layout/geometry.js'
import { HEAP_TYPE } from '../layout/heap.js'
import { heapNameOf, memberOf } from '../layout/heap-names.js'
import { formatUuid, labelOf, SUPERBLOCK_FLAG } from '../layout/superblock.js'
import { countersOf } from '../media/media.js'
import { areasOf } from './areas.js'
import type { ChunkInfo, VolumeInfo, VolumeStats } from './info.js'
import type { Loaded } from './load.js'

/** The last moment that a Date can hold, in milliseconds since 1970 (ECMAScript, Time Values and Time Range). */
const DATE_MAX = 8.64e15

export function infoOf(
  { path, kind, backend }: Pick<VolumeInfo, 'path' | 'kind' | 'backend'>,
  { superblock, geometry, lifecycle, growth }: Loaded,
): VolumeInfo {
  const label = labelOf(superblock)
  return {
    path,
    uuid: formatUuid(superblock.uuid),
    label: label === '' ? undefined : label,
    size: geometry.sizeBytes,
    granule: geometry.granuleBytes,
    growBy: superblock.growBytes === 0 ? undefined : superblock.growBytes,
    maxSize: maxSizeOf(growth?.maxBytes ?? superblock.maxBytes),
    layout: {
      logOffset: geometry.logAt,
      isLogChosen: (superblock.flags & SUPERBLOCK_FLAG.LOG_IS_CHOSEN) !== 0,
      tables: geometry.extents.map(({ slots, firstAt, secondAt }) => ({
        slots,
        first: firstAt,
        second: secondAt,
      })),
    },
    kind,
    granularity: lifecycle.media.granularity,
    backend,
    readOnly: lifecycle.readOnly,
    created: new Date(Math.min(superblock.created, DATE_MAX)),
  }
}

function maxSizeOf(bytes: number): number | undefined {
  if (bytes === 0) return undefined
  return bytes >= Number.MAX_SAFE_INTEGER ? Number.POSITIVE_INFINITY : bytes
}

export function statsOf({ geometry, table, log, store, lifecycle }: Loaded): VolumeStats {
  const { granuleBytes } = geometry
  const { free, longest, runs } = table.granules
  const granules = geometry.granules - geometry.dataAt / granuleBytes - metadataGranules(geometry)
  return {
    dataBytes: granules * granuleBytes,
    usedBytes: (granules - free - table.quarantined.size) * granuleBytes,
    freeBytes: free * granuleBytes,
    badBytes: table.quarantined.size * granuleBytes,
    largestFreeBytes: longest * granuleBytes,
    freeRuns: runs,
    fragmentation: free === 0 ? 0 : 1 - longest / free,
    chunks: table.chunks,
    logBytes: log.capacityBytes,
    logUsedBytes: log.usedBytes,
    areas: areasOf(geometry),
    checkpoints: log.checkpoints,
    warmBytes: store.warmBytes,
    counters: countersOf(lifecycle.media.counters),
  }
}

function metadataGranules(geometry: Geometry): number {
  return metadataRuns(geometry).reduce((sum, { length }) => sum + length, 0)
}

/** All chunks, lowest offset first. */
export function chunksOf({ table, geometry, lifecycle, recovery }: Loaded): ChunkInfo[] {
  const slots = table.slotsInOrder()
  const heaps = new Map<number, string>()
  for (const slot of slots) {
    const type = table.typeOf(slot)?.string
    if (type === undefined) continue
    const name = heapNameOf(table.nameStringOf(slot), type)
    if (name !== undefined) heaps.set(table.idOf(slot), name)
  }
  const { badBlocks } = lifecycle.media
  return slots.map((slot) => {
    const id = table.idOf(slot)
    const name = table.nameStringOf(slot)
    const type = table.typeOf(slot)?.string
    const offset = table.startOf(slot) * geometry.granuleBytes
    const size = table.granulesOf(slot) * geometry.granuleBytes
    const bad = badBlocks.inside(offset, size)
    const heap = heaps.get(id) ?? heaps.get(rootOf(name, type) ?? -1)
    return {
      id,
      name,
      type,
      offset,
      size,
      ...(heap !== undefined && { heap }),
      ...(bad.length > 0 && { badBlocks: bad }),
      ...(recovery.loss !== undefined && { unverified: true }),
    }
  })
}

/** Id of the root chunk of the heap that a chunk belongs to; undefined for a chunk of nobody's. */
function rootOf(name: string | undefined, type: string | undefined): number | undefined {
  if (name === undefined || (type !== HEAP_TYPE.SLAB && type !== HEAP_TYPE.LARGE)) return undefined
  return memberOf(name, type === HEAP_TYPE.LARGE)?.heap
}
