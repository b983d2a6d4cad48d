/** `crashTest` as an author of engines uses it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Volume } from 'plinth'
import { type CrashReport, CrashTestError, crashTest } from 'plinth/testing'

const zeroed = (volume: Volume) => {
  volume.allocate({ size: 4096, name: 'a', zero: true })
}
const word = (volume: Volume, at: number) => volume.chunk('a').view.getUint32(at, true)

/** Counts up, durably. */
function count(persists: boolean): Parameters<typeof crashTest<number>>[0] {
  return {
    setup: zeroed,
    workload(volume, acknowledge) {
      const chunk = volume.chunk('a')
      for (let n = 1; n <= 3; n++) {
        chunk.view.setUint32(0, n, true)
        if (persists) chunk.persist(0, 4)
        acknowledge(n)
      }
    },
    check(volume, acknowledged) {
      const found = word(volume, 0)
      if (found < acknowledged.length || found > 3) throw new Error(`${found} is there`)
    },
  }
}

test('a right structure passes on every model', async () => {
  const report: CrashReport = await crashTest(count(true))
  assert.ok(report.points >= 9 && report.states >= 9 && report.distinct > 0)
  assert.deepEqual(report.unflushed, [])
  assert.deepEqual(report.needlessFlushes, [])
})

test('a missing persist is caught, and its point can be repeated', async () => {
  const wrong = count(false)
  let message = ''
  await assert.rejects(crashTest({ ...wrong, models: ['cache-line'] }), (error) => {
    assert.ok(error instanceof CrashTestError)
    message = error.message
    return true
  })
  const only = /only: '([^']+)'/.exec(message)?.[1]
  assert.ok(only)
  await assert.rejects(crashTest({ ...wrong, models: ['cache-line'], only }), CrashTestError)
})

test('two transactions that should be one are caught', async () => {
  await assert.rejects(
    crashTest({
      setup: zeroed,
      workload(volume) {
        const chunk = volume.chunk('a')
        volume.transact((tx) => tx.setUint32(chunk, 0, 7))
        volume.transact((tx) => tx.setUint32(chunk, 4, 7))
      },
      check(volume) {
        if (word(volume, 0) !== word(volume, 4)) throw new Error('half of it')
      },
    }),
    /half of it/,
  )
})

test('what was stored and never flushed is told, and what was flushed for nothing', async () => {
  const report = await crashTest({
    setup: zeroed,
    workload(volume) {
      const chunk = volume.chunk('a')
      chunk.view.setUint32(0, 1, true)
      chunk.persist(0, 4)
      chunk.persist(0, 4)
      chunk.view.setUint32(1024, 1, true)
    },
    check() {},
  })
  const told = report.unflushed.map(({ model, chunk, offset }) => `${model} ${chunk} ${offset}`)
  assert.deepEqual(told, ['cache-line a 1024', 'page a 1024', 'page-prefix a 1024'])
  assert.equal(report.needlessFlushes.length, 1)
  assert.equal(report.needlessFlushes[0]!.count, 1)
  assert.match(report.needlessFlushes[0]!.where, /crash-test\.test\.js/)
})

test('an asynchronous workload is tried too', async () => {
  const report = await crashTest<number>({
    setup: zeroed,
    async workload(volume, acknowledge) {
      const chunk = volume.chunk('a')
      for (let n = 1; n <= 3; n++) {
        await volume.transactAsync((tx) => tx.setUint32(chunk, 0, n))
        acknowledge(n)
      }
    },
    check(volume, acknowledged) {
      if (word(volume, 0) < acknowledged.length) throw new Error('lost')
    },
  })
  assert.ok(report.states > 0)
})

test('wrong options are refused', async () => {
  const right = count(true)
  const refused = { name: /TypeError|RangeError/ }
  await assert.rejects(crashTest({ ...right, modles: [] } as never), refused)
  await assert.rejects(crashTest({ ...right, models: ['disk'] } as never), refused)
  await assert.rejects(crashTest({ ...right, seed: -1 }), refused)
  await assert.rejects(crashTest({ ...right, check: undefined } as never), refused)
})
