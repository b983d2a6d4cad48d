/**
 * What becomes durable and what it costs, for whoever asks: a message on a channel of
 * node:diagnostics_channel for each step that the log takes, told where it is taken.
 *
 *   operation begins ──enter──▶ its name is the context of all steps until the next one begins
 *   step ──begin──▶ …  ──end──▶ message: counters now less those before, less what steps within it have told
 *                                  └ waits for the end of the transaction under way, or of the step around it
 *
 * Nothing is counted for messages alone: a step pays for one look at the channel.
 *
 * Invariants:
 *   - each count is in one message, never in two;
 *   - a message of a transaction is sent when memory and log are as after it, or after its rollback;
 *   - while subscribers are told nothing changes the volume: what they call of it is refused.
 */
import diagnostics from 'node:diagnostics_channel'
import type { Lifecycle } from '../media/lifecycle.js'
import { type Counters, countersOf } from '../media/media.js'

/**
 * What has happened. `append` is a commit that a later `barrier` makes durable; `grow` is a volume that became longer; `persist` and `flush` are of raw
 * stores; `failure` is the one after which the volume has to be opened again.
 */
export type OperationEvent =
  | 'append'
  | 'barrier'
  | 'checkpoint'
  | 'commit'
  | 'failure'
  | 'flush'
  | 'grow'
  | 'persist'
  | 'recovery'

/**
 * The call that it belongs to, the outermost one. Methods of a volume are named as they are, but for `heap.open`
 * (`volume.heap`); those of a chunk and of a heap stand behind its dot.
 */
export type Operation =
  | 'allocate'
  | 'cancel'
  | 'check'
  | 'checkpoint'
  | 'chunk.close'
  | 'chunk.flush'
  | 'chunk.persist'
  | 'chunk.write'
  | 'close'
  | 'fence'
  | 'free'
  | 'grow'
  | 'heap.allocate'
  | 'heap.cancel'
  | 'heap.free'
  | 'heap.open'
  | 'heap.persist'
  | 'heap.publish'
  | 'heap.reserve'
  | 'heap.setRoot'
  | 'open'
  | 'publish'
  | 'rename'
  | 'reserve'
  | 'transact'
  | 'transactAsync'

/** What subscribers of the channel `plinth:operation` are given: a plain object of its own for each event. */
export interface OperationMessage extends Counters {
  readonly event: OperationEvent
  readonly operation: Operation
  /** Path of the device, as `Volume.open` was given it. */
  readonly path: string
  /** Of the volume, as in `volume.info`. */
  readonly uuid: string
  /** Nanoseconds from its begin to its end, other events within included; 0 of `failure`. */
  readonly durationNs: number
  /** Of `failure` why; else undefined. */
  readonly error: unknown
}

/** A step of the log that somebody listens to. */
interface Step {
  readonly event: OperationEvent
  readonly operation: Operation
  readonly started: number
  readonly before: Float64Array
  readonly isOutermost: boolean
}

const channel = diagnostics.channel('plinth:operation')

export class Diagnostics {
  readonly #lifecycle: Lifecycle
  readonly #volume: Pick<OperationMessage, 'path' | 'uuid'>
  /** Counts that messages have told of. */
  readonly #told: Float64Array
  #waiting: OperationMessage[] | undefined
  #operation: Operation = 'open'
  /** Whether a transaction or a step is under way: what begins now is a part of it. */
  #isWithin = false

  constructor(lifecycle: Lifecycle, volume: Pick<OperationMessage, 'path' | 'uuid'>) {
    this.#lifecycle = lifecycle
    this.#volume = volume
    this.#told = new Float64Array(lifecycle.media.counters.length)
    lifecycle.media.onFailure.push(() => this.#fail())
  }

  /** An operation begins that is no transaction; within one it is a part of that. */
  enter(operation: Operation): void {
    if (!this.#isWithin) this.#operation = operation
  }

  enterTransaction(operation: Operation): void {
    this.#operation = operation
    this.#isWithin = true
  }

  leaveTransaction(): void {
    this.#isWithin = false
    if (this.#waiting !== undefined) this.#publish(this.#waiting)
  }

  /** A step begins; undefined while nobody listens. One of an operation that is over is within nothing. */
  begin(event: OperationEvent, past?: Operation): Step | undefined {
    return channel.hasSubscribers ? this.#begin(event, past) : undefined
  }

  #begin(event: OperationEvent, past: Operation | undefined): Step {
    const isOutermost = !this.#isWithin
    const operation = past ?? this.#operation
    this.#isWithin = past === undefined
    return { event, operation, started: performance.now(), before: this.#untold(), isOutermost }
  }

  end(step: Step | undefined): void {
    if (step === undefined) return
    this.#tell(step, Math.round((performance.now() - step.started) * 1e6), undefined)
    if (step.isOutermost) this.leaveTransaction()
  }

  #tell(step: Step, durationNs: number, error: unknown): void {
    const { event, operation, before } = step
    const spent = this.#untold()
    for (let i = 0; i < spent.length; i++) {
      spent[i]! -= before[i]!
      this.#told[i]! += spent[i]!
    }
    const counters = countersOf(spent)
    this.#waiting ??= []
    this.#waiting.push({ event, operation, ...this.#volume, durationNs, ...counters, error })
  }

  #untold(): Float64Array {
    return this.#lifecycle.media.counters.map((count, i) => count - this.#told[i]!)
  }

  /** At once: what is under way throws, and its steps never end. */
  #fail(): void {
    const step = this.begin('failure')
    if (step === undefined) return
    this.#tell(step, 0, this.#lifecycle.media.failure)
    this.leaveTransaction()
  }

  #publish(messages: readonly OperationMessage[]): void {
    this.#waiting = undefined
    this.#lifecycle.isTelling = true
    for (const message of messages) channel.publish(message)
    this.#lifecycle.isTelling = false
  }
}
