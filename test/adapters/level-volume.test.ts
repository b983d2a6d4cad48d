// What PlinthLevel has beside the public suite: where it keeps its data, durability, a full volume.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import vm from 'node:vm'
import { Volume } from 'plinth'
import { PlinthLevel } from 'plinth/level'
import { OrderedMap } from 'plinth/map'
import { makeImage, openSimulated, SimulatedMedia } from 'plinth/testing'
import { MIB, places } from '../support/devices.js'
import { SlowMedia } from '../support/slow-media.js'

const folder = mkdtempSync(
  join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'plinth-level-volume-'),
)
after(() => rmSync(folder, { recursive: true }))
let files = 0
const newPath = () => join(folder, `${files++}`)

const small = { size: MIB }
/** `open` wraps what went wrong. */
const failsToOpen = (db: PlinthLevel, cause: { code: string; message?: RegExp }) =>
  assert.rejects(db.open(), (error: Error & { code: string }) => {
    assert.equal(error.code, 'LEVEL_DATABASE_NOT_OPEN')
    assert.throws(() => {
      throw error.cause
    }, cause)
    return true
  })

describe('where the data is', () => {
  test('a file is made, with its folders and all its bytes, and found again', async () => {
    const path = join(newPath(), 'deep', 'db')
    const db = new PlinthLevel(path, { size: 2 * MIB, map: 'fruit' })
    assert.equal(db.location, path)
    await db.put('a', '1')
    await db.close()
    const { size, blocks } = statSync(path)
    assert.equal(size, 2 * MIB)
    assert.ok(blocks * 512 >= size)
    await using again = new PlinthLevel(path, { map: 'fruit', createIfMissing: false })
    assert.equal(await again.get('a'), '1')
  })

  for (const at of places.filter(({ backend }) => backend === 'native')) {
    test(`all of it is made a volume: ${at.name}`, { skip: at.skip }, () =>
      at.with(2 * MIB, async (path) => {
        const { granularity } = at
        const size = at.isFile ? 2 * MIB : undefined
        const db = new PlinthLevel(path, { size, granularity })
        await db.put('a', '1')
        await db.close()
        const { volume, size: deviceBytes } = Volume.probe(path)
        assert.equal(volume?.size, deviceBytes)
        await using again = new PlinthLevel(path, { granularity, createIfMissing: false })
        assert.equal(await again.get('a'), '1')
      }),
    )
  }

  test('what an interrupted making left, and a file of zeros, are made volumes of', async () => {
    for (const bytes of [0, 4096, 2 * MIB]) {
      const path = newPath()
      writeFileSync(path, new Uint8Array(bytes))
      await failsToOpen(new PlinthLevel(path, { createIfMissing: false }), {
        code: 'ERR_NOT_A_VOLUME',
        message: /does not exist/,
      })
      await using db = new PlinthLevel(path, bytes > MIB ? {} : { size: 3 * MIB })
      await db.put('a', '1')
      assert.equal(statSync(path).size, bytes > MIB ? bytes : 3 * MIB)
    }
  })

  test('what holds something else is left alone', async () => {
    const path = newPath()
    writeFileSync(path, Buffer.alloc(2 * MIB, 'precious'))
    await failsToOpen(new PlinthLevel(path), { code: 'ERR_DEVICE_IN_USE' })
    await failsToOpen(new PlinthLevel(folder), { code: 'ERR_DEVICE_KIND' })
  })

  test('a volume that somebody has open is locked', async () => {
    const path = newPath()
    await using db = new PlinthLevel(path, small)
    await db.open()
    await failsToOpen(new PlinthLevel(path), { code: 'LEVEL_LOCKED' })
  })

  test('several databases share a volume, which stays open', async () => {
    const path = newPath()
    Volume.format(path, { size: 2 * MIB })
    using volume = Volume.open(path)
    const plums = new PlinthLevel(volume, { map: 'plums' })
    const pears = new PlinthLevel(volume, { map: 'pears' })
    assert.equal(plums.location, path)
    await plums.put('a', 'plum')
    await pears.put('a', 'pear')
    await failsToOpen(new PlinthLevel(volume, { map: 'plums', errorIfExists: true }), {
      code: 'ERR_CHUNK_EXISTS',
      message: /exists/,
    })
    await failsToOpen(new PlinthLevel(volume, { map: 'quinces', createIfMissing: false }), {
      code: 'ERR_HEAP_NOT_FOUND',
      message: /does not exist/,
    })
    await plums.close()
    assert.ok(volume.isOpen)
    assert.equal(await pears.get('a'), 'pear')
    const map = OrderedMap.open(volume, 'plums')
    assert.deepEqual(map.get(Buffer.from('a')), new TextEncoder().encode('plum'))
    await plums.open()
    assert.equal(plums.getSync('a'), 'plum')
    volume.close()
    await assert.rejects(pears.put('b', ''), { code: 'ERR_VOLUME_CLOSED' })
    await assert.rejects(pears.get('a'), { code: 'ERR_VOLUME_CLOSED' })
    await pears.close()
    await plums.close()
  })

  test('wrong locations and options are told', async () => {
    for (const location of [undefined, null, '', 7, {}, []]) {
      assert.throws(() => new PlinthLevel(location as string), { code: 'ERR_INVALID_ARG_TYPE' })
    }
    const path = newPath()
    await failsToOpen(new PlinthLevel(path, { size: 5 }), { code: 'ERR_OUT_OF_RANGE' })
    await failsToOpen(new PlinthLevel(path, { granularity: 'bit' as 'byte' }), {
      code: 'ERR_INVALID_ARG_VALUE',
    })
    assert.equal(existsSync(path), false)
  })
})

