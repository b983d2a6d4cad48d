/**
 * Whatever is handed in: one clear error with a code, and nothing changed. One table: what it is,
 * what stands on the device, the call, the error.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type AllocateOptions, PlinthError, type Transaction, Volume } from 'plinth'
import { CHECKPOINT_AT } from '../../src/layout/geometry.js'
import type { Superblock } from '../../src/layout/superblock.js'
import { hashOf, inMemory, MIB, tmpfsLine, tmpfsPage } from '../support/devices.js'
import { pattern } from '../support/pattern.js'
import { placesOf } from '../support/places.js'
import {
  closed,
  damage,
  file,
  folder,
  type Given,
  geometry,
  gone,
  LABEL_AT,
  nothing,
  open,
  openLine,
  put,
  readerOpen,
  type Setting,
  slots,
  superblock,
  superblockWord,
  text,
  truncated,
  volume,
} from '../support/settings.js'

const { tableAt, tableCopyAt } = placesOf(geometry)

interface Expected {
  readonly name: string
  readonly code: string
}
const mishap = (code: string): Expected => ({ name: 'PlinthError', code: `ERR_${code}` })
const type: Expected = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }
const value: Expected = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' }
const unknown: Expected = { name: 'TypeError', code: 'ERR_UNKNOWN_OPTION' }
const range: Expected = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }
const inUse = mishap('DEVICE_IN_USE')
const corrupt = mishap('VOLUME_CORRUPT')

type Case = [what: string, setting: Setting, call: (given: Given) => unknown, error: Expected]
/** Options that no caller written in TypeScript can give. */
const odd = (options: unknown) => options as never

const format =
  (options: unknown) =>
  ({ path }: Given) =>
    Volume.format(path, odd(options))
const opening =
  (options?: unknown) =>
  ({ path }: Given) =>
    Volume.open(path, odd(options))

const sizes: [shown: string, size: unknown, error: Expected][] = [
  ['0', 0, range],
  ['-1', -1, range],
  ['NaN', Number.NaN, range],
  ['Infinity', Number.POSITIVE_INFINITY, range],
  ['1.5', 1.5, range],
  ['2^53', 2 ** 53, range],
  ["'1'", '1', type],
  ['1n', 1n, type],
  ['null', null, type],
  ['an object', {}, type],
]

const texts = (bytesMax: number): [shown: string, text: unknown, error: Expected][] => [
  ['empty', '', range],
  ['of 10 kB', 'x'.repeat(10_000), range],
  ['a byte too long', 'x'.repeat(bytesMax + 1), range],
  ['too long in UTF-8 alone', 'ä'.repeat(bytesMax / 2 + 1), range],
  ['with a NUL', 'a\0b', value],
  ['with a lone surrogate', 'a\ud800b', value],
  ['a number', 5, type],
  ['null', null, type],
  ['bytes', Buffer.from('a'), type],
]

