/** A snapshot of the map as the token that `abstract-level` passes to reads. */
import { AbstractSnapshot } from 'abstract-level'
import type { MapSnapshot } from '../../map/index.js'

/** The base class takes its options, which its types leave out. */
const Base = AbstractSnapshot as new (options: object) => AbstractSnapshot

export class LevelSnapshot extends Base {
  readonly map: MapSnapshot
  isClosed = false

  constructor(map: MapSnapshot, options: object) {
    super(options)
    this.map = map
  }

  async _close(): Promise<void> {
    this.isClosed = true
    this.map.close()
  }
}