describe('writes', () => {
  test('they are visible at once, share barriers, and are durable when they resolve', async () => {
    const media = new SlowMedia('page', makeImage({ size: 2 * MIB }))
    const volume = openSimulated(media)
    const db = new PlinthLevel(volume)
    await db.open()
    const before = volume.stats().counters.barriers
    const puts = Array.from({ length: 100 }, (_, i) => db.put(`${i}`, 'x'))
    assert.equal(db.getSync('99'), 'x')
    await Promise.all(puts)
    assert.ok(volume.stats().counters.barriers - before <= 2)
    await using found = new PlinthLevel(openSimulated(new SimulatedMedia('page', media.durable)))
    assert.equal((await found.keys().all()).length, 100)
  })

  test('{ sync: false } waits for nothing, and still says what was refused', async () => {
    const media = new SlowMedia('page', makeImage({ size: 2 * MIB }))
    const volume = openSimulated(media)
    const db = new PlinthLevel(volume)
    await db.put('durable', '')
    let isDurable = false
    const relaxed = db.put('relaxed', '', { sync: false })
    const batch = db.batch([{ type: 'put', key: 'batch', value: '' }], { sync: false })
    const chained = db
      .batch()
      .del('durable')
      .write({ sync: false } as object)
    const full = db.put('c', '').then(() => {
      isDurable = true
    })
    await Promise.all([relaxed, batch, chained, db.del('batch', { sync: false })])
    assert.equal(isDurable, false)
    assert.deepEqual(await db.keys().all(), ['c', 'relaxed'])
    await full
    await assert.rejects(db.put('large', 'x'.repeat(4 * MIB), { sync: false }), {
      code: 'ERR_NO_SPACE',
    })
    volume.close()
    await using found = new PlinthLevel(openSimulated(new SimulatedMedia('page', media.durable)))
    assert.deepEqual(await found.keys().all(), ['c', 'relaxed'])
  })

  test('close waits for those under way', async () => {
    const path = newPath()
    const db = new PlinthLevel(path, { size: 2 * MIB, granularity: 'page' })
    await db.open()
    const puts = Array.from({ length: 50 }, (_, i) => db.put(`${i}`, 'x'))
    const relaxed = db.put('relaxed', 'x', { sync: false })
    await db.close()
    await Promise.all([...puts, relaxed])
    await using again = new PlinthLevel(path)
    assert.equal((await again.keys().all()).length, 51)
  })

  test('a batch that the log cannot take changes nothing', async () => {
    await using db = new PlinthLevel<string, Uint8Array>(newPath(), {
      size: 8 * MIB,
      logSize: 64 * 1024,
      valueEncoding: 'view',
    })
    const value = new Uint8Array(400)
    const batch = Array.from({ length: 1000 }, (_, i) => ({
      type: 'put' as const,
      key: `${i}`,
      value,
    }))
    await assert.rejects(db.batch(batch), { code: 'ERR_TX_TOO_LARGE' })
    assert.deepEqual(await db.keys().all(), [])
    await db.batch(batch.slice(0, 50))
    assert.equal((await db.keys().all()).length, 50)
  })

  test('a key or value may be changed as soon as it was handed over', async () => {
    await using db = new PlinthLevel<Uint8Array, Uint8Array>(newPath(), {
      size: 4 * MIB,
      keyEncoding: 'view',
      valueEncoding: 'view',
    })
    await db.open()
    const key = Buffer.alloc(4)
    const puts: Promise<void>[] = []
    for (let i = 0; i < 1000; i++) {
      key.writeUInt32BE(i)
      puts.push(db.put(key, key))
    }
    key.fill(0xff)
    await Promise.all(puts)
    const entries = await db.iterator().all()
    assert.deepEqual(
      entries.map(([key, value]) => [Buffer.from(key).readUInt32BE(), Buffer.from(value)]),
      Array.from({ length: 1000 }, (_, i) => [i, Buffer.from(entries[i]![0])]),
    )
  })
})

