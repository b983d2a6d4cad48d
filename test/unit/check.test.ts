/** Check and repair on volumes in files: what each kind of damage is called, and what becomes of it. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import {
  FINDING_CODES,
  type Finding,
  type FindingCode,
  formatFindings,
  formatRepair,
  PlinthError,
  Volume,
} from 'plinth'
import { crc32c } from '../../src/base/checksum.js'
import {
  CHECKPOINT,
  CHECKPOINT_STATE,
  decodeCheckpoint,
  encodeCheckpoint,
} from '../../src/layout/checkpoint-header.js'
import {
  CHUNK_SLOT,
  CHUNK_STATE,
  chunkSlotSeed,
  encodeChunkSlot,
  GENERATION_MAX,
} from '../../src/layout/chunk-slot.js'
import { CHECKPOINT_AT, planGeometry } from '../../src/layout/geometry.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  type Superblock,
  volumeSeed,
} from '../../src/layout/superblock.js'
import { recordSeed } from '../../src/log/log.js'
import { inMemory, MIB, tmpfsLine, withVolume } from '../support/devices.js'
import { placesOf } from '../support/places.js'

const geometry = planGeometry({ sizeBytes: MIB, alignBytes: 4096 })
const { checkpointCopyAt, superblockCopyAt, logAt } = geometry
const { tableAt, tableCopyAt } = placesOf(geometry)

/** A closed volume of two chunks in a file; `change` damages it. */
function damaged<T>(
  change: (image: Uint8Array) => undefined | Uint8Array,
  body: (path: string) => T,
): T {
  return inMemory((folder) => {
    const path = join(folder, 'device')
    Volume.format(path, { size: MIB, label: 'check' })
    const volume = Volume.open(path)
    volume.allocate({ size: 8192, name: 'a', type: 'first' }).write(0, Uint8Array.of(1, 2, 3))
    volume.allocate({ size: 4096, name: 'b' })
    volume.close()
    const image = Uint8Array.from(fs.readFileSync(path))
    fs.writeFileSync(path, change(image) ?? image)
    return body(path)
  })
}

test('a volume that repair has left more granules than slots tells so', () =>
  damaged(
    () => undefined,
    (path) => {
      const whole = Volume.open(path)
      const size = whole.info.granule
      for (const { name } of whole.chunks()) whole.free(whole.chunk(name!))
      while (whole.stats().freeBytes > 0) whole.allocate({ size })
      const last = whole.chunks().at(-1)!.id
      // One more than the table has beyond a slot for each chunk.
      const lost = geometry.slots - whole.chunks().length + 1
      whole.close()
      const image = Uint8Array.from(fs.readFileSync(path))
      for (const at of [tableAt, tableCopyAt]) {
        image.fill(0x55, at, at + lost * CHUNK_SLOT.bytes)
      }
      fs.writeFileSync(path, image)
      Volume.repair(path, { dryRun: false, dropDamaged: true })
      const repaired = Volume.open(path)
      assert.equal(repaired.stats().freeBytes, lost * size)
      for (let i = 1; i < lost; i++) repaired.allocate({ size })
      assert.equal(repaired.stats().freeBytes, size)
      assert.throws(() => repaired.allocate({ size }), { code: 'ERR_NO_SPACE', message: /slot/ })
      repaired.free(repaired.chunk(last))
      repaired.allocate({ size })
      repaired.close()
    },
  ))

const codesOf = (findings: readonly Finding[]) => findings.map(({ code }) => code)

/** Both superblocks with other values and right checksums. */
const superblocks =
  (change: (values: Superblock, copy: 0 | 1) => Partial<Superblock>) =>
  (image: Uint8Array): undefined => {
    for (const copy of [0, 1] as const) {
      const at = copy === 0 ? 0 : superblockCopyAt
      const values = decodeSuperblock(image.subarray(at, at + 4096)) as Superblock
      image.set(encodeSuperblock({ ...values, ...change(values, copy) }), at)
    }
  }

const seedOf = (image: Uint8Array) => volumeSeed(image.subarray(32, 48))

/** A slot with other values in the copies given, and right checksums. */
const slot =
  (index: number, values: object, copies: readonly (0 | 1)[] = [0, 1]) =>
  (image: Uint8Array): undefined => {
    for (const copy of copies) {
      const at = (copy === 0 ? tableAt : tableCopyAt) + index * CHUNK_SLOT.bytes
      const before = CHUNK_SLOT.read(image, at)
      encodeChunkSlot({ ...before, ...values }, chunkSlotSeed(seedOf(image), index), image, at)
    }
  }