const formatCases: Case[] = [
  ['format: no path', nothing, () => Volume.format(odd(undefined)), type],
  ['format: an empty path', nothing, () => Volume.format('', { size: MIB }), value],
  [
    'format: a path with a NUL',
    nothing,
    ({ path }) => Volume.format(`${path}\0`, { size: MIB }),
    value,
  ],
  [
    'format: a path of 10 kB',
    nothing,
    ({ path }) => Volume.format(path + 'x'.repeat(10_000), { size: MIB }),
    mishap('DEVICE_IO'),
  ],
  [
    'format: no folder for it',
    nothing,
    ({ path }) => Volume.format(`${path}/x/y`, { size: MIB }),
    mishap('DEVICE_MISSING'),
  ],
  ['format: a folder', folder, format({ size: MIB }), mishap('DEVICE_KIND')],
  [
    'format: a character device',
    nothing,
    () => Volume.format('/dev/null', { size: MIB }),
    mishap('DEVICE_KIND'),
  ],
  ['format: more than any filesystem has', nothing, format({ size: 2 ** 52 }), mishap('DEVICE_IO')],
  [
    'format: more than any filesystem has, over a file',
    file(),
    format({ size: 2 ** 52 }),
    mishap('DEVICE_IO'),
  ],
  ...sizes.map(
    ([shown, size, error]): Case => [`format: size ${shown}`, nothing, format({ size }), error],
  ),
  ['format: a size below the least', file(), format({ size: MIB - 1 }), range],
  ['format: granule 3', nothing, format({ size: MIB, granule: 3 }), range],
  ['format: granule 2048', nothing, format({ size: MIB, granule: 2048 }), range],
  ['format: granule 12288', nothing, format({ size: MIB, granule: 12_288 }), range],
  ['format: granule of 8 GiB', nothing, format({ size: MIB, granule: 2 ** 33 }), range],
  ["format: granule '4096'", nothing, format({ size: MIB, granule: '4096' }), type],
  [
    'format: a granule as large as the volume',
    file(),
    format({ granule: MIB }),
    mishap('DEVICE_TOO_SMALL'),
  ],
  ['format: logSize 0', nothing, format({ size: MIB, logSize: 0 }), range],
  ['format: logSize 65537', nothing, format({ size: MIB, logSize: 65_537 }), range],
  ['format: logSize of 2 GiB', nothing, format({ size: MIB, logSize: 2 ** 31 }), range],
  [
    'format: a log as large as the volume',
    nothing,
    format({ size: MIB, logSize: MIB }),
    mishap('DEVICE_TOO_SMALL'),
  ],
  ...texts(64).map(
    ([shown, label, error]): Case => [
      `format: label ${shown}`,
      nothing,
      format({ size: MIB, label }),
      error,
    ],
  ),
  ['format: force 1', file(), format({ force: 1 }), type],
  ["format: backend 'x'", file(), format({ backend: 'x' }), value],
  ['format: backend 5', file(), format({ backend: 5 }), type],
  ["format: granularity 'sector'", file(), format({ granularity: 'sector' }), value],
  ["format: unsafeGranularity 'x'", file(), format({ unsafeGranularity: 'x' }), value],
  [
    'format: both granularities',
    file(),
    format({ granularity: 'page', unsafeGranularity: 'page' }),
    value,
  ],
  ['format: an unknown option', file(), format({ sise: MIB }), unknown],
  ['format: options null', file(), format(null), type],
  ['format: options a number', file(), format(MIB), type],
  ['format: a volume that is open', open, format({ size: MIB }), mishap('VOLUME_BUSY')],
  [
    'format: a volume that is open, with force',
    open,
    format({ size: MIB, force: true }),
    mishap('VOLUME_BUSY'),
  ],
  [
    'format: a volume that a reader has open, with force',
    readerOpen,
    format({ force: true }),
    mishap('VOLUME_BUSY'),
  ],
]

/** What a device may hold, each as its on-media format has it. */
const contents: [what: string, message: RegExp, setting: Setting][] = [
  ['an ext4 filesystem', /ext4/, file(MIB, put(1080, [0x53, 0xef]))],
  ['an XFS filesystem', /XFS/, file(MIB, put(0, 'XFSB'))],
  ['a btrfs filesystem', /btrfs/, file(MIB, put(65_536 + 64, '_BHRfS_M'))],
  ['an F2FS filesystem', /F2FS/, file(MIB, put(1024, [0x10, 0x20, 0xf5, 0xf2]))],
  ['a swap area', /swap/, file(MIB, put(4086, 'SWAPSPACE2'))],
  ['a LUKS container', /LUKS/, file(MIB, put(0, [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe]))],
  ['an LVM volume', /LVM/, file(MIB, put(512, 'LABELONE'))],
  ['a PMDK object pool', /PMDK/, file(MIB, put(0, 'PMEMOBJ'))],
  ['a PMDK log pool', /PMDK/, file(MIB, put(0, 'PMEMLOG'))],
  ['an NVDIMM label', /NVDIMM/, file(MIB, put(4096, 'NVDIMM_PFN_INFO'))],
  ['a GPT', /GPT/, file(MIB, put(512, 'EFI PART'))],
  ['a GPT of 4096-byte sectors', /GPT/, file(MIB, put(4096, 'EFI PART'))],
  ['the backup of a GPT', /GPT/, file(MIB, put(MIB - 512, 'EFI PART'))],
  ['the backup of a GPT of 4096-byte sectors', /GPT/, file(MIB, put(MIB - 4096, 'EFI PART'))],
  ['an MBR', /partition/, file(MIB, put(510, [0x55, 0xaa]))],
  ['a SQLite database', /SQLite/, file(MIB, put(0, 'SQLite format 3\0'))],
  ['a plinth volume', /plinth volume/, volume()],
  [
    'a damaged plinth volume',
    /plinth volume/,
    volume(damage(LABEL_AT, geometry.superblockCopyAt + LABEL_AT)),
  ],
  [
    'the end of a plinth volume',
    /end of a plinth volume/,
    volume((image) => image.fill(0, 0, 900_000)),
  ],
  ['one byte of something at the beginning', /unknown/, file(MIB, put(1, [1]))],
  ['one byte of something at 128 KiB', /unknown/, file(MIB, put(131_071, [1]))],
  ['one byte of something at the end', /unknown/, file(MIB, put(MIB - 1, [1]))],
  ['a text of a few bytes', /unknown/, text('precious')],
  ['a text of almost a page', /unknown/, text('x'.repeat(4095))],
  ['a text of a page and more', /unknown/, text('x'.repeat(5000))],
]

