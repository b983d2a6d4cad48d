/** Runs an example as its reader would: a process of its own. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface ExampleRun {
  readonly code: number | null
  readonly lines: string[]
  readonly errors: string
  /** What it left in its temporary folder: nothing, if it is well-behaved. */
  readonly left: string[]
}

export function runExample(name: string, ...args: string[]): ExampleRun {
  const temporary = mkdtempSync(join(tmpdir(), 'plinth-example-'))
  try {
    const script = fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url))
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], {
      encoding: 'utf8',
      env: { ...process.env, TMPDIR: temporary },
      timeout: 120_000,
    })
    const lines = stdout.split('\n').slice(0, -1)
    return { code: status, lines, errors: stderr, left: readdirSync(temporary) }
  } finally {
    rmSync(temporary, { recursive: true })
  }
}