test('a long read lets others have their turn, and can be aborted within', async () => {
  await using db = new PlinthLevel(newPath(), { size: 8 * MIB, logSize: 2 * MIB })
  await db.batch(Array.from({ length: 3500 }, (_, i) => ({ type: 'put', key: `${i}`, value: '' })))
  const controller = new AbortController()
  const read = db.keys({ signal: controller.signal }).all()
  // After its first portion.
  setImmediate().then(() => controller.abort('enough'))
  await assert.rejects(read, { name: 'AbortError', code: 'LEVEL_ABORTED', cause: 'enough' })
  const { signal } = new AbortController()
  assert.equal((await db.keys({ signal, limit: 2500 }).all()).length, 2500)
  assert.equal((await db.values().all()).length, 3500)
})

test('awaited one after the other, reads and relaxed writes let the event loop turn', async () => {
  await using db = new PlinthLevel(newPath(), { size: 8 * MIB, logSize: 2 * MIB })
  const keys = Array.from({ length: 3500 }, (_, i) => `${i}`)
  await db.batch(keys.map((key) => ({ type: 'put', key, value: '' })))
  const each: Record<string, () => Promise<unknown>> = {
    get: async () => {
      for (const key of keys) await db.get(key)
    },
    has: async () => {
      for (const key of keys) await db.has(key)
    },
    getMany: () => db.getMany(keys),
    put: async () => {
      for (const key of keys) await db.put(key, '', { sync: false })
    },
    'for await': async () => {
      for await (const _ of db.iterator());
    },
    nextv: () => db.keys().nextv(3500),
  }
  for (const [name, work] of Object.entries(each)) {
    let turns = 0
    let isDone = false
    const count = async () => {
      while (!isDone) {
        await setImmediate()
        turns++
      }
    }
    const counting = count()
    await work()
    isDone = true
    await counting
    // Every 1000 at the latest, whatever the clock says.
    assert.ok(turns >= 3, `${name}: ${turns}`)
  }
})

describe('a device that fails', () => {
  test('relaxed writers hear of it: the next call and close reject with the cause', async () => {
    const media = new SimulatedMedia('page', makeImage({ size: 2 * MIB }), false)
    const db = new PlinthLevel(openSimulated(media))
    await db.open()
    media.judge = (kind) => (kind === 'fence' ? 'fail' : 'go')
    for (let i = 0; i < 20; i++) await db.put(`${i}`, 'x', { sync: false }).catch(() => {})
    await setImmediate()
    const failed = { code: 'ERR_VOLUME_FAILED' }
    await assert.rejects(db.put('a', '', { sync: false }), failed)
    await assert.rejects(db.get('1'), failed)
    await assert.rejects(db.close(), (error: Error) => {
      assert.equal((error as { code?: string }).code, 'LEVEL_DATABASE_NOT_CLOSED')
      assert.equal((error.cause as { code?: string }).code, 'ERR_VOLUME_FAILED')
      return true
    })
    await assert.rejects(db.get('1'), { code: 'ERR_VOLUME_CLOSED' })
    await db.close()
  })

  test('close makes relaxed writes durable on a volume that stays open', async () => {
    const media = new SlowMedia('page', makeImage({ size: 2 * MIB }))
    const db = new PlinthLevel(openSimulated(media))
    await db.put('a', '1', { sync: false })
    await db.close()
    await using found = new PlinthLevel(openSimulated(new SimulatedMedia('page', media.durable)))
    assert.equal(await found.get('a'), '1')
  })
})

test('an iterator that cannot be made rejects its reads, and the database can be closed', async () => {
  const path = newPath()
  const db = new PlinthLevel(path, small)
  await db.put('a', '1')
  const gt = 'k'.repeat(70_000)
  for (const iterator of [db.iterator({ gt }), db.keys({ gt }), db.values({ gt })]) {
    await assert.rejects(iterator.next(), { code: 'ERR_OUT_OF_RANGE' })
  }
  assert.equal(await db.keys({ limit: 1 }).next(), 'a')
  await db.close()
  await using again = new PlinthLevel(path)
  assert.equal(await again.get('a'), '1')
})

test('texts of every length come back', async () => {
  await using db = new PlinthLevel(newPath(), { size: 8 * MIB })
  const texts = [0, 1, 65_535, 65_536, 65_537, 300_000].map(
    (length) => 'ü'.repeat(length / 2) + 'x'.repeat(length % 2),
  )
  for (const [i, text] of texts.entries()) await db.put(`${i}`, text)
  for (const [i, text] of texts.entries()) assert.equal(await db.get(`${i}`), text)
  assert.equal(db.getSync('none'), undefined)
  assert.deepEqual(await db.values().all(), texts)
})

