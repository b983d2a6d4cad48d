/** The demo's input: a job for each file below a folder. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

export interface InputFile {
  /** From the folder. */
  readonly path: string
  readonly bytes: number
  readonly changedMs: number
}

export const PAYLOAD_BYTES_MAX = 256
/** Larger ones would say more about hashing than about commits. */
const FILE_BYTES_MAX = 8 * 1024 * 1024

/** Regular files, in the same order each time. */
export function listFiles(folder: string, filesMax: number): InputFile[] {
  const files: InputFile[] = []
  const walk = (below: string) => {
    const entries = readdirSync(join(folder, below), { withFileTypes: true })
    entries.sort((a, b) => (a.name < b.name ? -1 : 1))
    for (const entry of entries) {
      if (files.length === filesMax) return
      const path = below === '' ? entry.name : `${below}/${entry.name}`
      if (entry.isDirectory()) walk(path)
      if (!entry.isFile()) continue
      const { size, mtimeMs } = statSync(join(folder, path))
      const file = { path, bytes: size, changedMs: mtimeMs }
      if (size <= FILE_BYTES_MAX && payloadOf(file).length <= PAYLOAD_BYTES_MAX) files.push(file)
    }
  }
  walk('')
  return files
}

/** What goes into the queue. */
export function payloadOf({ bytes, path }: InputFile): Uint8Array {
  return new TextEncoder().encode(`${bytes} ${path}`)
}

export function pathOf(payload: Uint8Array): string {
  const text = new TextDecoder().decode(payload)
  return text.slice(text.indexOf(' ') + 1)
}

/** Whether this is the file's hash; a file that somebody changed meanwhile proves nothing and passes. */
export function isHashOf(folder: string, file: InputFile, hash: string): boolean {
  const path = join(folder, file.path)
  const own = createHash('sha256').update(readFileSync(path)).digest('hex')
  if (own === hash) return true
  const { size, mtimeMs } = statSync(path)
  return size !== file.bytes || mtimeMs !== file.changedMs
}
