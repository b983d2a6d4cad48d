/**
 * The states that a power cut may leave: the durable image with, for each volatile unit, one of
 * the contents that it may have. All of them when they are few; else a choice that covers what goes
 * wrong in practice: nothing, everything, each unit alone, each missing alone, each prefix in order
 * of storing, for any two units each without the other, torn units, and seeded mixtures.
 */
import { LINE_BYTES } from '../base/units.js'
import { combine, mixLines } from './fingerprint.js'
import { Image } from './images.js'
import type { Random } from './random.js'
import type { SimulatedMedia, VolatileUnit } from './simulated-media.js'

export interface Limits {
  /** So many combinations are tried exhaustively. */
  readonly exhaustive: number
  /** Seeded mixtures beyond. */
  readonly samples: number
  /** Of more units, so many, drawn by the seed, are tried alone, missing and as ends of prefixes. @default all */
  readonly units?: number
}

/** Fingerprints of states that need not be tried. */
export type Known = Pick<Set<number>, 'has' | 'add'>

/** Which version each volatile unit has: 0 the durable one, n the n-th after it, -1 torn. */
type Choice = Int32Array

const NO_BYTES = new Uint8Array(0)

/**
 * Calls `visit` with each image and its fingerprint. The image is reused: copy it to keep it. Images
 * whose fingerprint is in `known` are left out.
 */
export function forEachCrashState(
  media: SimulatedMedia,
  random: Random,
  limits: Limits,
  known: Known,
  visit: (image: Uint8Array, fingerprint: number) => void,
): void {
  const units = media.volatileUnits().map((unit) => new Choosable(media, unit))
  const durable = media.fingerprint
  let image: Image | undefined
  const chosen =
    media.model === 'page-prefix'
      ? prefixes(units, random, limits)
      : choices(units, random, limits, media.unitBytes === LINE_BYTES)
  for (const choice of chosen) {
    let key = durable
    for (let i = 0; i < units.length; i++) {
      if (choice[i] !== 0) key = combine(key, units[i]!.choose(choice[i]!, random))
    }
    if (known.has(key)) continue
    known.add(key)
    image ??= Image.copyOf(media.durable)
    for (let i = 0; i < units.length; i++) {
      if (choice[i] !== 0) image.set(units[i]!.contents(choice[i]!), units[i]!.at)
    }
    visit(image.bytes, key)
    for (let i = 0; i < units.length; i++) {
      if (choice[i] !== 0) image.set(units[i]!.durable, units[i]!.at)
    }
  }
  image?.giveBack()
}

/** A volatile unit, with what each of its contents changes in the fingerprint: worked out once, used in many states. */
class Choosable {
  readonly at: number
  readonly versions: readonly Uint8Array[]
  readonly order: readonly number[]
  /** What is durable. */
  readonly durable: Uint8Array
  readonly #durableKey: number
  readonly #keys: (number | undefined)[]
  /** Made anew for each state that has it. */
  #torn: Uint8Array = NO_BYTES

  constructor(media: SimulatedMedia, { unit, versions, order }: VolatileUnit) {
    this.at = unit * media.unitBytes
    this.versions = versions
    this.order = order
    this.durable = media.durable.subarray(this.at, this.at + media.unitBytes)
    this.#durableKey = mixLines(0, this.at, this.durable)
    this.#keys = versions.map(() => undefined)
  }

  /** What the fingerprint changes by. Tears the unit when that is the choice. */
  choose(version: number, random: Random): number {
    if (version > 0) {
      const key = this.#keys[version - 1] ?? this.#keyOf(this.versions[version - 1]!)
      this.#keys[version - 1] = key
      return key
    }
    this.#torn = torn(this.durable, this.versions.at(-1)!, random)
    return this.#keyOf(this.#torn)
  }

  contents(version: number): Uint8Array {
    return version > 0 ? this.versions[version - 1]! : this.#torn
  }

  #keyOf(bytes: Uint8Array): number {
    return mixLines(this.#durableKey, this.at, bytes)
  }
}

/** Some words new, some old. */
function torn(durable: Uint8Array, newest: Uint8Array, random: Random): Uint8Array {
  const bytes = durable.slice()
  for (let word = 0; word < bytes.length; word += 8) {
    if (random.below(2) === 1) bytes.set(newest.subarray(word, word + 8), word)
  }
  return bytes
}

/** What was written up to some sector, in the order of writing. */
function* prefixes(units: readonly Choosable[], random: Random, limits: Limits): Generator<Choice> {
  const written = units.flatMap(({ order }) => order).sort((a, b) => a - b)
  const ends = sample(written.length, limits.units, random).map((i) => written[i]!)
  for (const last of new Set([0, ...ends, ...written.slice(-1)])) {
    yield Int32Array.from(units, ({ order }) => order.filter((each) => each <= last).length)
  }
}

/** So many of the numbers below `count`, or all of them, in their order. */
function sample(count: number, wanted = count, random: Random): number[] {
  if (count <= wanted) return Array.from({ length: count }, (_, i) => i)
  const drawn = new Set<number>()
  while (drawn.size < wanted) drawn.add(random.below(count))
  return [...drawn].sort((a, b) => a - b)
}

function* choices(
  units: readonly Choosable[],
  random: Random,
  limits: Limits,
  words: boolean,
): Generator<Choice> {
  const count = units.length
  const combinations = units.reduce((product, { versions }) => product * (versions.length + 1), 1)
  const choice = new Int32Array(count)
  if (combinations <= limits.exhaustive) {
    for (let n = 0; n < combinations; n++) {
      let rest = n
      units.forEach(({ versions }, i) => {
        choice[i] = rest % (versions.length + 1)
        rest = Math.floor(rest / (versions.length + 1))
      })
      yield choice
    }
  } else {
    const newest = Int32Array.from(units, ({ versions }) => versions.length)
    yield choice
    yield newest
    for (const i of sample(count, limits.units, random)) {
      yield choice.fill(0).fill(newest[i]!, i, i + 1)
      choice.set(newest)
      yield choice.fill(0, i, i + 1)
      choice.fill(0)
      choice.set(newest.subarray(0, i))
      yield choice
    }
    // Any two units differ in a bit of their numbers: by these, of any two each is there without the other.
    for (let bit = 1; bit < count; bit *= 2) {
      for (const wanted of [0, bit]) {
        for (let i = 0; i < count; i++) choice[i] = (i & bit) === wanted ? newest[i]! : 0
        yield choice
      }
    }
    for (let n = 0; n < limits.samples; n++) {
      for (let i = 0; i < count; i++) choice[i] = random.below(units[i]!.versions.length + 1)
      yield choice
    }
  }
  if (!words || count === 0) return
  // Lines of which only some words arrived: all of them, then some.
  yield choice.fill(-1)
  for (let n = 0; n < Math.min(4, count); n++) {
    for (let i = 0; i < count; i++) {
      choice[i] = i % 4 === n ? -1 : random.below(units[i]!.versions.length + 1)
    }
    yield choice
  }
}
