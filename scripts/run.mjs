// How the scripts here start each other, node's own tools and npm.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository's root. */
export const root = fileURLToPath(new URL('..', import.meta.url))

/**
 * Runs a JavaScript file of this repository (a path from its root). What it prints goes to stderr: stdout is left to the
 * program that was asked for, `npm run bench -- --json` among them. When it fails, this process ends with its exit code.
 */
export function run(file, ...args) {
  const status = start(process.execPath, [join(root, file), ...args], { stdio: ['inherit', 2, 2] })
  if (status !== 0) process.exit(status)
}

/** Runs the npm that runs this script, or the one on the path, and returns its exit code. */
export function npm(args, options = { stdio: 'inherit' }) {
  const cli = process.env.npm_execpath
  return cli?.endsWith('npm-cli.js')
    ? start(process.execPath, [cli, ...args], options)
    : start('npm', args, { ...options, shell: process.platform === 'win32' })
}

/** Runs a program in the root and returns its exit code; one that could not start or was killed counts as failed. */
export function start(program, args, options) {
  const { status, signal, error } = spawnSync(program, args, { cwd: root, ...options })
  if (error) console.error(`${program}: ${error.message}`)
  if (signal) console.error(`${program}: ended by ${signal}`)
  return status ?? 1
}
