// A key-value server on a volume, killed in the middle of its work and started again: nothing that it
// has answered is lost, and no batch is there in half.
//
//   node dist/examples/07-key-value-server.js
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Client, ServerProcess } from './key-value-server/client.js'

const WRITERS = 8
const ANSWERS = 200

const folder = mkdtempSync(join(tmpdir(), 'plinth-server-'))
const path = join(folder, 'entries.plinth')
let server = await ServerProcess.start(path)
try {
  await server.client.put('greeting', 'hello')
  await server.client.batch([
    { key: 'a', value: '1' },
    { key: 'b', value: '2' },
    { key: 'greeting' },
  ])
  console.log(`entries: ${JSON.stringify(await server.client.list())}`)

  // Each writer moves its two counters on together, and remembers what was answered.
  const answered = new Array<number>(WRITERS).fill(0)
  const writers = answered.map((_, writer) => write(server.client, writer))
  while (sum(answered) < ANSWERS) await server.client.get('a')
  await server.stop('SIGKILL')
  await Promise.all(writers)
  console.log(`killed after ${sum(answered)} answers to ${WRITERS} writers`)

  server = await ServerProcess.start(path)
  let lost = 0
  let torn = 0
  for (const [writer, count] of answered.entries()) {
    const [left, right] = await server.client.list({ from: `w${writer}`, to: `w${writer}~` })
    if (left?.[1] !== right?.[1]) torn++
    // One more may be there whose answer did not get out.
    if (Number(left?.[1]) < count || Number(left?.[1]) > count + 1) lost++
  }
  console.log(`started again: ${lost} lost, ${torn} torn`)
  if (lost > 0 || torn > 0) process.exitCode = 1

  async function write(client: Client, writer: number): Promise<void> {
    try {
      for (let n = 1; ; n++) {
        const value = String(n)
        await client.batch(['left', 'right'].map((side) => ({ key: `w${writer} ${side}`, value })))
        answered[writer] = n
      }
    } catch (error) {
      // The connection ends with the server.
      if (!(error instanceof TypeError)) throw error
    }
  }
} finally {
  await server.stop('SIGTERM')
  rmSync(folder, { recursive: true })
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count)
}