const openCases: Case[] = [
  ['open: no path', nothing, () => Volume.open(odd(undefined)), type],
  ['open: an empty path', nothing, () => Volume.open(''), value],
  ['open: a path with a NUL', nothing, ({ path }) => Volume.open(`${path}\0`), value],
  [
    'open: a path of 10 kB',
    nothing,
    ({ path }) => Volume.open(path + 'x'.repeat(10_000)),
    mishap('DEVICE_IO'),
  ],
  ['open: nothing there', nothing, opening(), mishap('DEVICE_MISSING')],
  [
    'open: something below a file',
    file(),
    ({ path }) => Volume.open(`${path}/x`),
    mishap('DEVICE_MISSING'),
  ],
  ['open: a folder', folder, opening(), mishap('DEVICE_KIND')],
  ['open: a character device', nothing, () => Volume.open('/dev/null'), mishap('DEVICE_KIND')],
  ['open: readOnly 1', volume(), opening({ readOnly: 1 }), type],
  ['open: warmBytes -1', volume(), opening({ warmBytes: -1 }), range],
  ['open: warmBytes 1.5', volume(), opening({ warmBytes: 1.5 }), range],
  ['open: warmBytes 2^53', volume(), opening({ warmBytes: 2 ** 53 }), range],
  ["open: warmBytes '1'", volume(), opening({ warmBytes: '1' }), type],
  ["open: backend 'x'", volume(), opening({ backend: 'x' }), value],
  ["open: granularity 'sector'", volume(), opening({ granularity: 'sector' }), value],
  ['open: unsafeGranularity 5', volume(), opening({ unsafeGranularity: 5 }), type],
  [
    'open: both granularities',
    volume(),
    opening({ granularity: 'page', unsafeGranularity: 'page' }),
    value,
  ],
  ['open: zeroBadBlocks 1', volume(), opening({ zeroBadBlocks: 1 }), type],
  ['open: sparse 1', volume(), opening({ sparse: 1 }), type],
  ['open: zeroBadBlocks for a writer', volume(), opening({ zeroBadBlocks: true }), value],
  ['open: an unknown option', volume(), opening({ readonly: true }), unknown],
  ['open: options null', volume(), opening(null), type],
  ['open: an empty file', file(0), opening(), mishap('NOT_A_VOLUME')],
  ['open: a file of 100 bytes', file(100), opening(), mishap('NOT_A_VOLUME')],
  ['open: zeros', file(), opening(), mishap('NOT_A_VOLUME')],
  [
    'open: something else',
    file(MIB, (image) => image.set(pattern(MIB))),
    opening(),
    mishap('NOT_A_VOLUME'),
  ],
  [
    'open: both superblocks gone',
    volume(gone([0, 4096], [MIB - 4096, MIB])),
    opening(),
    mishap('NOT_A_VOLUME'),
  ],
  [
    'open: both superblocks damaged',
    volume(damage(LABEL_AT, geometry.superblockCopyAt + LABEL_AT)),
    opening(),
    corrupt,
  ],
  [
    'open: one superblock damaged, one gone',
    volume((image) => {
      damage(LABEL_AT)(image)
      gone([MIB - 4096, MIB])(image)
    }),
    opening(),
    corrupt,
  ],
  [
    'open: both superblocks exchanged',
    volume((image) => {
      const first = image.slice(0, 4096)
      image.copyWithin(0, MIB - 4096)
      image.set(first, MIB - 4096)
    }),
    opening(),
    corrupt,
  ],
  [
    'open: a reserved byte of both superblocks',
    volume(damage(200, geometry.superblockCopyAt + 200)),
    opening(),
    corrupt,
  ],
  ['open: a newer format', volume(superblock({ version: 3 })), opening(), mishap('FORMAT_TOO_NEW')],
  [
    'open: a newer format, for reading',
    volume(superblock({ version: 99 })),
    opening({ readOnly: true }),
    mishap('FORMAT_TOO_NEW'),
  ],
  [
    'open: an older format',
    volume(superblock({ version: 1 })),
    opening(),
    mishap('FORMAT_TOO_OLD'),
  ],
  ['open: format 0', volume(superblock({ version: 0 })), opening(), mishap('FORMAT_TOO_OLD')],
  [
    'open: a newer format in an impossible shape',
    volume(superblock({ version: 3, logBytes: 0 })),
    opening(),
    mishap('FORMAT_TOO_NEW'),
  ],
  [
    'open: an unknown incompatible feature',
    volume(superblock({ incompatible: 2 })),
    opening(),
    mishap('FORMAT_TOO_NEW'),
  ],
  [
    'open: the last incompatible feature, for reading',
    volume(superblock({ incompatible: 2 ** 31 })),
    opening({ readOnly: true }),
    mishap('FORMAT_TOO_NEW'),
  ],
  [
    'open: an unknown feature that forbids writing',
    volume(superblock({ readOnlyCompatible: 2 ** 31 })),
    opening(),
    mishap('FORMAT_TOO_NEW'),
  ],
  ...(
    [
      ['size 0', { sizeBytes: 0 }],
      ['size of a page', { sizeBytes: 4096 }],
      ['size not of pages', { sizeBytes: MIB + 1 }],
      ['granule 0', { granuleBytes: 0 }],
      ['granule 1', { granuleBytes: 1 }],
      ['granule 12288', { granuleBytes: 12_288 }],
      ['granule of 8 GiB', { granuleBytes: 2 ** 33 }],
      ['granule of the volume', { granuleBytes: MIB }],
      ['log 0', { logBytes: 0 }],
      ['log not of pages', { logBytes: 65_537 }],
      ['log of the volume', { logBytes: MIB }],
      ['log of 2 GiB', { logBytes: 2 ** 31 }],
    ] as [string, Partial<Superblock>][]
  ).map(
    ([shown, values]): Case => [
      `open: superblocks with right checksums that say ${shown}`,
      volume(superblock(values)),
      opening(),
      corrupt,
    ],
  ),
  [
    'open: a superblock that says a larger size than there is',
    volume(superblock({ sizeBytes: 2 * MIB })),
    opening(),
    mishap('DEVICE_TRUNCATED'),
  ],
  [
    'open: a size beyond 2^53',
    volume((image) => superblockWord(image, 52, 0x200000)),
    opening(),
    corrupt,
  ],
  ['open: cut to half', truncated(MIB / 2), opening(), mishap('DEVICE_TRUNCATED')],
  ['open: cut by a page', truncated(MIB - 4096), opening(), mishap('DEVICE_TRUNCATED')],
  ['open: cut by a byte', truncated(MIB - 1), opening(), mishap('DEVICE_TRUNCATED')],
  ['open: cut to a page', truncated(4096), opening(), mishap('DEVICE_TRUNCATED')],
  ['open: cut to less than a page', truncated(4095), opening(), mishap('NOT_A_VOLUME')],
  [
    'open: cut, for reading',
    truncated(MIB / 2),
    opening({ readOnly: true }),
    mishap('DEVICE_TRUNCATED'),
  ],
  [
    'open: both checkpoint headers damaged',
    volume(damage(CHECKPOINT_AT + 8, geometry.checkpointCopyAt + 8)),
    opening(),
    corrupt,
  ],
  [
    'open: both checkpoint headers gone',
    volume(
      gone(
        [CHECKPOINT_AT, CHECKPOINT_AT + 64],
        [geometry.checkpointCopyAt, geometry.checkpointCopyAt + 64],
      ),
    ),
    opening(),
    corrupt,
  ],
  [
    'open: both copies of a slot damaged',
    volume(damage(tableAt + 60, tableCopyAt + 60)),
    opening(),
    corrupt,
  ],
  [
    'open: a slot of another place',
    volume((image) => {
      for (const at of [tableAt, tableCopyAt]) image.copyWithin(at, at + 128, at + 256)
    }),
    opening(),
    corrupt,
  ],
  ['open: chunks that overlap', volume(slots({}, { start: 1 })), opening(), corrupt],
  ['open: a chunk twice', volume(slots({}, { start: 0, granules: 2 })), opening(), corrupt],
  [
    'open: a chunk over the end',
    volume(slots({}, { granules: geometry.granules })),
    opening(),
    corrupt,
  ],
  ['open: a chunk behind the end', volume(slots({}, { start: 2 ** 32 - 1 })), opening(), corrupt],
  ['open: a chunk of nothing', volume(slots({}, { granules: 0 })), opening(), corrupt],
  [
    'open: two chunks of one name',
    volume(slots({ name: Buffer.from('x') }, { name: Buffer.from('x') })),
    opening(),
    corrupt,
  ],
  [
    'open: a name that is no UTF-8',
    volume(slots({ name: Uint8Array.of(0xff) })),
    opening(),
    corrupt,
  ],
  ['open: a name that is too long', volume(slots({ nameBytes: 65 })), opening(), corrupt],
  ['open: a type that is too long', volume(slots({ typeBytes: 17 })), opening(), corrupt],
  ['open: a slot of unknown state', volume(slots({ state: 3 })), opening(), corrupt],
  [
    'open: a slot of too many generations',
    volume(slots({ generation: 2 ** 29 })),
    opening(),
    corrupt,
  ],
  [
    'open: damage, for reading',
    volume(slots({}, { start: 1 })),
    opening({ readOnly: true }),
    corrupt,
  ],
  ['open: while it is open', open, opening(), mishap('VOLUME_BUSY')],
  ['open: for reading, while it is open', open, opening({ readOnly: true }), mishap('VOLUME_BUSY')],
  ['open: while a reader has it open', readerOpen, opening(), mishap('VOLUME_BUSY')],
]

