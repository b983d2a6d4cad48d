/** One crash state: recovered, judged, and now and then cut again while it recovers. */
import type { Volume } from '../volume/volume.js'
import { forEachCrashState, type Known } from './crash-states.js'
import { Random } from './random.js'
import { type Model, type PointKind, SimulatedMedia, type Verdict } from './simulated-media.js'
import { openSimulated } from './simulated-volume.js'

/** What is done with a state follows from its fingerprint and the seed alone, whatever came before it. */
export interface RecoverOptions {
  readonly model: Model
  readonly seed: number
  /** One of so many states is cut again in recovery, and its states once more. */
  readonly nestOneIn: number
  readonly judge?: ((kind: PointKind) => Verdict) | undefined
  /** States that need not be tried again. */
  readonly known: Known
  /** Told of each state cut within recovery. */
  readonly onNested: (fingerprint: number) => void
  /** Throws when the volume is not as it must be. */
  readonly verify: (volume: Volume, fingerprint: number, random: Random) => void
}

/**
 * A recovery that writes back a whole log has a thousand units under way. All of each would be so many states of one
 * workload that a run came to no other.
 */
const NESTED_LIMITS = { exhaustive: 4, samples: 1, units: 8 }
/** Cuts of one recovery that are followed. */
const STOPS_MAX = 3

export function recoverState(
  image: Uint8Array,
  fingerprint: number,
  options: RecoverOptions,
  depth = 2,
): void {
  const random = new Random(options.seed, fingerprint)
  const nests = random.below(options.nestOneIn) === 0 && depth > 0
  const media = new SimulatedMedia(options.model, image, nests, fingerprint)
  media.judge = options.judge
  if (nests) {
    let stops = 1 + random.below(STOPS_MAX)
    let edition = -1
    media.onPoint = () => {
      // Where a crash leaves what it left at the stop before, nothing is new.
      if (media.edition === edition || random.below(4) !== 0 || stops-- <= 0) return
      edition = media.edition
      forEachCrashState(media, random, NESTED_LIMITS, options.known, (again, itsFingerprint) => {
        options.onNested(itsFingerprint)
        recoverState(again, itsFingerprint, options, depth - 1)
      })
    }
  }
  const volume = openSimulated(media)
  media.onPoint = undefined
  options.verify(volume, fingerprint, random)
  media.release()
}
