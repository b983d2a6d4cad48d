// What callers hand in is read once and copied, whatever it is; who calls the map from within a change is refused.
import assert from 'node:assert/strict'
import diagnostics from 'node:diagnostics_channel'
import { after, describe, it } from 'node:test'
import vm from 'node:vm'
import { Worker } from 'node:worker_threads'
import type { OperationMessage, Volume } from 'plinth'
import { type MapOperation, OrderedMap } from 'plinth/map'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { assertSame, auditMap, bytesOf, MapModel, textOf } from '../support/map-model.js'

const MIB = 2 ** 20
const CHANNEL = 'plinth:operation'

interface Bench {
  readonly media: SimulatedMedia
  readonly volume: Volume
  readonly map: OrderedMap
}

function newBench(medium: 'cache-line' | 'page' = 'cache-line'): Bench {
  const media = new SimulatedMedia(medium, makeImage({ size: 4 * MIB }))
  const volume = openSimulated(media)
  return { media, volume, map: OrderedMap.open(volume, 'map') }
}

/** The map has these entries, in memory and when it is opened again. */
function demand({ media, volume, map }: Bench, entries: Record<string, string>): void {
  const model = new MapModel()
  for (const [key, value] of Object.entries(entries)) model.put(key, bytesOf(value))
  assertSame(map, model)
  assert.deepEqual(volume.check(), [])
  volume.close()
  const again = openSimulated(new SimulatedMedia(media.granularity, media.durable, false))
  assertSame(OrderedMap.open(again, 'map'), model)
  assert.equal(auditMap(again).entries, model.size)
  again.close()
}

const put = (key: string, value: string): MapOperation => ({
  type: 'put',
  key: bytesOf(key),
  value: bytesOf(value),
})

const sameText = (found: Uint8Array | undefined, text: string) =>
  assert.equal(found && textOf(found), text)

/** An operation whose key comes from a getter, which is told how often it was asked. */
const withKey = (key: (asked: number) => unknown): MapOperation => {
  let asked = 0
  return {
    type: 'put',
    get key() {
      return key(asked++) as Uint8Array
    },
    value: bytesOf('value'),
  }
}

describe('operations of a batch are read once', () => {
  it('a getter that answers something else the next time', () => {
    for (const other of [new Uint8Array(70_000), 'a string', undefined, bytesOf('other')]) {
      const bench = newBench()
      bench.map.batch([withKey((asked) => (asked === 0 ? bytesOf('first') : other))])
      demand(bench, { first: 'value' })
    }
  })

  it('what cannot be a key is refused, and nothing of the batch is there', () => {
    const bench = newBench()
    bench.map.put(bytesOf('a'), bytesOf('1'))
    const wrong = [
      undefined,
      null,
      'text',
      [1],
      new Uint16Array(2),
      new DataView(new ArrayBuffer(2)),
    ]
    for (const key of wrong) {
      const operations = [put('b', '2'), withKey(() => key)]
      assert.throws(() => bench.map.batch(operations), { code: 'ERR_INVALID_ARG_TYPE' })
    }
    const stop = new Error('of the getter')
    const thrown = withKey(() => {
      throw stop
    })
    assert.throws(() => bench.map.batch([put('b', '2'), thrown]), stop)
    demand(bench, { a: '1' })
  })

  it('a getter that changes keys and values before and behind it: they count as they are when all are read', () => {
    const bench = newBench()
    const [first, last] = [put('k1', 'x'), put('k3', 'z')]
    const changing = withKey(() => {
      first.key[0] = 'j'.charCodeAt(0)
      last.key[0] = 'l'.charCodeAt(0)
      return bytesOf('k2')
    })
    bench.map.batch([first, changing, last, put('k1', 'w')])
    demand(bench, { j1: 'x', k1: 'w', k2: 'value', l3: 'z' })
  })

  it('a getter that uses the map: each is a change of its own, none within the other', () => {
    for (const medium of ['cache-line', 'page'] as const) {
      const bench = newBench(medium)
      const using = withKey(() => {
        bench.map.batch([put('k1', 'inner'), put('inner', 'i')])
        bench.map.delete(bytesOf('k1'))
        assert.equal(bench.map.get(bytesOf('k1')), undefined)
        return bytesOf('k2')
      })
      bench.map.batch([put('k1', '1'), using])
      demand(bench, { inner: 'i', k1: '1', k2: 'value' })
    }
  })

  it('an array that becomes longer or shorter while it is read', () => {
    const bench = newBench()
    const operations: MapOperation[] = [put('a', '1')]
    operations.push(
      withKey(() => {
        operations.push(put('late', '3'))
        return bytesOf('b')
      }),
    )
    bench.map.batch(operations)
    operations.length = 0
    const shrinking = withKey(() => {
      operations.length = 1
      return bytesOf('c')
    })
    operations.push(shrinking, put('d', '4'))
    assert.throws(() => bench.map.batch(operations), { code: 'ERR_INVALID_ARG_TYPE' })
    demand(bench, { a: '1', b: 'value' })
  })

  it('a range with getters', () => {
    const bench = newBench()
    bench.map.batch(['a', 'b', 'c'].map((key) => put(key, key)))
    const range = () => {
      let asked = 0
      return {
        get gte() {
          return (asked++ === 0 ? bytesOf('b') : 'no key') as Uint8Array
        },
      }
    }
    assert.deepEqual([...bench.map.keys(range())].map(textOf), ['b', 'c'])
    // What a range inherits counts as well: else all would be deleted.
    assert.equal(bench.map.clear(Object.create(range())), 2)
    demand(bench, { a: 'a' })
  })
})

