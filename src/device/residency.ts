/**
 * How much of a device is in memory: the page cache, as the kernel tells it.
 *
 * One pass over the device, a window at a time: the kernel gives a byte a page, sums over it make every
 * range of the window two loads, so that fifty thousand of them cost about as much as one.
 */
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import { alignDown, alignUp } from '../base/units.js'
import { type NativeAddon, RESIDENCY_BYTES_MAX } from '../native/addon.js'

/** A stretch of a volume, as every chunk and every area is one. */
export interface VolumeRange {
  /** Bytes from the start of the device. */
  readonly offset: number
  /** Bytes. */
  readonly size: number
}

/** The file, filesystem or kernel has no page cache to ask about. */
const NOT_TOLD = new Set(['EOPNOTSUPP', 'ENODEV', 'ENOSYS', 'EACCES', 'EPERM'])

/**
 * For each range, which may overlap and come in any order, its bytes whose pages are in the page cache.
 * Undefined when the kernel does not tell.
 * @throws PlinthError ERR_DEVICE_IO
 */
export function residentBytes(
  fd: number,
  path: string,
  addon: NativeAddon,
  ranges: readonly VolumeRange[],
): number[] | undefined {
  if (!isToldTheTruth(fd)) return undefined
  const sums = new Array<number>(ranges.length).fill(0)
  try {
    for (const window of windowsOf(ranges, addon.pageBytes)) addUp(fd, addon, window, ranges, sums)
  } catch (cause) {
    if (NOT_TOLD.has((cause as NodeJS.ErrnoException).code ?? '')) return undefined
    throw new PlinthError(
      'ERR_DEVICE_IO',
      `what of ${path} is in memory cannot be asked: ${(cause as Error).message}`,
      { cause },
    )
  }
  return sums
}

/**
 * Since Linux 5.2 mincore says "in memory" of every page of a file that the caller neither owns nor may
 * write (commit 134fca9063ad, for CVE-2019-5489; mincore(2)): no other answer gives that away.
 */
function isToldTheTruth(fd: number): boolean {
  const { getuid, geteuid } = process
  if (getuid === undefined || geteuid === undefined) return false
  if (fs.fstatSync(fd).uid === geteuid()) return true
  // access(2) asks for the real user, the kernel's own test for the effective one.
  if (getuid() !== geteuid()) return false
  try {
    fs.accessSync(`/proc/self/fd/${fd}`, fs.constants.W_OK)
    return true
  } catch {
    return false
  }
}

interface Window {
  readonly from: number
  readonly to: number
  /** Indices of the ranges with bytes in it. */
  readonly here: readonly number[]
}

/** Stretches of whole pages that hold all bytes of all ranges, lowest first. */
function* windowsOf(ranges: readonly VolumeRange[], pageBytes: number): Generator<Window> {
  const endOf = (i: number) => ranges[i]!.offset + ranges[i]!.size
  const order = [...ranges.keys()]
    .filter((i) => ranges[i]!.size > 0)
    .sort((a, b) => ranges[a]!.offset - ranges[b]!.offset)
  const last = order.reduce((end, i) => Math.max(end, endOf(i)), 0)
  let here: number[] = []
  for (let next = 0, at = 0; next < order.length || here.length > 0; ) {
    const from = here.length > 0 ? at : alignDown(ranges[order[next]!]!.offset, pageBytes)
    const to = Math.min(from + RESIDENCY_BYTES_MAX, alignUp(last, pageBytes))
    while (next < order.length && ranges[order[next]!]!.offset < to) here.push(order[next++]!)
    yield { from, to, here }
    here = here.filter((i) => endOf(i) > to)
    at = to
  }
}

function addUp(
  fd: number,
  addon: NativeAddon,
  { from, to, here }: Window,
  ranges: readonly VolumeRange[],
  sums: number[],
): void {
  const { pageBytes } = addon
  const pages = new Uint8Array((to - from) / pageBytes)
  addon.residentPages(fd, from, pages)
  // Pages in memory before each one.
  const before = new Uint32Array(pages.length + 1)
  for (let i = 0; i < pages.length; i++) before[i + 1] = before[i]! + pages[i]!
  /** Bytes in memory between the window's start and a byte of it. */
  const upTo = (offset: number) => {
    const page = Math.floor((offset - from) / pageBytes)
    const part = (offset - from) % pageBytes
    return before[page]! * pageBytes + (part > 0 ? pages[page]! * part : 0)
  }
  for (const i of here) {
    const { offset, size } = ranges[i]!
    sums[i]! += upTo(Math.min(to, offset + size)) - upTo(Math.max(from, offset))
  }
}
