/** Of a state: what is in it stays until `drop`. */
export interface Hold {
  readonly version: number
  /** The state was that of a transaction which was rolled back. */
  readonly isLost: boolean
  drop(): void
}

/** Which states of the map somebody holds, by version: what they see must stay. */
export class SnapshotTracker {
  /** Of states that only the transaction under way has. */
  readonly #within: { isLost: boolean }[] = []

  /** How many hold each version; ascending. */
  readonly #counts = new Map<number, number>()

  /** Of a version that is held already, or of one later than all. */
  take(version: number): void {
    this.#counts.set(version, (this.#counts.get(version) ?? 0) + 1)
  }

  drop(version: number): void {
    const count = this.#counts.get(version)!
    if (count === 1) this.#counts.delete(version)
    else this.#counts.set(version, count - 1)
  }

  get within(): number {
    return this.#within.length
  }

  /** The state is that of the transaction under way. */
  addWithin(hold: { isLost: boolean }): void {
    this.#within.push(hold)
  }

  /** What was held since there were so many never was. */
  loseWithin(count: number): void {
    while (this.#within.length > count) this.#within.pop()!.isLost = true
  }

  /** The transaction has ended. */
  endWithin(): void {
    if (this.#within.length > 0) this.#within.length = 0
  }

  /** Infinity for none. */
  get oldest(): number {
    for (const version of this.#counts.keys()) return version
    return Number.POSITIVE_INFINITY
  }

  /** 0 for none. */
  get newest(): number {
    let newest = 0
    for (const version of this.#counts.keys()) newest = version
    return newest
  }
}
