/**
 * The transaction under way on a volume: its batch, and who follows when it ends.
 *
 *   idle ──begin──▶ active ──commit──▶ ending ──finish──▶ idle     one record, one fence
 *                     │                  └ memory follows what is durable, or in order (async)
 *                     └──rollback──▶ ending ──▶ idle               memory as before, nothing was written
 *
 * There is one way back: every structure that changes memory while changes are staged takes part here, the
 * chunk table and the heaps with an undo log each, everybody else as a `Participant`. They are rolled back
 * in reverse order of joining; the two of the volume have joined first.
 *
 * Invariants:
 *   - memory changed since `begin` is known to a structure or a participant, or is nobody's;
 *   - what runs behind the record's fence cannot fail the transaction;
 *   - after a failed barrier nothing is rolled back: the volume says ERR_VOLUME_FAILED until it is opened again.
 */
import { argumentTypeError, argumentValueError, PlinthError } from '../base/errors.js'
import type { Lifecycle } from '../media/lifecycle.js'
import type { Batch } from './batch.js'
import type { Diagnostics, Operation } from './diagnostics.js'
import type { Log } from './log.js'

/**
 * What takes part in a transaction: a structure in memory that has to say the same as the device, whether
 * the transaction commits or not. Join with `tx.join`, once a transaction, before the first change.
 */
export interface Participant {
  /**
   * Stages what follows from the changes, through `tx` and structures that join. Called when the function of
   * the transaction has returned, in order of joining. What it throws rolls all back.
   */
  prepare?(): void
  /**
   * The record is durable (of `transactAsync`: in order, durable when the promise resolves): memory follows. It must
   * not call the volume. What it throws is reported as a warning of the process; the transaction stands.
   */
  committed(): void
  /** Memory becomes as it was when the transaction began. It must not call the volume. In reverse order of joining. */
  rolledBack(): void
  /**
   * Names the present state, for `rollbackTo`. Both or neither: while a participant without them takes part, a
   * savepoint that fails fails the whole transaction.
   */
  mark?(): unknown
  /** Memory becomes as it was at the mark; later marks mean nothing any more. It must not call the volume. */
  rollbackTo?(mark: unknown): void
}

/** A structure of the volume's own, with its undo log. */
export interface Structure {
  /** Entries of the undo log. */
  readonly length: number
  /** Stages what follows from the changes. */
  prepare(): void
  committed(): void
  rollbackTo(length: number): void
  /** Drops the undo log: after a failure memory counts no more. */
  forget(): void
}

const NO_STRUCTURE: Structure = {
  length: 0,
  prepare() {},
  committed() {},
  rollbackTo() {},
  forget() {},
}

const IDLE = 0
const ACTIVE = 1
const ENDING = 2

/** Words of a savepoint: of the record, of its targets, of the two undo logs; who has joined. */
const SAVEPOINT_WORDS = 5

/** Transactions under way in this thread: more than one when one volume's function works on another volume. */
let underWay = 0

/** Runs what a test does with other volumes while it has stopped one in the middle of a transaction. */
export function apart<T>(work: () => T): T {
  const before = underWay
  underWay = 0
  try {
    return work()
  } finally {
    underWay = before
  }
}

export class TransactionContext {
  readonly log: Log
  readonly batch: Batch
  readonly lifecycle: Lifecycle
  readonly #diagnostics: Diagnostics
  chunks: Structure = NO_STRUCTURE
  heaps: Structure = NO_STRUCTURE
  readonly #joined: Participant[] = []
  // Those that are open; the arrays stay as long as they were once, since to shorten one costs 100 ns.
  readonly #savepoints: number[] = []
  #depth = 0
  readonly #marks: unknown[] = []
  #marked = 0
  #phase = IDLE
  /** Whether more than bytes of chunks and objects has changed: else nothing follows. */
  isStructural = false
  /** Why the transaction can only be rolled back. */
  #doomed: unknown

  constructor(log: Log) {
    this.log = log
    this.batch = log.batch
    this.lifecycle = log.lifecycle
    this.#diagnostics = log.diagnostics
  }

  /** Whether a transaction is under way to which changes may be staged. */
  get isActive(): boolean {
    return this.#phase === ACTIVE
  }

