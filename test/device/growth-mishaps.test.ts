/** Growing beside what else goes on, and after what went wrong: each of these was wrong once. */
import assert from 'node:assert/strict'
import {
  closeSync,
  copyFileSync,
  openSync,
  readSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { BadBlocks } from '../../src/media/bad-blocks.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { makeImage, openSimulated } from '../../src/testing/simulated-volume.js'
import { inFolder, MIB } from '../support/devices.js'

const PAGE = 4096

function read(path: string, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  const fd = openSync(path, 'r')
  readSync(fd, bytes, 0, length, at)
  closeSync(fd)
  return bytes
}

function write(path: string, at: number, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+')
  writeSync(fd, bytes, 0, bytes.length, at)
  closeSync(fd)
}

describe('growing', () => {
  it('keeps a volume usable while a transaction waits for its barrier', async () =>
    inFolder(async (folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 2 * MIB })
      using volume = Volume.open(path)
      const durable = volume.transactAsync(() => void volume.allocate({ size: PAGE, name: 'a' }))
      volume.grow(4 * MIB)
      await durable
      volume.allocate({ size: PAGE })
      assert.deepEqual(volume.check(), [])
    }))

  it('leaves no commit without a barrier when the log is replaced while one is under way', async () =>
    inFolder(async (folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 2 * MIB })
      using volume = Volume.open(path)
      for (let i = 0; i < 60; i++) volume.allocate({ size: PAGE })
      const durable = volume.transactAsync(() => void volume.allocate({ size: PAGE }))
      await null
      await null
      volume.grow(64 * MIB)
      await durable
      await volume.transactAsync(() => void volume.allocate({ size: PAGE, name: 'after' }))
      copyFileSync(path, `${path}-crashed`)
      using crashed = Volume.open(`${path}-crashed`)
      assert.notEqual(crashed.findChunk('after'), undefined)
    }))

  it('makes room for the chunk and for a longer log', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: MIB, maxSize: 1024 * MIB })
      using volume = Volume.open(path)
      for (let free = 1; free > 0; free = volume.stats().largestFreeBytes)
        volume.allocate({ size: free })
      volume.allocate({ size: 20 * MIB })
    }))

  it('grows when neither a slot nor room for slots is left', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 4 * MIB, granule: PAGE, maxSize: 64 * MIB })
      using volume = Volume.open(path)
      const { slots } = volume.info.layout.tables[0]!
      for (let i = 1; i < slots; i++) volume.allocate({ size: PAGE })
      volume.allocate({ size: volume.stats().largestFreeBytes - PAGE })
      volume.allocate({ size: PAGE })
    }))

  it('backs every byte of a file that was longer and sparse', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 2 * MIB })
      truncateSync(path, 16 * MIB)
      using volume = Volume.open(path)
      volume.grow()
      assert.ok(statSync(path).blocks * 512 >= volume.info.size)
    }))

  it('keeps off a tail in a bad block', () => {
    const bad = new BadBlocks([{ offset: 2 * MIB - 2 * PAGE, length: PAGE }])
    const media = new SimulatedMedia('cache-line', makeImage({ deviceSize: 2 * MIB }))
    media.badBlocks = bad
    const volume = openSimulated(media)
    try {
      volume.grow()
    } catch {}
    volume.close()
    const again = new SimulatedMedia('cache-line', media.durable)
    again.badBlocks = bad
    openSimulated(again).close()
  })

  it('knows of bad blocks that were learnt when the file became longer', () => {
    const media = new SimulatedMedia('cache-line', makeImage({ deviceSize: 2 * MIB }))
    const volume = openSimulated(media)
    media.badBlocks = new BadBlocks([{ offset: MIB + 16 * PAGE, length: PAGE }])
    volume.grow()
    assert.equal(volume.stats().badBytes, PAGE)
  })

  it('leaves nothing of others in its new tail', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 2 * MIB })
      truncateSync(path, 4 * MIB)
      write(path, 4 * MIB - 7 * 1024, Uint8Array.of(0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0))
      const volume = Volume.open(path)
      volume.grow()
      volume.close()
      Volume.open(path).close()
    }))

  it('repair takes no tail of a growth that was cut short for that of the volume', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 2 * MIB })
      copyFileSync(path, `${path}-grown`)
      let volume = Volume.open(`${path}-grown`)
      volume.grow(4 * MIB)
      volume.close()
      // Power was cut between the second superblock and the first.
      truncateSync(path, 4 * MIB)
      write(path, 4 * MIB - 2 * PAGE, read(`${path}-grown`, 4 * MIB - 2 * PAGE, 2 * PAGE))
      volume = Volume.open(path)
      volume.grow(3 * MIB)
      for (let i = 0; i < 560; i++) volume.allocate({ size: PAGE })
      volume.close()
      write(path, 72, Uint8Array.of(read(path, 72, 1)[0]! ^ 1))
      Volume.repair(path, { dryRun: false })
      Volume.open(path).close()
    }))

  it('repair takes no old tail that was not erased for that of the volume', () =>
    inFolder((folder) => {
      const path = join(folder, 'volume')
      Volume.format(path, { size: 2 * MIB })
      const old = read(path, 2 * MIB - 2 * PAGE, 2 * PAGE)
      truncateSync(path, 8 * MIB)
      let volume = Volume.open(path)
      volume.grow(4 * MIB)
      volume.close()
      // Power was cut before the old tail was erased.
      write(path, 2 * MIB - 2 * PAGE, old)
      volume = Volume.open(path)
      volume.allocate({ size: 1900 * 1024 })
      volume.close()
      write(path, 0, Buffer.alloc(PAGE))
      Volume.repair(path, { dryRun: false, force: true })
      Volume.open(path).close()
    }))
})
