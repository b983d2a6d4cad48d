/**
 * The lab's own workloads: short sequences of operations on fresh and aged volumes, with the power
 * cut before every flush and fence of the last one. (Cuts in the earlier ones are the last ones of
 * shorter sequences.) Each state is recovered, compared with the model before or after the
 * operation, probed with further work, and now and then cut again while it recovers.
 */
import type { Chunk, Volume } from 'plinth'
import { alignUp, KIB, LINE_BYTES, MIB } from '../../src/base/units.js'
import { forEachCrashState, type Known, type Limits } from '../../src/testing/crash-states.js'
import { combine, fingerprintOf } from '../../src/testing/fingerprint.js'
import { Image } from '../../src/testing/images.js'
import { Random } from '../../src/testing/random.js'
import { recoverState } from '../../src/testing/recover-state.js'
import {
  type Model as CrashModel,
  type PointKind,
  SimulatedMedia,
  type Verdict,
} from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { makeEngine } from './engine-operations.js'
import { OPERATIONS, tryOperation } from './operations.js'
import { compare, EMPTY, type Loose, type Model, type Operation } from './world.js'

export interface Age {
  readonly name: string
  readonly image: Uint8Array
  readonly model: Model
  /** Done after opening and before the workload: what does not survive an opening. */
  readonly warmUp: (volume: Volume) => void
}

export interface Counts {
  workloads: number
  points: number
  /** Recovered and compared. */
  states: number
  /** Of those, cut within recovery. */
  nested: number
  /** Different images among them. */
  distinct: number
}

export interface LabOptions {
  readonly seed: number
  readonly limits: Limits
  /** One of so many states is cut again while it recovers, and one of so many probed with further work. */
  readonly nestOneIn: number
  readonly probeOneIn: number
  /** Makes the library misbehave: for the mutation score. */
  readonly judge?: ((kind: PointKind) => Verdict) | undefined
}

export class CrashFailure extends Error {}

const GRANULE = 4096
const FILL_BYTES = 16384
const NO_CELLS: undefined[] = Array.from({ length: 8 }, () => undefined)

export class Lab {
  readonly counts: Counts = { workloads: 0, points: 0, states: 0, nested: 0, distinct: 0 }
  readonly #options: LabOptions
  readonly #known = new Set<number>()
  /** Images with what they were found to be: what recovery makes of an image is always the same. */
  readonly #right = new Set<number>()
  readonly #fingerprints = new WeakMap<Uint8Array, number>()
  readonly #probes = new WeakMap<Model, Model>()

  constructor(options: LabOptions) {
    this.#options = options
  }

  /** One workload under one crash model. False when the model does not allow it (nothing to free, no space). */
  run(age: Age, operations: readonly Operation[], crashModel: CrashModel): boolean {
    const what = `${age.name}/${crashModel}/${operations.map(({ name }) => name).join('+')}`
    const models = this.#rehearse(age, operations, crashModel)
    if (models === undefined) return false
    this.counts.workloads++
    const before = models.at(-2)!
    const after = models.at(-1)!
    const last = operations.at(-1)!
    const loose = last.loose?.(before) ?? []
    const media = new SimulatedMedia(crashModel, age.image, true, this.#fingerprintOf(age.image))
    media.judge = this.#options.judge
    let volume = openSimulated(media)
    age.warmUp(volume)
    for (const [i, operation] of operations.slice(0, -1).entries()) {
      operation.run(volume, models[i]!)
      if (operation.name === 'close') volume = openSimulated(media)
    }
    let point = 0
    let edition = -1
    const tried = new Set<number>()
    const explore = (wanted: readonly Wanted[]) => {
      this.counts.points++
      const hasReturned = wanted.length === 1
      if (media.edition === edition && !hasReturned) return
      edition = media.edition
      // What was right while the operation ran may be wrong once it has returned.
      if (hasReturned) tried.clear()
      const known: Known = {
        has: (fingerprint) => tried.has(fingerprint) || this.#isRight(fingerprint, wanted),
        add: (fingerprint) => tried.add(fingerprint),
      }
      const random = new Random(this.#options.seed, point)
      forEachCrashState(media, random, this.#options.limits, known, (image, fingerprint) => {
        this.#count(fingerprint)
        this.#verify(`${what} point ${point}`, image, fingerprint, crashModel, wanted, known)
      })
      point++
    }
    const want = (model: Model, may: readonly Loose[]): Wanted => ({
      model,
      loose: may,
      key: may.length === 0 ? keyOf(crashModel, model) : undefined,
    })
    const during = [want(before, loose), want(after, [])]
    if (last.middle) during.push(want(last.middle(before), []))
    media.onPoint = () => explore(during)
    last.run(volume, before)
    media.onPoint = undefined
    // It has returned: nothing but the state after it is right from here on.
    explore([want(after, [])])
    media.release()
    return true
  }

  #fingerprintOf(image: Uint8Array): number {
    const known = this.#fingerprints.get(image) ?? fingerprintOf(image)
    this.#fingerprints.set(image, known)
    return known
  }

