/**
 * Files, pipes and devices as ends of a stream.
 *
 *   stdout, also as /dev/stdout    written to
 *   a pipe (FIFO)                  written into
 *   a device                       written into after a yes; never one that is mounted or in use
 *   a file                         replaced after a yes, all at once; behind a link, what it leads to
 *   nothing                        becomes a file, all at once
 *
 * What holds a plinth volume is never written to.
 */
import { randomBytes } from 'node:crypto'
import {
  constants,
  createReadStream,
  existsSync,
  fstatSync,
  lstatSync,
  openSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs'
import { type FileHandle, open, realpath, rename } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { Volume } from '../index.js'
import { confirm } from './confirm.js'
import { nothingAt, usage } from './errors.js'
import { formatBytes } from './units.js'
import { describeVolume } from './volume.js'

type Parts = AsyncIterable<Uint8Array> | Iterable<Uint8Array>

export interface OutputOptions {
  readonly output?: string | undefined
  readonly force?: boolean | undefined
}

/** stdin, or the file; whoever asks destroys it. */
export function inputOf(file: string | undefined): Readable {
  if (file !== undefined) {
    // Opened here, so that a file that is missing is thrown: the stream would tell later, when nobody listens.
    return createReadStream(file, { fd: openSync(file, 'r'), highWaterMark: 1024 * 1024 })
  }
  if (process.stdin.isTTY) throw usage('nothing is piped in; name a file with --input')
  return process.stdin
}

/** Whether the output is stdout, by whatever name. */
export function isStdout(output: string | undefined): output is undefined {
  return output === undefined || (existsSync(output) && isSame(statSync(output), fstatSync(1)))
}

/**
 * Writes all parts to where the table above says, and returns their bytes. A file has its name when it is
 * complete and durable, with the mode of the one that it replaces; before that it has a name of its own
 * beside it, which nobody can guess and which goes when the process fails or is ended by a signal.
 * @throws CommandError when the answer is no, or it is never written to
 */
export async function writeOut(parts: Parts, { output, force }: OutputOptions): Promise<number> {
  if (isStdout(output)) {
    if (process.stdout.isTTY)
      throw usage('stdout is a terminal; pipe it, or name a file with --output')
    return writeAll(parts, writeToStdout)
  }
  if (!existsSync(output)) {
    if (lstatSync(output, { throwIfNoEntry: false }) !== undefined) {
      throw usage(`${output} is a link that leads to nothing; name the file itself`)
    }
    return writeFile(parts, output, undefined)
  }
  const old = statSync(output)
  if (old.isDirectory()) throw usage(`${output} is a directory`)
  if (old.isFIFO()) return writeInto(parts, output, old)
  refuseVolume(output)
  if (!old.isFile()) {
    await confirm(`${output} is a device, which is overwritten`, 'Write to it?', force)
    return writeInto(parts, output, old)
  }
  const path = await realpath(output)
  const what = path === (await realpath(dirname(output))) + join('/', basename(output)) ? '' : path
  await confirm(
    `${output}${what && `, a link to ${what},`} exists and has ${formatBytes(old.size)}`,
    'Replace it?',
    force,
  )
  return writeFile(parts, path, old)
}

/** Such a volume may be the very one that is read. */
function refuseVolume(output: string): void {
  const found = probeOf(output)
  if (found === undefined) return
  const { volume, busy, owner } = found
  if (volume === undefined && !busy) return
  const why = busy
    ? `in use${owner === undefined ? '' : ` (${owner})`}`
    : `${describeVolume(volume!.label || undefined)}; remove that first`
  throw usage(`${output} ${busy ? 'is' : 'holds'} ${why}. Nothing was changed`)
}

function probeOf(path: string): ReturnType<typeof Volume.probe> | undefined {
  try {
    return Volume.probe(path)
  } catch (error) {
    // /dev/null and its like, which hold nothing.
    if ((error as { code?: string }).code === 'ERR_DEVICE_KIND') return undefined
    throw error
  }
}

/** A pipe or a device, which stays what it is. */
async function writeInto(parts: Parts, path: string, expected: Stats): Promise<number> {
  const { O_WRONLY, O_EXCL, O_NOCTTY } = constants
  // Without O_CREAT it is the kernel's word for a block device that nobody else has.
  const exclusive = expected.isBlockDevice() ? O_EXCL : 0
  const file = await open(path, O_WRONLY | O_NOCTTY | exclusive)
  try {
    if (!isSame(await file.stat(), expected)) throw usage(`${path} has changed meanwhile`)
    const bytes = await writeAll(parts, (part) => file.writeFile(part))
    if (expected.isBlockDevice()) await file.sync()
    return bytes
  } finally {
    await file.close()
  }
}

/** A file that appears under its name all at once, in place of `old`. Durable, with its name, when it resolves. */
async function writeFile(parts: Parts, path: string, old: Stats | undefined): Promise<number> {
  const folder = await openFolder(dirname(path))
  try {
    const partial = join(dirname(path), `.plinth-${randomBytes(12).toString('hex')}.partial`)
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
    const file = await open(partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
    const kept = removeAtEnd(partial)
    try {
      const bytes = await writeAll(parts, (part) => file.writeFile(part))
      await file.chmod(await modeFor(file, old))
      await file.sync()
      await rename(partial, path)
      await folder.sync()
      return bytes
    } catch (error) {
      rmSync(partial, { force: true })
      throw error
    } finally {
      kept()
      await file.close()
    }
  } finally {
    await folder.close()
  }
}

/** Of a new file what the umask leaves; otherwise that of the old one, whose owner it gets where that is allowed. */
async function modeFor(file: FileHandle, old: Stats | undefined): Promise<number> {
  if (old === undefined) return 0o666 & ~process.umask()
  try {
    await file.chown(old.uid, old.gid)
    return old.mode & 0o777
  } catch {
    // What the old one gave to its group is not for another.
    return old.mode & 0o700
  }
}

async function openFolder(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw nothingAt(path)
    throw error
  }
}

const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const

/** Removes the file when the process exits or a signal ends it. Returns what takes that back. */
function removeAtEnd(path: string): () => void {
  const remove = () => rmSync(path, { force: true })
  const stop = (signal: NodeJS.Signals) => {
    remove()
    kept()
    // With nobody listening it ends the process, and whoever waits for it sees by what.
    process.kill(process.pid, signal)
  }
  const kept = () => {
    process.off('exit', remove)
    for (const signal of SIGNALS) process.off(signal, stop)
  }
  process.on('exit', remove)
  for (const signal of SIGNALS) process.on(signal, stop)
  return kept
}

async function writeAll(parts: Parts, write: (part: Uint8Array) => Promise<void>): Promise<number> {
  let bytes = 0
  for await (const part of parts) {
    await write(part)
    bytes += part.length
  }
  return bytes
}

function writeToStdout(part: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(part, (error) => (error ? reject(error) : resolve()))
  })
}

function isSame(a: Stats, b: Stats): boolean {
  return a.dev === b.dev && a.ino === b.ino
}
