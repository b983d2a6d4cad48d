// Builds what programs and tests need: TypeScript into dist/, the script of a page, then the C addon. Quick when nothing changed.
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { root, run, start } from './run.mjs'

/** What `plinth map --html` writes into its page: one script, which a browser runs. */
const BUNDLE = { from: 'src/cli/map/page.ts', to: 'src/cli/map/bundle' }

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
bundle()
run('scripts/build-native.mjs')

function bundle() {
  buildSync({
    absWorkingDir: root,
    entryPoints: [BUNDLE.from],
    outfile: `dist/${BUNDLE.to}.js`,
    bundle: true,
    format: 'esm',
    // It stands within an element of a page: strings that would end it are escaped for this.
    platform: 'browser',
    target: 'es2023',
    charset: 'utf8',
    minify: true,
    legalComments: 'none',
    logLevel: 'warning',
  })
}

/** Output whose source is gone: a deleted test must not run on. */
function removeStale() {
  const known = new Set([...sources(), BUNDLE.to])
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
