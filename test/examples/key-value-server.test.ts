// The key-value server of the examples: what it answers, and what is left of that after SIGKILL.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type RequestOptions, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { Random } from 'plinth/testing'
import { type Client, RefusedError, ServerProcess } from '../../examples/key-value-server/client.js'

const folder = mkdtempSync(join(tmpdir(), 'plinth-server-test-'))
after(() => rmSync(folder, { recursive: true }))

const refusal = (status: number, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof RefusedError, String(error))
  assert.equal(error.status, status)
  assert.match(error.message, message)
  return true
}

describe('answers', () => {
  let server: ServerProcess
  let client: Client
  before(async () => {
    server = await ServerProcess.start(join(folder, 'answers'), 2 ** 20)
    client = server.client
  })
  after(() => server.stop('SIGTERM'))

  test('one entry', async () => {
    assert.equal(await client.get('a'), undefined)
    await client.put('a', '1')
    assert.deepEqual(await client.get('a'), new TextEncoder().encode('1'))
    await client.delete('a')
    await client.delete('a')
    assert.equal(await client.get('a'), undefined)
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
    await client.put('all/of%them ü?', bytes)
    assert.deepEqual(await client.get('all/of%them ü?'), bytes)
    await client.put('empty', '')
    assert.deepEqual(await client.get('empty'), new Uint8Array(0))
    await client.batch([{ key: 'all/of%them ü?' }, { key: 'empty' }])
  })

  test('ranges', async () => {
    const entries = ['a', 'b', 'c', 'd'].map((key): [string, string] => [key, key.repeat(3)])
    await client.batch(entries.map(([key, value]) => ({ key, value })))
    assert.deepEqual(await client.list(), entries)
    assert.deepEqual(await client.list({ from: 'b', to: 'd' }), entries.slice(1, 3))
    const last = await client.list({ reverse: true, limit: 2 })
    assert.deepEqual(last, entries.slice(2).reverse())
    await client.batch(entries.map(([key]) => ({ key })))
    assert.deepEqual(await client.list(), [])
  })

  test('refusals change nothing', async () => {
    await assert.rejects(client.list({ limit: -1 }), refusal(400, /limit/))
    await assert.rejects(client.batch([{ key: 'a', value: '1' }, {} as never]), refusal(400, /key/))
    await assert.rejects(client.batch({} as never), refusal(400, /array/))
    const large = new Uint8Array(17 * 2 ** 20)
    await assert.rejects(client.put('large', large), refusal(413, /at most/))
    const long = 'k'.repeat(70_000)
    await assert.rejects(client.batch([{ key: long, value: '' }]), refusal(413, /65536/))
    assert.deepEqual(await client.list(), [])
  })

  test('a full volume says so, and deletes make room', async () => {
    const value = 'x'.repeat(20_000)
    const fill = async () => {
      for (let n = 10; ; n++) await client.put(`${n}`, value)
    }
    await assert.rejects(fill(), refusal(507, /^ERR_NO_SPACE: /))
    const count = (await client.list()).length
    assert.ok(count > 10)
    await client.delete('10')
    await client.put('10', value)
    await client.batch((await client.list()).map(([key]) => ({ key })))
    assert.deepEqual(await client.list(), [])
  })
})

