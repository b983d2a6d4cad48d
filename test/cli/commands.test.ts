// Each command as its user runs it: what it prints, how it ends, and what is on the device afterwards.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { Volume } from 'plinth'
import { formatTime } from '../../src/cli/units.js'
import { json, noTerminal, onTerminal, plinth, script, shell } from '../support/cli.js'
import { inMemory, MIB } from '../support/devices.js'

const COMMANDS = [
  'probe',
  'info',
  'ls',
  'map',
  'stats',
  'format',
  'check',
  'repair',
  'dump',
  'restore',
  'export',
  'import',
  'rm',
  'bench',
  'doctor',
]

/** A closed volume of three chunks and a heap. */
function withVolume<T>(body: (path: string, folder: string) => T): T {
  return inMemory((folder) => {
    const path = join(folder, 'device')
    Volume.format(path, { size: 8 * MIB, label: 'engine' })
    const volume = Volume.open(path)
    volume.allocate({ size: 100_000, name: 'pages', type: 'page' }).write(0, Buffer.from('pages'))
    volume.allocate({ size: 50_000, name: 'index' })
    volume.allocate({ size: 4096 })
    const heap = volume.heap('nodes')
    heap.setRoot(heap.allocate(100))
    volume.close()
    return body(path, folder)
  })
}

function damage(path: string, ...places: number[]): void {
  const image = readFileSync(path)
  for (const at of places) image[at]! ^= 1
  writeFileSync(path, image)
}