  #count(fingerprint: number): void {
    this.counts.states++
    if (this.#known.has(fingerprint)) return
    this.#known.add(fingerprint)
    this.counts.distinct++
  }

  /** Without a crash: the model after each operation. */
  #rehearse(
    age: Age,
    operations: readonly Operation[],
    crashModel: CrashModel,
  ): Model[] | undefined {
    const media = new SimulatedMedia(crashModel, age.image, false)
    try {
      let volume = openSimulated(media)
      age.warmUp(volume)
      const models = [age.model]
      for (const operation of operations) {
        const next = tryOperation(operation, volume, models.at(-1)!)
        if (next === undefined) return undefined
        models.push(next)
        if (operation.name === 'close') volume = openSimulated(media)
      }
      const different = compare(volume, models.at(-1)!)
      if (different !== undefined) throw new CrashFailure(`without a crash: ${different}`)
      return models
    } finally {
      media.release()
    }
  }

  /** Whether the image was recovered before and found to be just what is wanted now. */
  #isRight(fingerprint: number, wanted: readonly Wanted[]): boolean {
    return wanted.some(({ key }) => key !== undefined && this.#right.has(combine(fingerprint, key)))
  }

  #verify(
    what: string,
    image: Uint8Array,
    fingerprint: number,
    crashModel: CrashModel,
    wanted: readonly Wanted[],
    known: Known,
  ): void {
    const { seed, nestOneIn, judge } = this.#options
    try {
      recoverState(image, fingerprint, {
        model: crashModel,
        seed,
        nestOneIn,
        judge,
        known,
        onNested: (nested) => {
          this.#count(nested)
          this.counts.nested++
        },
        verify: (volume, its, random) => {
          const key = this.#compare(volume, wanted, random)
          if (key !== undefined) this.#right.add(combine(its, key))
        },
      })
    } catch (cause) {
      throw new CrashFailure(`${what}: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      })
    }
  }

  /** Returns the key of what the volume is found to be. */
  #compare(volume: Volume, wanted: readonly Wanted[], random: Random): number | undefined {
    const differences: string[] = []
    for (const { model, loose, key } of wanted) {
      const different = compare(volume, model, loose)
      if (different === undefined) {
        if (random.below(this.#options.probeOneIn) === 0) this.#probe(volume, model)
        return key
      }
      differences.push(different)
    }
    throw new CrashFailure(`neither before nor after: ${differences.join(' / ')}`)
  }

  /** Further work gives what it gives on a volume that never crashed. */
  #probe(volume: Volume, model: Model): void {
    const found = runProbe(volume, model)
    const wanted = this.#probes.get(model)
    if (wanted === undefined) this.#probes.set(model, found)
    else if (JSON.stringify(found) !== JSON.stringify(wanted)) {
      throw new CrashFailure('further work goes another way than elsewhere')
    }
    const different = compare(volume, found)
    if (different !== undefined) throw new CrashFailure(`after further work: ${different}`)
  }
}

/** A state that is right. */
interface Wanted {
  readonly model: Model
  readonly loose: readonly Loose[]
  /** A number for the model, where nothing is loose. */
  readonly key: number | undefined
}

const keys = new WeakMap<Model, string>()

/** The same for models that say the same of a volume. */
function keyOf(crashModel: CrashModel, model: Model): number {
  const text = keys.get(model) ?? JSON.stringify({ ...model, next: 0 })
  keys.set(model, text)
  const bytes = Buffer.from(crashModel + text)
  const lines = new Uint8Array(alignUp(bytes.length, LINE_BYTES))
  lines.set(bytes)
  return fingerprintOf(lines)
}

const PROBE = ['allocate', 'tx-write', 'free', 'tx-several', 'whole'].map(
  (name) => OPERATIONS.find((operation) => operation.name === name)!,
)

function runProbe(volume: Volume, model: Model): Model {
  return PROBE.reduce((state, operation) => operation.run(volume, state) ?? state, model)
}

/** A fresh volume, and aged ones. */
export function makeAges(): Age[] {
  const fresh = makeImage()
  const idle = () => {}
  const aged = (
    name: string,
    work: (volume: Volume) => Model,
    warmUp: Age['warmUp'] = idle,
    image = fresh,
    closes = true,
  ): Age => {
    const media = new SimulatedMedia('cache-line', image)
    const volume = openSimulated(media)
    // Nothing on it is zero: what a chunk finds there was another's.
    const all = volume.allocate({ size: volume.stats().largestFreeBytes })
    all.bytes.fill(0xa5)
    all.persist(0, all.size)
    volume.free(all)
    const model = work(volume)
    if (closes) volume.close()
    return { name, image: Image.copyOf(media.durable).bytes, model, warmUp }
  }
  const two = (volume: Volume) => runAll(volume, ['allocate', 'tx-write', 'publish'])
  const used = (volume: Volume) =>
    runAll(volume, ['object-publish', 'object-allocate'], two(volume))
  return [
    { name: 'fresh', image: fresh, model: EMPTY, warmUp: idle },
    aged('nearly-full', (volume) => {
      const model = used(volume)
      const filler = volume.allocate({ size: volume.stats().largestFreeBytes - 2 * GRANULE })
      return including(model, filler)
    }),
    // It grows by itself, and its table has slots for a few chunks more.
    aged(
      'growing',
      (volume) => {
        const model = used(volume)
        const filler = volume.allocate({ size: volume.stats().largestFreeBytes - GRANULE })
        return including(model, filler)
      },
      idle,
      makeImage({ slots: 32, deviceSize: MIB + 128 * KIB, maxSize: MIB + 128 * KIB }),
    ),
    // Few and large granules: what counts is the pattern.
    aged('fragmented', fragment, idle, makeImage({ granule: 8 * GRANULE })),
    aged(
      'log-nearly-full',
      (volume) => withFill(volume, used),
      (volume) => fillLog(volume, 0),
    ),
    // The ring's end comes with the next records: of lines, and of blocks. The log wraps.
    aged('log-at-end', (volume) => filled(volume, used, 64)),
    aged('log-block-at-end', (volume) => filled(volume, two, 6000)),
    aged('two-chunks', two),
    aged('heap-used', (volume) =>
      runAll(volume, ['object-fill', 'object-put', 'object-publish'], used(volume)),
    ),
    aged('engine', (volume) => makeEngine(volume, used(volume))),
    aged(
      'engine-log-nearly-full',
      (volume) => withFill(volume, (each) => makeEngine(each, two(each))),
      (volume) => fillLog(volume, 0),
    ),
    // Not closed: opening it replays, and work goes on from there.
    aged('crashed', two, busy, fresh, false),
  ]
}

/** Every granule taken, then some holes of one. */
function fragment(volume: Volume): Model {
  let model = runAll(volume, ['object-publish'])
  const holes: Chunk[] = []
  while (volume.stats().largestFreeBytes > 0) {
    const chunk = volume.allocate({ size: GRANULE })
    if (model.chunks.length % 3 === 1) holes.push(chunk)
    model = including(model, chunk)
  }
  for (const chunk of holes) volume.free(chunk)
  const gone = new Set(holes.map(({ id }) => id))
  return { ...model, chunks: model.chunks.filter(({ id }) => !gone.has(id)) }
}

/** Work that ends where it began, with checkpoints between: what was dirty once is dirty again. */
function busy(volume: Volume): void {
  for (const { id, name } of volume.chunks()) {
    const chunk = volume.chunk(id)
    const bytes = chunk.bytes.slice(0, 64)
    volume.transact(() => volume.rename(chunk, 'for a while'))
    volume.transact((tx) => {
      volume.rename(chunk, name)
      tx.write(chunk, 0, bytes)
    })
    volume.checkpoint()
  }
}

function runAll(volume: Volume, names: readonly string[], from = EMPTY): Model {
  return names.reduce<Model>((model, name) => {
    const operation = OPERATIONS.find((each) => each.name === name)!
    return operation.run(volume, model) ?? model
  }, from)
}

function including(model: Model, chunk: Chunk): Model {
  const { id, offset, size } = chunk
  const made = { id, offset, size, type: undefined, name: chunk.name, cells: NO_CELLS }
  return { ...model, chunks: [...model.chunks, made], next: model.next + 1 }
}

function withFill(volume: Volume, work: (volume: Volume) => Model): Model {
  return including(work(volume), volume.allocate({ size: FILL_BYTES, name: 'fill' }))
}

function filled(volume: Volume, work: (volume: Volume) => Model, room: number): Model {
  const model = withFill(volume, work)
  fillLog(volume, room)
  return model
}

/** Commits to the chunk `fill` until the next small record finds less than a little more than `room` left in the log. */
function fillLog(volume: Volume, room: number): void {
  const fill = volume.chunk('fill')
  const paged = volume.info.granularity === 'page' ? 4096 : 0
  const left = () => {
    const { logBytes, logUsedBytes } = volume.stats()
    return logBytes - logUsedBytes - room - 2 * paged
  }
  while (left() > 256) {
    const bytes = Math.min(FILL_BYTES, Math.max(64, left() - 192 - paged))
    volume.transact((tx) => tx.write(fill, 0, new Uint8Array(bytes)))
  }
}