/** Each way to ask for a chunk. */
const takers: [name: string, take: (volume: Volume, options: AllocateOptions) => unknown][] = [
  ['allocate', (volume, options) => volume.allocate(options)],
  ['reserve', (volume, options) => volume.reserve(options)],
  ['tx.allocate', (volume, options) => volume.transact(() => volume.allocate(options))],
]
const allocateCases: Case[] = takers.flatMap(([name, take]) => {
  const row = (shown: string, options: unknown, error: Expected): Case => [
    `${name}: ${shown}`,
    open,
    ({ volume }) => take(volume, odd(options)),
    error,
  ]
  return [
    ...sizes.map(([shown, size, error]) => row(`size ${shown}`, { size }, error)),
    row('no size', { name: 'x' }, type),
    row('no options', undefined, type),
    row('options null', null, type),
    row('an unknown option', { size: 1, Name: 'x' }, unknown),
    row('4097 bytes aligned to 3', { size: 4097, align: 3 }, range),
    row('align 0', { size: 1, align: 0 }, range),
    row('align -4096', { size: 1, align: -4096 }, range),
    row('align 2^53', { size: 1, align: 2 ** 53 }, range),
    row("align '4096'", { size: 1, align: '4096' }, type),
    row('more than is aligned so', { size: 1, align: 2 ** 40 }, mishap('NO_SPACE')),
    row('zero 1', { size: 1, zero: 1 }, type),
    ...texts(64).map(([shown, text, error]) =>
      row(`name ${shown}`, { size: 1, name: text }, error),
    ),
    ...texts(16).map(([shown, text, error]) =>
      row(`type ${shown}`, { size: 1, type: text }, error),
    ),
    row('a name that is taken', { size: 1, name: 'taken' }, mishap('CHUNK_EXISTS')),
    row('more than is free', { size: MIB }, mishap('NO_SPACE')),
    row('4 GiB and a byte', { size: 2 ** 32 + 1 }, mishap('CHUNK_TOO_LARGE')),
    row('2^53 - 1', { size: 2 ** 53 - 1 }, mishap('CHUNK_TOO_LARGE')),
  ]
})

