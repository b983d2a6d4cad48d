import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, symlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, it } from 'node:test'
import { Volume } from 'plinth'
import { hashOf, inFolder, inMemory, MIB, places, tmpfsPage } from '../support/devices.js'
import { open, slots, volume } from '../support/settings.js'

describe('one owner', { skip: tmpfsPage.skip }, () => {
  const program = `
    import { Volume } from 'plinth'
    const [path, options] = process.argv.slice(1)
    try {
      Volume.open(path, JSON.parse(options)).close()
      console.log('opened')
    } catch (error) {
      console.log(error.code)
    }`
  const elsewhere = (path: string, options: object) =>
    execFileSync(
      process.execPath,
      ['--input-type=module', '--eval', program, path, JSON.stringify(options)],
      {
        encoding: 'utf8',
        cwd: import.meta.dirname,
      },
    ).trim()

  it('another process is refused while it is open, and let in afterwards', () => {
    inMemory((folder) => {
      const path = join(folder, 'device')
      const { volume: owner, other } = open(path)
      try {
        assert.equal(elsewhere(path, {}), 'ERR_VOLUME_BUSY')
        assert.equal(elsewhere(path, { readOnly: true }), 'ERR_VOLUME_BUSY')
      } finally {
        owner!.close()
        other!.close()
      }
      assert.equal(elsewhere(path, {}), 'opened')
    })
  })

  it('readers share it, in one process and in two', () => {
    inMemory((folder) => {
      const path = join(folder, 'device')
      volume()(path)
      const readers = [1, 2].map(() => Volume.open(path, { readOnly: true }))
      try {
        for (const reader of readers) assert.equal(reader.chunks().length, 2)
        assert.equal(elsewhere(path, { readOnly: true }), 'opened')
        assert.equal(elsewhere(path, {}), 'ERR_VOLUME_BUSY')
      } finally {
        for (const reader of readers) reader.close()
      }
      assert.equal(elsewhere(path, {}), 'opened')
    })
  })

  it('the lock is free again after an open that failed', () => {
    inMemory((folder) => {
      const path = join(folder, 'device')
      volume(slots({}, { start: 1 }))(path)
      for (let i = 0; i < 3; i++)
        assert.throws(() => Volume.open(path), { code: 'ERR_VOLUME_CORRUPT' })
      Volume.format(path, { force: true })
      Volume.open(path).close()
    })
  })

  it('a block device: one owner by either of its names, and no smaller than wanted', (t) => {
    const loop = places.find(({ isFile }) => !isFile)!
    if (loop.skip) return t.skip(loop.skip)
    loop.with(MIB, (path) => {
      assert.throws(() => Volume.format(path, { size: 2 * MIB }), {
        code: 'ERR_DEVICE_TOO_SMALL',
      })
      Volume.format(path)
      const owner = Volume.open(path)
      try {
        assert.equal(owner.info.size, MIB)
        assert.throws(() => Volume.open(path), { code: 'ERR_VOLUME_BUSY' })
        assert.throws(() => Volume.open(path, { readOnly: true }), { code: 'ERR_VOLUME_BUSY' })
        assert.throws(() => Volume.format(path, { force: true }), { code: 'ERR_VOLUME_BUSY' })
        inFolder((folder) => {
          const name = join(folder, 'name')
          symlinkSync(path, name)
          assert.throws(() => Volume.open(name), { code: 'ERR_VOLUME_BUSY' })
        })
      } finally {
        owner.close()
      }
      assert.throws(() => Volume.open(path, { granularity: 'cache-line' }), {
        code: 'ERR_GRANULARITY',
      })
    })
  })
})

describe('granularity', () => {
  it('one that would lose data on a disk file is refused, by format and by open', (t) => {
    inFolder((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: MIB })
      const probe = Volume.open(path)
      const { kind } = probe.info
      probe.close()
      if (kind !== 'file') return t.skip('the folder for temporary files is no disk')
      const before = hashOf(path)
      for (const granularity of ['cache-line', 'byte'] as const) {
        const refused = { name: 'PlinthError', code: 'ERR_GRANULARITY' }
        assert.throws(() => Volume.open(path, { granularity }), refused)
        assert.throws(() => Volume.format(path, { granularity, force: true }), refused)
        assert.throws(() => Volume.format(`${path}-2`, { size: MIB, granularity }), refused)
        assert.equal(existsSync(`${path}-2`), false)
      }
      assert.equal(hashOf(path), before)
    })
  })

  it('on your word, by the option that says so, it is taken', (t) => {
    if (tmpfsPage.skip) return t.skip(tmpfsPage.skip)
    inFolder((folder) => {
      const path = join(folder, 'device')
      for (const unsafeGranularity of ['cache-line', 'byte', 'page'] as const) {
        Volume.format(path, { size: MIB, force: true, unsafeGranularity })
        const trusting = Volume.open(path, { unsafeGranularity })
        assert.equal(trusting.info.granularity, unsafeGranularity)
        trusting.allocate({ size: 1, name: 'c', zero: true }).bytes[0] = 7
        trusting.close()
        const again = Volume.open(path)
        assert.equal(again.chunk('c').bytes[0], 7)
        again.close()
      }
    })
  })

  it('a probe says who has a volume open', () => {
    inMemory((folder) => {
      const path = join(folder, 'device')
      const { volume: owner, other } = open(path)
      const { busy, owner: who, advice } = Volume.probe(path)
      owner!.close()
      other!.close()
      assert.equal(busy, true)
      // The thread's own name is MainThread since Node 24.
      const program = basename(process.execPath)
      assert.ok(who !== undefined)
      assert.ok(who.startsWith(`process ${process.pid} (${program}: `), who)
      assert.ok(who.includes(process.argv0) || who.endsWith('…)'), who)
      assert.ok(who.length < 250)
      assert.match(advice, /close the volume/)
      assert.deepEqual([Volume.probe(path).busy, Volume.probe(path).owner], [false, undefined])
    })
  })
})
