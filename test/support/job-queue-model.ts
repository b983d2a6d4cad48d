/** The job queue of the examples as plain objects, slow and plainly right, and what drives both. */
import type { JobQueue, Lease } from '../../examples/job-queue/engine.js'

/** One change, as JSON can carry it from a process that is going to be killed. */
export type Operation =
  | { readonly kind: 'enqueue'; readonly payload: string }
  | { readonly kind: 'lease'; readonly worker: number; readonly ms: number }
  | ({ readonly kind: 'ack'; readonly result?: string } & Lease)
  | ({ readonly kind: 'fail' } & Lease)
  | { readonly kind: 'retry'; readonly id: number }
  | { readonly kind: 'remove'; readonly id: number }
  | { readonly kind: 'tick'; readonly ms: number }

/** What an operation gives, in a form that can be compared; `changes` tells whether it wrote. */
export interface Outcome {
  readonly text: string
  readonly changes: boolean
}

interface ModelJob {
  id: number
  state: 'ready' | 'leased' | 'done' | 'dead'
  attempts: number
  worker: number
  leasedUntil: number
  payload: string
  result: string
}

export class QueueModel {
  readonly slots: number
  readonly attemptsMax: number
  now: number
  nextId = 1
  jobs: ModelJob[] = []

  constructor(options: { slots: number; attemptsMax: number; now: number }) {
    this.slots = options.slots
    this.attemptsMax = options.attemptsMax
    this.now = options.now
  }

  clone(): QueueModel {
    const copy = new QueueModel(this)
    copy.nextId = this.nextId
    copy.jobs = this.jobs.map((job) => ({ ...job }))
    return copy
  }

  apply(operation: Operation): Outcome {
    this.#expire()
    switch (operation.kind) {
      case 'tick':
        this.now += operation.ms
        return { text: '', changes: false }
      case 'enqueue':
        return this.#enqueue(operation.payload)
      case 'lease': {
        const [job] = this.jobs.filter(({ state }) => state === 'ready').sort((a, b) => a.id - b.id)
        if (job === undefined) return { text: 'none', changes: false }
        job.state = 'leased'
        job.attempts++
        job.worker = operation.worker
        job.leasedUntil = this.now + operation.ms
        return changed(`${job.id}/${job.attempts}: ${job.payload}`)
      }
      default:
        return this.#change(operation)
    }
  }

  #enqueue(payload: string): Outcome {
    if (this.jobs.length === this.slots) return refused('ERR_QUEUE_FULL')
    while (this.jobs.some(({ id }) => id % this.slots === this.nextId % this.slots)) this.nextId++
    const id = this.nextId++
    const job = { id, attempts: 0, worker: 0, leasedUntil: 0, payload, result: '' }
    this.jobs.push({ ...job, state: 'ready' })
    return changed(`${id}`)
  }

  #change(operation: Exclude<Operation, { kind: 'tick' | 'enqueue' | 'lease' }>): Outcome {
    const { kind, id } = operation
    const job = this.jobs.find((job) => job.id === id)
    if (job === undefined) return refused('ERR_JOB_NOT_FOUND')
    const drop = () => {
      this.jobs = this.jobs.filter((other) => other !== job)
      return changed('')
    }
    if (kind === 'ack' || kind === 'fail') {
      if (job.state !== 'leased' || job.attempts !== operation.attempt) {
        return refused('ERR_LEASE_LOST')
      }
      if (kind === 'fail') {
        job.state = job.attempts >= this.attemptsMax ? 'dead' : 'ready'
        return changed(job.state)
      }
      if (operation.result === undefined) return drop()
      job.state = 'done'
      job.result = operation.result
      return changed('')
    }
    if (kind === 'remove') {
      return job.state === 'done' || job.state === 'dead' ? drop() : refused('ERR_JOB_STATE')
    }
    if (job.state !== 'dead') return refused('ERR_JOB_STATE')
    // The next id that falls on the same slot.
    while (this.nextId % this.slots !== job.id % this.slots) this.nextId++
    job.id = this.nextId++
    job.state = 'ready'
    job.attempts = 0
    return changed(`${job.id}`)
  }

  #expire(): void {
    for (const job of this.jobs) {
      if (job.state !== 'leased' || job.leasedUntil > this.now) continue
      job.state = job.attempts >= this.attemptsMax ? 'dead' : 'ready'
    }
  }

  /** One line a job, the oldest first. */
  describe(): string[] {
    this.#expire()
    return this.jobs
      .sort((a, b) => a.id - b.id)
      .map(
        ({ id, state, attempts, payload, result, worker, leasedUntil }) =>
          `${id} ${state} ${attempts} '${payload}'` +
          (state === 'done' ? ` '${result}'` : '') +
          (state === 'leased' ? ` ${worker} ${leasedUntil}` : ''),
      )
  }
}