const inside =
  (work: (tx: Transaction, given: Given) => unknown) =>
  (given: Given): unknown =>
    given.volume.transact((tx) => work(tx, given))

/** The same, when the transaction has changed something already. */
const staged = (work: (tx: Transaction, given: Given) => unknown) =>
  inside((tx, given) => {
    tx.setUint32(given.chunk, 0, 1)
    return work(tx, given)
  })

const bytes = new Uint8Array(8)
/** Ranges that are not within the first chunk's 8192 bytes. */
const ranges: [offset: unknown, length: number, error: Expected][] = [
  [-1, 1, range],
  [8192, 1, range],
  [8185, 8, range],
  [2 ** 32, 8, range],
  [2 ** 53, 8, range],
  [0.5, 8, range],
  [Number.NaN, 8, range],
  ['0', 8, type],
  [undefined, 8, type],
  [1n, 8, type],
]
const rangeCases: Case[] = ranges.flatMap(([at, length, error]): Case[] => {
  const offset = odd(at)
  const data = new Uint8Array(length)
  const shown = `${length} bytes at ${String(at)}`
  return [
    [`persist: ${shown}`, open, ({ chunk }) => chunk.persist(offset, length), error],
    [`flush: ${shown}`, open, ({ chunk }) => chunk.flush(offset, length), error],
    [`write: ${shown}`, openLine, ({ chunk }) => chunk.write(offset, data), error],
    [`tx.write: ${shown}`, open, inside((tx, { chunk }) => tx.write(chunk, offset, data)), error],
    [`tx.read: ${shown}`, open, inside((tx, { chunk }) => tx.read(chunk, offset, length)), error],
    ...(length === 8
      ? ([
          [
            `tx.setUint64: ${shown}`,
            openLine,
            inside((tx, { chunk }) => tx.setUint64(chunk, offset, 1)),
            error,
          ],
          [
            `tx.getUint64: ${shown}`,
            open,
            inside((tx, { chunk }) => tx.getUint64(chunk, offset)),
            error,
          ],
        ] as Case[])
      : []),
  ]
})

