/** Of a state: what is in it stays until `drop`. */
export interface Hold {
  readonly epoch: number
  /** The state was that of a transaction which was rolled back. */
  readonly isLost: boolean
  drop(): void
}

/** Which states of the map somebody holds, by epoch: what they see must stay. */
export class Holds {
  /** Of states that only the transaction under way has. */
  readonly #within: { isLost: boolean }[] = []

  /** How many hold each epoch; ascending. */
  readonly #counts = new Map<number, number>()

  /** Of an epoch that is held already, or of one later than all. */
  take(epoch: number): void {
    this.#counts.set(epoch, (this.#counts.get(epoch) ?? 0) + 1)
  }

  drop(epoch: number): void {
    const count = this.#counts.get(epoch)!
    if (count === 1) this.#counts.delete(epoch)
    else this.#counts.set(epoch, count - 1)
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
    for (const epoch of this.#counts.keys()) return epoch
    return Number.POSITIVE_INFINITY
  }

  /** 0 for none. */
  get newest(): number {
    let newest = 0
    for (const epoch of this.#counts.keys()) newest = epoch
    return newest
  }
}
