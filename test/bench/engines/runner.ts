/** The other end of a worker. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { DeviceName } from './engine.js'
import type { Answer, Call } from './worker.js'

const worker = fileURLToPath(new URL('./worker.js', import.meta.url))

export class Runner {
  readonly name: string
  readonly settings: string
  readonly #child: ChildProcess

  private constructor(name: string, settings: string, child: ChildProcess) {
    this.name = name
    this.settings = settings
    this.#child = child
  }

  /** Makes the engine on an empty folder; the reason where this cannot be. */
  static async start(
    name: string,
    device: DeviceName,
    folder: string,
  ): Promise<Runner | { reason: string }> {
    fs.mkdirSync(folder)
    const child = fork(worker, [name, device, folder], {
      execArgv: ['--expose-gc'],
      // What an engine prints is not the benchmark's.
      stdio: ['ignore', 2, 2, 'ipc'],
    })
    const answer = await nextAnswer(child)
    if ('settings' in answer) return new Runner(name, answer.settings, child)
    child.kill()
    return { reason: 'error' in answer ? answer.error : 'it does not start' }
  }

  /** Throws what went wrong there. */
  async call(call: Call): Promise<number> {
    this.#child.send(call)
    const answer = await nextAnswer(this.#child)
    if ('value' in answer) return answer.value
    throw new Error(`${this.name}: ${'error' in answer ? answer.error : 'it started twice'}`)
  }

  async end(): Promise<void> {
    await this.call({ do: 'close' })
    const exit = once(this.#child, 'exit')
    this.#child.disconnect()
    await exit
  }
}

async function nextAnswer(child: ChildProcess): Promise<Answer> {
  const over = new AbortController()
  const { signal } = over
  try {
    return await Promise.race([
      once(child, 'message', { signal }).then(([answer]) => answer as Answer),
      once(child, 'exit', { signal }).then(([code, by]) => ({
        error: `its process ended with ${by ?? code}`,
      })),
    ])
  } finally {
    over.abort()
  }
}