const checkpointHeaders =
  (change: (copy: 0 | 1) => object) =>
  (image: Uint8Array): undefined => {
    for (const copy of [0, 1] as const) {
      const at = copy === 0 ? CHECKPOINT_AT : checkpointCopyAt
      const before = decodeCheckpoint(image.subarray(at, at + CHECKPOINT.bytes), seedOf(image))!
      image.set(encodeCheckpoint({ ...before, ...change(copy) }, seedOf(image)), at)
    }
  }

/** A record with a right checksum at the head of the log of a volume that was not closed. */
const record =
  (words: number[]) =>
  (image: Uint8Array): undefined => {
    checkpointHeaders(() => ({ state: CHECKPOINT_STATE.OPEN }))(image)
    const seed = seedOf(image)
    const { logSalt, head } = decodeCheckpoint(
      image.subarray(CHECKPOINT_AT, CHECKPOINT_AT + 64),
      seed,
    )!
    const at = logAt + (head % geometry.logBytes)
    const bytes = 24 + words.length * 4
    const view = new DataView(image.buffer, at, bytes)
    image.fill(0, at, at + bytes)
    view.setUint32(4, bytes, true)
    view.setUint32(8, head, true)
    view.setUint32(16, head, true)
    for (const [i, word] of words.entries()) view.setUint32(24 + 4 * i, word, true)
    view.setUint32(0, crc32c(recordSeed(seed, logSalt), image, at + 4, at + bytes), true)
  }

const flip =
  (...places: number[]) =>
  (image: Uint8Array): undefined => {
    for (const at of places) image[at]! ^= 1
  }

const zeros =
  (length: number, ...places: number[]) =>
  (image: Uint8Array): undefined => {
    for (const at of places) image.fill(0, at, at + length)
  }

type Change = (image: Uint8Array) => undefined | Uint8Array

