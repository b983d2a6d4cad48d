// Builds the addon with AddressSanitizer and UndefinedBehaviorSanitizer into a folder of its own, and runs the tests of the
// addon and of what stands right on it with that. The first finding ends the process, and so fails the test.
//
//   npm run test:sanitize                  the usual files
//   npm run test:sanitize -- device/native   others
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { compile } from './build-native.mjs'
import { root, run, start } from './run.mjs'

const FILES = [
  'device/native',
  'device/mapper',
  'device/media-contract',
  'device/page-size',
  'device/private-copies',
  'device/workers',
  'device/residency',
  'device/file-space',
]

run('scripts/build.mjs')
const compiler = process.env.CC || 'cc'
const folder = join(root, '.cache/sanitize')
compile(compiler, join(folder, 'build/Release/plinth.node'), [
  '-O1',
  '-g',
  '-fno-omit-frame-pointer',
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
])
// Node is not built with it, so its run-time library must be there before everything else.
const library = execFileSync(compiler, ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim()

const given = process.argv.slice(2)
process.exitCode = start(
  process.execPath,
  ['scripts/test.mjs', ...(given.length > 0 ? given : FILES)],
  {
    stdio: 'inherit',
    env: {
      ...process.env,
      // node-gyp-build looks there.
      PLINTH_PREBUILD: folder,
      LD_PRELOAD: library,
      // Node itself leaves memory to the end of the process.
      ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
      UBSAN_OPTIONS: 'print_stacktrace=1',
    },
  },
)
