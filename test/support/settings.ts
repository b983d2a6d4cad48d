/** What may stand on a device before a call: nothing, other things, volumes closed, open and damaged. */
import assert from 'node:assert/strict'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { type Chunk, Volume } from 'plinth'
import { crc32c } from '../../src/base/checksum.js'
import { CHUNK_SLOT, chunkSlotSeed, encodeChunkSlot } from '../../src/layout/chunk-slot.js'
import { planGeometry, SUPERBLOCK_AT, slotPlaces } from '../../src/layout/geometry.js'
import {
  decodeSuperblock,
  encodeSuperblock,
  type Superblock,
  volumeSeed,
} from '../../src/layout/superblock.js'
import { MIB, readDevice } from './devices.js'

export interface Given {
  readonly path: string
  /** Only in the setting `open`: a volume with two chunks, and another volume. */
  readonly volume: Volume
  readonly chunk: Chunk
  readonly named: Chunk
  readonly other: Volume
  readonly foreign: Chunk
}

/** What stands on the device before the call. Returns what has to be closed afterwards. */
export type Setting = (path: string) => Partial<Given>

export const geometry = planGeometry({ sizeBytes: MIB, alignBytes: 4096 })

export const nothing: Setting = () => ({})

/** A file of zeros but for what `change` does. */
export const file =
  (bytes = MIB, change: (image: Uint8Array) => void = () => {}): Setting =>
  (path) => {
    const image = new Uint8Array(bytes)
    change(image)
    writeFileSync(path, image)
    return {}
  }

/** A closed volume with a named chunk, its bytes changed afterwards. */
export const volume =
  (change: (image: Uint8Array, seed: number) => void = () => {}): Setting =>
  (path) => {
    Volume.format(path, { size: MIB })
    const opened = Volume.open(path)
    opened.allocate({ size: 8192, name: 'a', zero: true })
    opened.allocate({ size: 4096, name: 'b', zero: true })
    opened.close()
    const image = Uint8Array.from(readDevice(path))
    change(image, volumeSeed(image.subarray(32, 48)))
    writeFileSync(path, image)
    return {}
  }

const opened =
  (options: object): Setting =>
  (path) => {
    Volume.format(path, { size: MIB })
    const each = Volume.open(path, options)
    const [chunk, named] = [
      each.allocate({ size: 8192, zero: true }),
      each.allocate({ size: 4096, name: 'taken', zero: true }),
    ]
    const beside = `${path}-beside`
    Volume.format(beside, { size: MIB })
    const other = Volume.open(beside)
    return { volume: each, chunk, named, other, foreign: other.allocate({ size: 4096 }) }
  }
export const open = opened({})
export const openLine = opened({ granularity: 'cache-line' })

export const closed: Setting = (path) => {
  const given = open(path)
  given.volume!.close()
  return given
}

export const readerOpen: Setting = (path) => {
  volume()(path)
  return { volume: Volume.open(path, { readOnly: true }) }
}

export const truncated =
  (bytes: number): Setting =>
  (path) => {
    volume()(path)
    truncateSync(path, bytes)
    return {}
  }

/** Puts bytes at a place. */
export const put =
  (at: number, bytes: string | number[]) =>
  (image: Uint8Array): void => {
    image.set(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, at)
  }

/** Both superblocks with other values, and right checksums. */
export const superblock =
  (values: Partial<Superblock>) =>
  (image: Uint8Array): void => {
    for (const [copy, at] of [SUPERBLOCK_AT, geometry.superblockCopyAt].entries()) {
      const before = decodeSuperblock(image.subarray(at, at + 4096))
      assert.ok(typeof before !== 'string')
      image.set(encodeSuperblock({ ...before, ...values, copy }), at)
    }
  }

/** The slots of the two chunks, changed in both copies, with right checksums. */
export const slots =
  (...changes: object[]) =>
  (image: Uint8Array, seed: number): void => {
    changes.forEach((change, slot) => {
      const places = slotPlaces(geometry, slot)
      const values = { ...CHUNK_SLOT.read(image, places[0]), ...change }
      for (const at of places) encodeChunkSlot(values, chunkSlotSeed(seed, slot), image, at)
    })
  }

export const damage =
  (...places: number[]) =>
  (image: Uint8Array): void => {
    for (const at of places) image[at]! ^= 1
  }

export const LABEL_AT = 80

/** Changes a word of both superblocks and makes the checksums right. */
export function superblockWord(image: Uint8Array, at: number, word: number): void {
  const view = new DataView(image.buffer)
  for (const place of [SUPERBLOCK_AT, geometry.superblockCopyAt]) {
    view.setUint32(place + at, word, true)
    const page = image.slice(place, place + 4096)
    new DataView(page.buffer).setUint32(8, 0, true)
    view.setUint32(place + 8, crc32c(0, page), true)
  }
}

export const folder: Setting = (path) => {
  mkdirSync(path)
  return {}
}

export const text =
  (content: string): Setting =>
  (path) => {
    writeFileSync(path, content)
    return {}
  }

/** Zeroes stretches. */
export const gone =
  (...stretches: [from: number, to: number][]) =>
  (image: Uint8Array): void => {
    for (const [from, to] of stretches) image.fill(0, from, to)
  }
