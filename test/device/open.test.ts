/** A path is followed once, by every opening; what cannot be opened is said in words. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { Volume } from 'plinth'
import { identify } from '../../src/device/identify.js'
import { lockDevice } from '../../src/device/lock.js'
import { openOrThrow } from '../../src/device/open.js'
import type { NativeAddon } from '../../src/native/addon.js'
import { inFolder, inMemory, MIB, onLoop, tmpfsPage, usualPlace } from '../support/devices.js'

/**
 * The path was followed five times: a link switched meanwhile (a blue/green switch, somebody in the folder)
 * gave one volume's data with the other one's log, and acknowledged commits were lost.
 */
describe('a link that is switched while a volume opens', { skip: tmpfsPage.skip }, () => {
  /** Two volumes, and a link that leads to the other one after the n-th look at it. */
  function switching(t: TestContext, nth: number, hasProc: boolean, body: (link: string) => void) {
    inMemory((folder) => {
      const link = join(folder, 'link')
      for (const label of ['a', 'b']) {
        Volume.format(join(folder, label), { size: MIB, label })
      }
      fs.symlinkSync('a', link)
      let looks = 0
      for (const name of ['statSync', 'openSync', 'statfsSync'] as const) {
        const real = fs[name] as (...given: unknown[]) => unknown
        t.mock.method(fs, name, (...given: unknown[]) => {
          if (!hasProc && String(given[0]).startsWith('/proc/self/fd/')) {
            throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
          }
          const result = real(...given)
          if (given[0] === link && ++looks === nth) {
            fs.unlinkSync(link)
            fs.symlinkSync('b', link)
          }
          return result
        })
      }
      try {
        body(link)
      } finally {
        t.mock.restoreAll()
      }
    })
  }

  const openIn = (folder: string) =>
    new Set(
      fs
        .readdirSync('/proc/self/fd')
        .map((fd) => {
          try {
            return fs.readlinkSync(`/proc/self/fd/${fd}`)
          } catch {
            return ''
          }
        })
        .filter((path) => path.startsWith(folder)),
    )

  for (let nth = 1; nth <= 6; nth++) {
    it(`after look ${nth}: one device`, (t) => {
      switching(t, nth, true, (link) => {
        const volume = Volume.open(link)
        try {
          const target = join(link, '..', volume.info.label!)
          assert.deepEqual([...openIn(join(link, '..'))], [target])
        } finally {
          volume.close()
        }
      })
    })

    it(`after look ${nth}, without /proc: one device, or refused`, (t) => {
      switching(t, nth, false, (link) => {
        try {
          const volume = Volume.open(link)
          const open = openIn(join(link, '..'))
          volume.close()
          assert.equal(open.size, 1)
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'ERR_DEVICE_IO')
          assert.match((error as Error).message, /leads to something else/)
        }
        assert.equal(openIn(join(link, '..')).size, 0, 'nothing stays open')
      })
    })
  }
})

describe('what cannot be opened is said', () => {
  const missing = (path: string, message: RegExp, call: (path: string) => unknown = Volume.open) =>
    assert.throws(() => call(path), { name: 'PlinthError', code: 'ERR_DEVICE_MISSING', message })
  const formatAt = (path: string) => Volume.format(path, { size: MIB })

  it('a folder that is missing, a link to nothing', () => {
    inFolder((folder) => {
      const path = join(folder, 'one', 'two', 'x')
      const folderMissing = new RegExp(`there is no folder ${join(folder, 'one')}$`)
      for (const call of [Volume.open, Volume.probe, Volume.check, formatAt]) {
        missing(path, folderMissing, call)
      }
      missing(path, folderMissing, Volume.format)
      const link = join(folder, 'link')
      fs.symlinkSync('nowhere', link)
      missing(link, /a link to nowhere, where nothing is/)
      missing(join(folder, 'x'), /^nothing is at \S+$/)
    })
  })

  it('no file is created among devices', () => {
    const path = '/dev/plinth-no-such-device'
    missing(path, /among devices no file is created/, formatAt)
    assert.equal(fs.existsSync(path), false)
  })

  const { skip } = usualPlace('loop, page, native')
  it('a device that is read-only', { skip }, () => {
    onLoop(MIB, (path) => {
      Volume.format(path)
      execFileSync('blockdev', ['--setro', path])
      for (const call of [
        () => Volume.open(path),
        () => Volume.format(path, { force: true }),
        () => Volume.wipe(path),
        () => Volume.repair(path, { dryRun: false }),
      ]) {
        assert.throws(call, {
          code: 'ERR_READ_ONLY',
          message: /read-only; it can be opened with readOnly/,
        })
      }
      Volume.open(path, { readOnly: true }).close()
      execFileSync('blockdev', ['--setrw', path])
    })
  })
})

describe('who else asks for a device', { skip: usualPlace('loop, page, native').skip }, () => {
  /** udev had a lock for the moment that it looked at a device after each close: a spurious ERR_VOLUME_BUSY. */
  it('is waited for, for so long', () => {
    onLoop(MIB, (path) => {
      const fd = openOrThrow(path, fs.constants.O_RDWR)
      const identity = identify(path, fd)
      try {
        let asked = 0
        const lock = (grantedAt: number) => {
          asked = 0
          const addon = { lock: () => ++asked >= grantedAt } as unknown as NativeAddon
          lockDevice({ path, fd, identity, readOnly: false, addon }).release()
        }
        lock(4)
        // And once for the file that the loop device shows.
        assert.equal(asked, 5)
        assert.throws(() => lock(Number.POSITIVE_INFINITY), { code: 'ERR_VOLUME_BUSY' })
        assert.ok(asked > 4)
      } finally {
        fs.closeSync(fd)
      }
    })
  })

  /** flock belongs to a node's inode: by another node a reader opened beside a writer, and a writer beside a reader. */
  it('by another node of the same device', () => {
    onLoop(MIB, (path) =>
      inFolder((folder) => {
        const node = join(folder, 'node')
        execFileSync('mknod', [node, 'b', '7', path.replace('/dev/loop', '')])
        Volume.format(path)
        const busy = { code: 'ERR_VOLUME_BUSY' }
        for (const [one, other] of [
          [path, node],
          [node, path],
        ] as const) {
          const writer = Volume.open(one)
          assert.throws(() => Volume.open(other), busy)
          assert.throws(() => Volume.open(other, { readOnly: true }), busy)
          assert.throws(() => Volume.check(other), busy)
          assert.equal(Volume.probe(other).busy, true)
          writer.close()
          const readers = [one, other].map((at) => Volume.open(at, { readOnly: true }))
          assert.throws(() => Volume.open(one), busy)
          assert.throws(() => Volume.open(other), busy)
          for (const reader of readers) reader.close()
          assert.equal(Volume.probe(other).busy, false)
        }
      }),
    )
  })

  it('by the file that a loop device shows', () => {
    onLoop(MIB, (path) => {
      const number = path.replace('/dev/loop', '')
      const backing = fs.readFileSync(`/sys/block/loop${number}/loop/backing_file`, 'utf8').trim()
      Volume.format(path)
      const writer = Volume.open(path)
      assert.throws(() => Volume.open(backing, { readOnly: true }), { code: 'ERR_VOLUME_BUSY' })
      writer.close()
      const reader = Volume.open(backing, { readOnly: true })
      assert.throws(() => Volume.open(path), { code: 'ERR_VOLUME_BUSY' })
      reader.close()
    })
  })
})
