/**
 * A durable job queue on a plinth volume: first in, first out, at least once.
 *
 *   enqueue ──▶ ready ──lease──▶ leased ──ack──▶ done (with a result, until `remove`)
 *                 ▲                 │       └──▶ gone (without one)
 *                 ├── fail, expiry ─┤
 *                 │                 └─ the same after `attemptsMax` leases ──▶ dead (until `remove`)
 *                 └──────────────────────────── retry ─────────────────────────┘
 *
 * The two chunks in `layout.ts` are the only truth: a job is read where it lies, straight on the
 * device. In memory there are indexes alone, of a size fixed by the number of slots: a state for
 * each slot, the ready ones in order of their ids, the leased ones in order of their expiry. They
 * are made again at open, in time bounded by the slots.
 *
 * What changes together is one transaction, so that a process killed at any instant leaves each job
 * before the change or after it. The methods in `Async` wait together for one barrier of the device
 * (group commit); a job may then be leased before it is durable, as the transaction that leases it
 * can never be durable before the one that brought it.
 */
import type { Chunk, Transaction, Volume } from 'plinth'
import { QueueError } from './errors.js'
import {
  getUint64,
  HEADER,
  LEASE_MS_MAX,
  MAGIC_HIGH,
  MAGIC_LOW,
  PAYLOAD_BYTES_MAX,
  RESULT_BYTES_MAX,
  SLOT,
  SLOTS_MAX,
  STATE,
  STATE_NAMES,
  type StateName,
  setUint64,
  VERSION,
} from './layout.js'
import { SlotHeap } from './slot-heap.js'

export interface QueueOptions {
  /** Tells several queues on one volume apart. @default 'jobs' */
  readonly name?: string
  /** Milliseconds since 1970: leases outlive the process, so a clock that starts with it will not do. @default Date.now */
  readonly now?: () => number
  /**
   * Whether leases end with the process that gave them, as its workers do: those found at open are
   * over then. @default false: workers live elsewhere and keep their leases
   */
  readonly endLeases?: boolean
}

export interface NewQueueOptions extends QueueOptions {
  /** How many jobs the queue can hold, those done and dead included; 1 to 1 Mi. */
  readonly slots: number
  /** Bytes of the largest payload, 1 to 64 KiB. @default 256 */
  readonly payloadBytesMax?: number
  /** A job that was leased so often and not acknowledged is a dead letter. @default 5 */
  readonly attemptsMax?: number
}

/** What a worker holds. `attempt` tells it from whoever has the job after the lease has expired. */
export interface Lease {
  readonly id: number
  readonly attempt: number
}

export interface LeasedJob extends Lease {
  readonly payload: Uint8Array
  readonly leasedUntil: number
}

export interface JobInfo {
  readonly id: number
  readonly state: Exclude<StateName, 'free'>
  readonly attempts: number
  /** Who has it, or had it last. */
  readonly worker: number
  /** Of a job that is leased. */
  readonly leasedUntil: number | undefined
  readonly payload: Uint8Array
  /** Of a job that is done. */
  readonly result: Uint8Array | undefined
}

export class JobQueue {
  readonly slots: number
  readonly payloadBytesMax: number
  readonly attemptsMax: number
  readonly #volume: Volume
  readonly #table: Chunk
  readonly #payloads: Chunk
  readonly #now: () => number
  /** The state of each slot, expired leases already taken into account. */
  readonly #states: Uint8Array
  /** How many slots are in each state. */
  readonly #counts = new Uint32Array(STATE_NAMES.length)
  /** By id: first in, first out. */
  readonly #ready: SlotHeap
  /** By expiry. */
  readonly #leased: SlotHeap
  #nextId = 1
  /** Where the head of a slot is put together; a transaction copies what it is given. */
  readonly #head = new Uint8Array(SLOT.headEnd)
  readonly #headView = new DataView(this.#head.buffer)
  readonly #leaseHead = this.#head.subarray(SLOT.state, SLOT.leaseEnd)