describe('plinth', () => {
  test('help names every command, and every command has an example and --json', () => {
    const { code, out } = plinth(['--help'])
    assert.equal(code, 0)
    for (const command of COMMANDS) {
      assert.match(out, new RegExp(`^  ${command} `, 'm'))
      const help = plinth([command, '--help'])
      assert.equal(help.code, 0)
      assert.match(help.out, new RegExp(`Examples:\n  \\$ plinth ${command} ?`))
      assert.match(help.out, /--json/)
    }
    assert.match(out, /Exit codes: 0 done, 1 findings, 2 wrong use, 3 device or volume error/)
  })

  test('the version is that of the package', () => {
    const { version } = JSON.parse(
      readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
    )
    assert.equal(plinth(['--version']).out.trim(), version)
  })

  test('what to do next is written as it was called', () =>
    withVolume((path) => {
      const run = (npm_command: string) => plinth(['info', path], { env: { npm_command } }).out
      assert.match(run(''), /^next {2}plinth ls /m)
      assert.match(run('exec'), /^next {2}npx plinth ls /m)
      assert.match(run('test'), /^next {2}plinth ls /m)
    }))

  const wrong: [what: string, args: string[], says: RegExp][] = [
    ['no command', [], /Usage: plinth/],
    ['an unknown command', ['lss'], /Did you mean ls/],
    ['help of an unknown command', ['help', 'nonsense'], /^error: unknown command 'nonsense'\n\(/],
    ['an unknown option', ['info', 'x', '--wide'], /unknown option '--wide'\n\(plinth <command> -/],
    ['no device', ['info'], /missing required argument 'device'\n\(plinth <command> --help shows/],
    ['a size that is none', ['format', 'x', '--size', 'big'], /Give bytes, such as 4096, 64M/],
    ['an option out of range', ['format', '/tmp/x', '--size', '5'], /size must be .* from 1048576/],
  ]
  for (const [what, args, says] of wrong) {
    test(`${what}: 2`, () => {
      const { code, err } = plinth(args)
      assert.equal(code, 2)
      assert.match(err, says)
    })
  }

  test('help of a command is the help that the command gives', () => {
    const { code, out } = plinth(['help', 'info'])
    assert.equal(code, 0)
    assert.equal(out, plinth(['info', '--help']).out)
  })

  const needDevice = COMMANDS.filter((name) => !['format', 'doctor', 'restore'].includes(name))
  for (const command of needDevice) {
    test(`${command} of nothing: 3, with its code`, () => {
      const more = ['export', 'import', 'rm'].includes(command) ? ['name'] : []
      const { code, value } = json([command, '/nonexistent/device', ...more])
      assert.equal(code, 3)
      assert.equal(value.error.code, 'ERR_DEVICE_MISSING')
    })
  }
})

describe('looking', () => {
  test('probe', () =>
    withVolume((path) => {
      const { code, value } = json(['probe', path])
      assert.equal(code, 0)
      assert.equal(value.volume.label, 'engine')
      assert.equal(value.size, 8 * MIB)
      const { out } = plinth(['probe', path])
      assert.match(out, /^holds +a plinth volume 'engine', 8 MiB$/m)
      assert.match(out, /^next {2}Volume\.open\(/m)
    }))

  test('info', () =>
    withVolume((path) => {
      const { value } = json(['info', path])
      assert.equal(value.volume.label, 'engine')
      assert.equal(value.stats.chunks, 4)
      assert.equal(value.heaps, 1)
      const { out, code } = plinth(['info', path])
      assert.equal(code, 0)
      assert.match(out, /^volume +engine$/m)
      assert.match(out, /^left +closed$/m)
      assert.match(out, /in 4 chunks, 1 heap$/m)
    }))

  test('info of a volume that somebody has open: 3', () =>
    withVolume((path) => {
      using _ = Volume.open(path)
      const { code, err } = plinth(['info', path])
      assert.equal(code, 3)
      assert.match(err, /ERR_VOLUME_BUSY/)
    }))

  test('ls lists chunks and heaps; with --all those of heaps too', () =>
    withVolume((path) => {
      const { value } = json(['ls', path])
      assert.deepEqual(
        value.chunks.map(({ name }: { name?: string }) => name),
        ['pages', 'index', undefined],
      )
      assert.equal(value.heaps[0].name, 'nodes')
      assert.equal(value.heaps[0].objects, 1)
      assert.equal(json(['ls', path, '--all']).value.chunks.at(-1).heap, 'nodes')
      const { out } = plinth(['ls', path])
      assert.match(out, /^CHUNK +TYPE +SIZE +OFFSET +ID$/m)
      assert.match(out, /^pages +page +100 KiB +\d+ +\d+$/m)
      assert.match(out, /^nodes +1 /m)
    }))

  test('columns stand under each other, whatever the names', () =>
    inMemory((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: MIB })
      const volume = Volume.open(path)
      for (const name of ['a', 'ein-längerer-name', '日本語', '🙂'])
        volume.allocate({ size: 1, name, type: 't' })
      volume.allocate({ size: 1, name: 'bell\u0007\u001b[31m' })
      volume.close()
      const { out } = plinth(['ls', path])
      assert.equal(out.includes('\u001b'), false, 'a name must not reach the terminal as it is')
      const rows = out.split('\n').slice(1, 5)
      const widthBefore = (row: string) =>
        [...row.slice(0, row.indexOf(' t '))].reduce(
          (sum, letter) => sum + (letter.codePointAt(0)! > 0x2fff ? 2 : 1),
          0,
        )
      assert.deepEqual(new Set(rows.map(widthBefore)).size, 1)
    }))

  test('stats', () =>
    withVolume((path) => {
      const { value } = json(['stats', path])
      assert.equal(value.stats.chunks, 4)
      const areas = value.stats.areas.map(({ name }: { name: string }) => name)
      assert.deepEqual(areas.slice(0, 5), [
        'superblock',
        'checkpoint header',
        'chunk table',
        'log',
        'data',
      ])
      const runs = value.freeRuns.reduce(
        (sum: number, run: { bytes: number }) => sum + run.bytes,
        0,
      )
      assert.equal(runs, value.stats.freeBytes)
      const owned = value.owners.reduce(
        (sum: number, each: { bytes: number }) => sum + each.bytes,
        0,
      )
      assert.equal(owned, value.stats.usedBytes)
      assert.match(plinth(['stats', path]).out, /^fragmentation +\d/m)
    }))

  test('ls of an empty volume says how a first chunk comes there', () =>
    inMemory((folder) => {
      const path = join(folder, 'device')
      Volume.format(path, { size: MIB })
      const { out } = plinth(['ls', path])
      assert.equal(
        out,
        `nothing is allocated\n\nnext  plinth import ${path} <name> puts a first chunk there\n`,
      )
    }))

  test('bench measures in a chunk of its own and leaves nothing', () =>
    withVolume((path) => {
      const before = json(['ls', path]).value
      const { code, value } = json(['bench', path, '--seconds', '0.2'])
      assert.equal(code, 0)
      const commit = value.operations.find(({ name }: { name: string }) => name === 'commit')
      assert(commit.medianNs > 0)
      assert(commit.barriers >= 1)
      assert.equal(value.bandwidth.length, 2)
      assert.match(value.bound, /is the bound/)
      const grouped =
        /; 64 commits at once share (?:one|\d+) barriers? and take ([\d.]+ [num]?s) together\.$/
      const [, together] = grouped.exec(value.bound)!
      const each = value.operations.find(({ name }: { name: string }) => /at once/.test(name))
      assert.equal(together, formatTime(64 * each.medianNs))
      assert.deepEqual(json(['ls', path]).value, before)
      assert.equal(plinth(['check', path]).code, 0)
    }))

  test('doctor tries a volume', () => {
    const { code, value } = json(['doctor'])
    assert.equal(value.trial.works, true)
    assert.equal(value.node.version, process.version)
    assert.equal(code, value.missing.length === 0 ? 0 : 1)
    assert.match(plinth(['doctor']).out, /^trial +ok/m)
  })

  test('doctor tells a package that is not installed from one that is not compiled', () =>
    inMemory((folder) => {
      const hook = join(folder, 'hook.cjs')
      const said = (error: string) => {
        writeFileSync(
          hook,
          `const Module = require('node:module')
          const load = Module._load
          Module._load = function (name, ...more) {
            if (name === 'mmap-io') throw new Error(${JSON.stringify(error)})
            return load.call(this, name, ...more)
          }`,
        )
        const { out } = plinth(['doctor'], { env: { NODE_OPTIONS: `--require ${hook}` } })
        return /^mmap-io +(.*); only wanted where the native addon does not work$/m.exec(out)?.[1]
      }
      assert.equal(said("Cannot find module 'mmap-io'\nRequire stack:\n- a"), 'not installed')
      assert.equal(
        said("Cannot find module '../build/Release/mmap-io'\nRequire stack:\n- a"),
        'installed, not compiled',
      )
      assert.equal(said('bad ELF'), 'installed, does not load (bad ELF)')
    }))

  test('doctor says what is missing where nothing can be written', () => {
    const { code, value } = json(['doctor'], { env: { TMPDIR: '/nonexistent' } })
    assert.equal(code, 1)
    assert.match(value.missing[0].what, /a volume in \/nonexistent/)
  })
})

describe('making', () => {
  test('format makes a file, and refuses what holds something', () =>
    inMemory((folder) => {
      const path = join(folder, 'device')
      const { code, out } = plinth(['format', path, '--size', '2M', '--label', 'first'])
      assert.equal(code, 0)
      assert.match(out, /^formatted$/m)
      const refused = plinth(['format', path, '--label', 'second'])
      assert.equal(refused.code, 2)
      assert.match(refused.err, /holds the plinth volume 'first', which format overwrites; --force/)
      assert.equal(Volume.probe(path).volume?.label, 'first')
      assert.equal(
        json(['format', path, '--label', 'second', '--force']).value.volume.label,
        'second',
      )
    }))

  test('format where no folder is: 3', () =>
    inMemory((folder) => {
      const { code, value } = json(['format', join(folder, 'none', 'x')])
      assert.equal(code, 3)
      assert.equal(value.error.code, 'ERR_DEVICE_MISSING')
    }))

  test('check and repair: findings are 1, a dry run writes nothing, --apply repairs', () =>
    withVolume((path) => {
      assert.match(plinth(['check', path]).out, /: healthy$/m)
      damage(path, 100)
      const found = json(['check', path])
      assert.equal(found.code, 1)
      assert.deepEqual(
        found.value.findings.map(({ code }: { code: string }) => code),
        ['superblock-damaged'],
      )
      const before = readFileSync(path)
      const { code, out } = plinth(['repair', path])
      assert.equal(code, 1)
      assert.match(out, /1 fix would be written/)
      assert.match(out, /^next {2}plinth repair \S+ --apply$/m)
      assert(readFileSync(path).equals(before))
      const asked = plinth(['repair', path, '--apply'])
      assert.equal(asked.code, 2)
      assert.match(asked.err, /holds .*'engine'.*1 fix will be written; --force/)
      assert.equal(json(['repair', path, '--apply', '--force']).code, 0)
      assert.equal(plinth(['check', path]).code, 0)
      assert.equal(plinth(['repair', path]).code, 0)
    }))

  test('check of what is no volume', () =>
    inMemory((folder) => {
      const path = join(folder, 'device')
      writeFileSync(path, Buffer.alloc(MIB))
      const { code, out } = plinth(['check', path])
      assert.equal(code, 1)
      assert.match(out, /not-a-volume/)
    }))
})

describe('moving a chunk', () => {
  test('export and import, by files and by pipes', () =>
    withVolume((path, folder) => {
      const file = join(folder, 'pages.bin')
      assert.equal(plinth(['export', path, 'pages', '-o', file]).code, 0)
      const bytes = readFileSync(file)
      assert.equal(bytes.toString('latin1', 0, 5), 'pages')
      assert.equal(existsSync(`${file}.partial`), false)
      assert(plinth(['export', path, 'pages']).bytes.equals(bytes))
      assert.equal(plinth(['export', path, 'pages', '-o', file]).code, 2)
      assert.equal(
        json(['import', path, 'copy', '-i', file, '--type', 'page']).value.size,
        bytes.length,
      )
      const piped = shell(
        `plinth export ${path} copy > ${file}.2 && plinth import ${path} more < ${file}.2`,
      )
      assert.equal(piped.code, 0, piped.err)
      assert(plinth(['export', path, 'more']).bytes.equals(bytes))
      const { chunks } = json(['ls', path]).value
      const copy = chunks.find(({ name }: { name: string }) => name === 'copy')
      assert.equal(copy.type, 'page')
      assert.equal(plinth(['check', path]).code, 0)
    }))

  test('a file that is missing: 3, and nothing is changed', () =>
    withVolume((path, folder) => {
      const missing = join(folder, 'nosuch')
      for (const args of [
        ['import', path, 'c', '-i', missing],
        ['import', path, 'index', '--replace', '--force', '-i', missing],
        ['restore', join(folder, 'other'), '-i', missing],
        ['export', path, 'pages', '-o', join(missing, 'file')],
      ]) {
        const { code, err } = plinth(args)
        assert.equal(code, 3, args[0])
        assert.equal(err, `error: nothing is at ${missing} (ERR_DEVICE_MISSING)\n`)
        assert.deepEqual(json(args), {
          code: 3,
          value: { error: { code: 'ERR_DEVICE_MISSING', message: `nothing is at ${missing}` } },
        })
      }
      assert.equal(json(['info', path]).value.stats.chunks, 4)
    }))

  test('import --size is exactly the bytes that come', () =>
    withVolume((path, folder) => {
      const file = join(folder, 'input')
      writeFileSync(file, 'eleven char')
      const says = (size: number, ...more: string[]) => {
        const args = ['import', path, 'c', '--size', String(size), ...more]
        const { code, value } = json(args, { input: 'eleven char' })
        assert.equal(code, 3)
        return value.error.message
      }
      assert.equal(says(10), 'stdin has more than the 10 bytes of --size')
      assert.equal(says(10, '-i', file), `${file} has more than the 10 bytes of --size`)
      assert.equal(says(12), 'stdin ended after 11 of 12 bytes')
      assert.equal(says(12, '-i', file), `${file} ended after 11 of 12 bytes`)
      assert.equal(json(['info', path]).value.stats.chunks, 4)
      const exact = json(['import', path, 'c', '--size', '11'], { input: 'eleven char' })
      assert.equal(exact.value.bytes, 11)
    }))

  test('import reads a named pipe, which has no size', () =>
    withVolume((path) => {
      const { code, err } = shell(`plinth import ${path} c -i <(printf piped)`)
      assert.equal(code, 0, err)
      assert.match(plinth(['export', path, 'c']).out, /^piped\0/)
    }))

  test('dump to stdout reports to stderr', () =>
    withVolume((path) => {
      const { code, err } = plinth(['dump', path])
      assert.equal(code, 0)
      assert.match(err, /^dumped +4 chunks, .*\nstream +\S+ \S+\n$/)
    }))

  test('import replaces only when told to', () =>
    withVolume((path) => {
      const input = 'other bytes'
      assert.equal(json(['import', path, 'index'], { input }).value.error.code, 'ERR_CHUNK_EXISTS')
      const asked = plinth(['import', path, 'index', '--replace'], { input })
      assert.equal(asked.code, 2)
      assert.match(
        asked.err,
        /'engine' on \S+ holds 'index' \([^)]+\), which would be freed; --force/,
      )
      const { value } = json(['import', path, 'index', '--replace', '--force'], { input })
      assert.equal(value.replaced, true)
      assert.equal(value.bytes, input.length)
      const { bytes } = plinth(['export', path, 'index'])
      assert.equal(bytes.toString('latin1', 0, input.length), input)
      assert(bytes.subarray(input.length).every((byte) => byte === 0))
      assert.equal(json(['info', path]).value.stats.chunks, 4)
    }))

  test('an import that does not fit leaves nothing', () =>
    withVolume((path) => {
      const input = Buffer.alloc(16 * MIB)
      const { code, value } = json(['import', path, 'huge'], { input })
      assert.equal(code, 3)
      assert.equal(value.error.code, 'ERR_NO_SPACE')
      assert.equal(json(['import', path, 'short', '--size', '10'], { input }).code, 3)
      assert.equal(json(['info', path]).value.stats.chunks, 4)
      assert.equal(json(['info', path]).value.recovery.clean, true)
    }))

  test('rm names what is lost, frees by name and id, all or none', () =>
    withVolume((path) => {
      const asked = plinth(['rm', path, 'pages', 'index'])
      assert.equal(asked.code, 2)
      assert.match(
        asked.err,
        /'engine' on .* holds 'pages' \(100 KiB\), 'index'.* is lost; --force/,
      )
      assert.equal(plinth(['rm', path, 'pages', 'nope', '--force']).code, 3)
      assert.equal(json(['info', path]).value.stats.chunks, 4)
      const { id } = json(['ls', path]).value.chunks[2]
      const { value } = json(['rm', path, 'pages', String(id), '--force'])
      assert.deepEqual(value.freed.map((chunk: { id: number }) => chunk.id).includes(id), true)
      assert.equal(json(['info', path]).value.stats.chunks, 2)
      assert.equal(json(['rm', path, 'heap:nodes', '-f']).value.error.code, 'ERR_CHUNK_OWNED')
    }))
})

describe('on a terminal', { skip: noTerminal }, () => {
  test('a question that is answered with no changes nothing; with yes it does', () =>
    withVolume((path) => {
      const no = onTerminal(['rm', path, 'pages'], 'n\n')
      assert.equal(no.code, 2)
      assert.match(no.out, /holds 'pages' \(100 KiB\); what is in it is lost/)
      assert.match(no.out, /Free 1 chunk\? \[y\/N\]/)
      assert.match(no.out, /nothing was changed/)
      assert.equal(json(['info', path]).value.stats.chunks, 4)
      assert.equal(onTerminal(['rm', path, 'pages'], 'y\n').code, 0)
      assert.equal(json(['info', path]).value.stats.chunks, 3)
    }))

  for (const [key, typed] of [
    ['Ctrl+C', '\u0003'],
    ['Ctrl+D', '\u0004'],
  ] as const) {
    test(`${key} at a question is a no`, async () => {
      await inMemory(async (folder) => {
        const path = join(folder, 'device')
        Volume.format(path, { size: MIB, label: 'engine' })
        const line = `'${process.execPath}' '${script}' format '${path}' --label other`
        const run = spawn('script', ['-qec', line, '/dev/null'], { timeout: 60_000 })
        let out = ''
        for await (const part of run.stdout) {
          const before = out
          out += part
          // Before the question the terminal itself would take the key.
          if (!before.includes('[y/N]') && out.includes('[y/N]')) {
            setTimeout(() => run.stdin.write(typed), 50)
          }
        }
        assert.equal(run.exitCode ?? (await new Promise((done) => run.once('exit', done))), 2)
        assert.match(out, /\[y\/N\] [^\n]*\n[^\n]*error[^\n]*: nothing was changed/)
        assert.equal(Volume.probe(path).volume?.label, 'engine')
      })
    })
  }

  test('what a pipe brings is no answer', () =>
    withVolume((path) => {
      const line = `echo y | '${process.execPath}' '${script}' rm '${path}' pages`
      const { status, stdout } = spawnSync('script', ['-qec', line, '/dev/null'], {
        timeout: 20_000,
      })
      assert.equal(status, 2)
      assert.match(stdout.toString(), /--force does it without asking\. Nothing was changed/)
      assert.equal(json(['info', path]).value.stats.chunks, 4)
    }))

  test('colours come on a terminal, and not with NO_COLOR', () =>
    withVolume((path) => {
      const sequence = '\u001b['
      assert(onTerminal(['info', path], '').out.includes(sequence))
      assert.equal(onTerminal(['info', path], '', { NO_COLOR: '1' }).out.includes(sequence), false)
      assert.equal(plinth(['info', path]).out.includes(sequence), false)
    }))

  test('long work shows a bar, and none in a pipe', () =>
    withVolume((path, folder) => {
      const file = join(folder, 'stream')
      const shown = onTerminal(['dump', path, '-o', file], '')
      assert.equal(shown.code, 0)
      assert.match(shown.out, /dump .*100 %/)
      assert.doesNotMatch(plinth(['dump', path, '-o', file, '-f']).err, /%/)
    }))

  test('a stream is not written to a terminal', () =>
    withVolume((path) => {
      for (const args of [
        ['dump', path],
        ['export', path, 'pages'],
      ]) {
        const { code, out } = onTerminal(args, '')
        assert.equal(code, 2)
        assert.match(out, /stdout is a terminal/)
      }
    }))
})