test('bytes of another realm are bytes', async () => {
  const encodings = { keyEncoding: 'view', valueEncoding: 'view' } as const
  await using db = new PlinthLevel<Uint8Array, Uint8Array>(newPath(), { ...small, ...encodings })
  const bytes = (length: number) => vm.runInNewContext(`new Uint8Array(${length}).fill(97)`)
  await db.put(bytes(3), bytes(50_000))
  await db.batch([{ type: 'put', key: bytes(4), value: bytes(4) }])
  assert.equal((await db.get(bytes(3)))!.length, 50_000)
  assert.equal((await db.keys({ gt: bytes(3) }).all()).length, 1)
})

describe('clear', () => {
  test('in portions that the log takes, several under way', async () => {
    const media = new SimulatedMedia('cache-line', makeImage({ size: 8 * MIB, logSize: 2 * MIB }))
    const volume = openSimulated(media)
    await using db = new PlinthLevel(volume)
    const keys = Array.from({ length: 3000 }, (_, i) => `${i}`)
    await db.batch(keys.map((key) => ({ type: 'put', key, value: '' })))
    volume.checkpoint()
    const { fences } = volume.stats().counters
    await db.clear()
    assert.equal(volume.stats().counters.fences - fences, Math.ceil(3000 / 1024))
    assert.deepEqual(await db.keys().all(), [])
  })

  test('close waits for one under way', async () => {
    for (const isShared of [false, true]) {
      const path = newPath()
      Volume.format(path, { size: 16 * MIB, logSize: 2 * MIB })
      const volume = isShared ? Volume.open(path) : undefined
      const db = new PlinthLevel(volume ?? path)
      const keys = Array.from({ length: 5000 }, (_, i) => `${i}`)
      await db.batch(keys.map((key) => ({ type: 'put', key, value: 'x' })))
      const clearing = db.clear()
      await db.close()
      await clearing
      await db.open()
      assert.deepEqual(await db.keys().all(), [])
      await db.close()
      volume?.close()
    }
  })

  for (const reverse of [false, true]) {
    test(`a long range, ${reverse ? 'descending' : 'ascending'}, up to a limit`, async () => {
      await using db = new PlinthLevel(newPath(), { size: 8 * MIB, logSize: 2 * MIB })
      const key = (i: number) => `${i}`.padStart(4, '0')
      const keys = Array.from({ length: 1000 }, (_, i) => key(i))
      await db.batch(keys.map((key) => ({ type: 'put', key, value: '' })))
      await db.clear({ gt: key(99), lte: key(899), limit: 500, reverse })
      const rest = reverse ? keys.slice(0, 400) : keys.slice(0, 100).concat(keys.slice(600))
      assert.deepEqual(await db.keys().all(), reverse ? rest.concat(keys.slice(900)) : rest)
      await using snapshot = db.snapshot()
      await db.put('new', '')
      await db.clear({ snapshot })
      assert.deepEqual(await db.keys().all(), ['new'])
    })
  }
})

describe('a full volume', () => {
  for (const granularity of ['page', 'cache-line'] as const) {
    test(`one error, nothing half done, and room again after deletes: ${granularity}`, async () => {
      const media = new SimulatedMedia(granularity, makeImage(), false)
      const volume = openSimulated(media)
      await using db = new PlinthLevel(volume)
      const value = 'x'.repeat(1000)
      const key = (i: number) => `${i}`.padStart(6, '0')
      let count = 0
      const fill = async () => {
        for (;;) await db.put(key(count), value).then(() => count++)
      }
      await assert.rejects(fill(), { name: 'PlinthError', code: 'ERR_NO_SPACE' })
      // What is smaller may still find a place.
      const tiny = async () => {
        for (let i = 0; ; i++) await db.put(`tiny ${i}`, '')
      }
      await assert.rejects(tiny(), { code: 'ERR_NO_SPACE' })
      const before = await db.iterator().all()
      assert.ok(count > 100 && before.length >= count)
      assert.deepEqual(volume.check(), [])

      // A batch that does not fit is not there at all, deletes of it included.
      await assert.rejects(
        db.batch([
          { type: 'del', key: key(0) },
          { type: 'put', key: 'much', value: value.repeat(20) },
        ]),
        { code: 'ERR_NO_SPACE' },
      )
      assert.deepEqual(await db.iterator().all(), before)

      await db.clear({ gte: 'tiny' })
      await db.del(key(0))
      await db.put(key(0), value)
      for (let i = 0; i < count; i += 2) await db.del(key(i))
      assert.equal((await db.keys().all()).length, Math.floor(count / 2))
      for (let i = 0; i < count; i += 4) await db.put(key(i), value)
      await db.clear()
      assert.deepEqual(await db.keys().all(), [])
      assert.deepEqual(volume.check(), [])
      const first = count
      count = 0
      await assert.rejects(fill(), { code: 'ERR_NO_SPACE' })
      assert.equal(count, first)
    })
  }
})
