/**
 * An ordered map on a volume.
 *
 * @module plinth/map
 */
export type { Cursor } from './cursor.js'
export type { MapOperation } from './operation.js'
export { type MapOptions, OrderedMap } from './ordered-map.js'
export type { Range } from './range.js'
export type { MapSnapshot } from './snapshot.js'
