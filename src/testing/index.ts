/**
 * The crash lab for authors of engines.
 *
 * @module plinth/testing
 */
export {
  type CrashReport,
  type CrashTest,
  CrashTestError,
  crashTest,
  type NeedlessFlush,
  type Unflushed,
} from './crash-test.js'
export { Random } from './random.js'
export type { Model } from './simulated-media.js'
export { SimulatedMedia } from './simulated-media.js'
export { type ImageOptions, makeImage, openSimulated } from './simulated-volume.js'
