/**
 * The space of files: taken whole before anything is stored, given back when format is refused, and
 * never new space for what is overwritten.
 *
 * A refused format of an existing file left it grown and its filesystem full. On btrfs the first
 * overwrite took new space, so that a full filesystem failed the volume, which then did not open. On
 * ext2, without fallocate, nothing could be formatted. A store to a sparse copy in memory that was
 * full was a SIGBUS.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import {
  inFolder,
  MIB,
  noFilesystem,
  onFilesystem,
  onSmallTmpfs,
  PAGE,
} from '../support/devices.js'

const noRoot = process.getuid?.() !== 0 && 'mounting needs root'
const refused = { name: 'PlinthError', code: 'ERR_DEVICE_IO', message: /ENOSPC/ }

function freeBytes(folder: string): number {
  const { bfree, bsize } = statfsSync(folder)
  return bfree * bsize
}

function backedBytes(path: string): number {
  return statSync(path).blocks * 512
}

/** All that is left, to the last block. */
function fill(folder: string): void {
  const fd = openSync(join(folder, 'fill'), 'w')
  try {
    for (const bytes of [MIB, PAGE, 512]) {
      const block = Buffer.alloc(bytes, 0x5a)
      try {
        for (;;) if (writeSync(fd, block) < bytes) break
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
      }
    }
  } finally {
    closeSync(fd)
  }
  spawnSync('sync', ['-f', folder])
}

/** A file of `bytes` with a word at its middle, and holes around it. */
function writeSparse(path: string, bytes: number): void {
  const fd = openSync(path, 'w')
  try {
    ftruncateSync(fd, bytes)
    writeSync(fd, 'word', bytes / 2)
  } finally {
    closeSync(fd)
  }
}

describe('space of a file that format refuses', () => {
  for (const type of ['ext4', 'xfs', 'ext2']) {
    it(`is given back on ${type}`, { skip: noFilesystem(type) }, () => {
      onFilesystem(type, type === 'xfs' ? 320 * MIB : 32 * MIB, (folder) => {
        const [existing, sparse, old, made] = ['existing', 'sparse', 'old', 'made'].map((name) =>
          join(folder, name),
        ) as [string, string, string, string]
        const size = 400 * MIB
        writeFileSync(existing, Buffer.alloc(2 * PAGE))
        writeSparse(sparse, size)
        Volume.format(old, { size: 2 * MIB })
        const volume = readFileSync(old)
        spawnSync('sync', ['-f', folder])
        const free = freeBytes(folder)
        const backed = backedBytes(sparse)

        assert.throws(() => Volume.format(existing, { size }), refused)
        assert.throws(() => Volume.format(sparse), refused)
        assert.throws(() => Volume.format(old, { size, force: true }), refused)
        assert.throws(() => Volume.format(made, { size }), refused)

        assert.equal(statSync(existing).size, 2 * PAGE)
        assert.equal(statSync(sparse).size, size)
        assert.deepEqual(readFileSync(old), volume)
        assert.equal(existsSync(made), false)
        // ext2 gives no single blocks back; what was a hole there stays zeros.
        if (type !== 'ext2') {
          // The tree of extents may keep a block that it grew by.
          assert.ok(backedBytes(sparse) <= backed + 8 * PAGE, `${backedBytes(sparse)} of ${backed}`)
          assert.ok(
            freeBytes(folder) >= free - 32 * PAGE,
            `${free - freeBytes(folder)} are missing`,
          )
        }
      })
    })
  }

  it('is given back when what comes after it fails', { skip: noFilesystem('ext4') }, () => {
    onFilesystem('ext4', 32 * MIB, (folder) => {
      const path = join(folder, 'existing')
      writeFileSync(path, Buffer.alloc(2 * PAGE))
      // The process may write no more than 64 KiB of a file: taking space is not writing.
      const script = `
        const { Volume } = await import('plinth')
        try { Volume.format(${JSON.stringify(path)}, { size: ${4 * MIB} }) } catch (error) { console.log(error.code) }`
      const limited = `ulimit -f 64; exec ${process.execPath} --input-type=module -e "$SCRIPT"`
      const { stdout } = spawnSync('bash', ['-c', limited], {
        env: { ...process.env, SCRIPT: script },
        encoding: 'utf8',
      })
      assert.match(stdout, /^ERR_/)
      assert.equal(statSync(path).size, 2 * PAGE)
    })
  })
})

