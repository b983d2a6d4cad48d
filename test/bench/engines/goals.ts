/** What plinth's ordered map sets itself, held against the fastest of the others in the same run. */
import { median, ratios } from '../measure.js'
import type { DeviceName } from './engine.js'
import { OWN } from './engines.js'

/** Samples of one case on one device, in their unit, by engine; less is better in all of them. */
export type Figures = ReadonlyMap<string, Float64Array>

export interface Verdict {
  readonly goal: string
  readonly measured: string
  readonly wanted: string
  readonly met: boolean
}

interface Goal {
  readonly device?: DeviceName
  readonly name: string
  /** So many times as fast as the fastest of the others, at least. */
  readonly faster?: number
  /** Bytes, for plinth alone. */
  readonly most?: number
}

const GOALS: readonly Goal[] = [
  { device: 'shm', name: 'put', faster: 15 },
  { device: 'shm', name: 'batch-100', faster: 3 },
  { device: 'shm', name: 'get', faster: 2 },
  { device: 'shm', name: 'scan-100', faster: 2 },
  // At most 0.8 of its time.
  { device: 'disk', name: 'put', faster: 1.25 },
  { device: 'disk', name: 'flood', faster: 1.5 },
  { name: 'bytes-per-entry', most: 140 },
  { name: 'js-heap-per-entry', most: 24 },
]

/** The verdicts on what this run has figures for. */
export function judge(device: DeviceName, name: string, figures: Figures): Verdict[] {
  const own = figures.get(OWN)
  if (own === undefined) return []
  const others = [...figures].filter(([engine]) => engine !== OWN)
  return GOALS.filter((goal) => goal.name === name && (goal.device ?? device) === device).flatMap(
    ({ faster, most }) => {
      if (most !== undefined) return [judgeBytes(`${device} ${name}`, own, most)]
      return others.length === 0 ? [] : [judgeSpeed(`${device} ${name}`, own, others, faster!)]
    },
  )
}

function judgeBytes(goal: string, own: Float64Array, most: number): Verdict {
  const measured = median(own)
  return {
    goal,
    measured: measured.toFixed(1),
    wanted: `<= ${most} bytes`,
    met: measured <= most,
  }
}

function judgeSpeed(
  goal: string,
  own: Float64Array,
  others: [string, Float64Array][],
  faster: number,
): Verdict {
  const [best, samples] = others.reduce((a, b) => (median(b[1]) < median(a[1]) ? b : a))
  const measured = median(ratios(samples, own))
  return {
    goal: `${goal}, times as fast as ${best}`,
    measured: `${measured.toFixed(2)}x`,
    wanted: `>= ${faster}x`,
    met: measured >= faster,
  }
}
