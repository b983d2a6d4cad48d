/** A stand-in for the kernel's tree of devices, with what a test wants to have read there. */
import { mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { formatDeviceNumber, readText, SYSFS } from '../../src/device/sysfs.js'
import type { Stretch } from '../../src/media/bad-blocks.js'

/** What `act` returns, when the tree with this root is the kernel's. */
export function inTree<T>(root: string, act: () => T): T {
  const { root: before } = SYSFS
  SYSFS.root = root
  try {
    return act()
  } finally {
    SYSFS.root = before
  }
}

/** Writes attributes: paths below the root, and their contents. */
export function writeTree(root: string, attributes: Record<string, string | number>): void {
  for (const [path, value] of Object.entries(attributes)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), `${value}\n`)
  }
}

/** Makes a link below the root, both ends as paths there. */
export function writeLink(root: string, path: string, to: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  symlinkSync(join(root, to), join(root, path))
}

/** The kernel's form of a list of bad blocks. */
export function badList(bad: readonly Stretch[]): string {
  return bad.map(({ offset, length }) => `${offset / 512} ${length / 512}`).join('\n')
}

/** A tree in which a block device is as it is, but for its bad blocks. */
export function withBadBlocks(root: string, device: string, bad: readonly Stretch[]): string {
  const node = `dev/block/${formatDeviceNumber(statSync(device).rdev)}`
  writeTree(root, {
    [`${node}/size`]: readText(`/sys/${node}/size`)!,
    [`${node}/badblocks`]: badList(bad),
  })
  return root
}
