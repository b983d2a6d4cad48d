/**
 * The crash lab for a structure of one's own: it runs a workload on simulated media, cuts the power
 * before every flush and every fence, makes the states that the device may then be in, recovers each,
 * and asks `check` whether it is right.
 *
 *   setup ──▶ workload ──┬── point ──▶ states ──▶ recover ──▶ check
 *                        ├── point ──▶ …            └─ cut again, now and then
 *                        └── end   ──▶ …, and what was stored and never flushed
 */
import { checkInteger, checkOptions } from '../base/arguments.js'
import { argumentTypeError, argumentValueError } from '../base/errors.js'
import type { Volume } from '../volume/volume.js'
import { forEachCrashState, type Known } from './crash-states.js'
import { Random } from './random.js'
import { recoverState } from './recover-state.js'
import { type Model, SimulatedMedia } from './simulated-media.js'
import { makeImage, openSimulated } from './simulated-volume.js'

/** A structure to try, and how. */
export interface CrashTest<A> {
  /** Prepares the volume. Its effects are durable before the first cut. */
  readonly setup?: (volume: Volume) => void
  /**
   * The work. It opens its structure on `volume` and calls `acknowledge` with whatever must survive
   * from then on, as an engine answers its client.
   */
  readonly workload: (volume: Volume, acknowledge: (what: A) => void) => void | Promise<void>
  /**
   * Opens the structure on a recovered volume and throws when something acknowledged is missing, or
   * something is there that nobody wrote. What was under way may be there or not.
   */
  readonly check: (volume: Volume, acknowledged: readonly A[]) => void
  /** Which kinds of device to simulate. @default all */
  readonly models?: readonly Model[]
  /** Where the samples come from; a failure names it. @default 1 */
  readonly seed?: number
  /** Only this point of this model, as a failure names it: `cache-line:17`. @default all */
  readonly only?: string
  /** Bytes of the simulated volume. @default 1 MiB */
  readonly size?: number
  readonly granule?: number
  readonly logSize?: number
  /** So many combinations of volatile lines are tried one by one. @default 64 */
  readonly exhaustive?: number
  /** So many seeded mixtures are tried beyond. @default 16 */
  readonly samples?: number
}
const OPTIONS = [
  'setup',
  'workload',
  'check',
  'models',
  'seed',
  'only',
  'size',
  'granule',
  'logSize',
  'exhaustive',
  'samples',
]

/** Bytes of a chunk that were stored to and never flushed when the workload had ended. */
export interface Unflushed {
  readonly model: Model
  /** Name or id of the chunk. */
  readonly chunk: string
  readonly offset: number
  readonly length: number
}

/** A call that flushed what had nothing to write back. */
export interface NeedlessFlush {
  readonly where: string
  readonly count: number
}

/** What `crashTest` tried when all was right. */
export interface CrashReport {
  readonly seed: number
  readonly points: number
  /** Recovered and checked. */
  readonly states: number
  /** Of those, cut again within recovery. */
  readonly nested: number
  /** Different images among them. */
  readonly distinct: number
  readonly unflushed: readonly Unflushed[]
  readonly needlessFlushes: readonly NeedlessFlush[]
}

/** What `crashTest` throws when a state is wrong; `cause` is what `check` or recovery threw. */
export class CrashTestError extends Error {
  override readonly name = 'CrashTestError'
}

export const MODELS: readonly Model[] = ['cache-line', 'page', 'page-prefix', 'byte']
const NEST_ONE_IN = 16

/**
 * Tries a structure at every point where the power can fail.
 * @throws CrashTestError at the first wrong state, with what repeats it; TypeError for wrong options
 */
export async function crashTest<A>(test: CrashTest<A>): Promise<CrashReport> {
  checkOptions(test, OPTIONS, 'crashTest')
  for (const name of ['workload', 'check'] as const) {
    if (typeof test[name] !== 'function') throw argumentTypeError(`${name} must be a function`)
  }
  const { seed = 1, exhaustive = 64, samples = 16, models = MODELS } = test
  checkInteger(seed, 'seed', 0, 2 ** 32 - 1)
  checkInteger(exhaustive, 'exhaustive', 1, 2 ** 20)
  checkInteger(samples, 'samples', 0, 2 ** 20)
  for (const model of models) {
    if (!MODELS.includes(model)) throw argumentValueError(`there is no model '${model}'`)
  }
  const run = new Run(test, { seed, exhaustive, samples })
  for (const model of models) await run.model(model)
  return run.report()
}

