/** The public names, one by one. */
export type { Chunk } from './allocator/chunk.js'
export type { AllocateOptions } from './allocator/chunk-store.js'
export { ERROR_CODES, type ErrorCode, PlinthError } from './base/errors.js'
export {
  FINDING_CODES,
  type Finding,
  type FindingCode,
  type Fix,
  formatFindings,
  type Place,
  type Severity,
} from './check/finding.js'
export { formatRepair, type RepairOptions, type RepairReport } from './check/repair.js'
export type { DeviceKind } from './device/identify.js'
export type { Backend } from './device/mapper.js'
export type { Heap } from './heap/heap.js'
export type { ClassStats, HeapStats } from './heap/heap-stats.js'
export type { HeapOptions } from './heap/heaps.js'
export type { Granularity } from './media/media.js'
export type { Transaction } from './transaction/transaction.js'
export type { Recovery } from './volume/load.js'
export type { FormatOptions, OpenOptions } from './volume/options.js'
export type { Probe } from './volume/probe.js'
export { type ChunkInfo, Volume, type VolumeInfo, type VolumeStats } from './volume/volume.js'
