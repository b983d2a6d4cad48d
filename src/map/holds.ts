/** Which states of the map somebody holds, by epoch: what they see must stay. */
export class Holds {
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