/** What is done, what check says, whether the volume opens, whether it can be repaired. */
const cases: [
  what: string,
  change: Change,
  codes: FindingCode[],
  opens: boolean,
  repairs: boolean,
][] = [
  ['nothing', () => undefined, [], true, true],
  ['zeros', (image) => image.fill(0), ['not-a-volume'], false, false],
  ['no bytes', () => new Uint8Array(0), ['not-a-volume'], false, false],
  ['a page', (image) => image.slice(0, 4096), ['not-a-volume'], false, false],
  ['the first superblock', flip(100), ['superblock-damaged'], true, true],
  ['the second superblock', flip(superblockCopyAt + 8), ['superblock-damaged'], true, true],
  ['both superblocks', flip(9, superblockCopyAt + 9), ['superblock-damaged'], false, false],
  [
    'superblocks that differ',
    superblocks((_, copy) => ({ created: copy })),
    ['superblock-differs'],
    true,
    true,
  ],
  ['a newer format', superblocks(() => ({ version: 9 })), ['format-too-new'], false, false],
  ['an older format', superblocks(() => ({ version: 1 })), ['format-too-old'], false, false],
  ['a feature', superblocks(() => ({ incompatible: 2 })), ['format-too-new'], false, false],
  ['a restore', superblocks(() => ({ incompatible: 1 })), ['restore-incomplete'], false, false],
  ['a granule', superblocks(() => ({ granuleBytes: 5000 })), ['geometry-impossible'], false, false],
  ['half', (image) => image.slice(0, MIB / 2), ['device-truncated'], false, false],
  ['the first checkpoint header', flip(CHECKPOINT_AT + 20), ['checkpoint-damaged'], true, true],
  ['the second checkpoint header', flip(checkpointCopyAt + 63), ['checkpoint-damaged'], true, true],
  [
    'both checkpoint headers',
    flip(CHECKPOINT_AT, checkpointCopyAt),
    ['checkpoint-damaged'],
    false,
    false,
  ],
  [
    'an older checkpoint header',
    checkpointHeaders((copy) => ({ sequence: 100 + copy })),
    ['checkpoint-behind'],
    true,
    true,
  ],
  [
    'no close',
    checkpointHeaders(() => ({ state: CHECKPOINT_STATE.OPEN })),
    ['not-closed'],
    true,
    false,
  ],
  [
    'too many slots',
    checkpointHeaders(() => ({ slotsUsed: 1e6 })),
    ['checkpoint-impossible'],
    false,
    false,
  ],
  ['an impossible record', record([0, 0]), ['not-closed', 'log-entry-impossible'], false, false],
  ['the first copy of a slot', flip(tableAt + 60), ['slot-damaged'], true, true],
  ['the second copy of a slot', flip(tableCopyAt + 200), ['slot-damaged'], true, true],
  ['a lost write', slot(1, { version: 9 }, [0]), ['slot-behind'], true, true],
  ['slots that differ', slot(1, { granules: 2 }, [1]), ['slot-differs'], true, true],
  ['both copies of a slot', flip(tableAt, tableCopyAt), ['slot-lost'], false, false],
  ['both copies of a slot, gone', zeros(128, tableAt, tableCopyAt), ['slot-lost'], false, false],
  [
    'one copy of a slot gone and one damaged',
    (image) => flip(tableCopyAt + 50)(image) ?? zeros(128, tableAt)(image),
    ['slot-lost'],
    false,
    false,
  ],
  [
    'unused slots',
    flip(tableAt + 9 * 128, tableAt + 10 * 128, tableCopyAt + 30 * 128),
    ['slot-beyond-used', 'slot-beyond-used'],
    true,
    true,
  ],
  ['a chunk behind the end', slot(1, { start: 5000 }), ['chunk-out-of-bounds'], false, false],
  ['a chunk in the head', slot(1, { start: 1 }), ['chunk-out-of-bounds'], false, false],
  [
    'a chunk into the tail',
    slot(1, { start: 253, granules: 2 }),
    ['chunk-out-of-bounds'],
    false,
    false,
  ],
  ['an overlap', slot(1, { start: 27 }), ['chunk-overlap'], false, false],
  ['a chunk over the log', slot(1, { start: 25 }), ['chunk-overlap'], false, false],
  ['a chunk over the table', slot(1, { start: 9 }), ['chunk-overlap'], false, false],
  [
    'a chunk over its second copy',
    slot(1, { start: 245, granules: 2 }),
    ['chunk-overlap'],
    false,
    false,
  ],
  [
    'a name twice',
    slot(1, { name: Uint8Array.of(97, ...new Array(63).fill(0)) }),
    ['name-twice'],
    false,
    false,
  ],
  [
    'a name that is no text',
    slot(1, { name: Uint8Array.of(0xff, ...new Array(63).fill(0)) }),
    ['text-invalid'],
    false,
    false,
  ],
]

