// What the documents name is there: scripts, commands and their options, files, headings, codes, cases of the benchmark.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, normalize } from 'node:path'
import { describe, test } from 'node:test'
import { ERROR_CODES, FINDING_CODES } from 'plinth'
import { plinth, script } from '../support/cli.js'
import {
  allDocuments,
  codeRows,
  type Document,
  documentAt,
  documents,
  proseOf,
  root,
  sectionOf,
} from './documents.js'

const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8'))
const readme = documentAt('README.md')
const shellLines = ({ blocks }: Document) =>
  blocks.filter(({ language }) => language === 'sh').flatMap(({ lines }) => lines)
const codeSpans = (document: Document) =>
  [...proseOf(document).matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!)
const withoutComment = (line: string) => line.replace(/\s+#.*$/, '')

/** A table as it must be, to be put into the document. */
function demandTable(document: Document, codes: Readonly<Record<string, string>>): void {
  const known = new Map(Object.entries(codes))
  const wanted = [...known].map(([code, meaning]) => `| \`${code}\` | ${meaning} |`)
  const found = codeRows(document)
    .filter(([code]) => known.has(code) || code.startsWith('ERR_'))
    .map(([code, meaning]) => `| \`${code}\` | ${meaning} |`)
  assert.deepEqual(found, wanted, `${document.path} should have:\n${wanted.join('\n')}\n`)
}

describe('tables of codes', () => {
  test('README has every error code', () =>
    demandTable(sectionOf(readme, '## Errors'), ERROR_CODES))
  test('README has every code of wrong arguments', () => {
    const source = readFileSync(`${root}src/base/errors.ts`, 'utf8')
    const codes = /type ArgumentCode =([^/]*)/.exec(source)![1]!.match(/ERR_\w+/g)!
    assert(codes.length > 3)
    const spans = codeSpans(sectionOf(readme, '## Errors'))
    for (const code of codes) assert(spans.includes(code), code)
  })
  test('the guarantees have every code of a finding', () =>
    demandTable(documentAt('docs/guarantees.md'), FINDING_CODES))
})

describe('what README says of the package', () => {
  test('every entry point', () => {
    const entries = Object.keys(manifest.exports)
      .filter((entry) => entry !== './package.json')
      .map((entry) => join('plinth', entry))
    const rows = codeRows(sectionOf(readme, '## What is in the package')).map(([code]) => code)
    for (const entry of entries) assert(rows.includes(entry), entry)
  })
  test('figures are those of cases that the benchmarks have', () => {
    const folder = `${root}test/bench`
    const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join(folder, name), 'utf8'))
      .join('\n')
    const cases = codeRows(sectionOf(readme, '## Numbers')).map(([code]) => code)
    assert(cases.length > 5)
    for (const name of cases) assert(sources.includes(`'${name}'`), name)
  })
})

describe('commands', () => {
  const commands = [...plinth(['--help']).out.matchAll(/^ {2}([a-z]+)(?: [<[].*| {2,}.*)$/gm)].map(
    (match) => match[1]!,
  )
  const help = new Map<string, string>()
  const helpOf = (command: string) => {
    if (!help.has(command)) help.set(command, plinth([command, '--help']).out)
    return help.get(command)!
  }

  test('there are some', () => assert(commands.includes('format') && commands.includes('doctor')))

  for (const document of documents) {
    test(`${document.path} names npm scripts that exist`, () => {
      const text = [...codeSpans(document), ...shellLines(document)].join('\n')
      for (const [, name] of text.matchAll(/npm run ([\w:-]+)/g)) {
        assert(name! in manifest.scripts, name)
      }
    })

    test(`${document.path} names commands and options that exist`, () => {
      const uses = [...codeSpans(document), ...shellLines(document).map(withoutComment)]
        .flatMap((line) => line.split(/ [|&]+ /))
        .map((use) => use.replace(/^npx /, ''))
        .filter((use) => /^plinth -*[a-z]/.test(use))
      for (const use of uses) {
        const [, command, ...rest] = use.split(/\s+/)
        if (command!.startsWith('-')) continue
        assert(commands.includes(command!), use)
        for (const option of rest.filter((word) => word.startsWith('-'))) {
          assert(helpOf(command!).includes(option.split('=', 1)[0]!), use)
        }
      }
    })

    const lines = shellLines(document)
      .map(withoutComment)
      .filter((line) => /^(?:npx )?plinth /.test(line))
    if (lines.length === 0) continue
    test(`${document.path}: its plinth commands run, one after the other`, () => {
      const folder = mkdtempSync(join(tmpdir(), 'plinth-docs-'))
      try {
        const own = `plinth() { "${process.execPath}" "${script}" "$@"; }; npx() { "$@"; }`
        const { status, stderr } = spawnSync(
          'bash',
          ['-euxo', 'pipefail', '-c', [own, ...lines].join('\n')],
          { cwd: folder, encoding: 'utf8', timeout: 120_000 },
        )
        assert.equal(status, 0, stderr)
      } finally {
        rmSync(folder, { recursive: true })
      }
    })
  }
})

describe('links and files', () => {
  for (const document of allDocuments) {
    test(`${document.path}: its links lead somewhere`, () => {
      for (const [, target] of proseOf(document).matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
        const [path, anchor] = target!.split('#') as [string, string | undefined]
        const file = path === '' ? document.path : normalize(join(dirname(document.path), path))
        assert(existsSync(root + file), target)
        if (anchor !== undefined) assert(anchorsOf(file).includes(anchor), target)
      }
    })

    test(`${document.path}: the files that it names are there`, () => {
      const words = [...codeSpans(document), ...shellLines(document)].flatMap((text) =>
        text.split(/[\s=']+/),
      )
      for (const word of words) {
        const path = word.replace(/^dist\/(test|examples)\/(.*)\.js$/, '$1/$2.ts')
        if (!/^(?:src|test|scripts|examples|docs)\/[\w./-]+$/.test(path)) continue
        assert(existsSync(root + path), word)
      }
    })
  }

  test('the index of docs/ has every page', () => {
    const index = documentAt('docs/README.md').lines.join('\n')
    for (const { path } of documents) {
      if (path === 'README.md' || path === 'docs/README.md') continue
      assert(index.includes(`](${path.slice('docs/'.length)})`), path)
    }
  })
})

/** As GitHub makes them of headings. */
function anchorsOf(path: string): string[] {
  return readFileSync(root + path, 'utf8')
    .split('\n')
    .filter((line) => /^#+ /.test(line))
    .map((line) =>
      line
        .replace(/^#+ /, '')
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replace(/ /g, '-'),
    )
}
