// Structures that take part in a transaction: who is told what, when, and what they may not do.
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import type { Participant, Transaction, Volume } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { bytesOf } from '../support/map-model.js'

const image = makeImage()

function open(medium: 'cache-line' | 'page' = 'cache-line'): Volume {
  return openSimulated(new SimulatedMedia(medium, image))
}

/** A map with an entry, so that the next one needs no more space. */
function openMap(volume: Volume): OrderedMap {
  const map = OrderedMap.open(volume, 'map')
  map.put(bytesOf('first'), bytesOf('1'))
  return map
}

/** Notes what it is told in `told`. */
function teller(told: string[], name: string, more: Partial<Participant> = {}): Participant {
  return {
    prepare: () => void told.push(`${name} prepare`),
    committed: () => void told.push(`${name} committed`),
    rolledBack: () => void told.push(`${name} rolledBack`),
    mark: () => `${name} mark`,
    rollbackTo: (mark) => void told.push(`${name} to ${mark}`),
    ...more,
  }
}

/** The warnings of the process that `body` leads to. */
async function warningsOf(t: TestContext, body: () => void): Promise<string[]> {
  const { mock } = t.mock.method(process, 'emitWarning', () => {})
  try {
    body()
    return mock.calls.map((call) => String((call.arguments as unknown[])[0]))
  } finally {
    mock.restore()
  }
}

describe('a participant', () => {
  it('is prepared in order, told of the commit in order, once', () => {
    const volume = open()
    const told: string[] = []
    volume.transact((tx) => {
      for (const name of ['a', 'b']) tx.join(teller(told, name))
    })
    assert.deepEqual(told, ['a prepare', 'b prepare', 'a committed', 'b committed'])
    volume.transact(() => {})
    assert.equal(told.length, 4)
  })

  it('is told of the rollback in reverse order', () => {
    const volume = open()
    const told: string[] = []
    assert.throws(() =>
      volume.transact((tx) => {
        for (const name of ['a', 'b']) tx.join(teller(told, name))
        throw new Error('no')
      }),
    )
    assert.deepEqual(told, ['b rolledBack', 'a rolledBack'])
  })

  it('stages in prepare, and what joins there is prepared as well', () => {
    const volume = open()
    const map = openMap(volume)
    const chunk = volume.allocate({ size: 4096, zero: true })
    const told: string[] = []
    const { fences } = volume.stats().counters
    volume.transact((tx) => {
      const late = teller(told, 'late', {
        prepare: () => {
          map.put(bytesOf('key'), bytesOf('value'))
          told.push('late prepare')
        },
      })
      tx.join(
        teller(told, 'first', {
          prepare: () => {
            tx.setUint32(chunk, 0, 7)
            tx.join(late)
          },
        }),
      )
    })
    assert.equal(volume.stats().counters.fences, fences + 1)
    assert.deepEqual(told, ['late prepare', 'first committed', 'late committed'])
    assert.equal(chunk.view.getUint32(0, true), 7)
    assert.ok(map.has(bytesOf('key')))
  })

  it('rolls all back when its prepare throws', () => {
    const volume = open()
    const map = OrderedMap.open(volume, 'map')
    const told: string[] = []
    assert.throws(
      () =>
        volume.transact((tx) => {
          tx.join(teller(told, 'a'))
          map.put(bytesOf('key'), bytesOf('value'))
          tx.join(
            teller(told, 'b', {
              prepare: () => {
                throw new Error('not yet')
              },
            }),
          )
        }),
      { message: 'not yet' },
    )
    assert.deepEqual(told, ['a prepare', 'b rolledBack', 'a rolledBack'])
    assert.equal(map.count(), 0)
    assert.deepEqual(volume.check(), [])
  })

  it('cannot fail what is committed: what it throws is a warning', async (t) => {
    const volume = open()
    const told: string[] = []
    const chunk = volume.allocate({ size: 4096, zero: true })
    const warnings = await warningsOf(t, () =>
      volume.transact((tx) => {
        tx.setUint32(chunk, 0, 7)
        tx.join(
          teller(told, 'a', {
            committed: () => {
              throw new Error('my index is lost')
            },
          }),
        )
        tx.join(teller(told, 'b'))
      }),
    )
    assert.match(warnings.join(), /committed\(\).*my index is lost/s)
    assert.deepEqual(told, ['a prepare', 'b prepare', 'b committed'])
    assert.equal(chunk.view.getUint32(0, true), 7)
  })

  it('cannot stop a rollback: what it throws is a warning', async (t) => {
    const volume = open()
    const told: string[] = []
    const warnings = await warningsOf(t, () =>
      assert.throws(
        () =>
          volume.transact((tx) => {
            tx.join(teller(told, 'a'))
            tx.join(
              teller(told, 'b', {
                rolledBack: () => {
                  throw new Error('stuck')
                },
              }),
            )
            throw new Error('no')
          }),
        { message: 'no' },
      ),
    )
    assert.match(warnings.join(), /rolledBack\(\).*stuck/s)
    assert.deepEqual(told, ['a rolledBack'])
  })

  it('is told when an asynchronous transaction is in order, before it is durable', async () => {
    const volume = open('page')
    const told: string[] = []
    const chunk = volume.allocate({ size: 4096, zero: true })
    const { barriers } = volume.stats().counters
    const durable = volume.transactAsync((tx) => {
      tx.join(teller(told, 'a'))
      tx.setUint32(chunk, 0, 7)
    })
    assert.deepEqual(told, ['a prepare', 'a committed'])
    assert.equal(volume.stats().counters.barriers, barriers)
    await durable
  })

  it('is told of nothing after a failed barrier, and every call says so', () => {
    const media = new SimulatedMedia('page', image)
    const volume = openSimulated(media)
    const map = openMap(volume)
    const told: string[] = []
    media.judge = (kind) => (kind === 'fence' ? 'fail' : 'go')
    assert.throws(
      () =>
        volume.transact((tx) => {
          tx.join(teller(told, 'a'))
          map.put(bytesOf('key'), bytesOf('value'))
        }),
      { code: 'ERR_VOLUME_FAILED' },
    )
    assert.deepEqual(told, ['a prepare'])
    for (const call of [
      () => volume.transact(() => {}),
      () => volume.allocate({ size: 1 }),
      () => volume.heap('other'),
      () => volume.stats(),
      () => map.put(bytesOf('key'), bytesOf('value')),
    ]) {
      assert.throws(call, { code: 'ERR_VOLUME_FAILED' })
    }
  })
})