  /** Makes a new queue, empty. */
  static create(volume: Volume, options: NewQueueOptions): JobQueue {
    const { slots, payloadBytesMax = 256, attemptsMax = 5, name = 'jobs' } = options
    checkInteger(slots, 'slots', SLOTS_MAX)
    checkInteger(payloadBytesMax, 'payloadBytesMax', PAYLOAD_BYTES_MAX)
    checkInteger(attemptsMax, 'attemptsMax', 2 ** 31)
    if (payloadBytesMax > volume.stats().logBytes / 4) {
      // Better now than at the first large payload: each one goes through the log.
      throw new RangeError(`the volume's log is too small for payloads of ${payloadBytesMax} bytes`)
    }
    const header = new DataView(new ArrayBuffer(HEADER.bytes))
    header.setUint32(HEADER.magic, MAGIC_LOW, true)
    header.setUint32(HEADER.magic + 4, MAGIC_HIGH, true)
    header.setUint32(HEADER.version, VERSION, true)
    header.setUint32(HEADER.slots, slots, true)
    header.setUint32(HEADER.payloadBytesMax, payloadBytesMax, true)
    header.setUint32(HEADER.attemptsMax, attemptsMax, true)
    // Both chunks and the header in one transaction: there is no half of a queue. The table starts
    // as zeros, which is a table of free slots; what is in the cells does not matter.
    volume.transact((tx) => {
      const size = HEADER.bytes + slots * SLOT.bytes
      const table = volume.allocate({ name: `${name}.table`, type: 'job-queue', size, zero: true })
      volume.allocate({
        name: `${name}.payloads`,
        type: 'job-queue',
        size: slots * payloadBytesMax,
      })
      tx.write(table, 0, new Uint8Array(header.buffer))
    })
    return new JobQueue(volume, options)
  }

  /** Opens the queue of that name, after whatever happened to it. */
  static open(volume: Volume, options: QueueOptions = {}): JobQueue {
    return new JobQueue(volume, options)
  }

  static exists(volume: Volume, name = 'jobs'): boolean {
    return volume.findChunk(`${name}.table`) !== undefined
  }

  private constructor(volume: Volume, options: QueueOptions) {
    const { name = 'jobs', now = Date.now, endLeases = false } = options
    const table = volume.findChunk(`${name}.table`)
    const payloads = volume.findChunk(`${name}.payloads`)
    if (table === undefined && payloads === undefined) {
      throw new QueueError('ERR_QUEUE_NOT_FOUND', `there is no queue named '${name}'`)
    }
    if (table === undefined || payloads === undefined) throw corrupt('one of its chunks is missing')
    this.#volume = volume
    this.#table = table
    this.#payloads = payloads
    this.#now = now
    const { view } = table
    if (
      view.getUint32(HEADER.magic, true) !== MAGIC_LOW ||
      view.getUint32(HEADER.magic + 4, true) !== MAGIC_HIGH
    ) {
      throw corrupt('its table does not begin as one')
    }
    const version = view.getUint32(HEADER.version, true)
    if (version !== VERSION) throw corrupt(`it has version ${version}, this is ${VERSION}`)
    this.slots = view.getUint32(HEADER.slots, true)
    this.payloadBytesMax = view.getUint32(HEADER.payloadBytesMax, true)
    this.attemptsMax = view.getUint32(HEADER.attemptsMax, true)
    const isSane =
      inRange(this.slots, SLOTS_MAX) &&
      inRange(this.payloadBytesMax, PAYLOAD_BYTES_MAX) &&
      inRange(this.attemptsMax, 2 ** 31) &&
      HEADER.bytes + this.slots * SLOT.bytes <= table.size &&
      this.slots * this.payloadBytesMax <= payloads.size
    if (!isSane) throw corrupt('its header does not fit its chunks')
    this.#states = new Uint8Array(this.slots)
    this.#ready = new SlotHeap(this.slots)
    this.#leased = new SlotHeap(this.slots)
    this.#index(view, endLeases)
  }

