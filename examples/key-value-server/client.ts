/** A client of the key-value server, and the server as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface ListOptions {
  readonly from?: string
  readonly to?: string
  readonly limit?: number
  readonly reverse?: boolean
}

/** What the server has refused: its status, and in words why. */
export class RefusedError extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export class Client {
  readonly #url: string

  constructor(url: string) {
    this.#url = url
  }

  /** The value, or undefined. */
  async get(key: string): Promise<Uint8Array | undefined> {
    const response = await fetch(this.#entry(key))
    if (response.status === 404) return undefined
    await demandSuccess(response)
    return new Uint8Array(await response.arrayBuffer())
  }

  /** Durable when it resolves; so are the others. */
  async put(key: string, value: string | Uint8Array<ArrayBuffer>): Promise<void> {
    await demandSuccess(await fetch(this.#entry(key), { method: 'PUT', body: value }))
  }

  async delete(key: string): Promise<void> {
    await demandSuccess(await fetch(this.#entry(key), { method: 'DELETE' }))
  }

  /** All of these changes or none; without a value the key is deleted. */
  async batch(changes: readonly { key: string; value?: string }[]): Promise<void> {
    const body = JSON.stringify(changes)
    await demandSuccess(await fetch(`${this.#url}/batch`, { method: 'POST', body }))
  }

  async list({
    from,
    to,
    limit,
    reverse,
  }: ListOptions = {}): Promise<[key: string, value: string][]> {
    const query = new URLSearchParams()
    if (from !== undefined) query.set('from', from)
    if (to !== undefined) query.set('to', to)
    if (limit !== undefined) query.set('limit', String(limit))
    if (reverse === true) query.set('reverse', '')
    const response = await fetch(`${this.#url}/entries?${query}`)
    await demandSuccess(response)
    const lines = (await response.text()).split('\n').slice(0, -1)
    return lines.map((line) => JSON.parse(line))
  }

  #entry(key: string): string {
    return `${this.#url}/entries/${encodeURIComponent(key)}`
  }
}

async function demandSuccess(response: Response): Promise<void> {
  if (!response.ok) throw new RefusedError(response.status, await response.text())
}

/** The server as a process, ready when `start` resolves. */
export class ServerProcess {
  readonly url: string
  readonly client: Client
  readonly #process: ChildProcess

  static async start(path: string, bytes?: number): Promise<ServerProcess> {
    const script = fileURLToPath(new URL('./server.js', import.meta.url))
    const args = bytes === undefined ? [path] : [path, String(bytes)]
    const child = spawn(process.execPath, [script, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    for await (const url of createInterface({ input: child.stdout })) {
      return new ServerProcess(child, url)
    }
    throw new Error('the server did not start')
  }

  private constructor(child: ChildProcess, url: string) {
    this.#process = child
    this.url = url
    this.client = new Client(url)
  }

  /** Resolves when it has ended, and with it its lock on the volume. */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const ended = once(this.#process, 'exit')
    this.#process.kill(signal)
    await ended
  }
}