  /** Whether something is under way: what it has staged names mappings, which must stay. */
  get isBusy(): boolean {
    return this.#phase !== IDLE
  }

  /** @throws PlinthError ERR_TX_ACTIVE */
  checkIdle(): void {
    if (this.#phase !== IDLE) throw transactionActive()
  }

  /**
   * Begins a transaction.
   * @throws PlinthError ERR_TX_ACTIVE, ERR_READ_ONLY, ERR_VOLUME_CLOSED, ERR_VOLUME_FAILED
   */
  begin(operation: Operation): void {
    this.lifecycle.checkWritable()
    if (this.#phase !== IDLE) throw transactionActive()
    this.#diagnostics.enterTransaction(operation)
    // The batch is empty: whoever ended the last one has begun it.
    this.#phase = ACTIVE
    underWay++
  }

  /**
   * For a call that joins the transaction under way, or is one of its own: true when it is, and then the caller
   * commits or rolls back.
   * @throws PlinthError as `begin`; ERR_TX_ACTIVE when the transaction under way is another volume's, to which this
   *   call would not belong
   */
  enter(operation: Operation): boolean {
    if (this.#phase === ACTIVE) {
      this.lifecycle.checkWritable()
      return false
    }
    this.checkAlone()
    this.begin(operation)
    return true
  }

  /** What begins now belongs to no transaction of another volume. */
  checkAlone(): void {
    if (underWay > 0) this.#refuseForeign()
  }

  #refuseForeign(): void {
    if (this.#phase !== IDLE) throw transactionActive()
    this.lifecycle.checkWritable()
    throw new PlinthError(
      'ERR_TX_ACTIVE',
      'a transaction of another volume is under way: this change would not be part of it; make it outside',
    )
  }

  /** Runs `stage`, which changes all or throws and nothing, as part of the transaction under way or as one of its own. */
  run<T>(operation: Operation, stage: () => T): T {
    if (!this.enter(operation)) return stage()
    let result: T
    try {
      result = stage()
      this.commit()
    } catch (error) {
      this.rollback()
      throw error
    }
    this.finish()
    return result
  }

  /** Takes part until the transaction ends. */
  join(participant: Participant): void {
    if (this.#phase !== ACTIVE) throw transactionEnded()
    if (!isParticipant(participant)) refuseParticipant(participant)
    const joined = this.#joined
    for (let i = 0; i < joined.length; i++) {
      if (joined[i] === participant) {
        throw argumentValueError('a participant joins a transaction once')
      }
    }
    this.isStructural = true
    joined.push(participant)
  }

  /** Runs `work`; when it throws, everything that it has changed is rolled back, and the transaction goes on. */
  savepoint<T, Given>(work: (given: Given) => T, given: Given): T {
    const depth = this.#depth
    const marks = this.#marked
    this.#save()
    try {
      return work(given)
    } catch (error) {
      this.#rollbackTo(depth, marks, error)
      throw error
    } finally {
      this.#depth = depth
      this.#marked = marks
    }
  }

  #save(): void {
    const { staging } = this.batch
    const joined = this.#joined
    const saved = this.#savepoints
    let at = this.#depth
    saved[at++] = staging.bytes
    saved[at++] = staging.targetCount
    saved[at++] = this.chunks.length
    saved[at++] = this.heaps.length
    saved[at++] = joined.length
    this.#depth = at
    for (let i = 0; i < joined.length; i++) this.#marks[this.#marked++] = joined[i]!.mark?.()
  }

  #rollbackTo(depth: number, marks: number, error: unknown): void {
    if (this.#phase !== ACTIVE || this.log.media.failure !== undefined) return
    const saved = this.#savepoints
    this.batch.rewind(saved[depth]!, saved[depth + 1]!)
    this.#phase = ENDING
    const joined = this.#joined
    const before = saved[depth + SAVEPOINT_WORDS - 1]!
    for (let i = joined.length - 1; i >= 0; i--) {
      const participant = joined[i]!
      if (i >= before) {
        joined.pop()
        tellRolledBack(participant)
      } else if (participant.rollbackTo === undefined) {
        this.#doomed ??= error
      } else {
        try {
          participant.rollbackTo(this.#marks[marks + i])
        } catch (failure) {
          this.#doomed ??= failure
        }
      }
    }
    this.heaps.rollbackTo(saved[depth + 3]!)
    this.chunks.rollbackTo(saved[depth + 2]!)
    this.#phase = ACTIVE
  }

  /** Hands the record to the log: durable when it returns. `finish` follows, outside of what may roll back. */
  commit(): void {
    if (this.isStructural) this.#prepare()
    if (!this.batch.isEmpty) this.log.commit()
    // What it has read may be under way: it returns nothing that a crash could take back.
    else this.log.makeDurable()
  }

  /** The same; durable when the promise resolves. */
  commitAsync(): Promise<void> {
    if (this.isStructural) this.#prepare()
    return this.batch.isEmpty ? this.log.makeDurableAsync() : this.log.commitAsync()
  }

  #prepare(): void {
    const joined = this.#joined
    // Those that join meanwhile are asked as well.
    for (let i = 0; i < joined.length; i++) joined[i]!.prepare?.()
    if (this.#doomed !== undefined) throw this.#doomed
    this.heaps.prepare()
  }

  /** The record counts: memory follows. */
  finish(): void {
    if (this.isStructural) this.#follow()
    else this.#end()
  }

  #follow(): void {
    this.#phase = ENDING
    try {
      this.chunks.committed()
      this.heaps.committed()
      this.#tellCommitted()
    } finally {
      this.#end()
    }
  }

  #tellCommitted(): void {
    const joined = this.#joined
    if (joined.length === 0) return
    for (let i = 0; i < joined.length; i++) {
      try {
        joined[i]!.committed()
      } catch (error) {
        report('committed', error)
      }
    }
    while (joined.length > 0) joined.pop()
  }

  /** Memory becomes as it was at `begin`. */
  rollback(): void {
    this.#phase = ENDING
    this.#doomed = undefined
    this.batch.begin()
    try {
      if (this.log.media.failure === undefined) this.#rollBack()
    } catch (error) {
      // Giving space back may write; what failed first is what the caller is told.
      if (this.log.media.failure === undefined) throw error
    } finally {
      this.heaps.forget()
      this.chunks.forget()
      this.#joined.length = 0
      this.#end()
    }
  }

  #rollBack(): void {
    const joined = this.#joined
    for (let i = joined.length - 1; i >= 0; i--) tellRolledBack(joined[i]!)
    this.heaps.rollbackTo(0)
    this.chunks.rollbackTo(0)
  }

