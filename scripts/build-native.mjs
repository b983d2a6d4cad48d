// Builds build/Release/plinth.node. It needs a C compiler and nothing else: the addon is plain
// Node-API, whose headers come from the devDependency node-api-headers, so there is neither node-gyp
// nor a network here. Consumers without a prebuild get the same sources through binding.gyp.

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))
const nativeDirectory = join(root, 'src/native')

const sources = readdirSync(nativeDirectory)
  .filter((name) => name.endsWith('.c') && name !== 'unsupported.c')
  .sort()
  .map((name) => join(nativeDirectory, name))

const flags = [
  '-std=c11',
  '-O2',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-D_GNU_SOURCE',
  '-DNAPI_VERSION=8',
  '-fPIC',
  '-fvisibility=hidden',
  '-shared',
  // A worker that ends must not take the code away from buffers that outlive it.
  '-Wl,-z,nodelete',
  '-Wl,-z,relro,-z,now',
]

/** Compiles the addon with `compiler` to `output`, replacing a loaded one safely. */
export function compile(compiler, output, extraFlags = []) {
  const headers = createRequire(import.meta.url)('node-api-headers').include_dir
  mkdirSync(dirname(output), { recursive: true })
  // A process may have the old file mapped, so the new one takes its name rather than its bytes.
  const temporary = `${output}.${process.pid}`
  try {
    execFileSync(compiler, [...flags, ...extraFlags, '-I', headers, '-o', temporary, ...sources], {
      stdio: 'inherit',
    })
    renameSync(temporary, output)
  } finally {
    rmSync(temporary, { force: true })
  }
}

function isUpToDate(output) {
  const inputs = [
    ...readdirSync(nativeDirectory)
      .filter((name) => /\.[ch]$/.test(name))
      .map((name) => join(nativeDirectory, name)),
    fileURLToPath(import.meta.url),
  ]
  const built = statSync(output, { throwIfNoEntry: false })?.mtimeMs ?? 0
  return inputs.every((input) => statSync(input).mtimeMs < built)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const output = join(root, 'build/Release/plinth.node')
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) {
    console.log('no native code for this platform')
  } else if (!isUpToDate(output)) {
    compile(process.env.CC || 'cc', output)
  }
}
