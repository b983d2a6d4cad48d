/**
 * The stream of `plinth dump`: frames behind a magic line, each checksummed, a digest at the end.
 *
 *   magic │ volume │ directory … │ data … │ end
 *
 *   volume      JSON: what volume it was
 *   directory   JSON: chunks, lowest offset first, 1 to 100 a frame
 *   data        whole pages of a chunk at an offset of the device, ascending; what no frame names is zero
 *   end         JSON: frames, bytes of data, and SHA-256 of all bytes before this frame
 *
 *   0 kind u8 · 1 encoding u8 (0 as it is, 1 deflate) · 2 zero u16 · 4 sequence u32 · 8 offset u64 ·
 *   16 bytes u32 · 20 bytes stored u32 · 24 CRC-32 of what is stored u32 · 28 CRC-32 of bytes 0 to 27 u32
 *
 * Little-endian. The sequence counts frames, so that one that is missing or comes twice is noticed.
 *
 * A stream is as little to be trusted as a device: what a frame says is held against what it may say before it
 * is used. Reading holds one frame (twice, when it is compressed) and one part of the input.
 */
import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { constants, crc32, deflateRaw, inflateRaw } from 'node:zlib'
import { badStream } from '../errors.js'
import { ByteReader } from './byte-reader.js'

/** The end catches a transfer as text, as that of PNG does. */
export const MAGIC = Buffer.from('plinthdump1\r\n\x1a\n\0', 'latin1')
const HEADER_BYTES = 32
/** Bytes of data in one frame. */
export const DATA_BYTES_MAX = 1024 * 1024

export const KIND = { VOLUME: 1, DIRECTORY: 2, DATA: 3, END: 4 } as const
/** Bytes of a frame, unfolded, by kind. A name of 64 bytes has up to 384 in JSON, so a hundred chunks have less. */
const BYTES_MAX = { 1: 4096, 2: 65_536, 3: DATA_BYTES_MAX, 4: 4096 } as const
export type Kind = (typeof KIND)[keyof typeof KIND]
const ENCODING = { RAW: 0, DEFLATE: 1 } as const

const deflate = promisify<Buffer, object, Buffer>(deflateRaw)
const inflate = promisify<Buffer, object, Buffer>(inflateRaw)

export interface Frame {
  readonly kind: Kind
  /** Of the device; 0 where it has no meaning. */
  readonly offset: number
  readonly bytes: Buffer
}

/** A frame as it is in the stream. */
export async function encodeFrame(
  { kind, offset, bytes }: Frame,
  sequence: number,
): Promise<Buffer> {
  const small = await deflate(bytes, { level: constants.Z_BEST_SPEED })
  const encoding = small.length < bytes.length ? ENCODING.DEFLATE : ENCODING.RAW
  const stored = encoding === ENCODING.DEFLATE ? small : bytes
  const frame = Buffer.alloc(HEADER_BYTES + stored.length)
  frame.writeUInt8(kind, 0)
  frame.writeUInt8(encoding, 1)
  frame.writeUInt32LE(sequence, 4)
  frame.writeBigUInt64LE(BigInt(offset), 8)
  frame.writeUInt32LE(bytes.length, 16)
  frame.writeUInt32LE(stored.length, 20)
  frame.writeUInt32LE(crc32(stored), 24)
  frame.writeUInt32LE(crc32(frame.subarray(0, 28)), 28)
  stored.copy(frame, HEADER_BYTES)
  return frame
}

/** The frames of a stream, each checked. Ends behind the last one; throws where the stream is none. */
export async function* decodeFrames(input: Readable): AsyncGenerator<Frame> {
  const reader = new ByteReader(input)
  const digest = createHash('sha256')
  let dataBytes = 0
  const magic = await reader.take(MAGIC.length)
  if (magic === undefined || !magic.equals(MAGIC)) {
    throw badStream('this is no stream of plinth dump, or one of another version')
  }
  digest.update(magic)
  for (let sequence = 0; ; sequence++) {
    const header = await reader.take(HEADER_BYTES)
    if (header === undefined) throw endsEarly(reader.position)
    const at = reader.position - HEADER_BYTES
    const { kind, encoding, offset, length, storedLength, checksum } = parseHeader(header, at)
    if (header.readUInt32LE(4) !== sequence) {
      throw badStream(`the stream is damaged at ${at}: a frame is missing or comes twice`)
    }
    const stored = await reader.take(storedLength)
    if (stored === undefined) throw endsEarly(reader.position)
    if (crc32(stored) !== checksum) throw damaged(at)
    const bytes = encoding === ENCODING.RAW ? stored : await expand(stored, length, at)
    if (bytes.length !== length) throw damaged(at)
    if (kind === KIND.END) {
      checkEnd(bytes, { frames: sequence, dataBytes, sha256: digest.digest('hex') }, at)
      if ((await reader.take(1)) !== undefined) {
        throw badStream(`there are bytes behind the end of the stream, at ${reader.position - 1}`)
      }
      yield { kind, offset, bytes }
      return
    }
    if (kind === KIND.DATA) dataBytes += length
    digest.update(header).update(stored)
    yield { kind, offset, bytes }
  }
}

function parseHeader(header: Buffer, at: number) {
  if (crc32(header.subarray(0, 28)) !== header.readUInt32LE(28)) throw damaged(at)
  const kind = header.readUInt8(0) as Kind
  const encoding = header.readUInt8(1)
  const offset = Number(header.readBigUInt64LE(8))
  const length = header.readUInt32LE(16)
  const storedLength = header.readUInt32LE(20)
  const known = Object.values<number>(KIND).includes(kind) && encoding <= ENCODING.DEFLATE
  if (!known) throw badStream(`frame ${kind} at ${at} is of a later version of plinth`)
  const isSane =
    header.readUInt16LE(2) === 0 &&
    length <= BYTES_MAX[kind] &&
    (encoding === ENCODING.RAW ? storedLength === length : storedLength < length) &&
    Number.isSafeInteger(offset) &&
    (kind === KIND.DATA || offset === 0)
  if (!isSane) throw senseless()
  return {
    kind,
    encoding,
    offset,
    length,
    storedLength,
    checksum: header.readUInt32LE(24),
  }
}

async function expand(stored: Buffer, length: number, at: number): Promise<Buffer> {
  try {
    return await inflate(stored, { maxOutputLength: length })
  } catch {
    throw damaged(at)
  }
}

function checkEnd(bytes: Buffer, seen: DumpEnd, at: number): void {
  const end = parseJson(bytes, at) as Partial<DumpEnd>
  if (end.sha256 !== seen.sha256)
    throw badStream('the digest at the end of the stream is not that of its bytes')
  if (end.frames !== seen.frames || end.dataBytes !== seen.dataBytes) throw senseless()
}

/** What the last frame says. */
export interface DumpEnd {
  readonly frames: number
  readonly dataBytes: number
  readonly sha256: string
}

/** The JSON of a frame: an object. */
export function parseJson(bytes: Buffer, at: number): object {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    if (value !== null && typeof value === 'object') return value
  } catch {
    // Told below.
  }
  throw damaged(at)
}

function damaged(at: number): Error {
  return badStream(`the stream is damaged: the frame at ${at} does not pass its checksum`)
}

/** Not damage: somebody made it so. */
export function senseless(): Error {
  return badStream(
    'the stream passes its checksums and makes no sense: it was not made by plinth dump',
  )
}

function endsEarly(position: number): Error {
  return badStream(`the stream ends early, at ${position}: it was cut off`)
}