describe('a savepoint', () => {
  it('takes back what was done within, and the transaction goes on', () => {
    const volume = open()
    const map = OrderedMap.open(volume, 'map')
    const heap = volume.heap('heap')
    const chunk = volume.allocate({ size: 4096, zero: true })
    const told: string[] = []
    volume.transact((tx) => {
      tx.join(teller(told, 'a'))
      map.put(bytesOf('kept'), bytesOf('1'))
      assert.throws(() =>
        tx.savepoint(() => {
          tx.join(teller(told, 'b'))
          tx.setUint32(chunk, 0, 7)
          map.put(bytesOf('kept'), bytesOf('2'))
          map.put(bytesOf('dropped'), bytesOf('2'))
          heap.allocate(64)
          volume.allocate({ size: 4096, name: 'dropped' })
          throw new Error('no')
        }),
      )
      assert.equal(tx.getUint32(chunk, 0), 0)
      assert.deepEqual(Buffer.from(map.get(bytesOf('kept'))!).toString(), '1')
      assert.equal(
        tx.savepoint(() => 5),
        5,
      )
    })
    assert.deepEqual(told, ['b rolledBack', 'a to a mark', 'a prepare', 'a committed'])
    assert.deepEqual([...map.keys()].map(String), [String(new Uint8Array(bytesOf('kept')))])
    assert.equal([...heap.objects()].length, 0)
    assert.equal(volume.findChunk('dropped'), undefined)
    assert.deepEqual(volume.check(), [])
  })

  it('fails all of the transaction where a participant cannot go back to it', () => {
    const volume = open()
    const told: string[] = []
    assert.throws(
      () =>
        volume.transact((tx) => {
          tx.join({
            committed: () => void told.push('committed'),
            rolledBack: () => void told.push('rolledBack'),
          })
          try {
            tx.savepoint(() => {
              throw new Error('within')
            })
          } catch {
            // The caller goes on, and the commit is refused.
          }
        }),
      { message: 'within' },
    )
    assert.deepEqual(told, ['rolledBack'])
  })
})

