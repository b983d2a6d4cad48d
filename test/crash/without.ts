/**
 * The library without one of the checks on which the safety of media hangs, so that the mutation score can see
 * whether the lab notices. Nothing in src knows of this: text of a compiled file is replaced when it is loaded,
 * and a text that is not there just once is an error.
 */
import { register } from 'node:module'

/** By name: a file of dist/src, what of it is replaced, and by what. */
// biome-ignore format: the columns are the table
export const CHECKS: Readonly<Record<string, readonly [file: string, from: string, to: string]>> = {
  recordChecksum:        ['log/replay.js', 'u32[word] === crc32c(log.seed, log.bytes, at + 4, at + checkedBytes)', 'true'],
  recordLsn:             ['log/replay.js', 'written !== lsn', 'false'],
  recordSalt:            ['log/log.js', 'return crc32c(volumeSeed, ', 'return ((seed) => seed)(volumeSeed, '],
  recordDamage:          ['log/replay.js', 'if (loss !== undefined)', "if (loss !== undefined && loss.why !== 'damaged')"],
  checkpointChecksum:    ['layout/checkpoint-header.js', 'header.checksum !== crc32c(seed, line, 4, CHECKPOINT.bytes)', 'false'],
  checkpointNewer:       ['layout/checkpoint-header.js', 'first.sequence >= second.sequence', 'true'],
  slotChecksum:          ['layout/chunk-slot.js', 'values.checksum !== crc32c(seed, from, at + 4, at + CHUNK_SLOT.bytes)', 'false'],
  slotNewer:             ['layout/chunk-slot.js', 'versionOfSlot(first) >= versionOfSlot(second)', 'true'],
  superblockChecksum:    ['layout/superblock.js', 'checksumOf(page) !== values.checksum', 'false'],
  revocation:            ['log/revocations.js', 'voidBefore < lsn', 'true'],
  dirtyBeforeRawStore:   ['log/log.js', 'if (this.dirtyUnits.isDirty(mapping, offset, length)) {', 'if (false) {'],
  durableBeforeRawStore: ['log/log.js', 'this.makeDurable();\n        this.media.flush(mapping, offset, length)', 'this.media.flush(mapping, offset, length)'],
  durableBeforeInPlace:  ['log/log.js', 'this.makeDurable();\n        // 2. In-place locations', '// 2. In-place locations'],
  tableOverlap:          ['allocator/chunk-table.js', 'start < free)', 'false)'],
}

let isRegistered = false

/** Imports a module and all that it imports anew, without a check. */
export async function importWithout<T>(check: string, url: URL): Promise<T> {
  if (!(check in CHECKS)) throw new Error(`there is no check named ${check}`)
  if (!isRegistered) register('./without-hooks.js', import.meta.url)
  isRegistered = true
  return await import(`${url.href}?without=${check}`)
}
