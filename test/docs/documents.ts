/** The documents, taken apart: blocks of code, headings, tables. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../../../', import.meta.url))

/** A fenced block. */
export interface Block {
  /** What stands behind the fence; '' for nothing. */
  readonly language: string
  /** Of its first line of code, from 0. */
  readonly at: number
  readonly lines: readonly string[]
  /** The last line of text before it. */
  readonly before: string
}

export interface Document {
  /** From the repository's root. */
  readonly path: string
  readonly lines: readonly string[]
  readonly blocks: readonly Block[]
}

function read(path: string): Document {
  const lines = readFileSync(root + path, 'utf8').split('\n')
  return { path, lines, blocks: blocksOf(lines) }
}

export function blocksOf(lines: readonly string[]): Block[] {
  const blocks: Block[] = []
  let before = ''
  for (let i = 0; i < lines.length; i++) {
    const language = /^```(\w*)$/.exec(lines[i]!)?.[1]
    if (language === undefined) {
      if (lines[i]!.trim() !== '') before = lines[i]!
      continue
    }
    const end = lines.indexOf('```', i + 1)
    if (end === -1) throw new Error(`line ${i + 1}: a block without an end`)
    blocks.push({ language, at: i + 1, lines: lines.slice(i + 1, end), before })
    before = ''
    i = end
  }
  return blocks
}

const pages = readdirSync(`${root}docs`)
  .filter((name) => name.endsWith('.md'))
  .map((name) => `docs/${name}`)

/** What users read: README and the pages of docs/. Their programs run. */
export const documents: readonly Document[] = ['README.md', ...pages].map(read)

/** Those and the others, whose links are followed as well. */
export const allDocuments: readonly Document[] = [
  ...documents,
  ...['ARCHITECTURE.md', 'CHANGELOG.md', 'src/layout/FORMAT.md'].map(read),
]

export function documentAt(path: string): Document {
  return documents.find((document) => document.path === path)!
}

/** Text outside of blocks. */
export function proseOf({ lines, blocks }: Document): string {
  const isCode = new Set(blocks.flatMap(({ at, lines }) => lines.map((_, i) => at + i)))
  return lines.map((line, i) => (isCode.has(i) ? '' : line)).join('\n')
}

/** Rows of the tables of a document whose first cell is one code span: that, and the second cell. */
export function codeRows(document: Document): [code: string, meaning: string][] {
  return proseOf(document)
    .split('\n')
    .flatMap((line): [string, string][] => {
      const row = /^\| `([^`]+)` \| (.*?) \|/.exec(line)
      return row ? [[row[1]!, row[2]!]] : []
    })
}

/** The lines from a heading to the next of its level. */
export function sectionOf(document: Document, heading: string): Document {
  const from = document.lines.indexOf(heading)
  if (from === -1) throw new Error(`${document.path} has no '${heading}'`)
  const level = /^#+ /.exec(heading)![0]
  const length = document.lines.slice(from + 1).findIndex((line) => line.startsWith(level))
  const lines = document.lines.slice(from, length === -1 ? undefined : from + 1 + length)
  return { path: document.path, lines, blocks: blocksOf(lines) }
}