const valueCases: Case[] = (
  [
    ['-1', -1, range],
    ['2^32', 2 ** 32, range],
    ['1.5', 1.5, range],
    ['NaN', Number.NaN, range],
    ["'1'", '1', type],
    ['1n', 1n, type],
    ['undefined', undefined, type],
  ] as [string, unknown, Expected][]
)
  .map(
    ([shown, word, error]): Case => [
      `setUint32: ${shown}`,
      open,
      inside((tx, { chunk }) => tx.setUint32(chunk, 0, odd(word))),
      error,
    ],
  )
  .concat(
    (
      [
        ['-1', -1, range],
        ['2^53', 2 ** 53, range],
        ['1.5', 1.5, range],
        ["'1'", '1', type],
        ['1n', 1n, type],
      ] as [string, unknown, Expected][]
    ).map(
      ([shown, word, error]): Case => [
        `setUint64: ${shown}`,
        open,
        inside((tx, { chunk }) => tx.setUint64(chunk, 0, odd(word))),
        error,
      ],
    ),
  )

const lengthCases: Case[] = (
  [
    [-1, range],
    [8193, range],
    [0.5, range],
    [2 ** 53, range],
    ['1', type],
    [undefined, type],
  ] as [unknown, Expected][]
).flatMap(([length, error]): Case[] => [
  [
    `persist: ${String(length)} bytes`,
    openLine,
    ({ chunk }) => chunk.persist(0, odd(length)),
    error,
  ],
  [
    `tx.read: ${String(length)} bytes`,
    open,
    inside((tx, { chunk }) => tx.read(chunk, 0, odd(length))),
    error,
  ],
])

// biome-ignore lint/suspicious/noThenProperty: that it has one is what is tested
const thenable = { then: (done: () => void) => done() }

let leaked: Transaction | undefined
const leak = (given: Given): Transaction => {
  given.volume.transact((tx) => {
    leaked = tx
  })
  return leaked!
}
const active = mishap('TX_ACTIVE')
const ended = mishap('TX_ENDED')
const promise = mishap('TX_PROMISE')