describe('space of a formatted file', () => {
  it('is all there where the filesystem has no fallocate', { skip: noFilesystem('ext2') }, () => {
    onFilesystem('ext2', 32 * MIB, (folder) => {
      const made = join(folder, 'made')
      Volume.format(made, { size: 4 * MIB })
      assert.ok(backedBytes(made) >= 4 * MIB)
      const sparse = join(folder, 'sparse')
      writeSparse(sparse, 4 * MIB)
      Volume.format(sparse)
      assert.ok(backedBytes(sparse) >= 4 * MIB)
      const fd = readFileSync(sparse)
      assert.equal(fd.subarray(2 * MIB, 2 * MIB + 4).toString(), 'word')
    })
  })

  it('is overwritten in place on btrfs', { skip: noFilesystem('btrfs') }, () => {
    onFilesystem('btrfs', 256 * MIB, (folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 16 * MIB })
      assert.deepEqual(Volume.probe(path).notes, [])
      const bytes = Buffer.alloc(MIB, 1)
      const volume = Volume.open(path)
      const chunk = volume.allocate({ size: 8 * MIB, name: 'c' })
      for (let at = 0; at < chunk.size; at += MIB) chunk.write(at, bytes)
      fill(folder)
      for (let at = 0; at < chunk.size; at += MIB) chunk.write(at, bytes.fill(2))
      volume.transact((tx) => tx.setUint32(chunk, 0, 3))
      volume.close()
      const again = Volume.open(path)
      again.free(again.chunk('c'))
      again.close()
    })
  })

  it('that takes new space when it is overwritten is told of', {
    skip: noFilesystem('btrfs'),
  }, () => {
    onFilesystem('btrfs', 256 * MIB, (folder) => {
      const path = join(folder, 'existing')
      writeFileSync(path, Buffer.alloc(4 * MIB))
      Volume.format(path)
      const { notes } = Volume.probe(path)
      assert.equal(notes.length, 1)
      assert.match(notes[0]!, /^btrfs writes what is overwritten to new space; .*chattr \+C/)
    })
  })

  it('that shares blocks with another one is told of', { skip: noFilesystem('xfs') }, () => {
    onFilesystem('xfs', 320 * MIB, (folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 4 * MIB })
      assert.deepEqual(Volume.probe(path).notes, [])
      execFileSync('cp', ['--reflink=always', path, join(folder, 'copy')])
      assert.match(Volume.probe(path).notes[0]!, /^the file shares blocks with another one/)
    })
  })
})

describe('space of a sparse copy', () => {
  it('is taken when it is opened for writing', () => {
    inFolder((folder) => {
      const path = join(folder, 'volume')
      const copy = join(folder, 'copy')
      Volume.format(path, { size: 4 * MIB })
      execFileSync('cp', ['--sparse=always', path, copy])
      assert.ok(backedBytes(copy) < 4 * MIB)
      Volume.open(copy, { readOnly: true }).close()
      assert.ok(backedBytes(copy) < 4 * MIB, 'a reader changes nothing')
      Volume.open(copy, { sparse: true }).close()
      assert.ok(backedBytes(copy) < 4 * MIB, 'nor does who says so')
      Volume.open(copy).close()
      assert.ok(backedBytes(copy) >= 4 * MIB)
    })
  })

  it('is refused where there is none, and read all the same', { skip: noRoot }, () => {
    onSmallTmpfs(16 * MIB, (folder) => {
      const path = join(folder, 'volume')
      const copy = join(folder, 'copy')
      Volume.format(path, { size: 4 * MIB })
      const made = Volume.open(path)
      made.allocate({ size: 2 * MIB, name: 'c', zero: true }).write(MIB, Buffer.from('word'))
      made.close()
      execFileSync('cp', ['--sparse=always', path, copy])
      fill(folder)
      const before = readFileSync(copy)
      // In a process of its own: a load from a hole would kill it.
      const script = `
        const { Volume } = await import('plinth')
        const path = ${JSON.stringify(copy)}
        for (const granularity of ['page', 'cache-line']) {
          try { Volume.open(path, { granularity }); console.log('opened') } catch (error) { console.log(error.code) }
        }
        const volume = Volume.open(path, { readOnly: true })
        const { bytes } = volume.chunk('c')
        console.log(bytes.reduce((sum, byte) => sum + byte, 0))
        volume.close()`
      const { stdout, signal } = spawnSync(
        process.execPath,
        ['--input-type=module', '-e', script],
        { encoding: 'utf8' },
      )
      assert.equal(signal, null)
      const sum = Buffer.from('word').reduce((total, byte) => total + byte, 0)
      assert.deepEqual(stdout.trim().split('\n'), ['ERR_DEVICE_IO', 'ERR_DEVICE_IO', `${sum}`])
      assert.deepEqual(readFileSync(copy), before)
      assert.ok(backedBytes(copy) < 4 * MIB)

      rmSync(join(folder, 'fill'))
      const volume = Volume.open(copy, { granularity: 'cache-line' })
      volume.chunk('c').bytes.fill(7)
      volume.close()
      assert.ok(backedBytes(copy) >= 4 * MIB)
    })
  })
})
