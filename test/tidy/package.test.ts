// What `npm pack` would publish: all that a user needs, and nothing else.
import assert from 'node:assert/strict'
import { type ExecFileSyncOptionsWithStringEncoding, execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../../', import.meta.url))

/** The only kinds of files that are published. */
const kinds = [
  /^(?:package\.json|README\.md|LICENSE|CHANGELOG\.md|ARCHITECTURE\.md|binding\.gyp)$/,
  /^dist\/src\/(?!.*\.test\.).*\.(?:js|d\.ts)$/,
  /^docs\/[\w-]+\.md$/,
  /^src\/layout\/FORMAT\.md$/,
  /^src\/native\/[^/]+\.[ch]$/,
  /^prebuilds\/[^/]+\/[^/]+\.node$/,
]

function missing(files: string[], wanted: string[]): string[] {
  return wanted.filter((file) => !files.includes(file))
}

function unwanted(files: string[]): string[] {
  return files.filter((file) => !kinds.some((kind) => kind.test(file)))
}

describe('the published package', () => {
  let files: string[] = []
  before(() => {
    const cli = process.env.npm_execpath
    const args = ['pack', '--dry-run', '--json', '--ignore-scripts']
    const options: ExecFileSyncOptionsWithStringEncoding = {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    }
    const output = cli?.endsWith('npm-cli.js')
      ? execFileSync(process.execPath, [cli, ...args], options)
      : execFileSync('npm', args, options)
    // A list up to npm 11, an object by package name from npm 12 on.
    const packed = Object.values<{ files: { path: string }[] }>(JSON.parse(output))
    files = packed.flatMap((entry) => entry.files.map(({ path }) => path))
  })

  test('holds what a user needs', () => {
    const prebuilds = existsSync(`${root}prebuilds`)
      ? readdirSync(`${root}prebuilds`, { recursive: true, encoding: 'utf8' })
          .map((file) => `prebuilds/${file.replaceAll('\\', '/')}`)
          .filter((file) => file.endsWith('.node'))
      : []
    const native = readdirSync(`${root}src/native`)
      .filter((file) => /\.[ch]$/.test(file))
      .map((file) => `src/native/${file}`)
    assert(native.length > 0, 'src/native holds no C')
    const wanted = [
      'package.json',
      'README.md',
      'LICENSE',
      'binding.gyp',
      'dist/src/index.js',
      'dist/src/index.d.ts',
      // The script of the page of `plinth map --html`, in one file: its parts are not read.
      'dist/src/cli/map/bundle.js',
      ...prebuilds,
      ...native,
    ]
    assert.deepEqual(missing(files, wanted), [])
    assert.deepEqual(
      files.filter((file) => file.startsWith('dist/src/cli/map/page')),
      [],
    )
  })

  test('holds every file that package.json points to', () => {
    const { exports, types, bin } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'))
    const wanted = targets([exports, types, bin]).map((file) => file.replace(/^\.\//, ''))
    assert(wanted.includes('dist/src/index.js'))
    assert.deepEqual(missing(files, wanted), [])
  })

  test('holds nothing else', () => assert.deepEqual(unwanted(files), []))
})

/** The paths at any depth of an `exports` table. */
function targets(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null) return []
  return Object.values(value).flatMap(targets)
}

test('the checks catch what they are for', () => {
  const stray = [
    'dist/test/unit/a.test.js',
    'dist/src/base/units.test.js',
    'dist/.tsbuildinfo',
    'dist/src/base/units.ts',
    'src/native/addon.ts',
    'node_modules/lru-cache/package.json',
    'prebuilds/linux-x64/plinth.o',
    'scripts/build.mjs',
    '.npmrc',
    'plinth-0.1.0.tgz',
  ]
  assert.deepEqual(unwanted(['dist/src/index.js', 'LICENSE', ...stray]), stray)
  assert.deepEqual(missing(['LICENSE'], ['LICENSE', 'README.md']), ['README.md'])
})