const useCases: Case[] = [
  ['write: not bytes', open, ({ chunk }) => chunk.write(0, odd('abc')), type],
  ['write: an ArrayBuffer', open, ({ chunk }) => chunk.write(0, odd(new ArrayBuffer(8))), type],
  [
    'tx.write: words',
    open,
    inside((tx, { chunk }) => tx.write(chunk, 0, odd(new Uint32Array(1)))),
    type,
  ],
  [
    'chunk: a name that nobody has',
    open,
    ({ volume }) => volume.chunk('none'),
    mishap('CHUNK_NOT_FOUND'),
  ],
  [
    'chunk: an id that nobody has',
    open,
    ({ volume }) => volume.chunk(7),
    mishap('CHUNK_NOT_FOUND'),
  ],
  ['chunk: nothing', open, ({ volume }) => volume.chunk(odd(undefined)), type],
  ['findChunk: an object', open, ({ volume }) => volume.findChunk(odd({})), type],
  ['free: nothing', open, ({ volume }) => volume.free(odd(undefined)), type],
  ['free: an object', open, ({ volume }) => volume.free(odd({})), type],
  ['free: a chunk of another volume', open, ({ volume, foreign }) => volume.free(foreign), type],
  ['publish: a chunk', open, ({ volume, chunk }) => volume.publish(chunk), mishap('CHUNK_EXISTS')],
  ['cancel: a chunk', open, ({ volume, chunk }) => volume.cancel(chunk), mishap('CHUNK_EXISTS')],
  ['cancel: nothing', open, ({ volume }) => volume.cancel(odd(undefined)), type],
  [
    'tx.write: a chunk of another volume',
    open,
    inside((tx, { foreign }) => tx.write(foreign, 0, bytes)),
    type,
  ],
  ['tx.write: not a chunk', open, inside((tx) => tx.write(odd({}), 0, bytes)), type],
  [
    'rename: a name that is taken',
    open,
    inside((_, { volume, chunk }) => volume.rename(chunk, 'taken')),
    mishap('CHUNK_EXISTS'),
  ],
  ...texts(64).map(
    ([shown, text, error]): Case => [
      `rename: name ${shown}`,
      open,
      inside((_, { volume, chunk }) => volume.rename(chunk, odd(text))),
      error,
    ],
  ),
  ['transact: nothing', open, ({ volume }) => volume.transact(odd(undefined)), type],
  ['transact: a string', open, ({ volume }) => volume.transact(odd('work')), type],
  ['transactAsync: nothing', open, ({ volume }) => volume.transactAsync(odd(undefined)), type],
  ['transactAsync: a string', open, ({ volume }) => volume.transactAsync(odd('work')), type],
  ['transact in transact', open, staged((_, { volume }) => volume.transact(() => 0)), active],
  [
    'cancel in transact',
    open,
    inside((_, { volume }) => volume.cancel(volume.reserve({ size: 1 }))),
    active,
  ],
  ['close in transact', open, staged((_, { volume }) => volume.close()), active],
  ['transact: a promise', open, staged(() => Promise.resolve()), promise],
  [
    'transact: an async function',
    open,
    inside(async (tx, { chunk }) => tx.setUint32(chunk, 0, 1)),
    promise,
  ],
  [
    'transact: an async function that fails',
    open,
    inside(async () => {
      throw new Error('nobody waits for this')
    }),
    promise,
  ],
  ['transact: a thenable', open, inside(() => thenable), promise],
  [
    'transactAsync: an async function',
    openLine,
    ({ volume, chunk }) => volume.transactAsync(async (tx) => tx.setUint32(chunk, 0, 1)),
    promise,
  ],
  ['tx.write after the end', open, (given) => leak(given).write(given.chunk, 0, bytes), ended],
  ['tx.setUint32 after the end', open, (given) => leak(given).setUint32(given.chunk, 0, 1), ended],
  ['tx.setUint64 after the end', open, (given) => leak(given).setUint64(given.chunk, 0, 1), ended],
  ['tx.read after the end', open, (given) => leak(given).read(given.chunk, 0, 1), ended],
  [
    'a transaction larger than the log',
    open,
    inside((tx, { volume, chunk }) => {
      for (let i = 0; i <= volume.stats().logBytes / 8192; i++) tx.write(chunk, 0, pattern(8192, i))
    }),
    mishap('TX_TOO_LARGE'),
  ],
  [
    'a transaction larger than the log, in words',
    openLine,
    inside((tx, { chunk }) => {
      for (let i = 0; i < 10_000; i++) tx.setUint32(chunk, 0, i)
    }),
    mishap('TX_TOO_LARGE'),
  ],
  ...(
    [
      ['stats', (v) => v.stats()],
      ['chunks', (v) => v.chunks()],
      ['chunk', (v) => v.chunk('taken')],
      ['findChunk', (v) => v.findChunk('taken')],
      ['allocate', (v) => v.allocate({ size: 1 })],
      ['reserve', (v) => v.reserve({ size: 1 })],
      ['transact', (v) => v.transact(() => 0)],
      ['transactAsync', (v) => v.transactAsync(() => 0)],
      ['fence', (v) => v.fence()],
      ['checkpoint', (v) => v.checkpoint()],
    ] as [string, (volume: Volume) => unknown][]
  ).map(
    ([name, call]): Case => [
      `${name} of a closed volume`,
      closed,
      ({ volume }) => call(volume),
      mishap('VOLUME_CLOSED'),
    ],
  ),
  [
    'free of a closed volume',
    closed,
    ({ volume, chunk }) => volume.free(chunk),
    mishap('VOLUME_CLOSED'),
  ],
  [
    'persist of a closed volume',
    closed,
    ({ chunk }) => chunk.persist(0, 1),
    mishap('VOLUME_CLOSED'),
  ],
]

