// The benchmark of the engines runs, names what it promises and notices wrong answers. How fast is never asked here.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { onNative } from '../device/native-support.js'
import type { Engine, Entry } from './engines/engine.js'
import { ENGINES, OWN } from './engines/engines.js'
import { addToChecksum } from './engines/entries.js'
import { TIMED, Work } from './engines/work.js'

const program = fileURLToPath(new URL('./engines/run.js', import.meta.url))

const NAMES = [
  'put',
  'batch-100',
  'get',
  'flood',
  'scan-100',
  'open',
  'bytes-per-entry',
  'first-scan',
  'js-heap-per-entry',
]

/** Keys and values as strings, sorted when they are scanned. */
class MemoryEngine implements Engine {
  readonly settings = 'none'
  readonly entries = new Map<string, Buffer>()

  open(): undefined {}
  close(): undefined {}

  put(key: Buffer, value: Buffer): undefined {
    this.entries.set(key.toString('hex'), value)
  }

  batch(entries: readonly Entry[]): undefined {
    for (const { key, value } of entries) this.put(key, value)
  }

  get(key: Buffer): Uint8Array | undefined {
    return this.entries.get(key.toString('hex'))
  }

  async flood(entries: readonly Entry[]): Promise<void> {
    this.batch(entries)
  }

  scan(from: Buffer, count: number): number {
    const first = from.toString('hex')
    const keys = [...this.entries.keys()].filter((key) => key >= first).sort()
    return keys
      .slice(0, count)
      .reduce((sum, key) => addToChecksum(sum, Buffer.from(key, 'hex'), this.entries.get(key)!), 0)
  }

  bytesOnDevice(): number {
    return this.entries.size
  }
}

async function loaded(engine: Engine): Promise<Work> {
  const work = new Work(engine)
  await work.open()
  await work.load(250)
  return work
}

describe('npm run bench:engines', onNative, () => {
  test('--json says one object a line, every name on both devices for every engine that is there', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, '--quick', '--json'], {
      encoding: 'utf8',
    })
    assert.equal(status, 0, stderr)
    const lines = stdout.trimEnd().split('\n')
    const objects = lines.map((line) => JSON.parse(line))
    const skipped = objects.filter((one) => 'skipped' in one).map(({ engine }) => engine)
    const results = objects.filter((one) => !('skipped' in one))
    for (const result of results) {
      assert.deepEqual(Object.keys(result), ['name', 'device', 'engine', 'value', 'unit'])
      assert(Number.isFinite(result.value), JSON.stringify(result))
      assert(['us', 'ms', 'bytes'].includes(result.unit), result.unit)
    }
    assert(!skipped.includes(OWN), stdout)
    const expected = Object.keys(ENGINES)
      .filter((engine) => !skipped.includes(engine))
      .flatMap((engine) =>
        NAMES.flatMap((name) => [`shm ${name} ${engine}`, `disk ${name} ${engine}`]),
      )
    assert.deepEqual(
      results.map(({ name, device, engine }) => `${device} ${name} ${engine}`).sort(),
      expected.sort(),
    )
  })

  test('--only with no match is an error', () => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [program, '--only', 'no-such-case'],
      { encoding: 'utf8' },
    )
    assert.equal(status, 1)
    assert.equal(stdout, '')
    for (const name of NAMES) assert(stderr.includes(name), name)
  })
})

describe('what the benchmark checks of an engine', () => {
  setFlagsFromString('--expose-gc')
  globalThis.gc = runInNewContext('gc')

  test('one that keeps what it is given passes', async () => {
    const work = await loaded(new MemoryEngine())
    for (const name of TIMED) assert((await work.time(name, name === 'open' ? 1 : 5)) > 0)
    assert.equal(await work.bytesPerEntry(), 1)
    await work.verify()
  })

  test('a wrong byte of a value is noticed', async () => {
    const engine = new MemoryEngine()
    const work = await loaded(engine)
    for (const value of engine.entries.values()) value[value.length - 1]! ^= 1
    for (const name of ['get', 'scan-100', 'open'] as const) {
      await assert.rejects(work.time(name, 1), /wrong bytes/)
    }
    await assert.rejects(work.verify(), /not the 250 entries/)
  })

  test('an entry that is lost or was never put is noticed', async () => {
    for (const change of [
      (entries: Map<string, Buffer>) => entries.delete([...entries.keys()].sort().at(-1)!),
      (entries: Map<string, Buffer>) => entries.set('ff'.repeat(16), Buffer.alloc(100)),
    ]) {
      const engine = new MemoryEngine()
      const work = await loaded(engine)
      change(engine.entries)
      await assert.rejects(work.verify(), /not the 250 entries/)
    }
  })
})