function changed(text: string): Outcome {
  return { text, changes: true }
}

function refused(code: string): Outcome {
  return { text: code, changes: false }
}

/** The queue, described as the model describes itself. */
export function describeQueue(queue: JobQueue): string[] {
  return [...queue.jobs()].map(
    ({ id, state, attempts, payload, result, worker, leasedUntil }) =>
      `${id} ${state} ${attempts} '${decode(payload)}'` +
      (result === undefined ? '' : ` '${decode(result)}'`) +
      (leasedUntil === undefined ? '' : ` ${worker} ${leasedUntil}`),
  )
}

/** Whoever runs operations: a queue with its clock, and what its workers hold. */
export interface Driven {
  readonly queue: JobQueue
  readonly leases: Lease[]
  tick(ms: number): void
}

export function runOperation(driven: Driven, operation: Operation): Outcome {
  const { queue, leases } = driven
  try {
    switch (operation.kind) {
      case 'tick':
        driven.tick(operation.ms)
        return { text: '', changes: false }
      case 'enqueue':
        return changed(`${queue.enqueue(encode(operation.payload))}`)
      case 'lease': {
        const job = queue.lease(operation.worker, operation.ms)
        if (job === undefined) return { text: 'none', changes: false }
        leases.push(job)
        return changed(`${job.id}/${job.attempt}: ${decode(job.payload)}`)
      }
      case 'ack': {
        const { result } = operation
        queue.ack(operation, result === undefined ? undefined : encode(result))
        return changed('')
      }
      case 'fail':
        return changed(queue.fail(operation))
      case 'retry':
        return changed(`${queue.retry(operation.id)}`)
      case 'remove':
        queue.remove(operation.id)
        return changed('')
    }
  } catch (error) {
    return refused(codeOf(error))
  }
}

/** The same with group commit. The operation has happened when this returns, and is durable later. */
export async function runOperationAsync(driven: Driven, operation: Operation): Promise<Outcome> {
  const { queue, leases } = driven
  try {
    switch (operation.kind) {
      case 'enqueue':
        return changed(`${await queue.enqueueAsync(encode(operation.payload))}`)
      case 'lease': {
        const job = await queue.leaseAsync(operation.worker, operation.ms)
        if (job === undefined) return { text: 'none', changes: false }
        leases.push(job)
        return changed(`${job.id}/${job.attempt}: ${decode(job.payload)}`)
      }
      case 'ack': {
        const { result } = operation
        await queue.ackAsync(operation, result === undefined ? undefined : encode(result))
        return changed('')
      }
      case 'fail':
        return changed(await queue.failAsync(operation))
      default:
        return runOperation(driven, operation)
    }
  } catch (error) {
    return refused(codeOf(error))
  }
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: string }
  if (code === undefined) throw error
  return code
}

/** An operation that mostly makes sense, and sometimes does not. */
export function pickOperation(random: () => number, { queue, leases }: Driven): Operation {
  const whole = (below: number) => Math.floor(random() * below)
  const dice = whole(100)
  if (dice < 32) return { kind: 'enqueue', payload: 'x'.repeat(whole(40)) + whole(1e6) }
  if (dice < 58) return { kind: 'lease', worker: whole(5), ms: 1 + whole(300) }
  if (dice < 88 && leases.length > 0) {
    // Leases are kept when they are over, now and then: such a worker comes too late.
    const at = whole(leases.length)
    const { id, attempt } = leases[at]!
    if (whole(10) > 0) leases.splice(at, 1)
    if (dice < 70) return { kind: 'fail', id, attempt }
    return whole(2) === 0
      ? { kind: 'ack', id, attempt }
      : { kind: 'ack', id, attempt, result: `result ${id}` }
  }
  if (dice < 92) return { kind: 'tick', ms: whole(200) }
  const jobs = [...queue.jobs(whole(2) === 0 ? 'dead' : 'done')]
  const id = jobs[whole(jobs.length)]?.id ?? 1 + whole(20)
  return { kind: dice < 96 ? 'remove' : 'retry', id }
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

export function decode(bytes: Uint8Array | undefined): string {
  return new TextDecoder().decode(bytes)
}
