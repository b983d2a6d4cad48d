/**
 * A process with one engine on one device: none runs in another's compiled code or JavaScript heap. Does what it is told,
 * one call at a time, and ends with the process that told it.
 *
 *   node --expose-gc worker.js ENGINE DEVICE FOLDER
 */
import type { DeviceName } from './engine.js'
import { ENGINES } from './engines.js'
import { type Timed, Work } from './work.js'

export type Call =
  | { readonly do: 'load'; readonly entries: number }
  | { readonly do: 'time'; readonly name: Timed; readonly operations: number }
  | { readonly do: 'bytes-per-entry' | 'first-scan' | 'js-heap-per-entry' | 'verify' | 'close' }

export type Answer =
  | { readonly settings: string }
  | { readonly value: number }
  | { readonly error: string }

const [name, device, folder] = process.argv.slice(2) as [string, DeviceName, string]
process.on('disconnect', () => process.exit())

let work: Work
try {
  const engine = ENGINES[name]!(folder, device)
  work = new Work(engine)
  await work.open()
  answer({ settings: engine.settings })
} catch (error) {
  answer({ error: messageOf(error) })
}

process.on('message', async (call: Call) => {
  try {
    answer({ value: await carryOut(call) })
  } catch (error) {
    answer({ error: messageOf(error) })
  }
})

async function carryOut(call: Call): Promise<number> {
  switch (call.do) {
    case 'time':
      return work.time(call.name, call.operations)
    case 'bytes-per-entry':
      return work.bytesPerEntry()
    case 'first-scan':
      return work.firstScan()
    case 'js-heap-per-entry':
      return work.heapBytesPerEntry()
    case 'load':
      await work.load(call.entries)
      break
    case 'verify':
      await work.verify()
      break
    case 'close':
      await work.close()
  }
  return 0
}

/** Ends where nobody listens any more. */
function answer(message: Answer): void {
  process.send!(message, undefined, undefined, (error) => {
    if (error !== null) process.exit()
  })
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