/** Bytes that say they have another length. */
const lying = (bytes: Uint8Array, length: unknown) =>
  Object.defineProperty(bytes, 'length', { get: () => length })

describe('bytes are what they are', () => {
  it('whatever length they say', () => {
    for (const said of [0, 3, 40, -5, Number.NaN, 2 ** 53, '7', undefined]) {
      const bench = newBench()
      const key = lying(bytesOf('ten bytes.'), said)
      bench.map.put(key, lying(bytesOf('value'), said))
      sameText(bench.map.get(key), 'value')
      assert.equal(bench.map.has(key), true)
      assert.equal(bench.map.getInto(key, lying(new Uint8Array(2), said)), 5)
      assert.equal(bench.map.count({ gte: key, lte: key }), 1)
      assert.equal(bench.map.delete(key), true)
      bench.map.batch([{ type: 'put', key, value: lying(new Uint8Array(2000), said) }])
      assert.equal(bench.map.get(bytesOf('ten bytes.'))!.length, 2000)
      bench.map.put(key, lying(bytesOf('short'), said))
      demand(bench, { 'ten bytes.': 'short' })
    }
  })

  it('of which realm they may be', () => {
    const bench = newBench()
    const foreign = (length: number) => vm.runInNewContext(`new Uint8Array(${length}).fill(97)`)
    bench.map.put(foreign(3), foreign(3))
    bench.map.batch([{ type: 'put', key: foreign(4), value: foreign(5000) }])
    sameText(bench.map.get(foreign(3)), 'aaa')
    assert.equal(bench.map.getInto(bytesOf('aaaa'), foreign(10)), 5000)
    assert.equal(bench.map.count({ gt: foreign(3) }), 1)
    assert.equal(bench.map.delete(foreign(4)), true)
    demand(bench, { aaa: 'aaa' })
  })

  it('what only looks like bytes is refused', () => {
    const bench = newBench()
    const shams = [
      new Proxy(new Uint8Array(3), {}),
      Object.create(Uint8Array.prototype),
      Object.setPrototypeOf(new Uint16Array([1, 2, 300]), Uint8Array.prototype),
      Object.setPrototypeOf([1, 2, 3], Uint8Array.prototype),
      new Uint8ClampedArray(3),
    ]
    for (const sham of shams) {
      const refused = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }
      assert.throws(() => bench.map.put(sham, bytesOf('')), refused)
      assert.throws(() => bench.map.put(bytesOf(''), sham), refused)
      assert.throws(() => bench.map.get(sham), refused)
      assert.throws(() => bench.map.getInto(bytesOf(''), sham), refused)
      assert.throws(() => bench.map.keys({ gt: sham }).next(), refused)
    }
    demand(bench, {})
  })

  it('detached ones are empty, and resizable ones have what they have now', () => {
    const bench = newBench()
    const detached = new Uint8Array(8)
    structuredClone(detached, { transfer: [detached.buffer as ArrayBuffer] })
    bench.map.put(detached, bytesOf('of the empty key'))
    const Resizable = ArrayBuffer as unknown as new (
      length: number,
      options: { maxByteLength: number },
    ) => ArrayBuffer & { resize(length: number): void }
    const buffer = new Resizable(8, { maxByteLength: 16 })
    const tracking = new Uint8Array(buffer).fill(97)
    const shrinking = withKey(() => {
      buffer.resize(2)
      return bytesOf('b')
    })
    bench.map.batch([{ type: 'put', key: tracking, value: tracking }, shrinking])
    buffer.resize(16)
    sameText(bench.map.get(bytesOf('aa')), 'aa')
    demand(bench, { '': 'of the empty key', aa: 'aa', b: 'value' })
  })

  it('that another thread changes meanwhile: each key is one that they had', async () => {
    const bench = newBench()
    for (let i = 0; i < 500; i++) bench.map.put(bytesOf(`good ${i}`), bytesOf(`${i}`))
    const shared = new SharedArrayBuffer(8)
    const flag = new Int32Array(new SharedArrayBuffer(4))
    const source = `
      const { workerData: { shared, flag } } = require('node:worker_threads')
      const bytes = new Uint8Array(shared)
      let x = 1
      while (Atomics.load(flag, 0) < 2) {
        x = (x * 1103515245 + 12345) >>> 0
        bytes[(x >>> 8) & 7] = 97 + ((x >>> 16) % 26)
        if (Atomics.load(flag, 0) === 0) Atomics.store(flag, 0, 1)
      }`
    const worker = new Worker(source, { eval: true, workerData: { shared, flag } })
    try {
      while (Atomics.load(flag, 0) === 0) await new Promise((resolve) => setImmediate(resolve))
      const key = new Uint8Array(shared)
      for (let i = 0; i < 3000; i++) {
        bench.map.put(key, key)
        bench.map.get(key)
        if (i % 3 === 0) bench.map.delete(key)
        if (i % 10 === 0) bench.map.batch(Array(3).fill({ type: 'put', key, value: key }))
      }
    } finally {
      Atomics.store(flag, 0, 2)
      await worker.terminate()
    }
    const entries = [...bench.map.entries()]
    for (let i = 1; i < entries.length; i++) {
      assert(Buffer.compare(entries[i - 1]![0], entries[i]![0]) < 0)
    }
    for (let i = 0; i < 500; i++) {
      sameText(bench.map.get(bytesOf(`good ${i}`)), `${i}`)
    }
    const found = Object.fromEntries(entries.map(([key, value]) => [textOf(key), textOf(value)]))
    demand(bench, found)
  })
})