describe('check', () => {
  for (const [what, change, codes, opens, repairs] of cases) {
    test(what, () => {
      damaged(change, (path) => {
        const before = fs.readFileSync(path)
        const findings = Volume.check(path)
        assert.deepEqual(codesOf(findings), codes, formatFindings(findings))
        const open = () => Volume.open(path, { readOnly: true }).close()
        if (opens) open()
        else assert.throws(open, PlinthError)
        assert.equal(
          findings.some(({ severity }) => severity === 'error'),
          !opens,
        )
        assert.equal(
          findings.every(({ fixable }) => fixable),
          repairs,
        )
        const plan = Volume.repair(path)
        assert.ok(plan.dryRun)
        assert.deepEqual(plan.findings, findings)
        assert.deepEqual(fs.readFileSync(path), before, 'nothing is written')
        const report = Volume.repair(path, { dryRun: false })
        assert.deepEqual(report.fixes, plan.fixes)
        assert.deepEqual(report.remaining, plan.remaining)
        assert.equal(report.remaining.length === 0, repairs)
        if (opens) assert.equal(Volume.open(path).findChunk('a')?.bytes[2] ?? 3, 3)
      })
    })
  }

  test('a volume that can be read and not written is not called healthy', () => {
    damaged(
      superblocks(() => ({ readOnlyCompatible: 1 })),
      (path) => {
        const [finding, ...others] = Volume.check(path)
        assert.deepEqual([finding?.code, finding?.severity], ['format-too-new', 'warning'])
        assert.deepEqual(others, [])
        Volume.open(path, { readOnly: true }).close()
        assert.throws(() => Volume.open(path), { code: 'ERR_FORMAT_TOO_NEW' })
      },
    )
  })

  test('a slot that is newer than the log knows', () => {
    const newer = (image: Uint8Array): undefined => {
      const at = tableAt + CHUNK_SLOT.bytes
      const { buffer } = image.slice(at, at + CHUNK_SLOT.bytes)
      record([1, (4 << 21) | (16 << 25), ...new Uint32Array(buffer)])(image)
      slot(1, { version: 7 })(image)
    }
    damaged(newer, (path) => {
      const [left, finding, ...rest] = Volume.check(path)
      assert.equal(left?.code, 'not-closed')
      assert.deepEqual(rest, [])
      assert.equal(finding?.code, 'log-damaged')
      assert.equal(finding?.place.area, 'chunk-table')
      assert.equal(finding?.fixable, false)
      for (const readOnly of [true, false]) {
        assert.throws(() => Volume.open(path, { readOnly }), {
          code: 'ERR_VOLUME_CORRUPT',
          message: /slot 1 is newer than the log knows/,
        })
      }
    })
  })

  test('every code is seen here or in the tests of damage', () => {
    const elsewhere = [
      'foreign-owner',
      'bad-blocks',
      'unreadable',
      'log-damaged',
      'log-bit-flip',
      'log-gone',
      'memory-differs',
      'space-miscounted',
    ]
    const seen = new Set([...cases.flatMap(([, , codes]) => codes), ...elsewhere])
    assert.deepEqual(
      Object.keys(FINDING_CODES).filter(
        (code) => !/^(heap|slab)-/.test(code) && !seen.has(code as FindingCode),
      ),
      [],
    )
  })

  test('the text has a line for each finding, the worst first', () => {
    damaged(flip(tableAt + 1, tableCopyAt + 1, 100, CHECKPOINT_AT), (path) => {
      const lines = formatFindings(Volume.check(path)).split('\n')
      assert.match(
        lines[0]!,
        /^error: slot-lost at chunk-table, offset 8192: both copies .*dropDamaged/,
      )
      assert.match(
        lines[1]!,
        /^warning: superblock-damaged at superblock \(first copy\), offset 0: .* \(fixable\)$/,
      )
      assert.equal(lines.length, 3)
      assert.equal(formatFindings([]), 'no findings')
    })
  })
})

describe('check of an open volume', () => {
  test('finds nothing, in every state of use', () => {
    withVolume(tmpfsLine, exercise)
    inMemory((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: MIB })
      const volume = Volume.open(path)
      exercise(volume)
      volume.close()
      assert.deepEqual(Volume.check(path), [])
      const reader = Volume.open(path, { readOnly: true })
      assert.deepEqual(reader.check(), [])
      assert.deepEqual(Volume.check(path), [], 'beside a reader')
      reader.close()
      assert.throws(() => reader.check(), { code: 'ERR_VOLUME_CLOSED' })
    })
  })

  function exercise(volume: Volume): void {
    const clean = () => assert.equal(formatFindings(volume.check()), 'no findings')
    clean()
    const a = volume.allocate({ size: 8192, name: 'a', type: 't' })
    clean()
    const reserved = volume.reserve({ size: 4096, name: 'reserved' })
    const b = volume.allocate({ size: 4096 })
    clean()
    a.bytes.fill(7)
    volume.transact((tx) => {
      tx.write(a, 0, Uint8Array.of(1))
      assert.throws(() => volume.check(), { code: 'ERR_TX_ACTIVE' })
    })
    volume.cancel(reserved)
    volume.free(a)
    clean()
    const waiting = volume.transactAsync(() => volume.rename(b, 'later'))
    clean()
    waiting.catch(() => {})
    volume.checkpoint()
    clean()
    b.close()
    clean()
  }

  test('sees damage under it', () => {
    withVolume(tmpfsLine, (volume, path) => {
      volume.allocate({ size: 4096, name: 'a' })
      volume.allocate({ size: 4096, name: 'b' })
      const fd = fs.openSync(path, 'r+')
      const damage = (at: number) => {
        const byte = Buffer.alloc(1)
        fs.readSync(fd, byte, 0, 1, at)
        fs.writeSync(fd, Uint8Array.of(byte[0]! ^ 1), 0, 1, at)
      }
      const first = logAt + 40
      damage(first)
      assert.deepEqual(codesOf(volume.check()).slice(0, 1), ['log-damaged'])
      damage(first)
      assert.deepEqual(volume.check(), [])
      damage(superblockCopyAt)
      damage(checkpointCopyAt)
      volume.checkpoint()
      damage(tableCopyAt)
      assert.deepEqual(codesOf(volume.check()), ['superblock-damaged', 'slot-damaged'])
      assert.throws(() => Volume.check(path), { code: 'ERR_VOLUME_BUSY' })
      assert.throws(() => Volume.repair(path), { code: 'ERR_VOLUME_BUSY' })
      // Memory knows a chunk that the device has lost: both copies of its slot are zero.
      for (const at of [tableAt, tableCopyAt]) fs.writeSync(fd, new Uint8Array(128), 0, 128, at)
      assert.ok(codesOf(volume.check()).includes('memory-differs'))
      fs.closeSync(fd)
    })
  })
})

