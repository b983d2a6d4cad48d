/**
 * Streams of `plinth dump` that somebody made: every checksum is right, and what they say is not. A stream of
 * 70 MB once took 3.2 GB to be verified: its directory was kept before it was held against the count of chunks.
 * Each is refused with a documented code, or becomes the very volume that it describes.
 */
import assert from 'node:assert/strict'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { before, describe, test } from 'node:test'
import { type ChunkInfo, ERROR_CODES, Volume } from 'plinth'
import { CommandError } from '../../src/cli/errors.js'
import { fillVolume } from '../../src/cli/stream/fill-volume.js'
import { KIND } from '../../src/cli/stream/frames.js'
import { type Dump, readDump } from '../../src/cli/stream/read-dump.js'
import { aboutVolume, type DumpedVolume, dumpVolume } from '../../src/cli/stream/write-dump.js'
import { geometryOf } from '../../src/layout/geometry.js'
import { inMemory, MIB, PAGE } from '../support/devices.js'
import { framesOf, type StreamFrame, streamOf } from '../support/dump-stream.js'
import { type Random, seeded } from '../support/random.js'

const CASES = process.env.PLINTH_LONG === '1' ? 100_000 : 3000

let whole: StreamFrame[]

before(async () => {
  whole = await inMemory(async (folder) => {
    const path = join(folder, 'source')
    Volume.format(path, { size: MIB, label: 'engine' })
    const volume = Volume.open(path)
    volume.allocate({ size: 3 * PAGE, name: 'gone' })
    for (let i = 0; i < 12; i++) {
      const name = i % 3 === 0 ? undefined : `chunk ${i}`
      const chunk = volume.allocate({ size: PAGE * (1 + (i % 4)), name, type: 't', zero: true })
      if (i % 2 === 0) chunk.write(0, Buffer.alloc(chunk.size - 100, `bytes of ${i} `))
    }
    volume.free(volume.chunk('gone'))
    const heap = volume.heap('nodes')
    heap.setRoot(heap.allocate(100))
    volume.close()
    using reader = Volume.open(path, { readOnly: true })
    const about = aboutVolume(reader, reader.heaps().length)
    return framesOf(await buffer(dumpVolume(reader, about, () => {})))
  })
})

const copyOf = (frames: readonly StreamFrame[]) => frames.map((frame) => ({ ...frame }))
const jsonOf = ({ bytes }: StreamFrame) => JSON.parse(bytes.toString())
const setJson = (frame: StreamFrame, value: unknown) => {
  frame.bytes = Buffer.from(JSON.stringify(value) ?? '')
}
const ofKind = (frames: readonly StreamFrame[], kind: number) =>
  frames.filter((frame) => frame.kind === kind)
const directoryOf = (frames: readonly StreamFrame[]): ChunkInfo[] =>
  ofKind(frames, KIND.DIRECTORY).flatMap(jsonOf)

const ODD = [
  ...[
    0,
    1,
    -1,
    0.5,
    5,
    100,
    PAGE - 1,
    PAGE,
    PAGE + 1,
    2 * PAGE,
    MIB,
    2 * MIB,
    2 ** 24,
    2 ** 31,
    2 ** 32,
  ],
  ...[2 ** 32 + PAGE, 2 ** 40, 2 ** 52, 2 ** 53 - 1, 2 ** 53, 1e300, -PAGE],
  ...[
    null,
    true,
    [],
    {},
    '',
    'x',
    '\0',
    'a\0b',
    '\ud800',
    'x'.repeat(64),
    'x'.repeat(65),
    'ü'.repeat(33),
  ],
  ...['plinth.heap', 'plinth.slab', 'plinth.large', 'heap:', 'heap:nodes', 'heap:x', '__proto__'],
  ...[
    '1970-01-01T00:00:00.000Z',
    '+275760-09-13T00:00:00.000Z',
    '+999999-01-01T00:00:00.000Z',
    '2020',
  ],
  ...['1969-12-31T23:59:59.999Z', '00000000-0000-0000-0000-000000000000', undefined],
]

type Mutation = (random: Random, frames: StreamFrame[]) => void

/** Changes one entry of the directory, or the list of them. */
const entry =
  (change: (random: Random, list: Record<string, unknown>[]) => void): Mutation =>
  (random, frames) => {
    const directory = ofKind(frames, KIND.DIRECTORY)
    if (directory.length === 0) return
    const frame = random.pick(directory)
    const list = jsonSafely(frame)
    if (!Array.isArray(list) || list.length === 0) return
    change(random, list)
    setJson(frame, list)
  }

const jsonSafely = (frame: StreamFrame): unknown => {
  try {
    return jsonOf(frame)
  } catch {
    return undefined
  }
}

