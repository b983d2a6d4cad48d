#!/usr/bin/env node
/** The `plinth` command: its subcommands, and how it ends. */
import { readFileSync } from 'node:fs'
import { type Argument, Command, CommanderError } from 'commander'
import { bench } from './bench.js'
import { check } from './check.js'
import { doctor } from './doctor.js'
import { dump } from './dump.js'
import { EXIT, exitCodeOf, told } from './errors.js'
import { exportChunk } from './export.js'
import { format } from './format.js'
import { importChunk } from './import.js'
import { info } from './info.js'
import { ls } from './ls.js'
import { map } from './map.js'
import { PLINTH, paintError } from './output.js'
import { probe } from './probe.js'
import { repair } from './repair.js'
import { restore } from './restore.js'
import { rm } from './rm.js'
import { stats } from './stats.js'

const { version } = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
) as { version: string }

const termOf = (argument: Argument) => {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`
  return argument.required ? `<${name}>` : `[${name}]`
}

const groups: [title: string, commands: Command[]][] = [
  ['Look:', [probe, info, ls, map, stats]],
  ['Make and mend:', [format, check, repair]],
  ['Move:', [dump, restore, exportChunk, importChunk, rm]],
  ['Measure:', [bench, doctor]],
]

const program = new Command('plinth')
  .description('Volumes of pinned storage memory: see, check, move and rescue them.')
  .version(version)
  .addHelpCommand(
    new Command('help')
      .argument('[command]')
      .summary('tell how a command is used')
      .helpGroup('Help:'),
  )
  .configureHelp({
    subcommandTerm: (command) =>
      [command.name(), ...command.registeredArguments.map(termOf)].join(' '),
  })
  .addHelpText(
    'after',
    `
Exit codes: 0 done, 1 findings, 2 wrong use, 3 device or volume error.

Example:
  $ plinth format /var/lib/engine/data --size 4G --label engine
  $ plinth info /var/lib/engine/data`,
  )
for (const [title, commands] of groups) {
  for (const command of commands) program.addCommand(command.helpGroup(title))
}
for (const command of [program, ...program.commands]) {
  command
    .exitOverride()
    .showHelpAfterError(`(${PLINTH} <command> --help shows how)`)
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, `${paintError.red('error')}: `)),
    })
}

// Whoever reads may have seen enough (`plinth ls … | head`). A dump hears of it where it writes.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

try {
  await program.parseAsync(given(), { from: 'user' })
} catch (error) {
  process.exitCode = fail(error)
}

/** What was typed. Commander would answer `help nonsense` with the help of all, and not say why. */
function given(): string[] {
  const args = process.argv.slice(2)
  const [first, asked] = args
  if (first !== 'help' || asked === undefined) return args
  return program.commands.some((command) => command.name() === asked) ? args : [asked]
}

/** Tells what went wrong, on stderr; with `--json` on stdout as data. */
function fail(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.OK : EXIT.USAGE
  const error = told(thrown)
  const exitCode = exitCodeOf(error)
  const { message, code, stack } = error as Error & { code?: string }
  if (process.argv.includes('--json')) {
    process.stdout.write(`${JSON.stringify({ error: { code, message } }, undefined, 2)}\n`)
  }
  const text = exitCode === undefined ? `a bug in plinth: ${stack}` : message
  process.stderr.write(
    `${paintError.red('error')}: ${text}${code ? paintError.dim(` (${code})`) : ''}\n`,
  )
  return exitCode ?? EXIT.DEVICE
}
