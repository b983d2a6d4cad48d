// Builds what the package carries: prebuilds/linux-x64 and prebuilds/linux-arm64. The file name
// `plinth.node` has no tags, so node-gyp-build takes it for every C library and every Node version:
// Node-API is stable, and the addon asks for nothing newer than glibc 2.28, which Node itself needs.

import { execFileSync, spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { compile, root } from './build-native.mjs'

/** Node 20 and later run on nothing older. */
const GLIBC_MINOR_MAX = 28

const targets = [
  {
    name: 'linux-x64',
    prefix: 'x86_64-linux-gnu-',
    packages: ['gcc-x86-64-linux-gnu', 'libc6-dev-amd64-cross'],
  },
  {
    name: 'linux-arm64',
    prefix: 'aarch64-linux-gnu-',
    packages: ['gcc-aarch64-linux-gnu', 'libc6-dev-arm64-cross'],
  },
]

function isFound(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0
}

function requireTools(target) {
  const tools = [`${target.prefix}gcc`, `${target.prefix}objdump`]
  if (tools.every(isFound)) return
  if (process.getuid() === 0 && isFound('apt-get')) {
    execFileSync('apt-get', ['install', '-y', ...target.packages], { stdio: 'inherit' })
    if (tools.every(isFound)) return
  }
  throw new Error(
    `${target.name} needs ${tools.join(' and ')}: install ${target.packages.join(' ')}`,
  )
}

/** The newest version of the C library that the file asks for, as 28 for 2.28. */
function glibcMinor(objdump, file) {
  const table = execFileSync(objdump, ['-T', file], { encoding: 'utf8' })
  const versions = [...table.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]))
  return Math.max(...versions)
}

for (const target of targets) {
  requireTools(target)
  const output = join(root, 'prebuilds', target.name, 'plinth.node')
  compile(`${target.prefix}gcc`, output, [
    '-s',
    '-Wl,-z,noseparate-code',
    '-Wl,--build-id=none',
    // Checked variants of functions exist in glibc alone.
    '-U_FORTIFY_SOURCE',
    '-fno-stack-protector',
  ])
  const minor = glibcMinor(`${target.prefix}objdump`, output)
  if (minor > GLIBC_MINOR_MAX) throw new Error(`${target.name} needs glibc 2.${minor}`)
  console.log(`${target.name}: ${statSync(output).size} bytes, glibc 2.${minor}`)
}
