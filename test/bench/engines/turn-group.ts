/** Asynchronous puts for an engine without group commit: those of one turn become one batch. */
import type { Done, Entry } from './engine.js'

export class TurnGroup {
  readonly #commit: (entries: readonly Entry[]) => Done
  #entries: Entry[] = []
  #durable: Promise<void> | undefined

  constructor(commit: (entries: readonly Entry[]) => Done) {
    this.#commit = commit
  }

  /** Resolves when the entry is durable. */
  put(entry: Entry): Promise<void> {
    this.#entries.push(entry)
    this.#durable ??= new Promise((resolve, reject) => {
      setImmediate(() => this.#flush().then(resolve, reject))
    })
    return this.#durable
  }

  putAll(entries: readonly Entry[]): Promise<unknown> {
    return Promise.all(entries.map((entry) => this.put(entry)))
  }

  async #flush(): Promise<void> {
    const entries = this.#entries
    this.#entries = []
    this.#durable = undefined
    await this.#commit(entries)
  }
}
