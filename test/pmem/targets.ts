/** The devices of the machine of scripts/pmem-vm.mjs, and what the kernel says of them. */
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Place, pmemPlaces } from '../support/devices.js'

export const none = pmemPlaces.length === 0 && 'PMEM_DEVICES names no device of persistent memory'

/** A device by its mode; undefined where there is none. */
export function target(mode: string): Place | undefined {
  return pmemPlaces.find(({ name }) => name.startsWith(mode))
}

/** The node of the block device that a folder's filesystem is on. */
export function mountedFrom(folder: string): string {
  for (const line of readFileSync('/proc/mounts', 'utf8').split('\n')) {
    const [device, at] = line.split(' ')
    if (at === folder) return device!
  }
  throw new Error(`nothing is mounted at ${folder}`)
}

/** The kernel's list of a block device's bad blocks, which takes new ones. */
export function badBlockList(device: string): string {
  const { rdev } = statSync(device)
  const number = `${(rdev >>> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >>> 12) & 0xfff00)}`
  return join('/sys/dev/block', number, 'badblocks')
}

/** Makes a stretch of a block device bad: from now on the kernel refuses every access to it. */
export function makeBad(device: string, offset: number, length: number): void {
  writeFileSync(badBlockList(device), `${offset / 512} ${length / 512}`)
}
