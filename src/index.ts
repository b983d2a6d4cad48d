/**
 * Volumes, chunks, heaps, transactions: the public names, one by one.
 *
 * @module plinth
 */
export type { Chunk } from './allocator/chunk.js'
export type { AllocateOptions } from './allocator/chunk-store.js'
export { ERROR_CODES, type ErrorCode, PlinthError } from './base/errors.js'
export { printable } from './base/printable.js'
export type { Offset } from './base/units.js'
export {
  type Area,
  FINDING_CODES,
  type Finding,
  type FindingCode,
  type Fix,
  formatFindings,
  type Place,
  type Severity,
} from './check/finding.js'
export { formatRepair, type RepairOptions, type RepairReport } from './check/repair.js'
export { type Environment, environment } from './device/environment.js'
export type { DeviceKind } from './device/identify.js'
export type { Backend } from './device/mapper.js'
export type { VolumeRange } from './device/residency.js'
export type { Heap } from './heap/heap.js'
export type { HeapOptions } from './heap/heap-directory.js'
export type { ClassStats, HeapStats } from './heap/heap-stats.js'
export type { ObjectReader } from './heap/object-reader.js'
export type { Operation, OperationEvent, OperationMessage } from './log/diagnostics.js'
export type { Participant } from './log/transaction-context.js'
export type { Counters, Granularity } from './media/media.js'
export type { Transaction } from './transaction/transaction.js'
export type { VolumeArea } from './volume/areas.js'
export type { ChunkInfo, VolumeInfo, VolumeLayout, VolumeStats } from './volume/info.js'
export type { Recovery, RecoveryLoss } from './volume/load.js'
export type { FormatOptions, OpenOptions, WipeOptions } from './volume/options.js'
export type { Evidence, Probe } from './volume/probe.js'
export type { RestoreOptions } from './volume/restore.js'
export { type Restore, Volume } from './volume/volume.js'
