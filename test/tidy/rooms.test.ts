// Holds the plan of the house: imports point one way, and files look as agreed.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { checkCircles, checkExamples, checkFiles, checkRooms, type Source } from './rules.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))

function read(folder: string, pattern: RegExp): Source[] {
  return readdirSync(root + folder, { recursive: true, encoding: 'utf8' })
    .map((file) => `${folder}/${file.replaceAll('\\', '/')}`)
    .filter((path) => pattern.test(path))
    .map((path) => ({ path, text: readFileSync(root + path, 'utf8') }))
}

/** Fails with one finding a line, each with its file and line. */
function demandNone(findings: string[]): void {
  if (findings.length > 0) assert.fail(`\n${findings.join('\n')}`)
}

describe('this repository', () => {
  const src = read('src', /\.ts$/)
  const examples = read('examples', /\.ts$/)
  const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8'))
  const packages = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies })

  test('there are sources to look at', () => assert(src.length > 0))
  const peers = Object.keys(manifest.peerDependencies)
  test('rooms import to the left', () => demandNone(checkRooms(src, packages, peers)))
  test('no files import each other in a circle', () => demandNone(checkCircles(src)))
  test('examples import the package by its name', () => demandNone(checkExamples(examples)))
  test('files look as agreed', () => {
    const others = [...read('test', /\.ts$/), ...read('scripts', /\.mjs$/)]
    demandNone(checkFiles([...src, ...read('src', /\.[ch]$/), ...examples, ...others]))
  })
})

