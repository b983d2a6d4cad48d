/** A state of the map that stays as it was. */
import { PlinthError, type Volume } from '../index.js'
import type { Entries } from './entries.js'
import type { Node } from './inner.js'
import { MapReader } from './reader.js'
import type { Hold } from './snapshot-tracker.js'
import type { Tree } from './tree.js'

export interface SnapshotParts {
  readonly volume: Volume
  readonly tree: Tree
  readonly entries: Entries
  /** Holds the present state, or once more that of a held version. */
  readonly hold: (version: number | undefined) => Hold
}

/**
 * The map as it was when the snapshot was taken. Reads as the map does, and holds the space of what is
 * overwritten or deleted meanwhile until `close`. It ends with the process: nothing of it survives a crash.
 */
export class MapSnapshot extends MapReader {
  readonly #root: Node
  readonly #parts: SnapshotParts
  readonly #held: Hold
  #isClosed = false

  /** @internal Snapshots come from the map. */
  constructor(parts: SnapshotParts) {
    super(parts.volume, parts.tree, parts.entries)
    this.#parts = parts
    this.#root = parts.tree.root
    this.#held = parts.hold(undefined)
  }

  /** @internal */
  protected override state(): Node {
    if (this.#isClosed) throw new PlinthError('ERR_SNAPSHOT_CLOSED', 'this snapshot was closed')
    this.#parts.volume.ensureUsable()
    return this.#root
  }

  /** @internal */
  protected override hold(): Hold {
    return this.#parts.hold(this.#held.version)
  }

  /** Lets go of the state. Cursors that were made of it go on. Safe to call twice. */
  close(): void {
    if (this.#isClosed) return
    this.#held.drop()
    this.#isClosed = true
  }

  /** The same as `close`, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}
