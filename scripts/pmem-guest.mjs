// The kernel and the initial file system of the machine that pmem-vm.mjs boots: Debian's own kernel package, unpacked and not
// installed, with busybox and scripts/pmem-init.sh as process 1. Made once for each version of these; about 80 MB in the cache.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { root } from './run.mjs'

/** What the host must have, and the Debian package it is in. */
const TOOLS = {
  'qemu-system-x86_64': 'qemu-system-x86',
  ndctl: 'ndctl',
  'mkfs.ext4': 'e2fsprogs',
  strace: 'strace',
  xz: 'xz-utils',
}
/** Kernel modules of the machine, with what they depend on. */
const MODULES = [
  ...['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'crc32c_generic', 'ext4'],
  ...['nfit', 'nd_pmem', 'dax_pmem', 'device_dax'],
]
const INIT = join(root, 'scripts/pmem-init.sh')

/** Paths of the kernel and the initial file system; both are made when they are not there, packages installed where this is root. */
export function guest() {
  installTools()
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'plinth-pmem')
  const version = createHash('sha256')
    .update(JSON.stringify(MODULES))
    .update(readFileSync(INIT))
    .update(readFileSync(join(root, 'scripts/pmem-guest.mjs')))
    .digest('hex')
  const folder = join(cache, version.slice(0, 12))
  if (!existsSync(folder)) {
    // Another run may be doing the same: whoever is done first counts.
    const scratch = `${folder}.${process.pid}`
    try {
      build(scratch)
      if (!existsSync(folder)) renameSync(scratch, folder)
      removeOlder(cache)
    } finally {
      rmSync(scratch, { recursive: true, force: true })
    }
  }
  return { kernel: join(folder, 'kernel'), files: join(folder, 'files') }
}

/** Other versions, unless a checkout beside this one may still boot them. */
function removeOlder(cache) {
  for (const name of readdirSync(cache)) {
    const folder = join(cache, name)
    const days = (Date.now() - statSync(folder).mtimeMs) / 86_400_000
    if (days > 30) rmSync(folder, { recursive: true, force: true })
  }
}

