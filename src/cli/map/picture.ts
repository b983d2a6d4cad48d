/**
 * What there is to draw of a volume, whatever it is drawn with: stretches of the device, each with an
 * owner, and owners with colours.
 *
 *   metadata · log · chunks by heap, by type or by name · free
 *
 * At most seven owners of chunks have a colour of their own, the largest; the others share one.
 */
import type { ChunkInfo, Volume, VolumeArea, VolumeInfo, VolumeStats } from '../../index.js'
import { badBlocksOf, freeRunsOf, type RunCount } from '../stats.js'
import { metadataBytes } from '../volume.js'
import { type Residency, residencyOf, type Stretch } from './residency.js'

export interface Owner {
  readonly name: string
  /** Key of its colour in the palette. */
  readonly colour: Colour
  readonly chunks: number
  readonly bytes: number
}

export type Colour = 'metadata' | 'log' | 'other' | `chunk${1 | 2 | 3 | 4 | 5 | 6 | 7}`

export interface Picture {
  readonly info: VolumeInfo
  readonly stats: VolumeStats
  readonly owners: readonly Owner[]
  readonly chunks: readonly ChunkInfo[]
  /** Lowest offset first. What none of them covers is free. */
  readonly stretches: readonly Stretch[]
  readonly freeRuns: readonly RunCount[]
  /** Undefined where the kernel does not tell. */
  readonly residency: Residency | undefined
}

const METADATA = 0
const LOG = 1
const FIRST_CHUNK_OWNER = 2
const COLOURED_MAX = 7
/** So many chunks without a type have their names in the legend. */
const NAMED_MAX = 7

export function pictureOf(volume: Volume): Picture {
  const chunks = volume.chunks()
  const stats = volume.stats()
  const keys = keysOf(chunks)
  const { owners, indexOf } = countOwners(chunks, keys, stats.areas)
  const stretches = [
    ...stats.areas.filter(({ name }) => name !== 'data').map(stretchOfArea),
    ...chunks.map(({ offset, size, name, id }, chunk) => ({
      offset,
      size,
      owner: indexOf(keys[chunk]!),
      chunk,
      name: name ?? `chunk ${id}`,
    })),
  ].sort((a, b) => a.offset - b.offset)
  return {
    info: volume.info,
    stats,
    owners,
    chunks,
    stretches,
    freeRuns: freeRunsOf(volume, chunks, badBlocksOf(volume)),
    residency: residencyOf(volume, stretches),
  }
}

function stretchOfArea({ name, offset, size }: VolumeArea): Stretch {
  return { offset, size, owner: name === 'log' ? LOG : METADATA, chunk: -1, name }
}

/** What each chunk is coloured by. */
function keysOf(chunks: readonly ChunkInfo[]): string[] {
  const untyped = chunks.filter(({ type }) => type === undefined).length
  return chunks.map((chunk) => {
    const { heap } = chunk
    if (heap !== undefined) return `heap ${heap}`
    if (chunk.type !== undefined) return chunk.type
    return untyped <= NAMED_MAX ? (chunk.name ?? `chunk ${chunk.id}`) : '(no type)'
  })
}

function countOwners(
  chunks: readonly ChunkInfo[],
  keys: readonly string[],
  areas: readonly VolumeArea[],
): { owners: Owner[]; indexOf: (key: string) => number } {
  const counts = new Map<string, { chunks: number; bytes: number }>()
  chunks.forEach(({ size }, i) => {
    const count = counts.get(keys[i]!) ?? { chunks: 0, bytes: 0 }
    counts.set(keys[i]!, { chunks: count.chunks + 1, bytes: count.bytes + size })
  })
  const sorted = [...counts].sort(([, a], [, b]) => b.bytes - a.bytes)
  const log = areas.find(({ name }) => name === 'log')!
  const owners: Owner[] = [
    { name: 'metadata', colour: 'metadata', chunks: 0, bytes: metadataBytes(areas) },
    { name: 'log', colour: 'log', chunks: 0, bytes: log.size },
  ]
  const own = sorted.length <= COLOURED_MAX + 1 ? sorted : sorted.slice(0, COLOURED_MAX)
  own.forEach(([name, count], i) => {
    owners.push({
      name,
      colour: i < COLOURED_MAX ? (`chunk${i + 1}` as Colour) : 'other',
      ...count,
    })
  })
  const rest = sorted.slice(own.length)
  if (rest.length > 0) {
    owners.push({
      name: `${rest.length} others`,
      colour: 'other',
      chunks: rest.reduce((total, [, count]) => total + count.chunks, 0),
      bytes: rest.reduce((total, [, count]) => total + count.bytes, 0),
    })
  }
  const indexes = new Map(
    sorted.map(([key], i) => [key, FIRST_CHUNK_OWNER + Math.min(i, own.length)]),
  )
  return { owners, indexOf: (key) => indexes.get(key)! }
}
