#!/usr/bin/env node
/** The `plinth` command: its subcommands, and how it ends. */
import { readFileSync } from 'node:fs'
import { type Argument, Command, CommanderError } from 'commander'
import { printable } from '../index.js'
import { bench } from './bench.js'
import { check } from './check.js'
import { doctor } from './doctor.js'
import { dump } from './dump.js'
import { causesOf, EXIT, exitCodeOf, told } from './errors.js'
import { exportChunk } from './export.js'
import { format } from './format.js'
import { grow } from './grow.js'
import { importChunk } from './import.js'
import { info } from './info.js'
import { ls } from './ls.js'
import { map } from './map.js'
import { PLINTH, paintError, toJson } from './output.js'
import { probe } from './probe.js'
import { repair } from './repair.js'
import { restore } from './restore.js'
import { rm } from './rm.js'
import { stats } from './stats.js'
import { wipe } from './wipe.js'

const { version } = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
) as { version: string }

const termOf = (argument: Argument) => {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`
  return argument.required ? `<${name}>` : `[${name}]`
}

const groups: [title: string, commands: Command[]][] = [
  ['Look:', [probe, info, ls, map, stats]],
  ['Make and repair:', [format, grow, check, repair, wipe]],
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
      outputError: (text, write) => {
        const lines = text.split('\n').map(printable).join('\n')
        write(lines.replace(/^error: /, `${paintError.red('error')}: `))
      },
    })
}

// What nobody awaits, such as stdout that is full or has no reader any more. Node would exit with 1, which means findings.
process.on('uncaughtException', (error) => process.exit(fail(error)))

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
  const error = told(thrown) as Error & { code?: string }
  const exitCode = exitCodeOf(error)
  // Who reads has seen enough (`plinth ls … | head`), and nobody is told.
  if (exitCode === EXIT.READER_GONE) return exitCode
  const { message, code, stack } = error
  const causes = causesOf(error)
  if (process.argv.includes('--json')) {
    const more = causes.length > 0 ? { causes } : {}
    process.stdout.write(toJson({ error: { code, message, ...more } }))
  }
  const text = exitCode === undefined ? `a bug in plinth: ${stack}` : message
  const lines = text.split('\n').map(printable)
  lines[lines.length - 1] += code ? paintError.dim(` (${code})`) : ''
  for (const cause of causes) {
    lines.push(`${paintError.dim('cause')}: ${cause.message}`)
  }
  process.stderr.write(`${paintError.red('error')}: ${lines.join('\n')}\n`)
  return exitCode ?? EXIT.DEVICE
}