const MUTATIONS: Mutation[] = [
  (random, frames) => {
    const frame = frames[0]
    const about = frame && jsonSafely(frame)
    if (about === null || typeof about !== 'object') return
    setJson(frame!, {
      ...about,
      [random.pick(Object.keys(about).concat('more'))]: random.pick(ODD),
    })
  },
  // Where log and table are.
  (random, frames) => {
    const about = frames[0] && (jsonSafely(frames[0]) as Partial<DumpedVolume> | null | undefined)
    const { layout } = about ?? {}
    if (!Array.isArray(layout?.tables) || layout.tables.length === 0) return
    if (random.chance(4)) layout.tables.push(...layout.tables.slice(0, 20))
    const places = random.pick<object>([layout, random.pick(layout.tables)])
    const field = random.pick([...Object.keys(places ?? {}), 'more'])
    const before = Number((places as Record<string, unknown> | null)?.[field])
    const moved = before + random.pick([-2 * PAGE, -PAGE, -1, 1, PAGE, 2 * PAGE])
    Object.assign(places ?? {}, { [field]: random.chance(2) ? moved : random.pick(ODD) })
    setJson(frames[0]!, about)
  },
  entry((random, list) => {
    const each = random.pick(list)
    if (each !== null && typeof each === 'object') {
      each[random.pick(['id', 'name', 'type', 'offset', 'size'])] = random.pick(ODD)
    }
  }),
  entry((random, list) => {
    const each = random.pick(list)
    const by = random.pick([-2 * PAGE, -PAGE, -1, 1, PAGE, 2 * PAGE])
    const field = random.pick(['id', 'offset', 'size'])
    if (each !== null && typeof each === 'object') each[field] = Number(each[field]) + by
  }),
  entry((random, list) => list.splice(random.below(list.length), 1)),
  entry((random, list) => {
    const copies = random.pick([1, 2, 100])
    for (let i = 0; i < copies; i++) list.push({ ...list[random.below(list.length)] })
  }),
  entry((random, list) => {
    const [a, b] = [random.below(list.length), random.below(list.length)]
    ;[list[a], list[b]] = [list[b]!, list[a]!]
  }),
  entry((random, list) => {
    list[random.below(list.length)] = random.pick(ODD) as never
  }),
  (random, frames) => {
    const texts = [
      '',
      '[]',
      '{}',
      'null',
      '[null]',
      '"x"',
      '[',
      '['.repeat(30_000),
      ' '.repeat(70_000),
    ]
    if (frames.length > 0) random.pick(frames).bytes = Buffer.from(random.pick(texts))
  },
  // A directory of other frames: one chunk each, or all in one.
  (random, frames) => {
    const at = frames.findIndex(({ kind }) => kind === KIND.DIRECTORY)
    const list = at === -1 ? undefined : jsonSafely(frames[at]!)
    if (!Array.isArray(list)) return
    const parts = random.chance(2) ? list.map((each) => [each]) : [list, []]
    const made = parts.map((part) => ({ ...frames[at]!, bytes: Buffer.from(JSON.stringify(part)) }))
    frames.splice(at, 1, ...made)
  },
  (random, frames) => void frames.splice(random.below(frames.length + 1), random.below(3)),
  (random, frames) => {
    if (frames.length === 0) return
    frames.splice(random.below(frames.length + 1), 0, { ...random.pick(frames) })
  },
  (random, frames) => {
    if (frames.length > 0) frames.push(...frames.splice(random.below(frames.length), 1))
  },
  (random, frames) => {
    if (frames.length === 0) return
    const frame = random.pick(frames)
    const field = random.pick([
      'kind',
      'encoding',
      'reserved',
      'sequence',
      'length',
      'storedLength',
    ] as const)
    const max = field === 'kind' || field === 'encoding' ? 6 : 65_535
    frame[field] = random.pick([0, 1, 2, 3, random.below(max)])
  },
  (random, frames) => {
    const data = ofKind(frames, KIND.DATA)
    if (data.length === 0) return
    const frame = random.pick(data)
    frame.offset = Math.max(
      0,
      frame.offset + random.pick([-2 * PAGE, -PAGE, -1, 1, PAGE, 2 * PAGE, MIB, 2 ** 53]),
    )
  },
  (random, frames) => {
    const data = ofKind(frames, KIND.DATA)
    if (data.length === 0) return
    const frame = random.pick(data)
    const length = random.pick([
      0,
      1,
      PAGE,
      2 * PAGE,
      frame.bytes.length + PAGE,
      frame.bytes.length - 1,
    ])
    frame.bytes = Buffer.concat([frame.bytes, Buffer.alloc(PAGE, 7)]).subarray(
      0,
      Math.max(0, length),
    )
  },
  (random, frames) => {
    const data = ofKind(frames, KIND.DATA)
    if (data.length === 0) return
    const frame = random.pick(data)
    frame.bytes = Buffer.from(frame.bytes)
    if (frame.bytes.length > 0)
      frame.bytes[random.below(frame.bytes.length)]! ^= 1 << random.below(8)
  },
]

