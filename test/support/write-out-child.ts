/** Writes a part of a file as `plinth dump --output` does, says so, and waits for what never comes. */
import { writeOut } from '../../src/cli/files.js'

async function* parts(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('half of it')
  process.stdout.write('waiting\n')
  await new Promise((resolve) => setTimeout(resolve, 100_000))
}

await writeOut(parts(), { output: process.argv[2], force: true })
