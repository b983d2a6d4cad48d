/**
 * Reads, and writes that wait for nothing, are answered at once: one after the other, awaited, they would
 * never let the event loop turn. So now and then an answer waits for a turn of it.
 */
import { setImmediate } from 'node:timers/promises'

const CALLS_MAX = 1000
const MS_MAX = 5
/** The clock is asked after so many calls: slow ones are fewer in a turn. */
const CLOCK_EVERY = 16

export class Turns {
  #calls = 0
  #since = performance.now()

  /** After each piece of work: whether others shall have a turn before it is answered. */
  isDue(): boolean {
    const calls = ++this.#calls
    if (calls < CALLS_MAX) {
      if (calls % CLOCK_EVERY !== 0 || performance.now() - this.#since < MS_MAX) return false
    }
    this.#calls = 0
    return true
  }

  async take(): Promise<void> {
    await setImmediate()
    this.#since = performance.now()
  }
}
