// The rules of the house as functions from text to findings, so that the tests can also show them made-up sources.
import ts from 'typescript'

/** A file of the repository: its path from the root, with forward slashes, and what it holds. */
export type Source = { path: string; text: string }

// Left may not import right; rooms in one column do not import each other.
const columns = [
  ['base'],
  ['native'],
  ['media'],
  ['device', 'layout'],
  ['log'],
  ['allocator'],
  ['heap'],
  ['transaction', 'recovery', 'check'],
  ['volume'],
  ['map'],
  ['cli', 'adapters'],
]
/** Rooms that stand on the public names alone, as somebody else's engine would. */
const outside = ['map', 'cli', 'adapters']

const column = (room: string) => columns.findIndex((rooms) => rooms.includes(room))

/** Where the rules of the columns are narrower than the columns: who may import these rooms. */
const importers: Record<string, readonly string[]> = {
  device: ['volume', 'testing'],
  native: ['device', 'media', 'testing'],
}

/** Says why a file of one room may not import a file of another; undefined when it may. */
function whyNot(from: string, to: string): string | undefined {
  if (from === to || from === 'index.ts') return undefined
  if (outside.includes(from)) {
    const allowed = to === 'index.ts' || (from === 'adapters' && to === 'map')
    return allowed ? undefined : `${from} imports index.ts alone`
  }
  if (to === 'index.ts') return 'only map, cli and adapters import index.ts'
  if (to !== 'testing' && column(to) < 0) return `src/${to} is no room`
  if (from === 'testing') {
    return outside.includes(to) ? `testing does not import ${to}` : undefined
  }
  if (column(from) < 0) return `src/${from} is no room`
  if (to === 'testing') return 'no room imports testing'
  const allowed = importers[to]
  if (allowed && !allowed.includes(from)) return `${to} is imported by ${allowed.join(', ')} alone`
  if (column(to) >= column(from)) return 'imports go to the left'
  return undefined
}

/** Imports between the rooms of src/, and from src/ to packages; those of peers from adapters alone. */
export function checkRooms(
  sources: Source[],
  dependencies: string[],
  peers: string[] = [],
): string[] {
  return sources.flatMap(({ path, text }) => {
    const room = roomOf(path)
    const packages = room === 'adapters' ? [...dependencies, ...peers] : dependencies
    const findings = importsOf(text).flatMap(({ name, line }) => {
      let reason: string | undefined
      if (name.startsWith('.')) {
        const target = resolve(path, name)
        reason = target.startsWith('src/')
          ? whyNot(room, roomOf(target))
          : `${target} is outside src`
      } else if (!name.startsWith('node:') && !packages.includes(packageOf(name))) {
        reason = 'not a dependency in package.json'
      }
      return reason ? [`${path}:${line}: imports ${name}: ${reason}`] : []
    })
    const known = room === 'index.ts' || room === 'testing' || column(room) >= 0
    return known ? findings : [`${path}:1: src/${room} is no room`, ...findings]
  })
}

/** Files of src/ that import each other in a circle, type-only imports included: a finding a circle, with its files. */
export function checkCircles(sources: Source[]): string[] {
  const paths = new Set(sources.map(({ path }) => path))
  const targets = new Map(
    sources.map(({ path, text }) => [
      path,
      importsOf(text)
        .filter(({ name }) => name.startsWith('.'))
        .map(({ name }) => resolve(path, name))
        .filter((target) => paths.has(target)),
    ]),
  )
  /** What a file imports, and what that imports, and so on. */
  const reach = (from: string) => {
    const found = new Set<string>()
    const left = [...targets.get(from)!]
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      if (found.has(next)) continue
      found.add(next)
      left.push(...targets.get(next)!)
    }
    return found
  }
  const reached = new Map([...paths].map((path) => [path, reach(path)]))
  const circles = new Set<string>()
  for (const [path, those] of reached) {
    if (!those.has(path)) continue
    circles.add(
      [...those]
        .filter((other) => reached.get(other)!.has(path))
        .sort()
        .join(', '),
    )
  }
  return [...circles].map((files) => `a circle of imports: ${files}`)
}

/**
 * Examples are what a user would write: they import the package by its name, and nothing from this
 * repository. A larger one may have a folder of its own: `./job-queue/engine.js`.
 */
export function checkExamples(sources: Source[]): string[] {
  return sources.flatMap(({ path, text }) =>
    importsOf(text)
      .filter(({ name }) => name.startsWith('.') || name.startsWith('/') || name.startsWith('#'))
      .filter(({ name }) => !isInFolderOfExample(path, name))
      .map(({ name, line }) => `${path}:${line}: imports ${name}: examples import packages alone`),
  )
}

/** Whether an example imports a file of its own folder, or one right under examples/ of any. */
function isInFolderOfExample(path: string, name: string): boolean {
  if (!name.startsWith('.')) return false
  const [root, folder, file] = resolve(path, name).split('/')
  const from = path.split('/')
  return root === 'examples' && file !== undefined && (from.length === 2 || from[1] === folder)
}

/** Names, lengths, opening comments, leftovers. */
export function checkFiles(sources: Source[]): string[] {
  return sources.flatMap(({ path, text }) => {
    const findings: string[] = []
    const name = path.slice(path.lastIndexOf('/') + 1)
    if (/^utils?\b|\butils?\./i.test(name)) findings.push(`${path}:1: no file is named ${name}`)
    findings.push(...grep(path, text, /\b(?:TO(?:DO)|FIX(?:ME))\b/, 'a leftover'))
    if (path.startsWith('src/')) {
      const lines = text.trimEnd().split('\n').length
      if (lines > 600) findings.push(`${path}:${lines}: ${lines} lines, at most 600`)
      if (lines > 60 && !opensWithComment(path, text)) {
        findings.push(`${path}:1: ${lines} lines and no comment that says what it is`)
      }
    }
    if (path.startsWith('test/')) {
      findings.push(
        ...grep(path, text, /\.on(?:ly)\(|\bon(?:ly): true\b/, 'runs alone'),
        ...grep(path, text, /\b(?:test|it|suite|describe)\.sk(?:ip)\(/, 'skipped without a reason'),
        ...grep(path, text, /\.sk(?:ip)\(\s*\)|\bsk(?:ip): true\b/, 'skipped without a reason'),
      )
    }
    return findings
  })
}

function grep(path: string, text: string, pattern: RegExp, what: string): string[] {
  return text
    .split('\n')
    .flatMap((line, i) =>
      pattern.test(line) ? [`${path}:${i + 1}: ${what}: ${line.trim().slice(0, 80)}`] : [],
    )
}

/** A comment before the first line of code; imports may come before it. */
function opensWithComment(path: string, text: string): boolean {
  if (!path.endsWith('.ts')) return /^\s*\/[/*]/.test(text)
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest)
  const code = file.statements.find((statement) => !ts.isImportDeclaration(statement))
  const before = text.slice(0, code ? code.getStart(file) : text.length)
  return /^\s*\/[/*]/m.test(before)
}

/** What a text imports or re-exports, in any form, with the line. */
function importsOf(text: string): { name: string; line: number }[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName, pos }) => ({
    name: fileName,
    line: text.slice(0, pos).split('\n').length,
  }))
}

/** `src/log/append.ts` is in log; a file right under src/ is a room of its own. */
function roomOf(path: string): string {
  return path.split('/')[1] ?? path
}

function resolve(from: string, name: string): string {
  return new URL(name, `file:///${from}`).pathname.slice(1).replace(/\.js$/, '.ts')
}

function packageOf(name: string): string {
  return name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/')
}