class Run<A> {
  readonly #test: CrashTest<A>
  readonly #settings: { seed: number; exhaustive: number; samples: number }
  readonly #image: Uint8Array
  readonly #distinct = new Set<number>()
  readonly #needless = new Map<string, number>()
  readonly #unflushed: Unflushed[] = []
  #points = 0
  #states = 0
  #nested = 0

  constructor(test: CrashTest<A>, settings: { seed: number; exhaustive: number; samples: number }) {
    this.#test = test
    this.#settings = settings
    const { size, granule, logSize } = test
    this.#image = makeImage({
      ...(size !== undefined && { size }),
      ...(granule !== undefined && { granule }),
      ...(logSize !== undefined && { logSize }),
    })
  }

  async model(model: Model): Promise<void> {
    const prepared = this.#prepare(model)
    const media = new SimulatedMedia(model, prepared)
    media.onNeedless = () => this.#countNeedless()
    const volume = openSimulated(media)
    const acknowledged: A[] = []
    const known = new Set<number>()
    let point = 0
    const explore = () => {
      const random = new Random(this.#settings.seed, point)
      const name = `${model}:${point++}`
      if (this.#test.only !== undefined && this.#test.only !== name) return
      this.#points++
      forEachCrashState(media, random, this.#settings, known, (image, fingerprint) => {
        this.#count(fingerprint)
        this.#tryState(name, image, fingerprint, model, known, acknowledged)
      })
    }
    media.onPoint = explore
    await this.#test.workload(volume, (what) => {
      acknowledged.push(what)
      // What was right before may be wrong from here on.
      known.clear()
    })
    explore()
    media.onPoint = undefined
    // A volume that the workload has closed has nothing left unflushed.
    if (volume.isOpen) this.#lookForUnflushed(media, volume, model)
    media.release()
  }

  #prepare(model: Model): Uint8Array {
    const media = new SimulatedMedia(model, this.#image)
    const volume = openSimulated(media)
    this.#test.setup?.(volume)
    volume.close()
    return media.durable
  }

  #tryState(
    name: string,
    image: Uint8Array,
    fingerprint: number,
    model: Model,
    known: Known,
    acknowledged: readonly A[],
  ): void {
    try {
      recoverState(image, fingerprint, {
        model,
        seed: this.#settings.seed,
        known,
        nestOneIn: NEST_ONE_IN,
        onNested: (nested) => {
          this.#nested++
          this.#count(nested)
        },
        verify: (volume) => this.#test.check(volume, acknowledged),
      })
    } catch (cause) {
      const { seed } = this.#settings
      throw new CrashTestError(
        `wrong after a crash at ${name} with ${acknowledged.length} acknowledged: ${cause instanceof Error ? cause.message : cause}\n` +
          `repeat it with crashTest({ …, seed: ${seed}, only: '${name}' })`,
        { cause },
      )
    }
  }

  #count(fingerprint: number): void {
    this.#states++
    this.#distinct.add(fingerprint)
  }

  #lookForUnflushed(media: SimulatedMedia, volume: Volume, model: Model): void {
    // What the log has is written in place first; what then differs was stored by nobody but the workload.
    volume.checkpoint()
    const chunks = volume.chunks()
    for (const unit of media.unflushed()) {
      const at = unit * media.unitBytes
      const owner = chunks.find(({ offset, size }) => at >= offset && at < offset + size)
      if (owner === undefined) continue
      const chunk = owner.name ?? String(owner.id)
      const offset = at - owner.offset
      const last = this.#unflushed.at(-1)
      if (last?.model === model && last.chunk === chunk && last.offset + last.length === offset) {
        this.#unflushed[this.#unflushed.length - 1] = {
          ...last,
          length: last.length + media.unitBytes,
        }
      } else {
        this.#unflushed.push({ model, chunk, offset, length: media.unitBytes })
      }
    }
  }

  /** Told by who called plinth. */
  #countNeedless(): void {
    const own = new URL('..', import.meta.url).href
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 30
    const { stack } = new Error('where')
    Error.stackTraceLimit = limit
    const frame = stack
      ?.split('\n')
      .slice(1)
      .find((line) => !line.includes(own) && !line.includes('node:internal'))
    const where = frame?.trim().replace(/^at /, '') ?? 'unknown'
    this.#needless.set(where, (this.#needless.get(where) ?? 0) + 1)
  }

  report(): CrashReport {
    return {
      seed: this.#settings.seed,
      points: this.#points,
      states: this.#states,
      nested: this.#nested,
      distinct: this.#distinct.size,
      unflushed: this.#unflushed,
      needlessFlushes: [...this.#needless].map(([where, count]) => ({ where, count })),
    }
  }
}