function installTools() {
  const missing = Object.keys(TOOLS).filter((program) => !hasProgram(program))
  if (missing.length === 0) return
  const packages = missing.map((program) => TOOLS[program])
  if (process.getuid() !== 0) throw new Error(`install first: ${packages.join(' ')}`)
  console.error(`installing ${packages.join(' ')}`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  aptUpdate()
  const install = ['install', '-y', '-qq', '--no-install-recommends', ...packages]
  must('apt-get', install, { env, stdio: ['ignore', 2, 2] })
}

function hasProgram(program) {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']
  return folders.some((folder) => existsSync(join(folder, program)))
}

function aptUpdate() {
  must('apt-get', ['update', '-qq'], { stdio: ['ignore', 2, 2] })
}

function build(folder) {
  console.error('making the kernel and the files of the machine (once)')
  const unpacked = join(folder, 'unpacked')
  mkdirSync(unpacked, { recursive: true })
  for (const archive of download(folder)) must('dpkg-deb', ['-x', archive, unpacked])
  const busybox = join(unpacked, 'usr/bin/busybox')
  const installed = existsSync(busybox) ? busybox : join(unpacked, 'bin/busybox')
  const modules = findModules(unpacked)
  bareKernel(join(unpacked, 'boot', `vmlinuz-${basename(modules)}`), join(folder, 'kernel'))

  const files = join(folder, 'root')
  mkdirSync(join(files, 'machine'), { recursive: true })
  const order = loadOrder(installed, modules).map((file) => {
    const plain = file.replace(/\.xz$/, '')
    if (plain !== file) must('xz', ['-d', join(modules, file)])
    copyFileSync(join(modules, plain), join(files, 'machine', basename(plain)))
    return basename(plain)
  })
  writeFileSync(join(files, 'machine/modules'), order.map((name) => `${name}\n`).join(''))
  copyFileSync(installed, join(files, 'machine/busybox'))
  copyFileSync(INIT, join(files, 'machine/init'))
  for (const name of ['busybox', 'init']) chmodSync(join(files, 'machine', name), 0o755)
  const archive = must('sh', ['-c', `find . | ${installed} cpio -o -H newc 2>/dev/null`], {
    cwd: files,
  })
  writeFileSync(join(folder, 'files'), archive)
  for (const part of ['unpacked', 'root']) rmSync(join(folder, part), { recursive: true })
  for (const name of readdirSync(folder)) if (name.endsWith('.deb')) rmSync(join(folder, name))
}

/** The packages of a kernel and of busybox, as files in a folder. */
function download(folder) {
  // The package linux-image-amd64 is empty and depends on the present one.
  const depends = () => {
    const { stdout } = spawnSync('apt-cache', ['depends', 'linux-image-amd64'], {
      encoding: 'utf8',
    })
    return /Depends: (linux-image-\d\S*)$/m.exec(stdout ?? '')?.[1]
  }
  let kernel = depends()
  if (kernel === undefined) {
    aptUpdate()
    kernel = depends()
  }
  if (kernel === undefined) throw new Error('apt knows no package linux-image-amd64')
  const fetch = ['download', '-qq', '-o', 'APT::Sandbox::User=root', kernel, 'busybox-static']
  const options = { cwd: folder, stdio: ['ignore', 2, 2] }
  if (spawnSync('apt-get', fetch, options).status !== 0) {
    aptUpdate()
    must('apt-get', fetch, options)
  }
  return readdirSync(folder)
    .filter((name) => name.endsWith('.deb'))
    .map((name) => join(folder, name))
}

/** The folder of a kernel package's modules, named by the kernel's version. */
function findModules(unpacked) {
  for (const above of ['lib/modules', 'usr/lib/modules']) {
    const folder = join(unpacked, above)
    if (existsSync(folder)) return join(folder, readdirSync(folder)[0])
  }
  throw new Error('the kernel package has no modules')
}

/** The files of the modules, each after those that it depends on. */
function loadOrder(busybox, modules) {
  const version = basename(modules)
  // depmod looks for lib/modules below its base.
  const base = modules.slice(0, modules.lastIndexOf(`lib/modules/${version}`))
  spawnSync(busybox, ['depmod', '-b', base, version], { stdio: 'ignore' })
  const depends = new Map()
  const fileOf = new Map()
  for (const line of readFileSync(join(modules, 'modules.dep'), 'utf8').split('\n')) {
    const [file, others] = line.split(':')
    if (others === undefined) continue
    depends.set(file, others.trim().split(/\s+/).filter(Boolean))
    fileOf.set(nameOf(file), file)
  }
  const order = new Set()
  const add = (file) => {
    if (order.has(file)) return
    for (const other of depends.get(file) ?? []) add(other)
    order.add(file)
  }
  for (const name of MODULES) {
    // What is not a module is built into the kernel.
    const file = fileOf.get(name)
    if (file !== undefined) add(file)
  }
  return [...order]
}

function nameOf(file) {
  return basename(file)
    .replace(/\.ko.*/, '')
    .replaceAll('-', '_')
}

/**
 * The kernel without the program that unpacks it, which takes an emulated processor seconds. Where the packed kernel lies
 * within its file: Documentation/arch/x86/boot.rst of the kernel.
 */
function bareKernel(from, to) {
  const image = readFileSync(from)
  const sectors = image.readUInt8(0x1f1)
  const at = (sectors + 1) * 512 + image.readUInt32LE(0x248)
  const length = image.readUInt32LE(0x24c)
  const packed = image.subarray(at, at + length - 4)
  const { status, stdout } = spawnSync('xz', ['-dc'], { input: packed, maxBuffer: 2 ** 30 })
  const isElf = status === 0 && stdout.readUInt32BE(0) === 0x7f454c46
  writeFileSync(to, isElf ? stdout : image)
}

function must(program, args, options) {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    maxBuffer: 2 ** 30,
    ...options,
  })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed: ${stderr ?? ''}`)
  return stdout
}