  #end(): void {
    this.isStructural = false
    this.#phase = IDLE
    underWay--
    this.#diagnostics.leaveTransaction()
  }
}

function tellRolledBack(participant: Participant): void {
  try {
    participant.rolledBack()
  } catch (error) {
    report('rolledBack', error)
  }
}

/** The transaction has ended, this way or that: what a participant throws then changes nothing of it. */
function report(where: string, error: unknown): void {
  const reason = error instanceof Error ? (error.stack ?? error.message) : String(error)
  process.emitWarning(
    `a participant of a transaction threw in ${where}(): what it has in memory may not be what the device has. ${reason}`,
    { type: 'PlinthWarning', code: 'PLINTH_PARTICIPANT' },
  )
}

function isParticipant(given: Participant): boolean {
  return (
    typeof given === 'object' &&
    given !== null &&
    typeof given.committed === 'function' &&
    typeof given.rolledBack === 'function' &&
    (given.prepare === undefined || typeof given.prepare === 'function') &&
    (given.mark === undefined
      ? given.rollbackTo === undefined
      : typeof given.mark === 'function' && typeof given.rollbackTo === 'function')
  )
}

function refuseParticipant(given: unknown): never {
  if (given === null || typeof given !== 'object') {
    throw argumentTypeError(
      'a participant is an object with the functions committed and rolledBack',
    )
  }
  throw argumentTypeError(
    'a participant has the functions committed and rolledBack, where it has something to stage prepare, and either both ' +
      'or none of mark and rollbackTo',
  )
}

export function transactionActive(): PlinthError {
  return new PlinthError(
    'ERR_TX_ACTIVE',
    'a transaction is under way: it takes part in no other one, and is waited for by nothing inside it',
  )
}

export function transactionEnded(): PlinthError {
  return new PlinthError(
    'ERR_TX_ENDED',
    'this transaction has ended; its work is done inside the function',
  )
}
