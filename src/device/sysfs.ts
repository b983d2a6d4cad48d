/** Attributes of devices as the kernel shows them in its tree of files, and of which one something was learnt. */
import fs from 'node:fs'

/** Where the tree is: a test may have one of its own. */
export const SYSFS = { root: '/sys' }

/** One thing that was looked at, and what it said. */
export interface Evidence {
  /** What it tells about. */
  readonly of: 'kind' | 'size' | 'align' | 'granularity' | 'bad blocks'
  /** A file, or a call to the kernel. */
  readonly source: string
  readonly says: string
}

/** The text of an attribute; undefined when it is not there or may not be read. */
export function readText(path: string): string | undefined {
  try {
    return fs.readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** An attribute that is a whole number, decimal or 0x…; undefined when it is not there. */
export function readNumber(path: string): number | undefined {
  const text = readText(path)
  const value = text === undefined || text === '' ? Number.NaN : Number(text)
  return Number.isSafeInteger(value) ? value : undefined
}

/** Where a path really is; undefined when nothing is there. */
export function realPath(path: string): string | undefined {
  try {
    return fs.realpathSync(path)
  } catch {
    return undefined
  }
}

/** The tree's entry of a device by its number. */
export function nodeOf(kind: 'block' | 'char', number: number): string {
  return `${SYSFS.root}/dev/${kind}/${formatDeviceNumber(number)}`
}

/** MAJOR:MINOR, of which Linux keeps 12 and 20 bits in this order (its sysmacros.h). */
export function formatDeviceNumber(number: number): string {
  return `${(number >>> 8) & 0xfff}:${(number & 0xff) | ((number >>> 12) & 0xfff00)}`
}
