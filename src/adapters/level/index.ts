/**
 * An `abstract-level` database on a volume.
 *
 * @module plinth/level
 */
export {
  type PlinthBatchOptions,
  type PlinthDelOptions,
  PlinthLevel,
  type PlinthLevelOptions,
  type PlinthPutOptions,
  type WriteOptions,
} from './plinth-level.js'
