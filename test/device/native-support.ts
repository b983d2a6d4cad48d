import assert from 'node:assert/strict'
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MAILBOX, MAILBOX_FLAG, MAILBOX_WORDS, TARGET_WORDS } from '../../src/media/staging.js'
import type { NativeAddon } from '../../src/native/addon.js'
import { addonError, loadAddon } from '../../src/native/load.js'

const isSupported =
  process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64')

/** For `describe`: on a system that has native code a missing addon is a failure, not a skip. */
export const onNative = { skip: isSupported ? false : 'no native code for this system' }

export function native(): NativeAddon {
  const addon = loadAddon()
  assert.ok(addon !== undefined, `the addon does not load: ${addonError()?.message}`)
  return addon
}

/** The disk, and memory where there is some. */
export const directories = [tmpdir(), '/dev/shm'].filter((path) => existsSync(path))

/** Runs `body` on a new file of `bytes` zeros, sparse, and removes it whatever happens. */
export function withFile(
  bytes: number,
  body: (fd: number, path: string) => void,
  directory = tmpdir(),
): void {
  const folder = mkdtempSync(join(directory, 'plinth-native-'))
  const path = join(folder, 'device')
  const fd = openSync(path, 'w+')
  try {
    ftruncateSync(fd, bytes)
    body(fd, path)
  } finally {
    closeSync(fd)
    rmSync(folder, { recursive: true })
  }
}

/** The same for a body that awaits. */
export async function withFileAsync(
  bytes: number,
  body: (fd: number, path: string) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'plinth-native-'))
  const path = join(folder, 'device')
  const fd = openSync(path, 'w+')
  try {
    ftruncateSync(fd, bytes)
    await body(fd, path)
  } finally {
    closeSync(fd)
    rmSync(folder, { recursive: true })
  }
}

/** A shared, writable mapping of a new file, and its bytes. */
export function withMapping(
  bytes: number,
  body: (slot: number, memory: Uint8Array<ArrayBuffer>, fd: number) => void,
): void {
  const addon = native()
  withFile(bytes, (fd) => {
    const slot = addon.map(fd, 0, bytes, 0)
    try {
      body(slot, new Uint8Array(addon.buffer(slot)), fd)
    } finally {
      addon.unmap(slot)
    }
  })
}

/** Bytes that differ from their neighbours, the same each time. */
export function pattern(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  let state = seed
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    bytes[i] = state >>> 24
  }
  return bytes
}

/** CRC-32C as a commit computes it, of at least 4 bytes. */
export function checksumInC(seed: number, bytes: Uint8Array): number {
  const staging = new ArrayBuffer(4 + bytes.length)
  new Uint8Array(staging).set(bytes, 4)
  const mailbox = new Uint32Array(MAILBOX_WORDS)
  mailbox[MAILBOX.RECORD_BYTES] = staging.byteLength
  mailbox[MAILBOX.SEED] = seed
  mailbox[MAILBOX.FLAGS] = MAILBOX_FLAG.SEAL
  native().bindCommit(staging, mailbox, new Uint32Array(TARGET_WORDS))()
  return new DataView(staging).getUint32(0, true)
}
