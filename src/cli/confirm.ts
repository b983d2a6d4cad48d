/** The question before something is lost. */
import { createInterface } from 'node:readline'
import { printable } from '../index.js'
import { usage } from './errors.js'
import { paintError } from './output.js'

/**
 * Asks on the terminal and returns when the answer is yes; `force` is that answer given before. The
 * question names what is lost. Only a person is asked: what a pipe brings is no answer.
 * @throws CommandError when the answer is another, or nobody can be asked
 */
export async function confirm(what: string, question: string, force = false): Promise<void> {
  if (force) return
  const shown = printable(what)
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw usage(`${shown}; --force does it without asking. Nothing was changed`)
  }
  const answer = await ask(`${paintError.yellow(`${shown}.`)}\n${question} [y/N] `)
  if (!/^y(?:es)?$/i.test(answer.trim())) throw usage('nothing was changed')
}

/** The line that is typed; empty after Ctrl+C or Ctrl+D, which close the terminal without one. */
function ask(text: string): Promise<string> {
  return new Promise((resolve) => {
    const asking = createInterface({ input: process.stdin, output: process.stderr })
    const unanswered = () => {
      process.stderr.write('\n')
      resolve('')
    }
    asking.once('close', unanswered)
    asking.question(text, (answer) => {
      asking.off('close', unanswered).close()
      resolve(answer)
    })
  })
}