async function outcome(call: () => unknown, isAsync: boolean): Promise<unknown> {
  try {
    const result = call()
    if (isAsync) await result
    return undefined
  } catch (error) {
    return error
  }
}

describe('bad input', { skip: tmpfsPage.skip || tmpfsLine.skip }, () => {
  const refusedContents = contents.map(
    ([what, , setting]): Case => [`format: over ${what}`, setting, format({ size: MIB }), inUse],
  )
  const cases = [
    ...formatCases,
    ...refusedContents,
    ...openCases,
    ...allocateCases,
    ...rangeCases,
    ...valueCases,
    ...lengthCases,
    ...useCases,
  ]
  for (const [what, setting, call, expected] of cases) {
    it(`${what}: ${expected.code}`, async () => {
      await inMemory(async (folder) => {
        const path = join(folder, 'device')
        const given = { path, ...setting(path) } as Given
        try {
          const state = () => {
            const there = existsSync(path)
            const isOpen = setting === open || setting === openLine
            return {
              hash: there && setting !== nothing ? safeHash(path) : there,
              chunks: isOpen ? given.volume.chunks() : [],
              used: isOpen ? given.volume.stats().usedBytes : 0,
            }
          }
          // What leaks its transaction commits an empty one first: nothing, but not the call that is looked at.
          const before = state()
          const error = await outcome(() => call(given), what.startsWith('transactAsync'))
          assert.ok(error instanceof Error, `${what}: no error`)
          const { name, code } = error as Error & { code?: string }
          assert.deepEqual({ name, code }, expected)
          assert.ok(
            error instanceof
              (name === 'TypeError' ? TypeError : name === 'RangeError' ? RangeError : PlinthError),
          )
          assert.ok(error.message.length > 10)
          const after = state()
          // A reservation of the failed transaction's function is its own business.
          if (what === 'cancel in transact') after.used = before.used
          if (what === 'cancel in transact') after.chunks = before.chunks
          assert.deepEqual(after, before)
          if (setting === open || setting === openLine) stillWorks(given)
        } finally {
          given.volume?.close()
          given.other?.close()
        }
      })
    })
  }
})

function safeHash(path: string): string {
  return statSync(path).isFile() ? hashOf(path) : 'a folder'
}

/** After the refusal all is as usual. */
function stillWorks({ volume, chunk, path }: Given): void {
  volume.transact((tx) => tx.setUint32(chunk, 4, 0x01020304))
  const added = volume.allocate({ size: 4096, name: 'added' })
  volume.free(added)
  volume.close()
  const again = Volume.open(path)
  try {
    assert.equal(again.chunk(chunk.id).view.getUint32(4, true), 0x01020304)
    assert.equal(again.chunk(chunk.id).view.getUint32(0, true), 0)
    assert.equal(again.stats().chunks, 2)
  } finally {
    again.close()
  }
}

describe('what was refused goes with force', { skip: tmpfsPage.skip }, () => {
  for (const [what, message, setting] of contents) {
    it(`over ${what}`, () => {
      inMemory((folder) => {
        const path = join(folder, 'device')
        setting(path)
        assert.throws(() => Volume.format(path, { size: MIB }), { code: inUse.code, message })
        Volume.format(path, { size: MIB, force: true })
        const volume = Volume.open(path)
        assert.deepEqual(volume.chunks(), [])
        assert.equal(volume.recovery.clean, true)
        volume.close()
      })
    })
  }

  it('a real filesystem, made by its own tool', (t) => {
    if (spawnSync('mkfs.ext4', ['-V']).error !== undefined)
      return t.skip('mkfs.ext4 is not installed')
    inMemory((folder) => {
      const path = join(folder, 'device')
      file(4 * MIB)(path)
      execFileSync('mkfs.ext4', ['-q', '-F', path])
      const before = hashOf(path)
      assert.throws(() => Volume.format(path), { code: inUse.code, message: /ext4/ })
      assert.equal(hashOf(path), before)
      Volume.format(path, { force: true })
      Volume.open(path).close()
    })
  })

  it('a real swap area, made by its own tool', (t) => {
    if (spawnSync('mkswap', ['-V']).error !== undefined) return t.skip('mkswap is not installed')
    inMemory((folder) => {
      const path = join(folder, 'device')
      file(4 * MIB)(path)
      execFileSync('mkswap', [path], { stdio: 'ignore' })
      assert.throws(() => Volume.format(path), { code: inUse.code, message: /swap/ })
    })
  })
})
