/** One crash state: recovered, judged, and now and then cut again while it recovers. */
import type { Volume } from '../volume/volume.js'
import { forEachCrashState } from './crash-states.js'
import type { Random } from './random.js'
import { type Model, type PointKind, SimulatedMedia, type Verdict } from './simulated-media.js'
import { openSimulated } from './simulated-volume.js'

export interface RecoverOptions {
  readonly model: Model
  readonly random: Random
  /** One of so many states is cut again in recovery, and its states once more. */
  readonly nestOneIn: number
  readonly judge?: ((kind: PointKind) => Verdict) | undefined
  /** Told of each state cut within recovery. */
  readonly onNested: (fingerprint: number) => void
  /** Throws when the volume is not as it must be. */
  readonly verify: (volume: Volume) => void
}

const NESTED_LIMITS = { exhaustive: 4, samples: 1 }
/** Cuts of one recovery that are followed. */
const STOPS_MAX = 3

export function recoverState(
  image: Uint8Array,
  fingerprint: number,
  options: RecoverOptions,
  depth = 2,
): void {
  const { model, random } = options
  const nests = depth > 0 && random.below(options.nestOneIn) === 0
  const media = new SimulatedMedia(model, image, nests, fingerprint)
  media.judge = options.judge
  if (nests) {
    let stops = 1 + random.below(STOPS_MAX)
    const known = new Set<number>()
    media.onPoint = () => {
      if (random.below(4) !== 0 || stops-- <= 0) return
      forEachCrashState(media, random, NESTED_LIMITS, known, (again, itsFingerprint) => {
        options.onNested(itsFingerprint)
        recoverState(again, itsFingerprint, options, depth - 1)
      })
    }
  }
  const volume = openSimulated(media)
  media.onPoint = undefined
  options.verify(volume)
  media.release()
}
