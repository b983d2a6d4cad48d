/**
 * Kernels with pages of 16 or 64 KiB (arm64): mappings begin at such pages, and such pages are given
 * back. Stands in for one: the addon of this machine, refusing what theirs refuses.
 */
import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { NativeMapper } from '../../src/device/mapper.js'
import { PageMedia } from '../../src/device/page-media.js'
import { planGeometry } from '../../src/layout/geometry.js'
import { Lifecycle } from '../../src/media/lifecycle.js'
import type { NativeAddon } from '../../src/native/addon.js'
import { loadAddon } from '../../src/native/load.js'
import { writeVolume } from '../../src/volume/format.js'
import { type Loaded, loadVolume } from '../../src/volume/load.js'
import { findSuperblock } from '../../src/volume/superblocks.js'
import { inFolder, MIB, PAGE } from '../support/devices.js'
import { pattern } from '../support/pattern.js'

const own = loadAddon()

function withPages(pageBytes: number): NativeAddon {
  const refuse = (...numbers: number[]) => {
    if (numbers.every((number) => number % pageBytes === 0)) return
    throw Object.assign(new Error('EINVAL'), { code: 'EINVAL' })
  }
  return {
    ...own!,
    pageBytes,
    map(fd, offset, length, flags) {
      refuse(offset)
      return own!.map(fd, offset, length, flags)
    },
    discard(slot, offset, length) {
      refuse(offset, length)
      own!.discard(slot, offset, length)
    },
    privatePages(slot, fromPage, pageCount, out) {
      const small = pageBytes / own!.pageBytes
      const found = new Uint32Array(pageCount * small)
      const count = own!.privatePages(slot, fromPage * small, found.length, found)
      if (count === undefined) return undefined
      const pages = [...new Set(found.subarray(0, count).map((page) => Math.floor(page / small)))]
      out.set(pages.slice(0, out.length))
      return Math.min(pages.length, out.length)
    },
  }
}

interface Opened extends Loaded {
  readonly media: PageMedia
}

function open(path: string, sizeBytes: number, pageBytes: number): PageMedia {
  const addon = withPages(pageBytes)
  const fd = openSync(path, 'r+')
  const mapper = new NativeMapper(addon)
  const logFd = openSync(path, 'r+')
  return new PageMedia({ sizeBytes, mapper, fd, logFd, addon, readOnly: false })
}

function load(path: string, sizeBytes: number, pageBytes: number): Opened {
  const media = open(path, sizeBytes, pageBytes)
  const found = findSuperblock(
    { sizeBytes, read: (offset, length) => readAt(media, offset, length) },
    path,
    false,
  )
  const loaded = loadVolume({
    path: ':memory:',
    lifecycle: new Lifecycle(media, false),
    found,
    alignBytes: pageBytes,
    warmBytes: 0,
    device: { sizeBytes, extend: () => assert.fail('it does not grow') },
  })
  return { ...loaded, media }
}

function readAt(media: PageMedia, offset: number, length: number): Uint8Array {
  const mapping = media.map(0, media.sizeBytes)
  const bytes = mapping.bytes.slice(offset, offset + length)
  media.unmap(mapping)
  return bytes
}

describe('pages of the kernel', {
  skip: own === undefined && 'the addon does not load here',
}, () => {
  for (const pageBytes of [4096, 16_384, 65_536]) {
    // Of a device that does not end at one of its pages too.
    for (const sizeBytes of [4 * MIB, 4 * MIB + 5 * PAGE]) {
      it(`of ${pageBytes} bytes: a volume of ${sizeBytes} is made, used, recovered and read again`, () => {
        inFolder((folder) => {
          const path = join(folder, 'device')
          const fd = openSync(path, 'w')
          ftruncateSync(fd, sizeBytes)
          closeSync(fd)
          const geometry = planGeometry({ sizeBytes, alignBytes: pageBytes })
          assert.equal(geometry.granuleBytes % pageBytes, 0)
          const made = open(path, geometry.sizeBytes, pageBytes)
          writeVolume(made, geometry, {
            alignBytes: pageBytes,
            label: new Uint8Array(0),
            uuid: pattern(16, 1),
            created: 0,
          })
          made.close()

          const first = load(path, geometry.sizeBytes, pageBytes)
          const chunk = first.store.reserve({ size: 3 * pageBytes, name: 'c', zero: true })
          first.store.stagePublish(chunk, first.log.batch)
          first.log.commit()
          chunk.write(100, pattern(2 * pageBytes, 2))
          chunk.bytes.set(pattern(PAGE, 3), 0)
          chunk.persist(0, PAGE)
          const mapping = first.store.map(chunk)
          first.log.batch.write(mapping, PAGE, pattern(64, 4))
          first.log.commit()
          // A page with a unit that was written in place and a store that was not.
          chunk.bytes[PAGE + 200] = 5
          first.log.checkpoint()
          assert.equal(chunk.bytes[PAGE + 200], 5)
          first.log.batch.write(mapping, 2 * pageBytes, pattern(64, 6))
          first.log.commit()
          const expected = chunk.bytes.slice()
          first.log.persist(mapping, PAGE, PAGE)
          // As if the process ended here: what is persisted and logged is there.
          first.media.close()

          const second = load(path, geometry.sizeBytes, pageBytes)
          assert.ok(second.recovery.recordsReplayed > 0)
          const again = second.store.find('c')!
          assert.deepEqual(again.bytes.slice(), expected)
          again.bytes.fill(9)
          second.store.closeAll()
          second.log.checkpoint()
          second.media.close()

          const third = load(path, geometry.sizeBytes, pageBytes)
          assert.ok(third.store.find('c')!.bytes.every((byte) => byte === 9))
          third.media.close()
        })
      })
    }
  }

  it('of 16 KiB: a volume with smaller granules is refused', () => {
    inFolder((folder) => {
      const path = join(folder, 'device')
      const fd = openSync(path, 'w')
      ftruncateSync(fd, 4 * MIB)
      closeSync(fd)
      const geometry = planGeometry({ sizeBytes: 4 * MIB, granuleBytes: 4096, alignBytes: 4096 })
      const made = open(path, geometry.sizeBytes, 4096)
      writeVolume(made, geometry, {
        alignBytes: 4096,
        label: new Uint8Array(0),
        uuid: pattern(16, 1),
        created: 0,
      })
      made.close()
      assert.throws(() => load(path, geometry.sizeBytes, 16_384), { code: 'ERR_BACKEND_LIMIT' })
    })
  })
})
