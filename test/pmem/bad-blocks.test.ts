/**
 * Bad blocks that the kernel knows of: whoever touches one of a mapping is killed by SIGBUS. Raw pmem and
 * the device below ext4 are told of them by their own list, which takes new ones; device-dax, whose region's
 * list takes none, by a stand-in for the tree.
 */
import assert from 'node:assert/strict'
import { closeSync, openSync, readSync, realpathSync, statSync } from 'node:fs'
import { describe, it } from 'node:test'
import { type OpenOptions, Volume } from 'plinth'
import { formatDeviceNumber, readNumber, readText, SYSFS } from '../../src/device/sysfs.js'
import { inFolder, MIB, PAGE, placeOf } from '../support/devices.js'
import { pattern } from '../support/pattern.js'
import { badList, inTree, writeLink, writeTree } from '../support/sysfs.js'
import { makeBad, mountedFrom, target } from './targets.js'

const SIZE = 16 * MIB
/** With granules of a page the first table is behind the head. */
const tableAt = 2 * PAGE
const refused = { name: 'PlinthError', code: 'ERR_BAD_BLOCKS' }

/** Makes a page of a device bad, and returns the root of the kernel's tree that says so. */
type Break = (offset: number) => string

/** A page of a chunk, of free space and of the chunk table go bad: the volume lives on. */
function survive(path: string, breakPage: Break): void {
  Volume.format(path, { size: SIZE, granule: PAGE, force: true })
  const made = Volume.open(path)
  const a = made.allocate({ size: 4 * PAGE, name: 'a' })
  const b = made.allocate({ size: 4 * PAGE, name: 'b' })
  for (const chunk of [a, b]) chunk.write(0, pattern(chunk.size, 1))
  const free = b.offset + b.size + 10 * PAGE
  made.close()

  breakPage(a.offset + PAGE)
  breakPage(free)
  const root = breakPage(tableAt)
  const open = (options?: OpenOptions) => inTree(root, () => Volume.open(path, options))
  assert.deepEqual(
    inTree(root, () => Volume.probe(path)).badBlocks.map(({ offset }) => offset),
    [tableAt, a.offset + PAGE, free],
  )
  const reader = open({ readOnly: true, zeroBadBlocks: true })
  const expected = pattern(4 * PAGE, 1)
  assert.deepEqual(reader.chunk('b').bytes.slice(), expected)
  expected.fill(0, PAGE, 2 * PAGE)
  assert.deepEqual(reader.chunk('a').bytes.slice(), expected)
  reader.close()

  const volume = open()
  assert.throws(() => volume.chunk('a').bytes, refused)
  assert.equal(volume.stats().badBytes, PAGE)
  volume.free(volume.chunk('a'))
  assert.equal(volume.stats().badBytes, 2 * PAGE)
  for (let i = 0; i < 20; i++) {
    volume.allocate({ size: 3 * PAGE, name: `c ${i}`, zero: true }).write(0, pattern(3 * PAGE, i))
  }
  volume.transact((tx) => tx.write(volume.chunk('b'), 100, pattern(5000, 2)))
  volume.checkpoint()
  const codes = volume.check().map(({ code }) => code)
  assert.ok(codes.includes('bad-blocks'))
  volume.close()
  const again = open()
  assert.equal(again.chunks().length, 21)
  assert.deepEqual(again.chunk('b').bytes.slice(100, 5100), pattern(5000, 2))
  again.close()
}

describe('bad blocks', () => {
  const raw = target('pmem')
  it('raw pmem', { skip: raw === undefined && 'there is none' }, () => {
    raw!.with(SIZE, (path) => {
      survive(path, (offset) => {
        makeBad(path, offset, PAGE)
        const fd = openSync(path, 'r')
        assert.throws(() => readSync(fd, new Uint8Array(512), 0, 512, offset), { code: 'EIO' })
        closeSync(fd)
        return SYSFS.root
      })
    })
  })

  const file = target('ext4dax')
  it('a file on ext4 -o dax', { skip: file === undefined && 'there is none' }, () => {
    file!.with(SIZE, (path) => {
      const device = mountedFrom(path.split('/').slice(0, 3).join('/'))
      survive(path, (offset) => {
        makeBad(device, placeOf(path, offset), PAGE)
        return SYSFS.root
      })
    })
  })

  const dax = target('devdax:4K')
  it('device-dax', { skip: dax === undefined && 'there is none' }, () => {
    dax!.with(SIZE, (path) =>
      inFolder((root) => {
        const bad: { offset: number; length: number }[] = []
        survive(path, (offset) => {
          bad.push({ offset, length: PAGE })
          return standIn(`${root}/${bad.length}`, path, bad)
        })
      }),
    )
  })
})

/** The kernel's tree as it is for a DAX node, but for its region's bad blocks. */
function standIn(root: string, path: string, bad: { offset: number; length: number }[]): string {
  const number = formatDeviceNumber(statSync(path).rdev)
  const node = realpathSync(`/sys/dev/char/${number}`)
  const region = /^.*\/region\d+/.exec(node)![0]
  const ahead = readNumber(`${node}/resource`)! - readNumber(`${region}/resource`)!
  const attributes: Record<string, string> = {
    'bus/dax/name': 'dax',
    [`${region}/badblocks`]: badList(
      bad.map(({ offset, length }) => ({ offset: offset + ahead, length })),
    ),
  }
  for (const file of ['size', 'align', 'resource']) {
    attributes[`${node}/${file}`] = readText(`${node}/${file}`)!
  }
  for (const file of ['resource', 'persistence_domain']) {
    attributes[`${region}/${file}`] = readText(`${region}/${file}`)!
  }
  writeTree(root, attributes)
  writeLink(root, `${node}/subsystem`, 'bus/dax')
  writeLink(root, `dev/char/${number}`, node)
  return root
}
