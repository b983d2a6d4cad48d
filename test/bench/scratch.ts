/** Files that a run needs: gone when it ends, however it ends. */
import fs from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { MIB } from '../../src/base/units.js'
import { Device } from '../../src/device/device.js'
import { CHUNK_SLOT } from '../../src/layout/chunk-slot.js'
import { type Geometry, planGeometry } from '../../src/layout/geometry.js'
import { loadAddon } from '../../src/native/load.js'
import { writeVolume } from '../../src/volume/format.js'
import { Volume } from '../../src/volume/volume.js'

/** Memory that stands in for persistent memory. */
const MEMORY = '/dev/shm'
/** Left over, as others use it too. */
const MEMORY_BYTES_SPARE = 32 * MIB

export class Scratch {
  readonly #folders: string[] = []
  #count = 0

  constructor() {
    process.once('exit', () => this.remove())
    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      process.once(signal, () => process.exit(code))
    }
  }

  /** The path of a file yet to be made, in memory. */
  memoryPath(): string {
    return this.#path(MEMORY)
  }

  /** The same on a disk. */
  diskPath(): string {
    return this.#path(os.tmpdir())
  }

  #path(directory: string): string {
    const folder = fs.mkdtempSync(join(directory, `plinth-bench-${process.pid}-`))
    this.#folders.push(folder)
    return join(folder, `device-${this.#count++}`)
  }

  remove(): void {
    for (const folder of this.#folders.splice(0)) {
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}

/** A store to a sparse file for which tmpfs has no page is a SIGBUS: better refused before. */
function requireMemory(bytes: number): void {
  const { bavail, bsize } = fs.statfsSync(MEMORY)
  const wanted = bytes + MEMORY_BYTES_SPARE
  if (bavail * bsize < wanted) {
    throw new Error(`${MEMORY} has ${bavail * bsize} bytes free, ${wanted} are wanted`)
  }
}

export interface SparseVolume {
  readonly path: string
  readonly geometry: Geometry
  open(): Volume
  /** Gives its memory back before the run ends. */
  remove(): void
}

/**
 * A volume on a sparse file in memory, at cache-line granularity. `Volume.format` backs every byte,
 * and no machine has 1 TiB to spare; writing the volume touches its tables and log alone. Volumes
 * of all sizes are made in this one way, so that they differ in nothing but size.
 */
export function makeSparseVolume(
  scratch: Scratch,
  wanted: {
    sizeBytes: number
    granuleBytes: number
    logBytes: number
    /** Of all chunks, what will be stored to. */
    storedBytes: number
  },
): SparseVolume {
  const path = scratch.memoryPath()
  fs.closeSync(fs.openSync(path, 'wx', 0o600))
  fs.truncateSync(path, wanted.sizeBytes)
  const device = new Device({ path, granularity: 'cache-line', readOnly: false })
  try {
    const { alignBytes } = device
    const geometry = planGeometry({ ...wanted, alignBytes })
    const tableBytes = geometry.slots * CHUNK_SLOT.bytes
    requireMemory(2 * tableBytes + geometry.logBytes + wanted.storedBytes)
    writeVolume(device.media(geometry.sizeBytes, true), geometry, {
      alignBytes,
      label: new Uint8Array(0),
      // The seed of all checksums; any will do.
      uuid: Uint8Array.from({ length: 16 }, (_, i) => i + 1),
      created: Date.now(),
    })
    return {
      path,
      geometry,
      open: () => Volume.open(path, { granularity: 'cache-line', sparse: true }),
      remove: () => fs.rmSync(path, { force: true }),
    }
  } finally {
    device.close()
  }
}

/** A shared mapping of a new file in memory, without a volume. The file is gone, the memory with `unmap`. */
export function makeMapping(
  scratch: Scratch,
  bytes: number,
): { slot: number; memory: ArrayBuffer } {
  const addon = loadAddon()!
  requireMemory(bytes)
  const path = scratch.memoryPath()
  const fd = fs.openSync(path, 'wx+', 0o600)
  try {
    fs.ftruncateSync(fd, bytes)
    const slot = addon.map(fd, 0, bytes, 0)
    return { slot, memory: addon.buffer(slot) }
  } finally {
    fs.closeSync(fd)
    fs.rmSync(path)
  }
}

/**
 * Operations in one lap of the log. Rounds of commits are whole laps, so that each pays for the
 * checkpoint that its share of the log costs: a median over shorter rounds would never show it.
 */
export function operationsPerLap(volume: Volume, operation: () => void): number {
  volume.checkpoint()
  const before = volume.stats().logUsedBytes
  operation()
  const { logUsedBytes, logBytes } = volume.stats()
  return Math.ceil(logBytes / (logUsedBytes - before))
}

/** Numbers below `limit` in no order, the same in each run. */
export function scattered(count: number, limit: number): Uint32Array {
  const numbers = new Uint32Array(count)
  let state = 1
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    numbers[i] = Math.floor((state / 2 ** 32) * limit)
  }
  return numbers
}
