// Builds the addon of the optional package mmap-io for the running Node, in its own folder. It never fails: a machine that
// cannot build it goes without, and the tests of that backend are skipped.
//
// mmap-io's own install script fails since Node 20, as it asks for C++11 and the headers of Node 20 want C++17, those of
// Node 24 C++20. Flags from the environment come after its own, so the later standard wins.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { nodeGypEnvironment } from './node-headers.mjs'

const require = createRequire(import.meta.url)

const reason = build()
if (reason) console.error(`mmap-io: not built (${reason}); tests of that backend are skipped`)

/** Returns why it could not be built. */
function build() {
  let folder
  try {
    folder = dirname(require.resolve('mmap-io/package.json'))
  } catch {
    return 'the package is not installed'
  }
  // An addon serves one modules version of Node, on one kind of machine.
  const { modules } = process.versions
  const wanted = `${require('mmap-io/package.json').version} ${process.platform}-${process.arch} ${modules}\n`
  const output = join(folder, 'build')
  const stamp = join(output, 'built-for.txt')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return undefined

  console.error(`mmap-io: building for Node ${process.version}`)
  rmSync(output, { recursive: true, force: true })
  const env = nodeGypEnvironment()
  env.CXXFLAGS = `${env.CXXFLAGS ?? ''} -std=gnu++20`
  const nodeGyp = require.resolve('node-gyp/bin/node-gyp.js')
  const made = spawnSync(process.execPath, [nodeGyp, 'rebuild'], {
    cwd: folder,
    env,
    encoding: 'utf8',
    timeout: 180_000,
  })
  const loaded =
    made.status === 0
      ? spawnSync(process.execPath, ['-e', `require(${JSON.stringify(folder)})`])
      : made
  if (loaded.status !== 0) {
    rmSync(output, { recursive: true, force: true })
    return made.status === 0 ? 'it does not load' : shortest(made)
  }
  writeFileSync(stamp, wanted)
  return undefined
}

/** The line that says most among all that node-gyp prints. */
function shortest({ stdout, stderr, error, signal }) {
  if (error || signal) return error?.message ?? `ended by ${signal}`
  const lines = `${stderr}\n${stdout}`.split('\n')
  const line =
    lines.find((text) => / error: /.test(text)) ??
    lines.find((text) => /ERR! stack \w*Error/.test(text))
  return (line ?? 'node-gyp failed').replace(/^.*(?:ERR! stack|error:) */, '').trim()
}
