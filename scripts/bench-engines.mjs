// Builds, installs the engines to compare with, then runs the benchmark of plinth's ordered map beside them.
//
// They are no dependencies: each is installed into a folder of its own under .cache/engines when this first runs. What
// cannot be installed here is left out, with the reason.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { compileAddon } from './compile-addon.mjs'
import { npm, root, run, start } from './run.mjs'

const nodeMajor = Number.parseInt(process.versions.node, 10)

const ENGINES = [
  // These two come with their addons.
  { name: 'lmdb', version: '3.5.6' },
  { name: 'classic-level', version: '3.0.0' },
  // So does this one since 13, which needs Node 22. The one before is compiled here.
  nodeMajor >= 22
    ? { name: 'better-sqlite3', version: '13.2.0' }
    : {
        name: 'better-sqlite3',
        version: '12.11.1',
        addon: { proof: "new (require('./'))(':memory:')", timeout: 600_000 },
      },
]

run('scripts/build.mjs')
for (const engine of ENGINES) {
  const folder = join(root, '.cache/engines', engine.name)
  mkdirSync(folder, { recursive: true })
  const reason = install(folder, engine)
  // The benchmark says it as well.
  const note = join(folder, 'missing.txt')
  rmSync(note, { force: true })
  if (reason) writeFileSync(note, reason)
}
process.exitCode = start(
  process.execPath,
  ['dist/test/bench/engines/run.js', ...process.argv.slice(2)],
  { stdio: 'inherit' },
)

/** Returns why it could not be installed. */
function install(folder, { name, version, addon }) {
  const installed = join(folder, 'node_modules', name)
  if (versionOf(installed) !== version) {
    writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
    const args = ['install', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund']
    // What it prints goes to stderr, as all but the benchmark's own lines.
    const status = npm([...args, `${name}@${version}`], { cwd: folder, stdio: ['ignore', 2, 2] })
    if (status !== 0) return `npm could not install ${name}@${version}`
  }
  return addon && compileAddon(installed, addon)
}

function versionOf(folder) {
  const file = join(folder, 'package.json')
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).version : undefined
}
