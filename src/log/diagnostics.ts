/**
 * What operations cost, for whoever asks: a message on a channel of node:diagnostics_channel for
 * each call of the public interface that may write, once it has returned.
 *
 *   call ──nobody listens──▶ the operation
 *     └──somebody listens──▶ observe ──the same call once more──▶ the operation
 *                               └──▶ message: counters after it less those before it
 *
 * Nothing is counted for messages alone: an operation pays for one look at the channel.
 *
 * Invariants:
 *   - a message is sent when memory and log are as after the operation, or after its rollback;
 *   - what an operation calls is part of it: each count is in one message, never in two;
 *   - while subscribers are told nothing changes the volume: its user may be in the middle of more than one
 *     operation. What they call of it is refused.
 */
import diagnostics from 'node:diagnostics_channel'
import type { Lifecycle } from '../media/lifecycle.js'
import { type Counters, countersOf, type Media } from '../media/media.js'

/**
 * A call that messages tell of. Methods of a volume are named as they are, but for `heap.open`
 * (`volume.heap`); those of a chunk and of a heap stand behind its dot. `barrier` is no call: it is
 * the barrier that asynchronous commits share, begun in a later microtask.
 */
export type Operation =
  | 'allocate'
  | 'barrier'
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
  | 'heap.allocate'
  | 'heap.cancel'
  | 'heap.free'
  | 'heap.open'
  | 'heap.persist'
  | 'heap.publish'
  | 'heap.reserve'
  | 'heap.setRoot'
  | 'publish'
  | 'rename'
  | 'reserve'
  | 'transact'
  | 'transactAsync'

/**
 * What subscribers of the channel `plinth:operation` are given: one operation and what it cost, the
 * functions that it called included. A plain object of its own for each operation.
 */
export interface OperationMessage extends Counters {
  readonly operation: Operation
  /** Path of the device, as `Volume.open` was given it. */
  readonly path: string
  /** Of the volume, as in `volume.info`. */
  readonly uuid: string
  /** Nanoseconds until the call returned; of `transactAsync` and `barrier`, until the promise settled. */
  readonly durationNs: number
  /** How often it emptied the log. */
  readonly checkpoints: number
  /** What it threw, or its promise was rejected with; undefined when it succeeded. */
  readonly error: unknown
}

/** The log as messages see it. */
export interface Observed {
  readonly media: Media
  readonly checkpoints: number
  readonly volume: { readonly path: string; readonly uuid: string }
  /** Whether what is called now is part of an operation that is observed, or of a subscriber. */
  isObserving: boolean
  readonly lifecycle: Lifecycle
}

const operations = diagnostics.channel('plinth:operation')

/** Whether an operation that begins now is to go through `observe`. */
export function isObserved(log: Observed): boolean {
  return operations.hasSubscribers && !log.isObserving
}

/** Calls `method` and publishes what it has cost. */
export function observe<Self, Arguments extends unknown[], Result>(
  operation: Operation,
  log: Observed,
  self: Self,
  method: (this: Self, ...args: Arguments) => Result,
  ...args: Arguments
): Result {
  const cost = costFrom(log)
  const started = performance.now()
  const publish = (spent: Cost, error?: unknown) => {
    const durationNs = Math.round((performance.now() - started) * 1e6)
    log.isObserving = log.lifecycle.isTelling = true
    operations.publish({ operation, ...log.volume, durationNs, ...spent, error })
    log.isObserving = log.lifecycle.isTelling = false
  }
  log.isObserving = true
  let result: Result
  try {
    result = method.apply(self, args)
  } catch (error) {
    publish(cost(), error)
    throw error
  }
  const spent = cost()
  if (result instanceof Promise) {
    log.isObserving = false
    // The caller gets the promise behind: a rejection that nobody handles must stay one.
    return result.then(
      (value) => {
        publish(spent)
        return value
      },
      (error) => {
        publish(spent, error)
        throw error
      },
    ) as Result
  }
  publish(spent)
  return result
}

type Cost = Counters & { readonly checkpoints: number }

/** Returns a function that tells what was spent between the two calls. */
function costFrom(log: Observed): () => Cost {
  const { counters } = log.media
  const before = counters.slice()
  const { checkpoints } = log
  return () => {
    const spent = counters.slice()
    for (let i = 0; i < spent.length; i++) spent[i]! -= before[i]!
    return { ...countersOf(spent), checkpoints: log.checkpoints - checkpoints }
  }
}