describe('who is not to be trusted', () => {
  let server: ServerProcess
  let url: URL
  before(async () => {
    server = await ServerProcess.start(join(folder, 'bounds'))
    url = new URL(server.url)
    await server.client.put('key', 'value')
  })
  after(() => server.stop('SIGTERM'))

  /** Sends the head of a request, as it is, and gives its answer. */
  const asked = (path: string, options: RequestOptions = {}) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const sent = request(
        { host: url.hostname, port: url.port, path, ...options },
        async (got) => {
          resolve({ status: got.statusCode!, text: await text(got) })
        },
      )
      sent.on('error', reject).end()
    })

  for (const [what, path, says] of [
    ['an escape that is none', '/entries/%zz', /^Error: the key has an escape that is none/],
    ['half a character', '/entries/%c3', /^Error: the key has an escape that is none/],
    ['a path that is none', '//', /^ERR_INVALID_URL: /],
  ] as const) {
    test(`${what}: 400`, async () => {
      const { status, text } = await asked(path)
      assert.equal(status, 400)
      assert.match(text, says)
    })
  }

  test('a batch that is no JSON: 400', async () => {
    const response = await fetch(new URL('/batch', url), { method: 'POST', body: '[{' })
    assert.equal(response.status, 400)
    assert.match(await response.text(), /^Error: the body is no JSON: /)
  })

  for (const [what, headers] of [
    ['a page of another site', { origin: 'http://example.com' }],
    ['a page of no site', { origin: 'null' }],
    ['a page that only reads', { 'sec-fetch-site': 'cross-site' }],
    ['a name that was made to lead here', { host: 'example.com' }],
    ['another port', { host: '127.0.0.1:1' }],
  ] as [string, Record<string, string>][]) {
    test(`${what}: 403, and nothing is written`, async () => {
      for (const method of ['GET', 'PUT', 'DELETE', 'POST']) {
        const path = method === 'POST' ? '/batch' : '/entries/key'
        const answer = await asked(path, { method, headers: { 'content-length': 0, ...headers } })
        assert.equal(answer.status, 403, method)
      }
      assert.equal(Buffer.from((await server.client.get('key'))!).toString(), 'value')
    })
  }

  test('more bodies than there is room for: 503, and later they are taken', async () => {
    const headers = { 'content-length': 16 * 2 ** 20, expect: '100-continue' }
    const waiting = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const sent = request({
          host: url.hostname,
          port: url.port,
          path: '/entries/a',
          method: 'PUT',
          headers,
        })
        sent.on('error', () => {})
        sent.flushHeaders()
        await once(sent, 'continue')
        return sent
      }),
    )
    await assert.rejects(server.client.put('b', 'x'), refusal(503, /too much/))
    for (const each of waiting) each.destroy()
    while ((await fetch(new URL('/entries/b', url), { method: 'PUT', body: 'x' })).status === 503);
    assert.equal(Buffer.from((await server.client.get('b'))!).toString(), 'x')
  })

  test('more slow readers than may hold a snapshot: 503, and later they are served', async () => {
    for (let i = 0; i < 24; i++) await server.client.put(`large ${i}`, 'x'.repeat(2 ** 20))
    const readers = await Promise.all(
      Array.from({ length: 16 }, async () => {
        const sent = request({ host: url.hostname, port: url.port, path: '/entries' })
        sent.on('error', () => {}).end()
        const [got] = await once(sent, 'response')
        got.on('error', () => {})
        return sent
      }),
    )
    await assert.rejects(server.client.list({ limit: 1 }), refusal(503, /16 ranges are being read/))
    for (const each of readers) each.destroy()
    while ((await asked('/entries?limit=1')).status === 503);
    assert.equal((await server.client.list({ limit: 1 })).length, 1)
  })
})

test('killed at any instant: what was answered is there, batches are whole', async () => {
  const random = new Random(7)
  const path = join(folder, 'killed')
  /** By writer: its last answered number, and what it has sent since. */
  const answered = new Array<number>(4).fill(0)
  const sent = [...answered]
  let server = await ServerProcess.start(path, 4 * 2 ** 20)
  try {
    for (let round = 0; round < 6; round++) {
      const { client } = server
      const before = sum(answered)
      const writers = answered.map((_, writer) => write(client, writer))
      const enough = 1 + random.below(100)
      while (sum(answered) < before + enough) await client.get('x')
      await server.stop('SIGKILL')
      await Promise.all(writers)
      server = await ServerProcess.start(path)
      for (let writer = 0; writer < answered.length; writer++) {
        const entries = await server.client.list({ from: `${writer} `, to: `${writer}!` })
        const [number = 0, ...others] = entries.map(([, value]) => Number(value))
        assert.ok(others.every((other) => other === number))
        assert.ok(number === answered[writer] || number === sent[writer])
        answered[writer] = number
        sent[writer] = number
      }
    }
    assert.ok(sum(answered) >= 6)
  } finally {
    await server.stop('SIGTERM')
  }

  async function write(client: Client, writer: number): Promise<void> {
    try {
      for (;;) {
        const value = String(++sent[writer]!)
        await client.batch(['a', 'b', 'c'].map((key) => ({ key: `${writer} ${key}`, value })))
        answered[writer] = Number(value)
      }
    } catch (error) {
      // The connection ends with the server.
      if (!(error instanceof TypeError)) throw error
    }
  }
})

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count)
}