// A check that cannot fail is worth nothing: each rule is shown what it must let through and what it must catch.
describe('the checks', () => {
  const rooms: [path: string, imported: string, allowed: boolean, reason: string][] = [
    ['src/log/replay.ts', '../layout/record.js', true, ''],
    ['src/log/replay.ts', '../base/units.js', true, ''],
    ['src/log/replay.ts', './batch.js', true, ''],
    ['src/log/deep/replay.ts', '../../base/units.js', true, ''],
    ['src/log/replay.ts', '../heap/slab.js', false, 'to the left'],
    ['src/log/deep/replay.ts', '../../heap/slab.js', false, 'to the left'],
    ['src/base/units.ts', '../media/media.js', false, 'to the left'],
    ['src/layout/table.ts', '../device/open.js', false, 'device is imported by'],
    ['src/device/open.ts', '../layout/table.js', false, 'to the left'],
    ['src/recovery/run.ts', '../transaction/open.js', false, 'to the left'],
    ['src/check/walk.ts', '../recovery/run.js', false, 'to the left'],
    ['src/recovery/run.ts', '../device/open.js', false, 'device is imported by'],
    ['src/map/tree.ts', '../device/open.js', false, 'index.ts alone'],
    ['src/volume/open.ts', '../device/open.js', true, ''],
    ['src/volume/open.ts', '../native/addon.js', false, 'native is imported by'],
    ['src/media/mapped.ts', '../native/addon.js', true, ''],
    ['src/device/open.ts', '../native/addon.js', true, ''],
    ['src/native/addon.ts', '../media/media.js', false, 'to the left'],
    ['src/map/tree.ts', '../volume/volume.js', false, 'index.ts alone'],
    ['src/map/tree.ts', '../index.js', true, ''],
    ['src/volume/open.ts', '../map/tree.js', false, 'to the left'],
    ['src/volume/open.ts', '../index.js', false, 'only map, cli and adapters'],
    ['src/volume/open.ts', '../testing/lab.js', false, 'no room imports testing'],
    ['src/volume/open.ts', '../odds/ends.js', false, 'no room'],
    ['src/volume/open.ts', '../../test/support/temp.js', false, 'outside src'],
    ['src/odds/ends.ts', '../base/units.js', false, 'no room'],
    ['src/volume.ts', './base/units.js', false, 'no room'],
    ['src/testing/lab.ts', '../device/open.js', true, ''],
    ['src/testing/lab.ts', '../map/tree.js', false, 'testing does not import map'],
    ['src/adapters/level/open.ts', '../../map/index.js', true, ''],
    ['src/testing/lab.ts', '../cli/info.js', false, 'testing does not import cli'],
    ['src/cli/info.ts', '../index.js', true, ''],
    ['src/cli/info.ts', './print.js', true, ''],
    ['src/cli/info.ts', '../volume/volume.js', false, 'index.ts alone'],
    ['src/cli/info.ts', '../adapters/vfs.js', false, 'index.ts alone'],
    ['src/adapters/vfs.ts', '../base/units.js', false, 'index.ts alone'],
    ['src/index.ts', './adapters/vfs.js', true, ''],
    ['src/device/warm.ts', 'lru-cache', true, ''],
    ['src/device/warm.ts', 'lru-cache/raw', true, ''],
    ['src/device/warm.ts', 'fast-check', false, 'not a dependency'],
    ['src/adapters/level/open.ts', 'abstract-level', true, ''],
    ['src/map/tree.ts', 'abstract-level', false, 'not a dependency'],
    ['src/device/warm.ts', 'fs', false, 'not a dependency'],
  ]
  for (const [path, imported, allowed, reason] of rooms) {
    test(`${path} ${allowed ? 'may' : 'may not'} import ${imported}`, () => {
      const findings = checkRooms(
        [{ path, text: `import '${imported}'` }],
        ['lru-cache'],
        ['abstract-level'],
      )
      if (allowed) assert.deepEqual(findings, [])
      else assert.match(findings.join('\n'), new RegExp(reason))
    })
  }

  const forms: [text: string, line: number][] = [
    [`import { a } from '../heap/slab.js'`, 1],
    [`\nimport {\n  a,\n  b,\n} from '../heap/slab.js'`, 5],
    [`\n\nimport type { A } from "../heap/slab.js"`, 3],
    [`export * from '../heap/slab.js'`, 1],
    [`\nexport type { A } from '../heap/slab.js'`, 2],
    [`\nconst a = await import('../heap/slab.js')`, 2],
    [`\n\nlet a: import('../heap/slab.js').A`, 3],
  ]
  for (const [text, line] of forms) {
    test(`an import is seen in: ${text.trim().replaceAll('\n', ' ')}`, () => {
      const at = `src/log/replay.ts:${line}: imports ../heap/slab.js: imports go to the left`
      assert.deepEqual(checkRooms([{ path: 'src/log/replay.ts', text }], []), [at])
    })
  }
  test('an import in a comment is none', () => {
    const text = `// import '../heap/slab.js'\n/* export * from '../heap/slab.js' */`
    assert.deepEqual(checkRooms([{ path: 'src/log/replay.ts', text }], []), [])
  })

  test('circles', () => {
    const source = (path: string, ...imported: string[]): Source => ({
      path: `src/log/${path}.ts`,
      text: imported.map((name) => `import type { A } from './${name}.js'`).join('\n'),
    })
    const open = [source('a', 'b', 'c'), source('b', 'c'), source('c')]
    assert.deepEqual(checkCircles(open), [])
    assert.deepEqual(
      checkCircles([...open, source('d', 'e'), source('e', 'f', 'a'), source('f', 'd')]),
      ['a circle of imports: src/log/d.ts, src/log/e.ts, src/log/f.ts'],
    )
    assert.deepEqual(checkCircles([source('a', 'a')]), ['a circle of imports: src/log/a.ts'])
  })

  test('examples', () => {
    const check = (name: string) =>
      checkExamples([{ path: 'examples/01-hello.ts', text: `\nimport '${name}'` }])
    for (const name of ['plinth', 'plinth/testing', 'node:fs', 'lru-cache']) {
      assert.deepEqual(check(name), [])
    }
    for (const name of ['../src/index.js', './shared.js']) {
      assert.deepEqual(check(name), [
        `examples/01-hello.ts:2: imports ${name}: examples import packages alone`,
      ])
    }
  })

  const long = 'export const a = 1\n'
  const files: [path: string, text: string, expected: RegExp | undefined][] = [
    ['src/base/utils.ts', '', /:1: no file is named utils\.ts/],
    ['test/support/util.ts', '', /no file is named/],
    ['test/support/utils-of-tests.ts', '', /no file is named/],
    ['src/base/utility-bill.ts', '', undefined],
    ['src/base/a.ts', `\n// ${'TO'}${'DO'}: more`, /a\.ts:2: a leftover/],
    ['scripts/a.mjs', `// ${'FIX'}${'ME'}`, /a\.mjs:1: a leftover/],
    ['src/base/a.ts', `// What it is.\n${long.repeat(599)}`, undefined],
    ['src/base/a.ts', `// What it is.\n${long.repeat(600)}`, /601 lines, at most 600/],
    ['src/native/a.c', `/* What it is. */\n${'int a;\n'.repeat(600)}`, /601 lines/],
    ['src/base/a.ts', long.repeat(60), undefined],
    ['src/base/a.ts', long.repeat(61), /no comment that says what it is/],
    ['src/base/a.ts', `import 'node:fs'\n/** What it is. */\n${long.repeat(61)}`, undefined],
    ['src/base/a.ts', `import 'node:fs'\n${long.repeat(61)}// Late.`, /no comment/],
    ['src/native/a.c', 'int a;\n'.repeat(61), /no comment/],
    ['test/unit/a.test.ts', `\ntest.${'only'}('a', f)`, /:2: runs alone/],
    ['test/unit/a.test.ts', `test('a', { ${'only'}: true }, f)`, /runs alone/],
    ['test/unit/a.test.ts', `test.${'skip'}('a', f)`, /skipped without a reason/],
    ['test/unit/a.test.ts', `t.${'skip'}()`, /skipped without a reason/],
    ['test/unit/a.test.ts', `test('a', { ${'skip'}: true }, f)`, /skipped without a reason/],
    ['test/unit/a.test.ts', `t.${'skip'}('no device here')`, undefined],
    ['test/unit/a.test.ts', `test('a', { ${'skip'}: reason }, f)`, undefined],
  ]
  for (const [path, text, expected] of files) {
    const shown = text.length > 60 ? `${text.split('\n').length - 1} lines` : text.trim()
    test(`${path} with ${shown || 'nothing'} ${expected ? 'is caught' : 'passes'}`, () => {
      const findings = checkFiles([{ path, text }])
      if (expected) assert.match(findings.join('\n'), expected)
      else assert.deepEqual(findings, [])
    })
  }
})