/** Makes what the first frame says of the directory true, so that more than its sums is looked at. */
function repairSums(frames: StreamFrame[]): void {
  try {
    const chunks = directoryOf(frames)
    const sum = chunks.reduce((bytes, { size }) => bytes + size, 0)
    const heaps = chunks.filter(({ type }) => type === 'plinth.heap').length
    setJson(frames[0]!, { ...jsonOf(frames[0]!), chunks: chunks.length, bytes: sum, heaps })
  } catch {
    // It makes no sense, and stays so.
  }
}

/** The bytes of a stream in parts of any size, as pipes bring them. */
function inParts(stream: Buffer, random: Random): Readable {
  const parts: Buffer[] = []
  for (let at = 0; at < stream.length; ) {
    const end = Math.min(stream.length, at + 1 + random.below(random.chance(3) ? 100 : 100_000))
    parts.push(stream.subarray(at, end))
    at = end
  }
  return Readable.from(parts)
}

/** What an accepted stream must have been: each rule once more, in its plainest form. */
function demandSense({ about, chunks }: Dump): void {
  assert.equal(about.chunks, chunks.length)
  assert.equal(
    about.bytes,
    chunks.reduce((sum, { size }) => sum + size, 0),
  )
  assert.equal(new Set(chunks.map(({ id }) => id)).size, chunks.length)
  const names = chunks.flatMap(({ name }) => name ?? [])
  assert.equal(new Set(names).size, names.length)
  assert.ok(about.size / about.granule <= 2 ** 32)
  const { logOffset, isLogChosen, tables, ...others } = about.layout
  assert.equal(typeof isLogChosen, 'boolean')
  assert.deepEqual(others, {})
  assert.ok(tables.length >= 1 && tables.length <= 32)
  assert.ok(tables.every((table) => Object.keys(table).length === 3))
  const geometry = geometryOf({
    sizeBytes: about.size - (about.size % PAGE),
    granuleBytes: about.granule,
    logAt: logOffset,
    logBytes: about.logSize,
    extents: tables.map(({ slots, first, second }) => ({
      slots,
      firstAt: first,
      secondAt: second,
    })),
  })
  assert.ok(geometry !== undefined, 'log and tables are where they can be')
  let end = 0
  for (const { offset, size } of chunks) {
    assert.ok(
      offset >= end && size > 0 && offset % about.granule === 0 && size % about.granule === 0,
    )
    end = offset + size
  }
  assert.ok(end <= about.size)
}

/** Codes of the command that are no codes of the library. */
const COMMAND_CODES = ['ERR_STREAM', 'ERR_LAYOUT']

function demandCode(error: unknown): string {
  const { code } = error as { code?: string }
  const isKnown =
    error instanceof CommandError ? COMMAND_CODES.includes(code!) : code! in ERROR_CODES
  if (!isKnown) throw error
  return code!
}

/** What became of the stream: a code, or undefined for a volume that is what the stream says. */
async function outcomeOf(
  stream: Buffer,
  path: string,
  random: Random,
): Promise<string | undefined> {
  let dump: Dump
  try {
    dump = await readDump(inParts(stream, random))
    demandSense(dump)
    // The rest is read; it would take as much of the memory filesystem as it says.
    if (dump.about.size > 4 * MIB) {
      for await (const { bytes } of dump.data) assert.ok(bytes.length <= MIB)
      return 'large'
    }
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error
    return demandCode(error)
  }
  const { size, granule, logSize, label } = dump.about
  const layout = dump.about.heaps === 0 && random.chance(2) ? 'new' : 'same'
  const format = { size, granule, logSize, label }
  try {
    await fillVolume(path, dump, layout, format, () => {})
  } catch (error) {
    if (existsSync(path)) assert.throws(() => Volume.open(path), { code: 'ERR_VOLUME_INCOMPLETE' })
    return demandCode(error)
  }
  using volume = Volume.open(path, { readOnly: true })
  const frames = framesOf(stream)
  for (const chunk of directoryOf(frames)) {
    const wanted = new Uint8Array(chunk.size)
    for (const { offset, bytes } of ofKind(frames, KIND.DATA)) {
      if (offset >= chunk.offset && offset < chunk.offset + chunk.size) {
        wanted.set(bytes, offset - chunk.offset)
      }
    }
    if (layout === 'new' && chunk.name === undefined) continue
    const made = layout === 'same' ? volume.ownedChunk(chunk.id) : volume.chunk(chunk.name!)
    assert.equal(made.size, chunk.size)
    assert.equal(Buffer.compare(made.bytes, wanted), 0)
  }
  return undefined
}

