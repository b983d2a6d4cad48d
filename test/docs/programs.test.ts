/**
 * Every program in the documents is type-checked and run, as a user would run it: in a folder of its own, with
 * the package found by its name.
 *
 *   ```ts   compiled and run        ```js   run as it stands
 *
 * A block that imports something begins a program; one that does not goes on with the program before it. One that
 * begins with a file's name in a comment is that file, which others of the document may import. A block without a
 * language behind a line that ends with "prints" or "prints:" is all that the program prints. Paths in the system's folders are paths in the program's folder; devices are files of zeros.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, test } from 'node:test'
import ts from 'typescript'
import { type Block, blocksOf, type Document, documents, root } from './documents.js'

const DEVICE_BYTES = 64 * 2 ** 20
const SYSTEM_PATH = /(?<=['"`])\/(?:dev|mnt|srv|tmp|var)\/[\w./-]+(?=['"`])/g

interface Program {
  /** Of its file: unique in the document. */
  readonly name: string
  readonly language: 'ts' | 'js'
  readonly blocks: Block[]
  readonly isFragment: boolean
  prints: string | undefined
}

function programsOf({ blocks }: Pick<Document, 'blocks'>): Program[] {
  const programs: Program[] = []
  for (const block of blocks) {
    const current = programs.at(-1)
    const { language } = block
    if (language === 'ts' || language === 'js') {
      const begins = block.lines.some((line) => /^import /.test(line))
      if (begins || current === undefined) {
        const name = /^\/\/ ([\w-]+)\.ts$/.exec(block.lines[0]!)?.[1] ?? `line-${block.at + 1}`
        programs.push({ name, language, blocks: [block], isFragment: !begins, prints: undefined })
      } else current.blocks.push(block)
    } else if (language === '' && current && /\bprints:?$/.test(block.before)) {
      current.prints = `${block.lines.join('\n')}\n`
    }
  }
  return programs
}

/** Its text, each line where it is in the document, so that what the compiler says points there. */
function textOf({ blocks, isFragment }: Program, place: (path: string) => string): string {
  const lines: string[] = []
  if (isFragment) lines[0] = "import { Volume } from 'plinth'"
  for (const { at, lines: own } of blocks) {
    for (const [i, line] of own.entries()) lines[at + i] = line
  }
  return Array.from(lines, (line) => line ?? '')
    .join('\n')
    .replace(SYSTEM_PATH, place)
}

const folder = mkdtempSync(join(tmpdir(), 'plinth-docs-'))
after(() => rmSync(folder, { recursive: true }))
mkdirSync(join(folder, 'node_modules'))
symlinkSync(root, join(folder, 'node_modules/plinth'), 'dir')
writeFileSync(join(folder, 'package.json'), '{ "type": "module" }\n')

/** Where a program finds what it calls `path`. */
function placeIn(own: string): (path: string) => string {
  return (path) => {
    const place = join(own, path)
    mkdirSync(dirname(place), { recursive: true })
    if (path.startsWith('/dev/')) {
      writeFileSync(place, '')
      truncateSync(place, DEVICE_BYTES)
    }
    return place
  }
}

const programs = documents.flatMap((document) =>
  programsOf(document).map((program) => {
    const own = join(folder, document.path, program.name)
    mkdirSync(own, { recursive: true })
    return { ...program, path: document.path, own, text: textOf(program, placeIn(own)) }
  }),
)
for (const { own, text } of programs) writeFileSync(`${own}.ts`, text)
const compiled = compile(programs.map(({ own }) => `${own}.ts`))
for (const { own, text, language } of programs) {
  if (language === 'js') writeFileSync(`${own}.js`, text)
}

/** Compiles beside the sources; what the compiler says, by source. */
function compile(files: readonly string[]): ReadonlyMap<string, string[]> {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const { incremental, tsBuildInfoFile, rootDir, outDir, ...kept } = options
  const project = ts.createProgram(files, {
    ...kept,
    noUnusedLocals: false,
    declaration: false,
    typeRoots: [join(root, 'node_modules/@types')],
  })
  project.emit()
  const said = new Map<string, string[]>(files.map((file) => [file, []]))
  for (const { file, start, messageText } of ts.getPreEmitDiagnostics(project)) {
    const text = ts.flattenDiagnosticMessageText(messageText, '\n')
    const line = (file?.getLineAndCharacterOfPosition(start ?? 0).line ?? 0) + 1
    const messages = said.get(file?.fileName ?? '')
    if (messages === undefined) throw new Error(`${file?.fileName}:${line}: ${text}`)
    messages.push(`line ${line}: ${text}`)
  }
  return said
}

describe('programs in the documents', () => {
  for (const { own, path, blocks, prints } of programs) {
    test(`${path}, line ${blocks[0]!.at + 1}`, () => {
      assert.deepEqual(compiled.get(`${own}.ts`), [])
      const { status, stdout, stderr } = spawnSync(process.execPath, [`${own}.js`], {
        cwd: own,
        encoding: 'utf8',
        timeout: 120_000,
      })
      assert.equal(status, 0, stderr)
      assert.equal(stderr, '')
      if (prints !== undefined) assert.equal(stdout, prints)
    })
  }

  test('README and the guide have some', () => {
    for (const path of ['README.md', 'docs/guide.md', 'docs/map-and-level.md']) {
      assert(
        programs.some((program) => program.path === path),
        path,
      )
    }
  })
})

test('blocks are put together as said', () => {
  const fence = '```'
  const text = `${fence}ts\nimport 'a'\n${fence}\nand\n${fence}ts\nb()\n${fence}\nIt prints\n\n${fence}\nc\n${fence}\n${fence}js\nimport 'd'\n${fence}`
  const [first, second, ...rest] = programsOf({ blocks: blocksOf(text.split('\n')) })
  assert.equal(
    textOf(first!, (path) => path),
    "\nimport 'a'\n\n\n\nb()",
  )
  assert.equal(first!.prints, 'c\n')
  assert.deepEqual([second!.language, second!.name], ['js', 'line-14'])
  assert.deepEqual(rest, [])
})
