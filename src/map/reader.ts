/** Reading one state of the map: the present one (OrderedMap) or one that is held (MapSnapshot). */
import type { Volume } from '../index.js'
import { Cursor } from './cursor.js'
import type { Entries } from './entries.js'
import type { Node } from './inner.js'
import { Path } from './path.js'
import { Bounds, checkKey, checkTarget, type Range } from './range.js'
import type { Hold } from './snapshot-tracker.js'
import type { Tree } from './tree.js'

export abstract class MapReader {
  readonly #volume: Volume
  readonly #tree: Tree
  readonly #entries: Entries
  readonly #path = new Path()

  /** @internal */
  constructor(volume: Volume, tree: Tree, entries: Entries) {
    this.#volume = volume
    this.#tree = tree
    this.#entries = entries
  }

  /** @internal The root of the state; throws when it cannot be read any more. */
  protected abstract state(): Node
  /** @internal Keeps the state as it is. */
  protected abstract hold(): Hold

  /**
   * A copy of the value of this key, which nobody else has; undefined for none.
   * @throws TypeError, RangeError for what is no key; PlinthError ERR_VOLUME_CLOSED, ERR_VOLUME_FAILED,
   *   ERR_REENTRANT, ERR_VOLUME_CORRUPT
   */
  get(key: Uint8Array): Uint8Array | undefined {
    const pointer = this.find(key, checkKey(key))
    return pointer === 0 ? undefined : this.#entries.value(pointer)
  }

  /**
   * Copies the value of this key to the start of `target`, as much as fits. Returns the length of the whole
   * value, -1 when there is none. Allocates nothing.
   */
  getInto(key: Uint8Array, target: Uint8Array): number {
    const keyBytes = checkKey(key)
    const targetBytes = checkTarget(target)
    const pointer = this.find(key, keyBytes)
    return pointer === 0 ? -1 : this.#entries.valueInto(pointer, target, targetBytes)
  }

  /** Whether there is an entry with this key. */
  has(key: Uint8Array): boolean {
    return this.find(key, checkKey(key)) !== 0
  }

  /** @internal The entry with this key, 0 for none. */
  protected find(key: Uint8Array, keyBytes: number): number {
    return this.search(this.#entries.takeKey(key, keyBytes))
  }

  /** @internal The same in the tree; nobody else has the key. */
  protected search(key: Uint8Array): number {
    const root = this.state()
    this.#tree.begin()
    const leaf = this.#tree.trace(root, key, this.#path)
    const index = leaf.search(key, this.#entries)
    return index < 0 ? 0 : leaf.pointerAt(index)
  }

  /** A cursor before the first entry of a range. It holds this state until it is closed. */
  cursor(range?: Range): Cursor {
    return this.cursorOf(new Bounds(range))
  }

  /** @internal */
  protected cursorOf(bounds: Bounds): Cursor {
    const root = this.state()
    return new Cursor({
      volume: this.#volume,
      tree: this.#tree,
      entries: this.#entries,
      root,
      bounds,
      hold: this.hold(),
    })
  }

  /**
   * Keys and values of a range, in order, as they are at the first step: what is written while it
   * runs is not seen. Copies.
   */
  entries(range?: Range): Generator<[key: Uint8Array, value: Uint8Array], void, undefined> {
    return this.#walk(range, entryAt)
  }

  /** Keys of a range, as `entries`. */
  keys(range?: Range): Generator<Uint8Array, void, undefined> {
    return this.#walk(range, keyAt)
  }

  /** Values of a range, as `entries`. */
  values(range?: Range): Generator<Uint8Array, void, undefined> {
    return this.#walk(range, valueAt)
  }

  *#walk<T>(range: Range | undefined, take: (at: Cursor) => T): Generator<T, void, undefined> {
    const cursor = this.cursor(range)
    try {
      while (cursor.next()) {
        const taken = take(cursor)
        // Whoever has all that was asked for mostly does not come again to hear that there is no more.
        if (cursor.isLast) cursor.close()
        yield taken
      }
    } finally {
      cursor.close()
    }
  }

  /** How many entries a range has. Goes through them, and reads no entry. */
  count(range?: Range): number {
    const cursor = this.cursor(range)
    let count = 0
    try {
      while (cursor.next()) count++
    } finally {
      cursor.close()
    }
    return count
  }
}

function entryAt(cursor: Cursor): [key: Uint8Array, value: Uint8Array] {
  return cursor.entry
}

function keyAt(cursor: Cursor): Uint8Array {
  return cursor.key
}

function valueAt(cursor: Cursor): Uint8Array {
  return cursor.value
}