describe('subscribers that call the map that they are told of', () => {
  const subscribed: ((message: unknown) => void)[] = []
  function subscribe(hear: (message: OperationMessage) => void): () => void {
    const listener = (message: unknown) => hear(message as OperationMessage)
    subscribed.push(listener)
    diagnostics.subscribe(CHANNEL, listener)
    return () => void diagnostics.unsubscribe(CHANNEL, listener)
  }
  after(() => {
    for (const listener of subscribed) diagnostics.unsubscribe(CHANNEL, listener)
  })

  it('are refused, and neither their call nor the one they are told of is half done', async () => {
    const bench = newBench()
    const { map, volume } = bench
    const early = map.cursor()
    const snapshot = map.snapshot()
    const refused = { name: 'PlinthError', code: 'ERR_REENTRANT' }
    const calls: (() => unknown)[] = [
      () => map.put(bytesOf('log'), bytesOf('x')),
      () => map.put(bytesOf('log'), new Uint8Array(100 * MIB)),
      () => map.delete(bytesOf('000001')),
      () => map.batch([put('log', 'x')]),
      () => map.clear(),
      () => map.get(bytesOf('000001')),
      () => map.has(bytesOf('000001')),
      () => map.count(),
      () => [...map.entries()],
      () => map.snapshot(),
      () => early.next(),
      () => snapshot.get(bytesOf('000001')),
      () => OrderedMap.open(volume, 'map'),
      () => OrderedMap.open(volume, 'other'),
      () => volume.close(),
    ]
    let told = 0
    const failures: unknown[] = []
    const later: Promise<unknown>[] = []
    const stop = subscribe(({ operation }) => {
      if (operation !== 'transact') return
      const call = calls[told++ % calls.length]!
      try {
        assert.throws(call, refused)
        later.push(assert.rejects(map.putAsync(bytesOf('log'), bytesOf('x')), refused))
      } catch (error) {
        failures.push(error)
      }
    })
    const wanted: Record<string, string> = {}
    for (let i = 0; i < 400; i++) {
      const key = String((i * 7919) % 100_000).padStart(6, '0')
      map.put(bytesOf(key), bytesOf(`v${i}`))
      wanted[key] = `v${i}`
    }
    // A change that is refused itself, and deletes that join leaves.
    assert.throws(() => map.put(bytesOf('large'), new Uint8Array(100 * MIB)), {
      name: 'PlinthError',
    })
    for (const key of Object.keys(wanted).slice(0, 300)) {
      assert.equal(map.delete(bytesOf(key)), true)
      delete wanted[key]
    }
    stop()
    await Promise.all(later)
    assert.deepEqual(failures, [])
    assert(told > 700)
    assert.equal(snapshot.count(), 0)
    snapshot.close()
    early.close()
    demand(bench, wanted)
  })

  it('may call it later', async () => {
    const bench = newBench()
    let calls = 0
    const stop = subscribe(({ operation }) => {
      if (operation === 'transact' && calls++ === 0) {
        queueMicrotask(() => bench.map.put(bytesOf('log'), bytesOf('x')))
      }
    })
    bench.map.put(bytesOf('a'), bytesOf('1'))
    await undefined
    stop()
    demand(bench, { a: '1', log: 'x' })
  })
})

