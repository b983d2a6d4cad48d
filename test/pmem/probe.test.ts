/** What `probe` makes out of the kernel's true answers, and which granularity each device takes. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Granularity, Volume } from 'plinth'
import { MIB, type Place, pmemPlaces, readAt } from '../support/devices.js'
import { mountedFrom, none, target } from './targets.js'

const persistence = process.env.PMEM_PERSISTENCE
const dax = pmemPlaces.filter(({ granularity }) => granularity !== 'page')
const refused = { name: 'PlinthError', code: 'ERR_GRANULARITY' }

/** Formats and opens with a granularity, and returns what the volume then has. */
function opened(at: Place, path: string, options: object): Granularity {
  Volume.format(path, { size: MIB * 16, force: true, ...options })
  const volume = Volume.open(path, options)
  volume.close()
  assert.equal(volume.info.kind === 'block', at.kind === 'block' && !at.isFile)
  return volume.info.granularity
}

describe('probe', { skip: none }, () => {
  for (const at of pmemPlaces) {
    it(at.name, () => {
      at.with(16 * MIB, (path) => {
        if (at.isFile) Volume.format(path, { size: 16 * MIB })
        const before = at.isFile ? undefined : readAt(path, 0, MIB)
        const { kind, granularity, granularityIsProven, align, evidence, ...rest } =
          Volume.probe(path)
        assert.equal(kind, at.isFile ? 'fsdax' : at.kind)
        assert.equal(granularity, at.granularity)
        assert.equal(granularityIsProven, persistence !== 'none' || at.kind !== 'dax' || at.isFile)
        assert.equal(align, at.name.startsWith('devdax:2M') ? 2 * MIB : 4096)
        assert.deepEqual(rest.badBlocks, [])
        assert.deepEqual([rest.busy, rest.owner], [false, undefined])
        const said = (of: string) => evidence.filter((each) => each.of === of)
        assert.equal(said('kind').length, 1)
        assert.equal(said('size').length, 1)
        assert.equal(said('bad blocks')[0]?.says, 'none')
        if (at.granularity !== 'page') {
          const domain = said('granularity').find(({ source }) =>
            source.endsWith('/persistence_domain'),
          )
          assert.match(domain!.says, persistence === 'none' ? /does not say/ : /^(memory|cpu)_c/)
        }
        if (at.isFile) {
          assert.match(said('granularity').at(-1)!.source, /MAP_SYNC/)
          assert.equal(rest.advice, `Volume.open(${JSON.stringify(path)})`)
        } else {
          assert.equal(rest.contents, undefined)
          assert.equal(rest.advice, `Volume.format(${JSON.stringify(path)})`)
          assert.deepEqual(readAt(path, 0, MIB), before, 'a probe writes nothing')
        }
      })
    })

    it(`${at.name}: the owner of an open volume`, () => {
      at.with(16 * MIB, (path) => {
        Volume.format(path, { size: 16 * MIB, force: true })
        const volume = Volume.open(path)
        try {
          const { busy, owner } = Volume.probe(path)
          assert.deepEqual([busy, owner], [true, `process ${process.pid} (node)`])
        } finally {
          volume.close()
        }
      })
    })
  }

  it('raw persistent memory is no DAX device, and says how to become one', (t) => {
    const at = target('pmem')
    if (at === undefined) return t.skip('there is none')
    at.with(16 * MIB, (path) => {
      assert.match(
        Volume.probe(path).notes.join(),
        /ndctl create-namespace .* --reconfig=namespace0\.\d/,
      )
      for (const granularity of ['cache-line', 'byte'] as const) {
        assert.throws(() => opened(at, path, { granularity }), refused)
      }
      assert.equal(opened(at, path, { unsafeGranularity: 'cache-line' }), 'cache-line')
      assert.equal(opened(at, path, {}), 'page')
    })
  })

  it('device-dax and fsdax: a finer granularity is refused, but on your word', () => {
    for (const at of dax) {
      at.with(16 * MIB, (path) => {
        const finer = at.granularity === 'byte' ? undefined : 'byte'
        if (finer !== undefined) {
          assert.throws(() => opened(at, path, { granularity: finer }), refused)
          assert.equal(opened(at, path, { unsafeGranularity: finer }), finer)
        }
        assert.equal(opened(at, path, { granularity: 'cache-line' }), 'cache-line')
        if (!at.isFile) {
          assert.throws(() => opened(at, path, { granularity: 'page' }), refused)
          assert.throws(() => opened(at, path, { unsafeGranularity: 'page' }), refused)
        } else assert.equal(opened(at, path, { granularity: 'page' }), 'page')
      })
    }
  })

  it('a mounted device: busy, by whom, and what to do', (t) => {
    const at = target('ext4dax')
    if (at === undefined) return t.skip('there is none')
    at.with(MIB, (file) => {
      const folder = file.split('/').slice(0, 3).join('/')
      const device = mountedFrom(folder)
      const { busy, owner, contents, advice } = Volume.probe(device)
      assert.deepEqual([busy, owner, advice], [true, `mounted at ${folder}`, `umount ${device}`])
      assert.equal(contents, 'an ext2, ext3 or ext4 filesystem')
      assert.throws(() => Volume.format(device, { force: true }), { code: 'ERR_VOLUME_BUSY' })
    })
  })
})
