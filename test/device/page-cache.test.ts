/**
 * After a barrier that failed, the page cache keeps what the device never took. Opening the volume again once
 * read that and called it recovered; it was gone when the cache was.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { inFolder, MIB, noFilesystem, onFilesystem, usualPlace } from '../support/devices.js'

const run = (command: string, ...args: string[]) =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()

/** A folder on a filesystem whose device promises 64 MiB and stops taking anything when `fill` was called. */
function onThinDevice(body: (folder: string, fill: () => void) => void): void {
  onFilesystem('ext4', 96 * MIB, (host) => {
    const thin = join(host, 'thin')
    writeFileSync(thin, '')
    truncateSync(thin, 64 * MIB)
    const loop = run('losetup', '--find', '--show', thin)
    try {
      run(
        'mkfs.ext4',
        '-q',
        '-F',
        '-m',
        '0',
        '-E',
        'nodiscard,lazy_itable_init=0,lazy_journal_init=0',
        loop,
      )
      inFolder((folder) => {
        const at = join(folder, 'mount')
        mkdirSync(at)
        run('mount', loop, at)
        try {
          body(at, () => fillUp(join(host, 'fill')))
        } finally {
          run('umount', at)
        }
      })
    } finally {
      run('losetup', '--detach', loop)
    }
  })
}

function fillUp(path: string): void {
  run('sync')
  const fd = openSync(path, 'w')
  const bytes = new Uint8Array(64 * 1024).fill(1)
  try {
    for (let length = bytes.length; length >= 512; ) {
      try {
        if (writeSync(fd, bytes, 0, length) < length) length /= 2
      } catch {
        length /= 2
      }
    }
  } finally {
    closeSync(fd)
  }
  run('sync')
}

describe('after a failed barrier', {
  skip: noFilesystem('ext4') || usualPlace('loop, page, native').skip,
}, () => {
  it('an opening finds what the device has', () => {
    onThinDevice((folder, fill) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 32 * MIB })
      const volume = Volume.open(path)
      const chunk = volume.allocate({ size: 28 * MIB, name: 'a' })
      chunk.bytes[0] = 1
      chunk.persist(0, 4096)
      fill()
      const lostAt = 16 * MIB
      chunk.bytes.fill(77, lostAt, lostAt + MIB)
      assert.throws(() => chunk.persist(lostAt, MIB), { code: 'ERR_VOLUME_FAILED' })
      assert.throws(() => volume.close(), { code: 'ERR_VOLUME_FAILED' })
      const found = () => {
        const reader = Volume.open(path, { readOnly: true })
        const { bytes } = reader.chunk('a')
        const some = [bytes[0], ...bytes.subarray(lostAt, lostAt + MIB)]
        reader.close()
        return Buffer.from(some as number[])
      }
      const reopened = found()
      assert.equal(reopened[0], 1, 'what was durable')
      writeFileSync('/proc/sys/vm/drop_caches', '1')
      assert.ok(reopened.equals(found()), 'with and without the page cache')
      assert.ok(reopened.includes(0), 'the device did not take all')
    })
  })
})

describe('what the page cache holds', { skip: usualPlace('file, page, native').skip }, () => {
  it('is forgotten before a volume that was not closed is opened, and kept otherwise', (t) => {
    inFolder((folder) => {
      const path = join(folder, 'device')
      const copies = [join(folder, 'open'), join(folder, 'closed')] as const
      Volume.format(path, { size: 64 * MIB })
      const volume = Volume.open(path)
      if (volume.info.kind !== 'file') return t.skip('the folder for temporary files is no disk')
      const chunk = volume.allocate({ size: 48 * MIB, name: 'a' })
      // Far from the metadata: reading that has the kernel read ahead.
      const [offset, size] = [chunk.offset + 24 * MIB, MIB]
      copyFileSync(path, copies[0])
      volume.close()
      copyFileSync(path, copies[1])
      const resident = copies.map((copy) => {
        run('sync', copy)
        readFileSync(copy)
        const reader = Volume.open(copy, { readOnly: true })
        const [bytes] = reader.residentBytes([{ offset, size }]) ?? []
        reader.close()
        return bytes
      })
      assert.deepEqual(resident, [0, size])
    })
  })
})
