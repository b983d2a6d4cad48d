/** What plinth sets itself, each held against figures of one and the same run. */
import { median, quantile, type Result, ratios } from './measure.js'

export interface Measured {
  result(name: string): Result | undefined
  /** A counter of the run. */
  count(name: string): number | undefined
}

export interface Verdict {
  readonly goal: string
  readonly measured: string
  /** In the tenth of the rounds where the machine was least disturbed; empty for counters. */
  readonly quiet: string
  readonly wanted: string
  readonly met: boolean
}

interface Goal {
  readonly goal: string
  readonly most?: number
  readonly least?: number
  readonly unit: 'x' | '%' | 'us' | 'ms' | ''
  /** What is held against the goal, by its median. Undefined when not all it needs was measured. */
  readonly values: (measured: Measured) => ArrayLike<number> | undefined
}

const GOALS: readonly Goal[] = [
  {
    goal: 'commit-64B / append-64B',
    most: 1.4,
    unit: 'x',
    values: (measured) => ratio(measured, 'commit-64B', 'append-64B'),
  },
  {
    goal: 'commit-64B-unheard / -bare',
    most: 1.1,
    unit: 'x',
    values: (measured) => ratio(measured, 'commit-64B-unheard', 'commit-64B-bare'),
  },
  {
    goal: 'chunk-alloc-free-1GiB, the pair',
    most: 2,
    unit: 'us',
    values: (measured) => time(measured, 'chunk-alloc-free-1GiB', 1e3),
  },
  {
    goal: 'chunk-alloc-free-1TiB, the pair',
    most: 2,
    unit: 'us',
    values: (measured) => time(measured, 'chunk-alloc-free-1TiB', 1e3),
  },
  {
    goal: 'chunk-alloc-free-1TiB / -1GiB',
    most: 1.5,
    unit: 'x',
    values: (measured) => ratio(measured, 'chunk-alloc-free-1TiB', 'chunk-alloc-free-1GiB'),
  },
  {
    goal: 'recover-16MiB',
    most: 50,
    unit: 'ms',
    values: (measured) => time(measured, 'recover-16MiB', 1e6),
  },
  {
    goal: 'chunk-write-1MiB, bandwidth of copy-nt-1MiB',
    least: 85,
    unit: '%',
    values: (measured) =>
      ratio(measured, 'copy-nt-1MiB', 'chunk-write-1MiB')?.map((share) => share * 100),
  },
  {
    goal: 'commit-64B-page, barriers of each',
    most: 1,
    unit: '',
    values: (measured) => count(measured, 'commit-64B-page barriers'),
  },
  {
    // "A few dozen": as many as three.
    goal: 'commit-async-1000, barriers of all',
    most: 36,
    unit: '',
    values: (measured) => count(measured, 'commit-async-1000 barriers'),
  },
]

/** The verdicts on all goals that this run has figures for. */
export function judge(measured: Measured): Verdict[] {
  return GOALS.flatMap(({ goal, most, least, unit, values }) => {
    const found = values(measured)
    if (found === undefined) return []
    const value = median(found)
    const quiet = quantile(found, most === undefined ? 0.9 : 0.1)
    return [
      {
        goal,
        measured: show(value, unit),
        quiet: unit === '' ? '' : show(quiet, unit),
        wanted: most === undefined ? `>= ${least}${suffix(unit)}` : `<= ${most}${suffix(unit)}`,
        met: most === undefined ? value >= least! : value <= most,
      },
    ]
  })
}

function show(value: number, unit: Goal['unit']): string {
  const digits = unit === '' ? 0 : unit === '%' || unit === 'ms' ? 1 : 2
  return value.toFixed(digits) + suffix(unit)
}

function suffix(unit: Goal['unit']): string {
  return unit === '' || unit === 'x' || unit === '%' ? unit : ` ${unit}`
}

function ratio({ result }: Measured, above: string, below: string): Float64Array | undefined {
  const [a, b] = [result(above), result(below)]
  return a === undefined || b === undefined ? undefined : ratios(a.samples, b.samples)
}

function time({ result }: Measured, name: string, nsPerUnit: number): Float64Array | undefined {
  return result(name)?.samples.map((ns) => ns / nsPerUnit)
}

function count({ count }: Measured, name: string): number[] | undefined {
  const found = count(name)
  return found === undefined ? undefined : [found]
}
