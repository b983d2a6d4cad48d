/**
 * A key-value server over HTTP, on a volume. Writes are answered when they are durable; those that wait at the
 * same time share one barrier, whoever sent them.
 *
 *   GET    /entries/KEY                          200 the value, or 404
 *   PUT    /entries/KEY                          204; the body is the value
 *   DELETE /entries/KEY                          204, also where there was none
 *   POST   /batch                                204; a JSON array of { key, value } and { key }, all or none:
 *                                                values are text here, and without one the key is deleted
 *   GET    /entries?from=A&to=B&limit=N&reverse  200; a JSON array [key, value] on each line, in order,
 *                                                from A up to and without B, as it was when it was asked
 *
 * A refusal is 400, 403, 408, 411, 413 (too large), 503 (busy) or 507 (the volume is full), and says why.
 *
 * It is for programs of this machine. A page in a browser must not write to it, nor read what others wrote: who
 * comes with an Origin, or asks for another host, is refused (docs/security.md). What is held for those who are
 * slow is bounded: in bytes of bodies, in snapshots, in time.
 *
 *   node dist/examples/key-value-server/server.js PATH [BYTES]
 */
import { existsSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { Volume } from 'plinth'
import { type Cursor, type MapOperation, OrderedMap } from 'plinth/map'

const MIB = 1024 * 1024
const BODY_BYTES_MAX = 16 * MIB
/** Of all bodies that are on their way. */
const BODIES_BYTES_MAX = 4 * BODY_BYTES_MAX
/** A range holds a snapshot, and with it space, for as long as its reader takes. */
const LISTS_MAX = 16
const LIST_MS_MAX = 30_000
const REQUEST_MS_MAX = 30_000

/** An answer that is none. */
class Refusal extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** What codes of errors are in HTTP; all others are the server's own fault. */
const STATUS: Record<string, number> = {
  ERR_INVALID_ARG_VALUE: 400,
  ERR_INVALID_URL: 400,
  ERR_OUT_OF_RANGE: 413,
  ERR_TX_TOO_LARGE: 413,
  ERR_NO_SPACE: 507,
}

const [path = '', bytes = 64 * MIB] = process.argv.slice(2)
if (!existsSync(path)) Volume.format(path, { size: Number(bytes) })
const volume = Volume.open(path)
const map = OrderedMap.open(volume, 'entries')

let bodiesBytes = 0
let lists = 0

const server = createServer({ requestTimeout: REQUEST_MS_MAX }, (request, response) => {
  answer(request, response).catch((error) => refuse(response, error))
})
// Its address on standard output says that it is ready.
server.listen(0, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
})
process.once('SIGTERM', () => {
  server.close(() => volume.close())
  server.closeAllConnections()
})

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  refuseBrowsers(request)
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://localhost')
  const route = `${request.method} ${pathname.replace(/(?<=^\/entries\/).+$/, 'KEY')}`
  switch (route) {
    case 'GET /entries/KEY': {
      const value = map.get(keyOf(pathname))
      response.writeHead(value === undefined ? 404 : 200).end(value)
      return
    }
    case 'PUT /entries/KEY':
      await map.putAsync(keyOf(pathname), await bodyOf(request))
      break
    case 'DELETE /entries/KEY':
      await map.deleteAsync(keyOf(pathname))
      break
    case 'POST /batch':
      await map.batchAsync(toOperations((await bodyOf(request)).toString()))
      break
    case 'GET /entries':
      return list(searchParams, response)
    default:
      throw new Refusal(404, `there is no ${route}`)
  }
  response.writeHead(204).end()
}

/** A browser tells where a page is from, and its Host is what the page was made to believe (DNS rebinding). */
function refuseBrowsers({ headers, socket }: IncomingMessage): void {
  const hosts = ['127.0.0.1', 'localhost'].map((name) => `${name}:${socket.localPort}`)
  if (!hosts.includes(headers.host ?? '')) throw new Refusal(403, `ask for ${hosts.join(' or ')}`)
  const isPage = headers.origin !== undefined || (headers['sec-fetch-site'] ?? 'none') !== 'none'
  if (isPage) throw new Refusal(403, 'pages are not served')
}

function keyOf(pathname: string): Buffer {
  try {
    return Buffer.from(decodeURIComponent(pathname.slice('/entries/'.length)))
  } catch {
    throw new Refusal(400, 'the key has an escape that is none, such as %zz or half a character')
  }
}

/** Who reads slowly is waited for. The cursor keeps what it began with, and its space, until it is closed. */
async function list(query: URLSearchParams, response: ServerResponse): Promise<void> {
  if (lists >= LISTS_MAX) throw new Refusal(503, `${LISTS_MAX} ranges are being read; come again`)
  const bound = (name: string) => (query.has(name) ? Buffer.from(query.get(name)!) : undefined)
  const cursor = map.cursor({
    gte: bound('from'),
    lt: bound('to'),
    limit: query.has('limit') ? Number(query.get('limit')) : undefined,
    reverse: query.has('reverse'),
  })
  lists++
  try {
    // Who takes longer than that notices that its answer ends.
    await pipeline(Readable.from(lines(cursor)), response, {
      signal: AbortSignal.timeout(LIST_MS_MAX),
    })
  } finally {
    lists--
    cursor.close()
  }
}

function* lines(cursor: Cursor): Generator<string> {
  while (cursor.next()) {
    const texts = [cursor.key, cursor.value].map((bytes) => Buffer.from(bytes).toString())
    yield `${JSON.stringify(texts)}\n`
  }
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const told = request.headers['content-length']
  if (told === undefined) throw new Refusal(411, 'say how long the body is')
  // What comes is no longer than that: the parser of Node sees to it.
  const length = Number(told)
  if (length > BODY_BYTES_MAX) throw new Refusal(413, `at most ${BODY_BYTES_MAX} bytes`)
  if (bodiesBytes + length > BODIES_BYTES_MAX) throw new Refusal(503, 'too much is on its way')
  bodiesBytes += length
  try {
    return await buffer(request)
  } finally {
    bodiesBytes -= length
  }
}

function toOperations(json: string): MapOperation[] {
  const changes = parse(json)
  if (!Array.isArray(changes)) throw new Refusal(400, 'a batch is an array')
  return changes.map((change) => {
    const { key, value } = change ?? {}
    if (typeof key !== 'string' || !['string', 'undefined'].includes(typeof value)) {
      throw new Refusal(400, 'a change has a key and perhaps a value, both text')
    }
    if (value === undefined) return { type: 'delete', key: Buffer.from(key) }
    return { type: 'put', key: Buffer.from(key), value: Buffer.from(value) }
  })
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch (error) {
    throw new Refusal(400, `the body is no JSON: ${(error as Error).message}`)
  }
}

function refuse(response: ServerResponse, error: Error & { code?: string }): void {
  // The client has gone, or is to notice that its answer ends here.
  if (response.headersSent) {
    response.destroy()
    return
  }
  response.writeHead(statusOf(error), { 'content-type': 'text/plain' })
  response.end(`${error.code ?? error.name}: ${error.message}\n`)
}

function statusOf(error: Error & { code?: string }): number {
  if (error instanceof Refusal) return error.status
  return STATUS[error.code ?? ''] ?? 500
}