test('slots that were taken in memory alone are no lost ones', () => {
  inMemory((folder) => {
    const path = join(folder, 'device')
    Volume.format(path, { size: MIB })
    let volume = Volume.open(path)
    const reserved = [1, 2, 3].map(() => volume.reserve({ size: 4096 }))
    volume.allocate({ size: 4096, name: 'behind' })
    volume.publish(reserved[1]!)
    volume.checkpoint()
    assert.deepEqual(volume.check(), [])
    // A hole of the checkpoint is filled by the log.
    volume.publish(reserved[0]!)
    assert.deepEqual(volume.check(), [])
    volume.close()
    assert.deepEqual(Volume.check(path), [])
    const lose = (index: number) => {
      const image = Uint8Array.from(fs.readFileSync(path))
      zeros(128, tableAt + index * 128, tableCopyAt + index * 128)(image)
      fs.writeFileSync(path, image)
    }
    volume = Volume.open(path)
    assert.equal(volume.chunks().length, 3)
    volume.close()
    // There is one hole; of two that are empty one is lost, and nothing tells which.
    lose(0)
    assert.deepEqual(codesOf(Volume.check(path)), ['slot-lost'])
    assert.throws(() => Volume.open(path), { code: 'ERR_VOLUME_CORRUPT' })
    assert.equal(Volume.repair(path, { dropDamaged: true }).fixes.length, 4)
    assert.deepEqual(Volume.repair(path, { dropDamaged: true, dryRun: false }).remaining, [])
    volume = Volume.open(path)
    assert.deepEqual(
      volume.chunks().map(({ name }) => name),
      [undefined, 'behind'],
    )
    assert.deepEqual(volume.check(), [])
    volume.close()
  })
})

