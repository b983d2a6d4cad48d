/** Files and pipes as ends of a stream. */
import { createReadStream, existsSync, openSync } from 'node:fs'
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Readable } from 'node:stream'
import { confirm } from './confirm.js'
import { CommandError, EXIT, nothingAt, usage } from './errors.js'
import { plain } from './output.js'
import { formatBytes } from './units.js'

/** stdin, or the file; whoever asks destroys it. */
export function inputOf(file: string | undefined): Readable {
  if (file !== undefined) {
    // Opened here, so that a file that is missing is thrown: the stream would tell later, when nobody listens.
    return createReadStream(file, { fd: openSync(file, 'r'), highWaterMark: 1024 * 1024 })
  }
  if (process.stdin.isTTY) throw usage('nothing is piped in; name a file with --input')
  return process.stdin
}

/**
 * Writes all parts to stdout, or to a file that appears under its name when it is complete and durable.
 * Returns the bytes written.
 */
export async function writeOut(
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  { output, force }: { output?: string | undefined; force?: boolean | undefined },
): Promise<number> {
  if (output === undefined) {
    if (process.stdout.isTTY)
      throw usage('stdout is a terminal; pipe it, or name a file with --output')
    return writeAll(parts, writeToStdout)
  }
  if (existsSync(output)) {
    const { size } = await stat(output)
    await confirm(`${plain(output)} exists and has ${formatBytes(size)}`, 'Replace it?', force)
  }
  const partial = `${output}.partial`
  const file = await create(partial)
  try {
    const bytes = await writeAll(parts, (part) => file.writeFile(part))
    await file.sync()
    await rename(partial, output)
    return bytes
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

async function create(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'w', 0o600)
  } catch (error) {
    // It is the folder that a new file misses.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw nothingAt(dirname(path), error)
    throw error
  }
}

async function writeAll(
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  write: (part: Uint8Array) => Promise<void>,
): Promise<number> {
  let bytes = 0
  for await (const part of parts) {
    await write(part)
    bytes += part.length
  }
  return bytes
}

function writeToStdout(part: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(part, (error) => {
      if (error) {
        const message = 'the reader of the stream went away before its end'
        reject(new CommandError(EXIT.DEVICE, 'ERR_STREAM', message, { cause: error }))
      } else resolve()
    })
  })
}
