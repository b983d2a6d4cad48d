/**
 * The states that a power cut may leave: the durable image with, for each unsettled unit, one of
 * the contents that it may have. All of them when they are few; else a choice that covers what goes
 * wrong in practice: nothing, everything, each unit alone, each missing alone, each prefix in order
 * of storing, for any two units each without the other, torn units, and seeded mixtures.
 */
import { LINE_BYTES } from '../base/units.js'
import { mixLines } from './fingerprint.js'
import { Image } from './images.js'
import type { Random } from './random.js'
import type { SimulatedMedia, Unsettled } from './simulated-media.js'

export interface Limits {
  /** So many combinations are tried exhaustively. */
  readonly exhaustive: number
  /** Seeded mixtures beyond. */
  readonly samples: number
}

/** Fingerprints of states that need not be tried. */
export type Known = Pick<Set<number>, 'has' | 'add'>

/** Which version each unsettled unit has: 0 the durable one, n the n-th after it, -1 torn. */
type Choice = Int32Array

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
  const units = media.unsettled()
  const durable = media.fingerprint
  let image: Image | undefined
  const chosen =
    media.model === 'page-prefix'
      ? prefixes(units)
      : choices(units, random, limits, media.unitBytes === LINE_BYTES)
  for (const choice of chosen) {
    const written = contentsOf(media, units, choice, random)
    let key = durable
    for (const { at, bytes } of written) {
      key = mixLines(key, at, media.durable.subarray(at, at + bytes.length))
      key = mixLines(key, at, bytes)
    }
    if (known.has(key)) continue
    known.add(key)
    image ??= Image.copyOf(media.durable)
    for (const { at, bytes } of written) image.set(bytes, at)
    visit(image.bytes, key)
    for (const { at, bytes } of written) {
      image.set(media.durable.subarray(at, at + bytes.length), at)
    }
  }
  image?.giveBack()
}

function contentsOf(
  media: SimulatedMedia,
  units: readonly Unsettled[],
  choice: Choice,
  random: Random,
): { at: number; bytes: Uint8Array }[] {
  const written: { at: number; bytes: Uint8Array }[] = []
  units.forEach(({ unit, versions }, i) => {
    const version = choice[i]!
    if (version === 0) return
    const at = unit * media.unitBytes
    const bytes = version > 0 ? versions[version - 1]! : torn(media, at, versions.at(-1)!, random)
    written.push({ at, bytes })
  })
  return written
}

/** Some words new, some old. */
function torn(media: SimulatedMedia, at: number, newest: Uint8Array, random: Random): Uint8Array {
  const bytes = media.durable.slice(at, at + newest.length)
  for (let word = 0; word < bytes.length; word += 8) {
    if (random.below(2) === 1) bytes.set(newest.subarray(word, word + 8), word)
  }
  return bytes
}

/** What was written up to some sector, in the order of writing. */
function* prefixes(units: readonly Unsettled[]): Generator<Choice> {
  const written = units.flatMap(({ order }) => order).sort((a, b) => a - b)
  for (const last of [0, ...written]) {
    yield Int32Array.from(units, ({ order }) => order.filter((each) => each <= last).length)
  }
}

function* choices(
  units: readonly Unsettled[],
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
    for (let i = 0; i < count; i++) {
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