  /** Makes the indexes from the table. What it says is checked before it is believed. */
  #index(view: DataView, endLeases: boolean): void {
    // A clock that was set back must not keep jobs leased for years.
    const leasedUntilMax = endLeases ? 0 : this.#now() + LEASE_MS_MAX
    this.#counts[STATE.free] = this.slots
    for (let slot = 0; slot < this.slots; slot++) {
      const at = placeOf(slot)
      const id = getUint64(view, at + SLOT.id)
      const state = view.getUint32(at + SLOT.state, true)
      if (id === 0 && state === STATE.free) continue
      if (
        id === 0 ||
        id > Number.MAX_SAFE_INTEGER / 2 ||
        id % this.slots !== slot ||
        STATE_NAMES[state] === undefined ||
        view.getUint32(at + SLOT.payloadBytes, true) > this.payloadBytesMax ||
        view.getUint32(at + SLOT.resultBytes, true) > RESULT_BYTES_MAX
      ) {
        throw corrupt(`its slot ${slot} makes no sense`)
      }
      this.#nextId = Math.max(this.#nextId, id + 1)
      const leasedUntil = Math.min(getUint64(view, at + SLOT.leasedUntil), leasedUntilMax)
      this.#move(slot, state, state === STATE.leased ? leasedUntil : id)
    }
  }

  /**
   * Appends a job and returns its id, which no other job ever has.
   * @throws QueueError ERR_QUEUE_FULL, ERR_PAYLOAD_TOO_LARGE
   */
  enqueue(payload: Uint8Array): number {
    return this.#volume.transact((tx) => this.#enqueue(tx, payload))
  }

  async enqueueAsync(payload: Uint8Array): Promise<number> {
    return this.#volume.transactAsync((tx) => this.#enqueue(tx, payload))
  }

  #enqueue(tx: Transaction, payload: Uint8Array): number {
    if (payload.length > this.payloadBytesMax) {
      throw new QueueError(
        'ERR_PAYLOAD_TOO_LARGE',
        `the payload has ${payload.length} bytes, this queue takes ${this.payloadBytesMax}`,
      )
    }
    const from = this.#nextId % this.slots
    let slot = this.#states.indexOf(STATE.free, from)
    if (slot === -1) slot = this.#states.indexOf(STATE.free)
    if (slot === -1) throw this.#full()
    // The next id that belongs to this slot: ids only grow, and a slot still in use is passed over.
    const id = this.#nextId + ((slot - from + this.slots) % this.slots)
    const head = this.#headView
    this.#head.fill(0)
    setUint64(head, SLOT.id, id)
    head.setUint32(SLOT.state, STATE.ready, true)
    head.setUint32(SLOT.payloadBytes, payload.length, true)
    tx.write(this.#table, placeOf(slot), this.#head)
    tx.write(this.#payloads, slot * this.payloadBytesMax, payload)
    // Last, here and below: from here on only the device can fail, and then the volume has to be
    // opened again, and the indexes with it.
    this.#nextId = id + 1
    this.#move(slot, STATE.ready, id)
    return id
  }

  #full(): QueueError {
    const { ready, leased, done, dead } = this.counts()
    return new QueueError(
      'ERR_QUEUE_FULL',
      `all ${this.slots} slots are in use: ${ready} ready, ${leased} leased, ` +
        `${done} done and ${dead} dead; acknowledge or remove some`,
    )
  }

  /**
   * Gives the oldest ready job to a worker for so many milliseconds; undefined when none is ready.
   * The attempt is counted now, durably, so that a job that kills its worker dies as well.
   */
  lease(worker: number, ms: number): LeasedJob | undefined {
    return this.#volume.transact((tx) => this.#lease(tx, worker, ms))
  }

  async leaseAsync(worker: number, ms: number): Promise<LeasedJob | undefined> {
    return this.#volume.transactAsync((tx) => this.#lease(tx, worker, ms))
  }

  #lease(tx: Transaction, worker: number, ms: number): LeasedJob | undefined {
    if (worker >>> 0 !== worker) throw new RangeError('worker must be a whole number below 2^32')
    checkInteger(ms, 'ms', LEASE_MS_MAX)
    const now = this.#expire()
    const slot = this.#ready.first
    if (slot === -1) return undefined
    const { view } = this.#table
    const at = placeOf(slot)
    const attempt = view.getUint32(at + SLOT.attempts, true) + 1
    const leasedUntil = now + ms
    const head = this.#headView
    head.setUint32(SLOT.state, STATE.leased, true)
    head.setUint32(SLOT.attempts, attempt, true)
    setUint64(head, SLOT.leasedUntil, leasedUntil)
    head.setUint32(SLOT.worker, worker, true)
    head.setUint32(SLOT.resultBytes, 0, true)
    tx.write(this.#table, at + SLOT.state, this.#leaseHead)
    const id = getUint64(view, at + SLOT.id)
    const payload = this.#payloadOf(view, slot)
    this.#move(slot, STATE.leased, leasedUntil)
    return { id, attempt, leasedUntil, payload }
  }

  /**
   * The job is done. With a result it stays, to be asked for, until `remove`; without one it is gone.
   * @throws QueueError ERR_LEASE_LOST when the lease has expired, ERR_RESULT_TOO_LARGE
   */
  ack(lease: Lease, result?: Uint8Array): void {
    this.#volume.transact((tx) => this.#ack(tx, lease, result))
  }

  async ackAsync(lease: Lease, result?: Uint8Array): Promise<void> {
    return this.#volume.transactAsync((tx) => this.#ack(tx, lease, result))
  }

  #ack(tx: Transaction, lease: Lease, result: Uint8Array | undefined): void {
    const slot = this.#slotOfLease(lease)
    const at = placeOf(slot)
    if (result === undefined) {
      tx.setUint32(this.#table, at + SLOT.state, STATE.free)
      this.#move(slot, STATE.free)
      return
    }
    if (result.length > RESULT_BYTES_MAX) {
      throw new QueueError(
        'ERR_RESULT_TOO_LARGE',
        `the result has ${result.length} bytes, a job takes ${RESULT_BYTES_MAX}`,
      )
    }
    tx.setUint32(this.#table, at + SLOT.state, STATE.done)
    tx.setUint32(this.#table, at + SLOT.resultBytes, result.length)
    tx.write(this.#table, at + SLOT.result, result)
    this.#move(slot, STATE.done)
  }

  /**
   * The worker could not do it: the job is ready again, in its old place, or dead after
   * `attemptsMax` leases.
   * @throws QueueError ERR_LEASE_LOST
   */
  fail(lease: Lease): 'ready' | 'dead' {
    return this.#volume.transact((tx) => this.#fail(tx, lease))
  }

  async failAsync(lease: Lease): Promise<'ready' | 'dead'> {
    return this.#volume.transactAsync((tx) => this.#fail(tx, lease))
  }

  #fail(tx: Transaction, lease: Lease): 'ready' | 'dead' {
    const slot = this.#slotOfLease(lease)
    const outcome = lease.attempt >= this.attemptsMax ? 'dead' : 'ready'
    tx.setUint32(this.#table, placeOf(slot) + SLOT.state, STATE[outcome])
    this.#move(slot, STATE[outcome], lease.id)
    return outcome
  }

  /**
   * Puts a dead job at the end of the queue, with its attempts forgotten. It gets a new id, so that
   * nobody's old lease fits it; its payload stays where it is.
   */
  retry(id: number): number {
    return this.#volume.transact((tx) => {
      const slot = this.#slotOf(id)
      this.#checkState(slot, id, 'retry', STATE.dead)
      const from = this.#nextId % this.slots
      const newId = this.#nextId + ((slot - from + this.slots) % this.slots)
      tx.setUint64(this.#table, placeOf(slot) + SLOT.id, newId)
      tx.setUint32(this.#table, placeOf(slot) + SLOT.state, STATE.ready)
      tx.setUint32(this.#table, placeOf(slot) + SLOT.attempts, 0)
      this.#nextId = newId + 1
      this.#move(slot, STATE.ready, newId)
      return newId
    })
  }

  /** Gives up the slot of a job that is done or dead. */
  remove(id: number): void {
    this.#volume.transact((tx) => {
      const slot = this.#slotOf(id)
      this.#checkState(slot, id, 'remove', STATE.dead, STATE.done)
      tx.setUint32(this.#table, placeOf(slot) + SLOT.state, STATE.free)
      this.#move(slot, STATE.free)
    })
  }

  /** What is known of a job, undefined when it is gone. */
  job(id: number): JobInfo | undefined {
    this.#expire()
    const slot = this.#findSlot(id)
    return slot === -1 ? undefined : this.#describe(slot)
  }

  /** All jobs, or those in one state, the oldest first. */
  *jobs(state?: Exclude<StateName, 'free'>): Generator<JobInfo> {
    this.#expire()
    const { view } = this.#table
    const ids: number[] = []
    for (let slot = 0; slot < this.slots; slot++) {
      const its = this.#states[slot]
      if (its === STATE.free || (state !== undefined && its !== STATE[state])) continue
      ids.push(getUint64(view, placeOf(slot) + SLOT.id))
    }
    ids.sort((a, b) => a - b)
    for (const id of ids) {
      const job = this.job(id)
      if (job !== undefined) yield job
    }
  }

  counts(): Readonly<Record<StateName, number>> {
    this.#expire()
    const [free = 0, ready = 0, leased = 0, done = 0, dead = 0] = this.#counts
    return { free, ready, leased, done, dead }
  }

  /** When the next lease expires: by then a worker that finds nothing may ask again. */
  get nextExpiry(): number | undefined {
    const slot = this.#leased.first
    return slot === -1 ? undefined : this.#leased.keyOf(slot)
  }

  /** Gives the chunks back to the volume, which stays open. */
  close(): void {
    this.#table.close()
    this.#payloads.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** Takes expired leases back, in memory alone: the table says it by the time it holds. */
  #expire(): number {
    const now = this.#now()
    const leased = this.#leased
    while (leased.size > 0 && leased.keyOf(leased.first) <= now) {
      const slot = leased.first
      const { view } = this.#table
      const attempts = view.getUint32(placeOf(slot) + SLOT.attempts, true)
      const state = attempts >= this.attemptsMax ? STATE.dead : STATE.ready
      this.#move(slot, state, getUint64(view, placeOf(slot) + SLOT.id))
    }
    return now
  }

  /** A slot's way from one state to another, in memory; `key` orders it there. */
  #move(slot: number, state: number, key = 0): void {
    const before = this.#states[slot]!
    if (before === STATE.ready) this.#ready.remove(slot)
    else if (before === STATE.leased) this.#leased.remove(slot)
    this.#counts[before]!--
    this.#counts[state]!++
    this.#states[slot] = state
    if (state === STATE.ready) this.#ready.add(slot, key)
    else if (state === STATE.leased) this.#leased.add(slot, key)
  }

  #findSlot(id: number): number {
    if (!Number.isSafeInteger(id) || id < 1) throw new RangeError('an id is a whole number above 0')
    const slot = id % this.slots
    const isThere =
      this.#states[slot] !== STATE.free &&
      getUint64(this.#table.view, placeOf(slot) + SLOT.id) === id
    return isThere ? slot : -1
  }

  #slotOf(id: number): number {
    const slot = this.#findSlot(id)
    if (slot === -1) throw new QueueError('ERR_JOB_NOT_FOUND', `there is no job ${id}`)
    return slot
  }

  #slotOfLease({ id, attempt }: Lease): number {
    this.#expire()
    const slot = this.#slotOf(id)
    const attempts = this.#table.view.getUint32(placeOf(slot) + SLOT.attempts, true)
    if (this.#states[slot] !== STATE.leased || attempts !== attempt) {
      throw new QueueError(
        'ERR_LEASE_LOST',
        `attempt ${attempt} at job ${id} has ended: the job is ${this.#stateName(slot)} after ${attempts}`,
      )
    }
    return slot
  }

  #checkState(slot: number, id: number, what: string, ...allowed: number[]): void {
    this.#expire()
    if (allowed.includes(this.#states[slot]!)) return
    throw new QueueError('ERR_JOB_STATE', `job ${id} is ${this.#stateName(slot)}: no ${what} now`)
  }

  #stateName(slot: number): Exclude<StateName, 'free'> {
    return STATE_NAMES[this.#states[slot]!] as Exclude<StateName, 'free'>
  }

  /** A copy: the cell is another job's as soon as this one is gone. */
  #payloadOf(view: DataView, slot: number): Uint8Array {
    const from = slot * this.payloadBytesMax
    const bytes = view.getUint32(placeOf(slot) + SLOT.payloadBytes, true)
    return this.#payloads.bytes.slice(from, from + bytes)
  }

  #describe(slot: number): JobInfo {
    const { bytes, view } = this.#table
    const at = placeOf(slot)
    const state = this.#stateName(slot)
    const resultAt = at + SLOT.result
    const resultBytes = view.getUint32(at + SLOT.resultBytes, true)
    return {
      id: getUint64(view, at + SLOT.id),
      state,
      attempts: view.getUint32(at + SLOT.attempts, true),
      worker: view.getUint32(at + SLOT.worker, true),
      leasedUntil: state === 'leased' ? this.#leased.keyOf(slot) : undefined,
      payload: this.#payloadOf(view, slot),
      result: state === 'done' ? bytes.slice(resultAt, resultAt + resultBytes) : undefined,
    }
  }
}

function placeOf(slot: number): number {
  return HEADER.bytes + slot * SLOT.bytes
}

function inRange(value: number, max: number): boolean {
  return value >= 1 && value <= max
}

function checkInteger(value: number, what: string, max: number): void {
  if (!Number.isSafeInteger(value) || !inRange(value, max)) {
    throw new RangeError(`${what} must be a whole number from 1 to ${max}`)
  }
}

function corrupt(what: string): QueueError {
  return new QueueError('ERR_QUEUE_CORRUPT', `the queue cannot be used: ${what}`)
}
