/** What all commands have in common: `--json`, help with an example, a result that is an exit code. */
import { Command } from 'commander'

export interface About {
  /** `rm <device> <chunk...>` */
  readonly usage: string
  readonly summary: string
  /** What else there is to know, in whole sentences. */
  readonly details?: string
  readonly examples: readonly string[]
}

export function defineCommand({ usage, summary, details, examples }: About): Command {
  const command = new Command(usage.split(' ', 1)[0])
  for (const argument of usage.split(' ').slice(1)) command.argument(argument)
  return command
    .summary(summary)
    .description([`${summary[0]!.toUpperCase()}${summary.slice(1)}.`, details].join('\n\n').trim())
    .option('--json', 'print the result as JSON')
    .addHelpText('after', `\nExamples:\n${examples.map((line) => `  $ ${line}`).join('\n')}`)
}

/** An action whose result is the exit code; none is 0. */
export function exitsWith<Arguments extends unknown[]>(
  action: (...given: Arguments) => Promise<number | undefined> | number | undefined,
): (...given: Arguments) => Promise<void> {
  return async (...given) => {
    process.exitCode = (await action(...given)) ?? 0
  }
}