describe('a stream that somebody made', () => {
  test('of frames as they were is the volume', () =>
    inMemory((folder) =>
      seeded(async (random) => {
        assert.equal(await outcomeOf(streamOf(whole), join(folder, 'target'), random), undefined)
        assert.deepEqual(Volume.check(join(folder, 'target')), [])
      }),
    ))

  test(`${CASES} of them, each with right checksums: a documented code, or what the stream says`, (t) =>
    inMemory((folder) =>
      seeded(async (random) => {
        const path = join(folder, 'target')
        const outcomes = new Map<string, number>()
        for (let i = 0; i < CASES; i++) {
          const frames = copyOf(whole)
          for (let n = random.between(1, 3); n > 0; n--) random.pick(MUTATIONS)(random, frames)
          if (random.chance(2)) repairSums(frames)
          const end = random.chance(10)
            ? { [random.pick(['frames', 'dataBytes', 'sha256'])]: random.pick(ODD) }
            : {}
          const outcome = (await outcomeOf(streamOf(frames, end), path, random)) ?? 'right'
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
          rmSync(path, { force: true })
        }
        t.diagnostic(JSON.stringify([...outcomes]))
        // A fuzzer that is refused at the door looks at nothing.
        assert.ok(outcomes.get('right')! > CASES / 50)
        assert.ok(outcomes.get('ERR_STREAM')! > CASES / 5)
      }),
    ))

  const about = () => jsonOf(whole[0]!)
  const frame = (kind: number, value: unknown): StreamFrame => ({
    kind,
    offset: 0,
    bytes: Buffer.from(JSON.stringify(value)),
  })

  /** A stream without an end: how many of its frames are taken before it is refused. */
  async function takenOf(first: object, more: (index: number) => StreamFrame): Promise<number> {
    let taken = 0
    function* parts(): Generator<Buffer> {
      const frames = [frame(KIND.VOLUME, { ...about(), ...first })]
      for (;;) {
        const stream = streamOf([{ ...frames.pop()!, sequence: taken }])
        yield taken === 0
          ? stream.subarray(0, firstEnd(stream))
          : stream.subarray(16, firstEnd(stream))
        frames.push(more(taken++))
      }
    }
    const input = Readable.from(parts(), { highWaterMark: 1, objectMode: true })
    await assert.rejects(
      async () => {
        const { data } = await readDump(input)
        for await (const _ of data);
      },
      { code: 'ERR_STREAM', message: /makes no sense/ },
    )
    return taken
  }
  const firstEnd = (stream: Buffer) => 16 + 32 + stream.readUInt32LE(16 + 20)
  /** Parts that the stream of Node reads ahead. */
  const AHEAD = 3

  for (const [what, first, more, frames] of [
    [
      'a directory without end ends at the count of chunks',
      { chunks: 150, bytes: 150 * PAGE, size: 2 ** 34 },
      (i: number) =>
        frame(
          KIND.DIRECTORY,
          Array.from({ length: 100 }, (_, n) => ({
            id: 100 * i + n + 1,
            offset: 2 ** 21 + (100 * i + n) * PAGE,
            size: PAGE,
          })),
        ),
      2,
    ],
    ['frames of the directory with nothing in them', {}, () => frame(KIND.DIRECTORY, []), 1],
    [
      'frames of data with nothing in them',
      { chunks: 0, bytes: 0, heaps: 0 },
      () => ({ kind: KIND.DATA, offset: 0, bytes: Buffer.alloc(0) }),
      1,
    ],
    [
      'a directory frame that unfolds to 15 MiB',
      {},
      () => ({ kind: KIND.DIRECTORY, offset: 0, bytes: Buffer.alloc(15 * MIB, '[') }),
      1,
    ],
    [
      'more chunks than the volume has granules',
      { chunks: 2 ** 22, bytes: 2 ** 34 },
      () => frame(KIND.DIRECTORY, []),
      0,
    ],
    [
      'more granules than a volume has',
      { size: 2 ** 40, chunks: 2 ** 23, bytes: 2 ** 35 },
      () => frame(KIND.DIRECTORY, []),
      0,
    ],
  ] as [string, object, (index: number) => StreamFrame, number][]) {
    test(`${what}: refused when it is seen`, async () => {
      assert.ok((await takenOf(first, more)) <= frames + AHEAD)
    })
  }

  test('a frame unfolds to the length that it tells, and to no more', async () => {
    const bomb = { ...whole[0]!, bytes: Buffer.alloc(MIB, ' '), length: 2048 }
    await assert.rejects(readDump(Readable.from([streamOf([bomb])])), { code: 'ERR_STREAM' })
  })
})