describe('repair', () => {
  test('gives a lost chunk up only when told to', () => {
    damaged(flip(tableAt, tableCopyAt + 3), (path) => {
      assert.deepEqual(Volume.repair(path, { dryRun: false }).fixes, [])
      assert.throws(() => Volume.open(path), { code: 'ERR_VOLUME_CORRUPT' })
      const plan = Volume.repair(path, { dropDamaged: true })
      assert.equal(plan.fixes.length, 2)
      assert.match(formatRepair(plan), /^would fix: slot-lost .*its chunk is lost$/m)
      const report = Volume.repair(path, { dropDamaged: true, dryRun: false })
      assert.deepEqual(report.remaining, [])
      assert.match(formatRepair(report), /^fixed: slot-lost /m)
      const volume = Volume.open(path)
      assert.deepEqual(
        volume.chunks().map(({ name }) => name),
        ['b'],
      )
      // Its id does not come again.
      const next = volume.allocate({ size: 8192, name: 'a' })
      assert.equal(next.id % 2 ** 24, 0)
      assert.ok(next.id >= 2 * 2 ** 24)
      assert.deepEqual(volume.check(), [])
      volume.close()
    })
  })

  test("gives up the chunk that has what is another one's", () => {
    const name = Uint8Array.of(97, ...new Array(63).fill(0))
    const cases: [FindingCode, object, (string | undefined)[]][] = [
      ['chunk-out-of-bounds', { start: 5000 }, ['a']],
      ['chunk-out-of-bounds', { start: 1 }, ['a']],
      ['chunk-overlap', { start: 27 }, ['a']],
      ['chunk-overlap', { start: 10 }, ['a']],
      ['chunk-overlap', { start: 246 }, ['a']],
      ['name-twice', { name }, ['a', undefined]],
    ]
    for (const [code, values, names] of cases) {
      damaged(slot(1, values), (path) => {
        const [finding] = Volume.check(path)
        assert.match(finding!.message, /dropDamaged .* the chunk in slot 1/)
        assert.deepEqual(Volume.repair(path, { dryRun: false }).fixes, [])
        const { fixes, remaining } = Volume.repair(path, { dryRun: false, dropDamaged: true })
        assert.deepEqual(codesOf(fixes as unknown as Finding[]), [code, code])
        assert.deepEqual(remaining, [])
        const volume = Volume.open(path)
        const chunks = volume.chunks()
        assert.deepEqual(
          chunks.map((chunk) => chunk.name),
          names,
        )
        assert.deepEqual([...volume.chunk('a').bytes.subarray(0, 3)], [1, 2, 3])
        assert.deepEqual(volume.check(), [])
        volume.close()
      })
    }
  })

  test('finds the second superblock of a volume smaller than its device', () => {
    const grown = (image: Uint8Array) => {
      const device = new Uint8Array(3 * MIB)
      device.set(image)
      return device
    }
    // The damaged one still tells the size; or nothing of it is left.
    const cases: [hurt: (image: Uint8Array) => void, severity: string][] = [
      [flip(100), 'warning'],
      [(image) => image.fill(0, 0, 4096), 'error'],
    ]
    for (const [hurt, severity] of cases) {
      damaged(
        (image) => {
          hurt(image)
          return grown(image)
        },
        (path) => {
          const [finding, ...rest] = Volume.check(path)
          assert.deepEqual(rest, [])
          assert.equal(finding?.code, 'superblock-damaged')
          assert.equal(finding?.severity, severity)
          const open = () => Volume.open(path, { readOnly: true }).close()
          if (severity === 'error') assert.throws(open, { code: 'ERR_NOT_A_VOLUME' })
          else open()
          assert.deepEqual(Volume.repair(path, { dryRun: false }).remaining, [])
          const volume = Volume.open(path)
          assert.equal(volume.info.label, 'check')
          assert.equal(volume.chunks().length, 2)
          volume.close()
        },
      )
    }
  })

  /**
   * Format left the end of a larger volume that was there before. With the first superblock of the
   * new one damaged, opening found the second of the old one, and brought the old volume back.
   */
  test('takes no volume for another that was there before', () => {
    inMemory((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: 2 * MIB, label: 'old' })
      Volume.format(path, { size: MIB, label: 'new', force: true })
      const label = () => {
        using volume = Volume.open(path, { readOnly: true })
        return volume.info.label
      }
      const change = (at: number, length: number) => {
        const fd = fs.openSync(path, 'r+')
        fs.writeSync(fd, new Uint8Array(length), 0, length, at)
        fs.closeSync(fd)
      }
      // The checksum: the size that it says still leads to its second copy.
      change(8, 4)
      assert.equal(label(), 'new')
      // The size too.
      change(48, 8)
      assert.throws(label, PlinthError, 'the end of the old volume is not taken for the new one')
      assert.deepEqual(Volume.repair(path, { dryRun: false }).remaining, [])
      assert.equal(label(), 'new')
    })
  })

  test('wrong options change nothing', () => {
    damaged(flip(100), (path) => {
      const wrong = (options: unknown) => () => Volume.repair(path, options as object)
      assert.throws(wrong({ dryrun: true }), { code: 'ERR_UNKNOWN_OPTION' })
      assert.throws(wrong({ dryRun: 'no' }), { code: 'ERR_INVALID_ARG_TYPE' })
      assert.throws(wrong({ dropDamaged: 1 }), { code: 'ERR_INVALID_ARG_TYPE' })
      assert.throws(() => Volume.check(5 as unknown as string), { code: 'ERR_INVALID_ARG_TYPE' })
      assert.throws(() => Volume.check(`${path}-none`), { code: 'ERR_DEVICE_MISSING' })
    })
  })
})

test('a slot whose generations are used up stays free after opening', () => {
  damaged(slot(0, { state: CHUNK_STATE.FREE, generation: GENERATION_MAX }), (path) => {
    const volume = Volume.open(path)
    const chunk = volume.allocate({ size: 4096, name: 'next' })
    assert.notEqual(chunk.id % 2 ** 24, 0)
    volume.close()
    assert.deepEqual(Volume.check(path), [])
    Volume.open(path).close()
  })
})
