/** Measures this very device: what a call, a fence, a barrier and a commit cost, and what the bound is. */
import { types } from 'node:util'
import { type Chunk, type Granularity, printable, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { usage } from './errors.js'
import { type JsonOption, paint, print, table } from './output.js'
import { progress } from './progress.js'
import { formatBytes, formatCount, formatTime, plural } from './units.js'

interface Options extends JsonOption {
  readonly seconds: number
}

interface Measured {
  readonly name: string
  readonly medianNs: number
  /** 99 of 100 were faster. */
  readonly p99Ns: number
  /** For each operation, as are the next two. */
  readonly fences: number
  readonly barriers: number
  /** Those of plinth that write or wait. */
  readonly systemCalls: number
}

type Counters = ReturnType<Volume['stats']>['counters']

interface Bandwidth {
  readonly name: string
  readonly bytesPerSecond: number
}

const MIB = 1024 * 1024
const LINE_BYTES = 64
const COPY_BYTES_MAX = 64 * MIB
const GROUP = 64
/** Operations and copies that are measured. */
const CASES = 8

export const bench = defineCommand({
  usage: 'bench <device>',
  summary: 'measure what calls, barriers, commits and copies cost on this very device',
  details:
    'Works in a chunk of its own, which it frees afterwards; nothing else on the volume is touched. The figures are of this machine as it is now: run it while nothing else does.',
  examples: ['plinth bench /dev/pmem0', 'plinth bench data --seconds 5 --json'],
})
  .option('--seconds <n>', 'about how long to measure', Number, 3)
  .action(
    exitsWith(async (path: string, options: Options) => {
      if (!(options.seconds > 0)) throw usage('--seconds is a number above 0')
      using volume = Volume.open(path)
      const value = await measureAll(volume, options)
      print(options, value, () => benchText(value))
      return undefined
    }),
  )

async function measureAll(volume: Volume, { seconds, json }: Options) {
  const { largestFreeBytes } = volume.stats()
  const { kind, granularity, backend } = volume.info
  const size = Math.min(COPY_BYTES_MAX, Math.max(1, largestFreeBytes))
  // In memory alone: a crash within leaves nothing of it.
  const chunk = volume.reserve({ size })
  const work = cases(volume, chunk)
  const bar = progress('bench', CASES, json)
  const budgetMs = (seconds * 1000) / CASES
  const operations: Measured[] = []
  try {
    for (const [name, body] of work) {
      operations.push(measure(name, body, budgetMs, volume))
      bar.advance(1)
      await new Promise(setImmediate)
    }
    operations.push(await measureGroup(volume, chunk, budgetMs))
    const bandwidth = [
      measureBandwidth('write, durable', budgetMs, chunk, (at, bytes) => chunk.write(at, bytes)),
      measureBandwidth('read', budgetMs, chunk, (at, bytes) => {
        bytes.set(chunk.bytes.subarray(at, at + bytes.length))
      }),
    ]
    return {
      device: { path: volume.info.path, kind, granularity, backend },
      operations,
      bandwidth,
      bound: boundOf(operations, granularity, kind),
    }
  } finally {
    bar.end()
    volume.cancel(chunk)
  }
}

function cases(volume: Volume, chunk: Chunk): [name: string, body: () => void][] {
  const { view } = chunk
  const isPage = volume.info.granularity === 'page'
  let counter = 0
  const stored = (run: () => void) => () => {
    view.setUint32(0, ++counter, true)
    run()
  }
  return [
    ['native call', () => types.isExternal(view)],
    ['no-op system call', () => process.ppid],
    ['persist of a line', stored(() => chunk.persist(0, LINE_BYTES))],
    isPage
      ? ['write of a page, barrier', stored(() => chunk.persist(0, Math.min(4096, chunk.size)))]
      : ['fence alone', () => volume.fence()],
    [COMMIT, () => volume.transact((tx) => tx.setUint32(chunk, LINE_BYTES, ++counter))],
  ]
}

const COMMIT = 'commit'
const GROUPED = `commit, ${GROUP} at once`

/** Runs until the budget is used up; short operations are timed in batches. */
function measure(name: string, body: () => void, budgetMs: number, volume: Volume): Measured {
  let warm = 0
  const started = performance.now()
  while (performance.now() - started < budgetMs / 5 || warm < 3) {
    body()
    warm++
  }
  const batch = Math.max(1, Math.floor(0.1 / ((performance.now() - started) / warm)))
  const samples: number[] = []
  const before = volume.stats().counters
  const end = performance.now() + budgetMs
  for (let at = performance.now(); at < end || samples.length < 3; ) {
    for (let i = 0; i < batch; i++) body()
    const now = performance.now()
    samples.push(((now - at) * 1e6) / batch)
    at = now
  }
  return summary(name, samples, samples.length * batch, volume, before)
}

async function measureGroup(volume: Volume, chunk: Chunk, budgetMs: number): Promise<Measured> {
  let counter = 0
  const one = () => volume.transactAsync((tx) => tx.setUint32(chunk, LINE_BYTES, ++counter))
  await Promise.all(Array.from({ length: GROUP }, one))
  const samples: number[] = []
  const before = volume.stats().counters
  const end = performance.now() + budgetMs
  for (let at = performance.now(); at < end || samples.length < 3; ) {
    await Promise.all(Array.from({ length: GROUP }, one))
    const now = performance.now()
    samples.push(((now - at) * 1e6) / GROUP)
    at = now
  }
  return summary(GROUPED, samples, samples.length * GROUP, volume, before)
}

function summary(
  name: string,
  samples: number[],
  count: number,
  volume: Volume,
  before: Counters,
): Measured {
  const { counters } = volume.stats()
  const sorted = samples.sort((a, b) => a - b)
  const quantile = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
  return {
    name,
    medianNs: quantile(0.5),
    p99Ns: quantile(0.99),
    fences: (counters.fences - before.fences) / count,
    barriers: (counters.barriers - before.barriers) / count,
    systemCalls: (counters.systemCalls - before.systemCalls) / count,
  }
}

function measureBandwidth(
  name: string,
  budgetMs: number,
  chunk: Chunk,
  copy: (at: number, bytes: Uint8Array) => void,
): Bandwidth {
  const bytes = new Uint8Array(Math.min(MIB, chunk.size)).fill(0x5a)
  const started = performance.now()
  let copied = 0
  for (let at = 0; performance.now() - started < budgetMs || copied === 0; ) {
    copy(at, bytes)
    copied += bytes.length
    at = at + 2 * bytes.length <= chunk.size ? at + bytes.length : 0
  }
  return { name, bytesPerSecond: (copied * 1000) / (performance.now() - started) }
}

/** One sentence: what limits a durable commit here. */
function boundOf(operations: readonly Measured[], granularity: Granularity, kind: string): string {
  const find = (name: string) => operations.find((each) => each.name === name)!
  const of = (name: string) => find(name).medianNs
  const commit = of(COMMIT)
  const line = of('persist of a line')
  const call = of('no-op system call')
  const share = Math.min(100, Math.round((100 * line) / commit))
  if (granularity === 'page') {
    const grouped = find(GROUPED)
    const barriers = Math.max(1, Math.round(grouped.barriers * GROUP))
    return (
      `${kind === 'tmpfs' ? 'The kernel is the bound, for there is no device' : 'The device is the bound'}: a commit takes ${formatTime(commit)}, a line made durable ${formatTime(line)}, ` +
      `and a system call ${formatTime(call)} of that; ${GROUP} commits at once share ${barriers === 1 ? 'one barrier' : plural(barriers, 'barrier')} and take ${formatTime(grouped.medianNs * GROUP)} together.`
    )
  }
  return (
    `Memory is the bound: a commit takes ${formatTime(commit)}, and writing one line back with its fence is ${share} % of that; ` +
    `a system call would add ${formatTime(call)}.`
  )
}

function benchText({
  device,
  operations,
  bandwidth,
  bound,
}: Awaited<ReturnType<typeof measureAll>>): string {
  return [
    `${printable(device.path)}: ${device.kind}, ${device.granularity} granularity, ${device.backend} backend`,
    table(
      [
        { title: 'OPERATION' },
        { title: 'MEDIAN', align: 'right' },
        { title: 'P99', align: 'right' },
        { title: 'A SECOND', align: 'right' },
        { title: 'FENCES', align: 'right' },
        { title: 'BARRIERS', align: 'right' },
        { title: 'SYSTEM CALLS', align: 'right' },
      ],
      operations.map(({ name, medianNs, p99Ns, fences, barriers, systemCalls }) => [
        name,
        formatTime(medianNs),
        formatTime(p99Ns),
        formatCount(Math.round(1e9 / medianNs)),
        share(fences),
        share(barriers),
        share(systemCalls),
      ]),
    ),
    table(
      [{ title: 'COPY, 1 MiB AT A TIME' }, { title: 'BANDWIDTH', align: 'right' }],
      bandwidth.map(({ name, bytesPerSecond }) => [name, `${formatBytes(bytesPerSecond)}/s`]),
    ),
    paint.bold(bound),
  ].join('\n\n')
}

function share(count: number): string {
  return count === 0 ? paint.dim('0') : String(Number(count.toPrecision(2)))
}
