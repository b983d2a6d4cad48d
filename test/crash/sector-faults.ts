/**
 * Devices that break a promise: a barrier succeeded, and one sector of what it covered is not there.
 *
 *   stale-sector        it holds what it held before
 *   lost-sector         it reads as zeros
 *   unreadable-sector   reading it fails with EIO
 *
 * What plinth promises then, by what the sector holds:
 *
 *   superblock, checkpoint header, chunk table   kept twice: the volume opens as it was, check tells (or the log
 *                                     says the same again), recovery repairs it
 *   log, volume closed                not needed
 *   log, volume not closed            ERR_VOLUME_CORRUPT, for the records of the last two barriers
 *                                     also the state before them: nothing tells those from a torn tail
 *   chunks                            contents have no checksum: not noticed; chunks themselves stay
 *
 * A sector that cannot be read is a finding of check where the volume has something. Under a mapping the kernel answers a
 * load with SIGBUS, which no simulation shows.
 */
import assert from 'node:assert/strict'
import { PlinthError, type Volume } from 'plinth'
import { checkDevice } from '../../src/check/check.js'
import {
  CHECKPOINT_AT,
  type Geometry,
  planGeometry,
  SUPERBLOCK_AT,
} from '../../src/layout/geometry.js'
import { SimulatedMedia } from '../../src/testing/simulated-media.js'
import { openSimulated } from '../../src/testing/simulated-volume.js'
import { placesOf } from '../support/places.js'
import type { Age } from './lab.js'
import { OPERATIONS } from './operations.js'
import { compare, type Model } from './world.js'

export const SECTOR_FAULTS = ['stale-sector', 'lost-sector', 'unreadable-sector'] as const
export type SectorFault = (typeof SECTOR_FAULTS)[number]

const SECTOR_BYTES = 512
const NOTHING = new Uint8Array(SECTOR_BYTES)
const geometry: Geometry = planGeometry({ sizeBytes: 2 ** 20, alignBytes: 4096 })

type Area = 'superblock' | 'checkpoint-header' | 'chunk-table' | 'log' | 'chunks'

function areaOf(at: number): Area {
  const { logAt, checkpointCopyAt, superblockCopyAt } = geometry
  const { chunksAt, chunksEnd } = placesOf(geometry)
  if (at < CHECKPOINT_AT || at >= superblockCopyAt) return 'superblock'
  if (at < 2 * CHECKPOINT_AT || at >= checkpointCopyAt) return 'checkpoint-header'
  if (at < logAt || at >= chunksEnd) return 'chunk-table'
  return at < chunksAt ? 'log' : 'chunks'
}

interface Written {
  /** What the sector held at some time, oldest first; the last is what it holds. */
  readonly contents: Uint8Array[]
  /** Which barrier of the log made the last of them durable, counted from the end: 1 is the last. */
  barrier: number
}

/** A volume after some operations, and every sector that became durable in them. */
export class History {
  readonly image: Uint8Array
  readonly models: readonly Model[]
  readonly closed: boolean
  readonly sectors = new Map<number, Written>()
  readonly #durable: Uint8Array
  #logBarriers = 0

  constructor(age: Age, operations: readonly string[]) {
    const media = new SimulatedMedia('page', age.image)
    this.#durable = age.image.slice()
    const volume = openSimulated(media)
    // Format wrote these.
    for (const at of [SUPERBLOCK_AT, geometry.superblockCopyAt]) {
      const contents = [NOTHING, age.image.slice(at, at + SECTOR_BYTES)]
      this.sectors.set(at, { contents, barrier: 0 })
    }
    this.#look(media.durable)
    media.onPoint = () => this.#look(media.durable)
    const models = [age.model]
    for (const name of operations) {
      const operation = OPERATIONS.find((each) => each.name === name)!
      models.push(operation.run(volume, models.at(-1)!)!)
      this.#look(media.durable)
    }
    this.closed = operations.at(-1) === 'close'
    this.models = models
    this.image = media.durable.slice()
    for (const written of this.sectors.values()) {
      written.barrier = this.#logBarriers - written.barrier + 1
    }
  }

