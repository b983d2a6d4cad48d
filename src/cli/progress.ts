/** A bar on stderr for work that takes a while; nothing where stderr is no terminal. */
import { SingleBar } from 'cli-progress'
import { paintError } from './output.js'
import { formatBytes } from './units.js'

export interface Progress {
  advance(bytes: number): void
  end(): void
}

export function progress(what: string, totalBytes: number, quiet = false): Progress {
  if (!process.stderr.isTTY || quiet || totalBytes === 0) return { advance() {}, end() {} }
  const bar = new SingleBar({
    stream: process.stderr,
    format: `${what} ${paintError.cyan('{bar}')} {percentage} %  {done} of {all}  {eta_formatted} left`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
    hideCursor: true,
    clearOnComplete: true,
    etaBuffer: 50,
  })
  let done = 0
  const all = formatBytes(totalBytes)
  bar.start(totalBytes, 0, { done: formatBytes(0), all })
  return {
    advance(bytes) {
      done += bytes
      bar.update(done, { done: formatBytes(done), all })
    },
    end() {
      bar.stop()
    },
  }
}
