/** A stream of `plinth dump`, taken apart into frames and put together again, with checksums that are right. */
import { createHash } from 'node:crypto'
import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib'
import { KIND, MAGIC } from '../../src/cli/stream/frames.js'

/** A frame and what its header says; what is undefined follows from the rest. */
export interface StreamFrame {
  kind: number
  offset: number
  bytes: Buffer
  encoding?: number
  reserved?: number
  sequence?: number
  length?: number
  storedLength?: number
}

const HEADER_BYTES = 32

/** Frames without the last, which follows from them. */
export function framesOf(stream: Buffer): StreamFrame[] {
  const frames: StreamFrame[] = []
  for (let at = MAGIC.length; at < stream.length; ) {
    const end = at + HEADER_BYTES + stream.readUInt32LE(at + 20)
    const stored = stream.subarray(at + HEADER_BYTES, end)
    frames.push({
      kind: stream[at]!,
      offset: Number(stream.readBigUInt64LE(at + 8)),
      bytes: stream[at + 1] === 1 ? inflateRawSync(stored) : stored,
    })
    at = end
  }
  return frames.slice(0, -1)
}

/** The stream of such frames, with an end; `end` changes what that says. */
export function streamOf(frames: readonly StreamFrame[], end: object = {}): Buffer {
  const parts = [MAGIC, ...frames.map(encode)]
  const dataBytes = frames
    .filter(({ kind }) => kind === KIND.DATA)
    .reduce((sum, { bytes }) => sum + bytes.length, 0)
  const digest = createHash('sha256')
  for (const part of parts) digest.update(part)
  const sha256 = digest.digest('hex')
  const about = { frames: frames.length, dataBytes, sha256, ...end }
  return Buffer.concat([
    ...parts,
    encode({ kind: KIND.END, offset: 0, bytes: Buffer.from(JSON.stringify(about)) }, frames.length),
  ])
}

function encode(frame: StreamFrame, index: number): Buffer {
  const { kind, offset, bytes } = frame
  const small = deflateRawSync(bytes)
  const encoding = frame.encoding ?? (small.length < bytes.length ? 1 : 0)
  const stored = encoding === 1 ? small : bytes
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt8(kind, 0)
  header.writeUInt8(encoding, 1)
  header.writeUInt16LE(frame.reserved ?? 0, 2)
  header.writeUInt32LE(frame.sequence ?? index, 4)
  header.writeBigUInt64LE(BigInt(offset), 8)
  header.writeUInt32LE(frame.length ?? bytes.length, 16)
  header.writeUInt32LE(frame.storedLength ?? stored.length, 20)
  header.writeUInt32LE(crc32(stored), 24)
  header.writeUInt32LE(crc32(header.subarray(0, 28)), 28)
  return Buffer.concat([header, stored])
}