  #look(durable: Uint8Array): void {
    let logged = false
    for (let at = 0; at < durable.length; at += SECTOR_BYTES) {
      const now = durable.subarray(at, at + SECTOR_BYTES)
      const before = this.#durable.subarray(at, at + SECTOR_BYTES)
      if (Buffer.compare(now, before) === 0) continue
      const written = this.sectors.get(at) ?? { contents: [before.slice()], barrier: 0 }
      this.sectors.set(at, written)
      written.contents.push(now.slice())
      before.set(now)
      if (areaOf(at) !== 'log') continue
      if (!logged) this.#logBarriers++
      logged = true
      written.barrier = this.#logBarriers
    }
  }
}

/** Tries the fault on every sector; counts what came of it, by area. */
export function trySectors(history: History, fault: SectorFault): Map<string, number> {
  const outcomes = new Map<string, number>()
  for (const [at, written] of history.sectors) {
    const area = areaOf(at)
    const wrong = fault === 'stale-sector' ? written.contents.slice(0, -1) : [NOTHING]
    for (const contents of wrong) {
      if (Buffer.compare(contents, written.contents.at(-1)!) === 0) continue
      const outcome =
        fault === 'unreadable-sector'
          ? tryUnreadable(history, at)
          : tryContents(history, at, contents)
      assert.ok(
        isPromised(history, area, written, outcome),
        `${fault} at ${at} (${area}, barrier -${written.barrier}): ${outcome}`,
      )
      const name = `${area}: ${outcome}`
      outcomes.set(name, (outcomes.get(name) ?? 0) + 1)
    }
  }
  return outcomes
}

type Outcome =
  | 'as it was, and told'
  | 'as it was'
  | 'an earlier state'
  | 'refused'
  | 'contents differ'
  | 'wrong'

function isPromised({ closed }: History, area: Area, { barrier }: Written, outcome: Outcome) {
  if (outcome === 'as it was, and told') return true
  switch (area) {
    case 'superblock':
    case 'checkpoint-header':
      return false
    case 'chunk-table':
      // What the log changes is what the log says: a copy on the device may be anything.
      return outcome === 'as it was' && !closed
    case 'log':
      if (closed) return outcome === 'as it was'
      return (
        outcome === 'as it was' ||
        outcome === 'refused' ||
        (outcome === 'an earlier state' && barrier <= 2)
      )
    case 'chunks':
      // An earlier state is one whose contents alone differ.
      return outcome !== 'refused' && outcome !== 'wrong'
  }
}

function tryContents(history: History, at: number, contents: Uint8Array): Outcome {
  const image = history.image.slice()
  image.set(contents, at)
  const told = findingsOf(image).join() !== findingsOf(history.image).join()
  const media = new SimulatedMedia('page', image, false)
  try {
    const outcome = stateOf(openSimulated(media), history.models)
    return outcome === 'as it was' && told ? 'as it was, and told' : outcome
  } catch (error) {
    if (!(error instanceof PlinthError)) throw error
    return error.code === 'ERR_VOLUME_CORRUPT' ? 'refused' : 'wrong'
  } finally {
    media.release()
  }
}

function stateOf(volume: Volume, models: readonly Model[]): Outcome {
  const last = models.at(-1)!
  if (compare(volume, last) === undefined) return 'as it was'
  if (models.some((model) => compare(volume, model) === undefined)) return 'an earlier state'
  const list = (chunks: readonly { id: number; offset: number; size: number }[]) =>
    chunks
      .map(({ id, offset, size }) => `${id} ${offset} ${size}`)
      .sort()
      .join()
  return list(volume.chunks()) === list(last.chunks) ? 'contents differ' : 'wrong'
}

function findingsOf(image: Uint8Array): string[] {
  const read = (offset: number, length: number) => image.slice(offset, offset + length)
  return checkDevice({ sizeBytes: image.length, read }).findings.map(({ message }) => message)
}

/** The check says so where the volume has something, or has no need of the sector; it goes on in each case. */
function tryUnreadable({ image }: History, at: number): Outcome {
  const read = (offset: number, length: number) => {
    if (offset < at + SECTOR_BYTES && offset + length > at) {
      throw new PlinthError('ERR_DEVICE_IO', `${length} bytes at ${offset} cannot be read`)
    }
    return image.slice(offset, offset + length)
  }
  const { findings } = checkDevice({ sizeBytes: image.length, read })
  return findings.some(({ code }) => code === 'unreadable') ? 'as it was, and told' : 'as it was'
}
