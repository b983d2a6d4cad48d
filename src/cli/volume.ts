/** Volumes and chunks as arguments of commands. */
import { type Chunk, printable, Volume, type VolumeArea } from '../index.js'
import { CommandError, EXIT } from './errors.js'
import { PLINTH, paintError } from './output.js'
import { formatBytes, plural } from './units.js'

/** Of commands that read. */
export interface SalvageOption {
  readonly salvage?: boolean
}
export const SALVAGE = [
  '--salvage',
  'go without what is damaged in the log and the chunk table, and say what that is',
] as const

/** Opens for reading; what is lost is told on stderr. */
export function openToRead(path: string, { salvage = false }: SalvageOption = {}): Volume {
  const volume = Volume.open(path, { readOnly: true, salvage })
  const { loss } = volume.recovery
  if (loss !== undefined) {
    const { lsn, bytes, records, slots } = loss
    const behind = `${plural(records, 'whole record')} in the ${formatBytes(bytes)} behind it`
    process.stderr.write(
      `${paintError.yellow('salvaged')}: the log cannot be read from LSN ${lsn} on (${behind}), ` +
        `${plural(slots, 'slot')} of the chunk table ${slots === 1 ? 'is' : 'are'} damaged; ` +
        "bytes of chunks are unverified: only their owner's checksums tell whether they are right\n",
    )
  }
  return volume
}

/** Opens for reading, closes whatever happens. */
export async function reading<T>(
  path: string,
  body: (volume: Volume) => T | Promise<T>,
  options?: SalvageOption,
): Promise<T> {
  using volume = openToRead(path, options)
  return await body(volume)
}

/** Where chunks may be, lowest first: between them are the log and parts of the chunk table. */
export function dataAreas(areas: readonly VolumeArea[]): VolumeArea[] {
  return areas.filter(({ name }) => name === 'data')
}

/** Bytes of what plinth keeps beside the log. */
export function metadataBytes(areas: readonly VolumeArea[]): number {
  return areas
    .filter(({ name }) => name !== 'log' && name !== 'data')
    .reduce((bytes, { size }) => bytes + size, 0)
}

/** What is on a device, for a question: `a plinth volume 'jobs' of 64 MiB`; undefined for nothing. */
export function contentsOf(path: string): string | undefined {
  const { volume, contents } = Volume.probe(path)
  if (volume === undefined) return contents
  return describeVolume(volume.label === '' ? undefined : volume.label)
}

export function describeVolume(label: string | undefined): string {
  return label === undefined ? 'a plinth volume' : `the plinth volume '${printable(label)}'`
}

/** The chunk with this name, or, when none has it, with this number as its id. */
export function findChunk(volume: Volume, asked: string): Chunk {
  const named = volume.findChunk(asked)
  if (named !== undefined) return named
  const byId = /^\d{1,16}$/.test(asked) ? volume.findChunk(Number(asked)) : undefined
  if (byId !== undefined) return byId
  throw new CommandError(
    EXIT.DEVICE,
    'ERR_CHUNK_NOT_FOUND',
    `no chunk has the name or id '${asked}'; ${PLINTH} ls shows what there is`,
  )
}
