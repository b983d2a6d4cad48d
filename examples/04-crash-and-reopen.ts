// A process is killed in the middle of its commits; nothing that it was told is durable is lost.
//
// This program starts itself again as a writer. The writer commits without a pause and says of each
// commit that it is durable, after plinth said so. It is killed at a random instant by SIGKILL,
// which no process can catch. Then the volume is opened, which recovers it.
//
//   node dist/examples/04-crash-and-reopen.js
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Volume } from 'plinth'

const COPIES = 16

const [role, path] = process.argv.slice(2)
if (role === 'writer') await write(path!)
else await main()

/** Each commit stores its number in 16 places: a torn one would show as places that differ. */
async function write(path: string): Promise<void> {
  using volume = Volume.open(path)
  const chunk = volume.chunk('numbers')
  for (let number = 1; ; number++) {
    await volume.transactAsync((tx) => {
      for (let i = 0; i < COPIES; i++) tx.setUint32(chunk, i * 4096, number)
    })
    // A write that returns only when the pipe has it: what is in the pipe outlives this process.
    writeSync(1, `${number}\n`)
  }
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'plinth-crash-'))
  try {
    const path = join(folder, 'crash.plinth')
    Volume.format(path, { size: 16 * 1024 * 1024 })
    {
      using volume = Volume.open(path)
      volume.allocate({ name: 'numbers', size: COPIES * 4096, zero: true })
    }

    const acknowledged = await runAndKill(path)
    console.log(`the writer was killed; it had been told of ${acknowledged} commits`)

    using volume = Volume.open(path)
    const { clean, recordsReplayed, bytesReplayed, durationMs } = volume.recovery
    console.log(`closed in order: ${clean ? 'yes' : 'no'}`)
    console.log(
      `recovery replayed ${recordsReplayed} records, ${bytesReplayed} bytes, in ${durationMs.toFixed(1)} ms`,
    )

    const { view } = volume.chunk('numbers')
    const found = new Set(Array.from({ length: COPIES }, (_, i) => view.getUint32(i * 4096, true)))
    const [number = 0] = found
    // One commit may have become durable whose word did not get out any more.
    const isWhole = found.size === 1
    const isThere = number === acknowledged || number === acknowledged + 1
    console.log(`all ${COPIES} places hold the same number: ${isWhole ? 'yes' : 'no'}`)
    console.log(`every acknowledged commit is there: ${isThere ? 'yes' : 'no'}`)
    if (!isWhole || !isThere) process.exitCode = 1
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Returns the number of the last commit that the writer knew to be durable. */
async function runAndKill(path: string): Promise<number> {
  const writer = spawn(process.execPath, [fileURLToPath(import.meta.url), 'writer', path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(writer, 'exit')
  let text = ''
  let isDoomed = false
  // The pipe is read to its end: what was acknowledged before the kill counts.
  for await (const part of writer.stdout.setEncoding('utf8')) {
    text += part
    if (!isDoomed && text.length > 1000) {
      isDoomed = true
      setTimeout(() => writer.kill('SIGKILL'), Math.random() * 50)
    }
  }
  // Its lock on the volume goes with the process, which may take a moment longer than its pipe.
  await ended
  if (!isDoomed) throw new Error('the writer ended by itself')
  return Number(text.split('\n').at(-2) ?? 0)
}