describe('what is no participant, or not now', () => {
  const odd = (given: unknown) => given as Participant
  const none = { committed() {}, rolledBack() {} }
  const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' }
  const cases: [what: string, join: (tx: Transaction) => void, error: object][] = [
    ['nothing', (tx) => tx.join(odd(undefined)), type],
    ['null', (tx) => tx.join(odd(null)), type],
    ['a function', (tx) => tx.join(odd(() => {})), type],
    ['no functions', (tx) => tx.join(odd({})), type],
    ['without rolledBack', (tx) => tx.join(odd({ committed() {} })), type],
    ['without committed', (tx) => tx.join(odd({ rolledBack() {} })), type],
    ['a prepare that is none', (tx) => tx.join(odd({ ...none, prepare: 1 })), type],
    ['mark without rollbackTo', (tx) => tx.join(odd({ ...none, mark() {} })), type],
    ['rollbackTo without mark', (tx) => tx.join(odd({ ...none, rollbackTo() {} })), type],
    [
      'twice',
      (tx) => {
        tx.join(none)
        tx.join(none)
      },
      { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' },
    ],
    ['a savepoint of nothing', (tx) => tx.savepoint(odd(undefined) as never), type],
  ]
  for (const [what, join, error] of cases) {
    it(what, () => {
      const volume = open()
      assert.throws(() => volume.transact(join), error)
      volume.transact(() => {})
    })
  }

  it('after the end', () => {
    const volume = open()
    const { tx } = volume.transact((tx) => ({ tx }))
    for (const late of [() => tx.join(none), () => tx.savepoint(() => {}), () => tx.room]) {
      assert.throws(late, { code: 'ERR_TX_ENDED' })
    }
    assert.equal(volume.transaction, undefined)
  })

  it('changes from committed, rolledBack and rollbackTo are refused, and nothing is half done', async (t) => {
    const volume = open()
    const map = openMap(volume)
    const heap = volume.heap('heap')
    const chunk = volume.allocate({ size: 4096 })
    const refused: string[] = []
    const tryAll = () => {
      for (const call of [
        () => volume.transact(() => {}),
        () => volume.allocate({ size: 4096 }),
        () => volume.free(chunk),
        () => heap.allocate(64),
        () => map.put(bytesOf('key'), bytesOf('value')),
        () => map.clear(),
        () => volume.close(),
      ]) {
        try {
          call()
          refused.push('done')
        } catch (error) {
          refused.push((error as { code: string }).code)
        }
      }
    }
    const warnings = await warningsOf(t, () => {
      volume.transact((tx) => tx.join({ ...none, committed: tryAll }))
      assert.throws(() =>
        volume.transact((tx) => {
          tx.join({ ...none, rolledBack: tryAll, mark: () => 0, rollbackTo: tryAll })
          assert.throws(() =>
            tx.savepoint(() => {
              throw new Error('within')
            }),
          )
          throw new Error('no')
        }),
      )
    })
    assert.deepEqual(warnings, [])
    assert.deepEqual([...new Set(refused)], ['ERR_TX_ACTIVE'])
    assert.equal(refused.length, 21)
    assert.equal(map.count(), 1)
    assert.deepEqual(volume.check(), [])
  })

  it('in prepare nothing waits: transact, the asynchronous calls and close are refused', async () => {
    const volume = open()
    const map = OrderedMap.open(volume, 'map')
    const waits: Promise<unknown>[] = []
    volume.transact((tx) =>
      tx.join({
        ...none,
        prepare() {
          assert.throws(() => volume.transact(() => {}), { code: 'ERR_TX_ACTIVE' })
          assert.throws(() => volume.close(), { code: 'ERR_TX_ACTIVE' })
          waits.push(
            volume.transactAsync(() => {}),
            map.putAsync(bytesOf('k'), bytesOf('v')),
          )
        },
      }),
    )
    for (const wait of waits) await assert.rejects(wait, { code: 'ERR_TX_ACTIVE' })
    assert.equal(waits.length, 2)
    assert.equal(map.count(), 0)
  })

  it('a map of another volume: its change would not be part of the transaction', () => {
    const volume = open()
    const other = open()
    const map = openMap(other)
    for (const change of [
      () => map.put(bytesOf('key'), bytesOf('value')),
      () => map.batch([{ type: 'delete', key: bytesOf('key') }]),
      () => map.clear(),
    ]) {
      assert.throws(() => volume.transact(change), { code: 'ERR_TX_ACTIVE' })
    }
    assert.equal(map.count(), 1)
  })

  it('a map that its volume has closed', () => {
    const volume = open()
    const map = OrderedMap.open(volume, 'map')
    volume.close()
    const other = open()
    assert.throws(() => other.transact(() => map.put(bytesOf('key'), bytesOf('value'))), {
      code: 'ERR_VOLUME_CLOSED',
    })
  })
})
