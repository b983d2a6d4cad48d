/** The `plinth` command as its user runs it: a process of its own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../../', import.meta.url))
export const script = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))

export interface CommandRun {
  readonly code: number | null
  readonly out: string
  readonly err: string
  readonly bytes: Buffer
}

export interface CommandSetting {
  readonly input?: string | Uint8Array
  readonly env?: NodeJS.ProcessEnv
  /** Who runs it; needs root. */
  readonly uid?: number
}

export function plinth(
  args: readonly string[],
  { input, env, uid }: CommandSetting = {},
): CommandRun {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], {
    cwd: root,
    input: input ?? '',
    // Whether the tests themselves are run by npx must not show.
    env: { ...process.env, npm_command: '', ...env },
    ...(uid !== undefined && { uid, gid: uid }),
    timeout: 120_000,
    maxBuffer: 256 * 1024 * 1024,
  })
  return { code: status, out: stdout.toString(), err: stderr.toString(), bytes: stdout }
}

/** Runs with `--json` and gives the code and what was printed, parsed. */
export function json(
  args: readonly string[],
  setting?: CommandSetting,
  // biome-ignore lint/suspicious/noExplicitAny: tests say what they expect of it
): { code: number | null; value: any } {
  const { code, out, err } = plinth([...args, '--json'], setting)
  try {
    return { code, value: JSON.parse(out) }
  } catch {
    throw new Error(`plinth ${args.join(' ')} printed no JSON: ${out}\n${err}`)
  }
}

/** A pipeline of commands, as a shell runs it; `plinth` in it is this one. */
export function shell(line: string): CommandRun {
  const { status, stdout, stderr } = spawnSync(
    'bash',
    ['-c', `set -o pipefail; plinth() { "${process.execPath}" "${script}" "$@"; }; ${line}`],
    { timeout: 120_000 },
  )
  return { code: status, out: stdout.toString(), err: stderr.toString(), bytes: stdout }
}

export function start(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [script, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
}

/** Why nobody can be asked anything here: a prompt needs a terminal, which `script` of util-linux makes. */
export const noTerminal: string | false =
  spawnSync('script', ['--version'], { stdio: 'ignore' }).status !== 0 &&
  'there is no script(1) to make a terminal'

/** Runs on a terminal on which `typed` is typed. */
export function onTerminal(
  args: readonly string[],
  typed: string,
  env?: NodeJS.ProcessEnv,
): CommandRun {
  const line = [process.execPath, script, ...args].map((each) => `'${each}'`).join(' ')
  const { status, stdout, stderr } = spawnSync('script', ['-qec', line, '/dev/null'], {
    input: typed,
    env: {
      ...process.env,
      TERM: 'xterm-256color',
      COLORTERM: 'truecolor',
      NO_COLOR: '',
      FORCE_COLOR: '',
      ...env,
    },
    timeout: 60_000,
  })
  return { code: status, out: stdout.toString(), err: stderr.toString(), bytes: stdout }
}
