/** The packages that scripts/bench-engines.mjs installs, each in a folder of its own. */
import fs from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../../../', import.meta.url))

/** Throws with the reason where the package is not there. */
export function requireInstalled<Module>(name: string): Module {
  const folder = join(root, '.cache/engines', name)
  const note = join(folder, 'missing.txt')
  if (fs.existsSync(note)) throw new Error(fs.readFileSync(note, 'utf8'))
  if (!fs.existsSync(join(folder, 'node_modules', name))) {
    throw new Error('not installed; npm run bench:engines installs it')
  }
  return createRequire(join(folder, 'package.json'))(name)
}

/** What the files of an engine take of the device. */
export function allocatedBytes(path: string): number {
  const { blocks } = fs.statSync(path)
  const own = blocks * 512
  if (!fs.statSync(path).isDirectory()) return own
  return fs.readdirSync(path).reduce((sum, name) => sum + allocatedBytes(join(path, name)), own)
}
