// Compiles the addon of an installed package for the running Node, in the package's own folder.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { nodeGypEnvironment } from './node-headers.mjs'

const require = createRequire(import.meta.url)

/**
 * Does nothing where it has been done before. `flags` go to the C++ compiler behind the package's own; `proof` is a
 * program that fails when the addon does not load. Returns why it could not be compiled.
 */
export function compileAddon(folder, { flags = '', proof, timeout }) {
  const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  // An addon serves one modules version of Node, on one kind of machine.
  const { modules } = process.versions
  const wanted = `${version} ${process.platform}-${process.arch} ${modules}\n`
  const output = join(folder, 'build')
  const stamp = join(output, 'built-for.txt')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return undefined

  console.error(`${name}: building for Node ${process.version}`)
  rmSync(output, { recursive: true, force: true })
  const env = nodeGypEnvironment()
  env.CXXFLAGS = `${env.CXXFLAGS ?? ''} ${flags}`
  const nodeGyp = require.resolve('node-gyp/bin/node-gyp.js')
  const made = spawnSync(process.execPath, [nodeGyp, 'rebuild'], {
    cwd: folder,
    env,
    encoding: 'utf8',
    timeout,
  })
  const loaded =
    made.status === 0 ? spawnSync(process.execPath, ['-e', proof], { cwd: folder }) : made
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
