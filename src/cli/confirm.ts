/** The question before something is lost. */
import { openSync } from 'node:fs'
import { createInterface } from 'node:readline/promises'
import { ReadStream } from 'node:tty'
import { usage } from './errors.js'
import { paintError } from './output.js'

/**
 * Asks on the terminal and returns when the answer is yes; `force` is that answer given before. The
 * question names what is lost. It is read from the terminal itself, since stdin may be a stream.
 * @throws CommandError when the answer is another, or nobody can be asked
 */
export async function confirm(what: string, question: string, force = false): Promise<void> {
  if (force) return
  const terminal = openTerminal()
  if (terminal === undefined) {
    throw usage(`${what}; --force does it without asking. Nothing was changed`)
  }
  const asking = createInterface({ input: terminal, output: process.stderr })
  try {
    const answer = await asking.question(`${paintError.yellow(`${what}.`)}\n${question} [y/N] `)
    if (!/^y(?:es)?$/i.test(answer.trim())) throw usage('nothing was changed')
  } finally {
    asking.close()
    terminal.destroy()
  }
}

function openTerminal(): ReadStream | undefined {
  if (!process.stderr.isTTY) return undefined
  try {
    return new ReadStream(openSync('/dev/tty', 'r'))
  } catch {
    return undefined
  }
}
