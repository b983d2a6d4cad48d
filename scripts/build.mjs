// Builds what programs and tests need: TypeScript into dist/, then the C addon. Quick when nothing changed.
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { root, run, start } from './run.mjs'

const compile = () =>
  start(process.execPath, [join(root, 'node_modules/typescript/bin/tsc')], {
    stdio: ['inherit', 2, 2],
  })

let failed = compile()
removeStale()
// tsc remembers what it wrote and does not look whether it is still there.
if (failed === 0 && sources().some((file) => !existsSync(join(root, 'dist', `${file}.js`)))) {
  rmSync(join(root, 'dist/.tsbuildinfo'), { force: true })
  failed = compile()
}
if (failed !== 0) process.exit(failed)
run('scripts/build-native.mjs')

/** Output whose source is gone: a deleted test must not run on. */
function removeStale() {
  const known = new Set(sources())
  for (const file of files('dist', /\.(?:js|d\.ts)$/)) {
    const source = file.slice('dist/'.length).replace(/\.(?:js|d\.ts)$/, '')
    if (!known.has(source)) rmSync(join(root, file))
  }
}

/** The sources, without their ending. */
function sources() {
  return ['src', 'test', 'examples']
    .flatMap((folder) => files(folder, /(?<!\.d)\.ts$/))
    .map((file) => file.slice(0, -'.ts'.length))
}

function files(folder, pattern) {
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true })
    .map((file) => `${folder}/${file.replaceAll('\\', '/')}`)
    .filter((file) => pattern.test(file))
}