describe('what is handed out', () => {
  it('is nobody else’s: what is done to one, none of the others sees', () => {
    const bench = newBench()
    const { map } = bench
    for (const [key, value] of [
      ['a', 'secret'],
      ['b', 'x'.repeat(100)],
      ['c'.repeat(100), 'y'.repeat(3000)],
    ]) {
      map.put(bytesOf(key!), bytesOf(value!))
    }
    const cursor = map.cursor()
    const out: Uint8Array[] = []
    while (cursor.next()) out.push(cursor.key, cursor.value, cursor.key, ...cursor.entry)
    out.push(...map.keys(), ...map.values(), ...[...map.entries()].flat())
    for (const key of [...map.keys()]) out.push(map.get(key)!)
    const texts = out.map(textOf)
    for (const [i, bytes] of out.entries()) {
      assert.equal(bytes.buffer.byteLength, bytes.length)
      structuredClone(bytes, { transfer: [bytes.buffer as ArrayBuffer] })
      assert.equal(bytes.length, 0)
      assert.deepEqual(out.slice(i + 1).map(textOf), texts.slice(i + 1))
    }
    cursor.close()
    sameText(map.get(bytesOf('a')), 'secret')
  })
})

describe('what is copied to the caller’s own', () => {
  it('keyInto and valueInto of a cursor: as much as fits, and the length of all', () => {
    const bench = newBench()
    bench.map.put(bytesOf('key'), bytesOf('v'.repeat(1000)))
    const cursor = bench.map.cursor()
    const target = new Uint8Array(2)
    assert.throws(() => cursor.keyInto(target), { code: 'ERR_NO_ENTRY' })
    cursor.next()
    assert.equal(cursor.keyInto(target), 3)
    sameText(target, 'ke')
    assert.equal(cursor.valueInto(target), 1000)
    sameText(target, 'vv')
    const large = new Uint8Array(1001)
    assert.equal(cursor.valueInto(large), 1000)
    sameText(large, `${'v'.repeat(1000)}\0`)
    assert.throws(() => cursor.valueInto([] as never), { code: 'ERR_INVALID_ARG_TYPE' })
    cursor.close()
    demand(bench, { key: 'v'.repeat(1000) })
  })
})

describe('limits', () => {
  it('of keys and values', () => {
    const bench = newBench()
    const value = bytesOf('value')
    const refused = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }
    bench.map.put(new Uint8Array(65_536), value)
    assert.throws(() => bench.map.put(new Uint8Array(65_537), value), refused)
    assert.throws(() => bench.map.get(new Uint8Array(65_537)), refused)
    assert.throws(() => bench.map.put(value, new Uint8Array(2 ** 30 + 1)), refused)
    assert.throws(() => bench.map.put(value, new Uint8Array(2 ** 30)), { code: 'ERR_NO_SPACE' })
    demand(bench, { ['\0'.repeat(65_536)]: 'value' })
  })

  for (const [medium, spare] of [
    ['page', 8192],
    ['cache-line', 128],
  ] as const) {
    it(`of a batch: one record, of the log less ${spare} bytes: ${medium}`, () => {
      const logSize = 65_536
      const media = new SimulatedMedia(medium, makeImage({ size: 4 * MIB, logSize }), false)
      const volume = openSimulated(media)
      const map = OrderedMap.open(volume, 'map')
      const key = (i: number) => bytesOf(String(i).padStart(16))
      const operations = (count: number): MapOperation[] =>
        Array.from({ length: count }, (_, i) => ({
          type: 'put',
          key: key(i),
          value: bytesOf('x'.repeat(100)),
        }))
      for (const operation of operations(1000)) map.batch([operation])
      // Over known keys: a head, and of each the entry of 120 bytes in a block of 120 and the 8 bytes that say where.
      const fitting = Math.floor((logSize - spare - 24) / (120 + 8))
      map.batch(operations(fitting))
      assert.throws(() => map.batch(operations(fitting + 1)), { code: 'ERR_TX_TOO_LARGE' })
      volume.checkpoint()
      const before = volume.stats().counters.bytesAppended
      map.put(bytesOf('a new key'.padEnd(16)), bytesOf('x'.repeat(100)))
      const ends = medium === 'page' ? 24 : 0
      const taken = volume.stats().counters.bytesAppended - before - ends
      assert.ok(taken === 24 + 120 + 40 || taken > 1000, `${taken}`)
      volume.close()
    })
  }
})
