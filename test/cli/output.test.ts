// Where commands write to. `dump --output X --force` once replaced whatever X was, a device node too, by way of
// X.partial: a name that anybody could guess and have waiting, as a link or with a mode of their own.
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Volume } from 'plinth'
import { json, plinth, script, shell } from '../support/cli.js'
import { inFolder, inMemory, MIB, onLoop, PAGE, usualPlace } from '../support/devices.js'

const noRoot = process.getuid?.() !== 0 && 'device nodes need root'
const noStrace =
  spawnSync('strace', ['--version'], { stdio: 'ignore' }).status !== 0 && 'there is no strace'

/** A closed volume with the chunk `greeting`, in a folder with nothing else. */
function withVolume<T>(body: (volume: string, folder: string) => T): T {
  return inMemory((folder) => {
    const path = join(folder, 'volume')
    Volume.format(path, { size: MIB, label: 'engine' })
    const volume = Volume.open(path)
    volume.allocate({ size: PAGE, name: 'greeting' }).write(0, Buffer.from('hello'))
    volume.close()
    return body(path, folder)
  })
}

const modeOf = (path: string) => statSync(path).mode & 0o777

function exports(volume: string, output: string, ...more: string[]): void {
  const { code, err } = plinth(['export', volume, 'greeting', '-o', output, ...more])
  assert.equal(code, 0, err)
}

/** What a command syncs and renames in the folder, in order. */
function syncsOf(folder: string, args: readonly string[]): string[] {
  const trace = join(folder, 'trace')
  const strace = ['-f', '-y', '-o', trace, '-e', 'trace=fsync,fdatasync,rename']
  assert.equal(spawnSync('strace', [...strace, process.execPath, script, ...args]).status, 0)
  return readFileSync(trace, 'utf8')
    .replaceAll(folder, 'FOLDER')
    .replaceAll(/\.plinth-[0-9a-f]{24}\.partial/g, 'PARTIAL')
    .split('\n')
    .flatMap((line) => {
      // `12 fsync(17</a/b>) = 0`, `12 rename("/a", "/b") = 0`, the end of either perhaps in a line of its own.
      const [, call, given] = /^\d+ +(\w+)\(([^)]*FOLDER[^)]*?)(?:\)| <unf)/.exec(line) ?? []
      return given === undefined ? [] : [`${call} ${given.replaceAll(/^\d+<|["<>,]/g, '')}`]
    })
}

describe('a file', () => {
  test('that is new has the mode of the umask, and its folder nothing else', () =>
    withVolume((volume, folder) => {
      const made = shell(`umask 027; plinth export ${volume} greeting -o ${folder}/new`)
      assert.equal(made.code, 0, made.err)
      assert.equal(modeOf(join(folder, 'new')), 0o640)
      assert.deepEqual(readdirSync(folder).sort(), ['new', 'volume'])
    }))

  test('that is replaced hands on its mode, and needs a yes', () =>
    withVolume((volume, folder) => {
      const old = join(folder, 'old')
      writeFileSync(old, 'old')
      chmodSync(old, 0o604)
      const asked = plinth(['export', volume, 'greeting', '-o', old])
      assert.equal(asked.code, 2)
      assert.match(asked.err, /old exists and has 3 B; --force/)
      assert.equal(readFileSync(old, 'utf8'), 'old')
      exports(volume, old, '--force')
      assert.equal(readFileSync(old).length, PAGE)
      assert.equal(modeOf(old), 0o604)
      assert.deepEqual(readdirSync(folder).sort(), ['old', 'volume'])
    }))

  test('is written under a name that nobody has waiting', () =>
    withVolume((volume, folder) => {
      const precious = join(folder, 'precious')
      writeFileSync(precious, 'precious')
      symlinkSync('precious', join(folder, 'out.partial'))
      exports(volume, join(folder, 'out'))
      assert.equal(lstatSync(join(folder, 'out')).isFile(), true)
      assert.equal(readFileSync(precious, 'utf8'), 'precious')
      assert.equal(lstatSync(join(folder, 'out.partial')).isSymbolicLink(), true)
    }))

  test('behind a link is what is replaced; the link stays', () =>
    withVolume((volume, folder) => {
      mkdirSync(join(folder, 'elsewhere'))
      const target = join(folder, 'elsewhere', 'target')
      const link = join(folder, 'link')
      writeFileSync(target, 'old')
      symlinkSync('elsewhere/target', link)
      const asked = plinth(['export', volume, 'greeting', '-o', link])
      assert.equal(asked.code, 2)
      assert.match(asked.err, /link, a link to \S*\/elsewhere\/target, exists and has 3 B/)
      exports(volume, link, '--force')
      assert.equal(lstatSync(link).isSymbolicLink(), true)
      assert.equal(readFileSync(target).length, PAGE)
      assert.deepEqual(readdirSync(join(folder, 'elsewhere')), ['target'])
    }))

  for (const args of [
    ['export', 'greeting', '-o'],
    ['dump', '-o'],
    ['map', '--html'],
    ['map', '--svg'],
  ]) {
    test(`${args.join(' ')}: a link that leads to nothing is refused`, () =>
      withVolume((volume, folder) => {
        symlinkSync(join(folder, 'made'), join(folder, 'link'))
        const [command, ...more] = args
        const { code, err } = plinth([command!, volume, ...more, join(folder, 'link'), '--force'])
        assert.equal(code, 2)
        assert.match(err, /a link that leads to nothing/)
        assert.equal(existsSync(join(folder, 'made')), false)
      }))
  }

  test('that holds a volume is never replaced, least of all the one that is read', () =>
    withVolume((volume, folder) => {
      symlinkSync('volume', join(folder, 'link'))
      for (const output of [volume, join(folder, 'link')]) {
        const { code, err } = plinth(['dump', volume, '-o', output, '--force'])
        assert.equal(code, 2)
        assert.match(err, /holds the plinth volume 'engine'; remove that first/)
      }
      assert.equal(plinth(['check', volume]).code, 0)
    }))

  test('is durable with its name: the folder is synced behind it', { skip: noStrace }, () =>
    withVolume((volume, folder) => {
      const out = join(folder, 'out')
      assert.deepEqual(syncsOf(folder, ['export', volume, 'greeting', '-o', out]), [
        'fsync FOLDER/PARTIAL',
        'rename FOLDER/PARTIAL FOLDER/out',
        'fsync FOLDER',
      ])
      // A new volume's first barriers come behind its name.
      const made = syncsOf(folder, ['format', join(folder, 'new'), '--size', '1M'])
      assert.equal(made[0], 'fsync FOLDER')
      assert.ok(made.includes('fdatasync FOLDER/new'), made.join('; '))
    }),
  )

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    test(`is not there at all after ${signal}`, () =>
      inMemory(async (folder) => {
        const child = fileURLToPath(new URL('../support/write-out-child.js', import.meta.url))
        const run = spawn(process.execPath, [child, join(folder, 'out')])
        const ended = once(run, 'exit')
        await once(run.stdout, 'data')
        const [partial, ...others] = readdirSync(folder)
        assert.match(partial!, /^\.plinth-[0-9a-f]{24}\.partial$/)
        assert.deepEqual(others, [])
        assert.equal(modeOf(join(folder, partial!)), 0o600)
        run.kill(signal)
        assert.deepEqual(await ended, [null, signal])
        assert.deepEqual(readdirSync(folder), [])
      }))
  }
})

describe('what is no file stays what it is', () => {
  test('a pipe is written into, without a question', () =>
    withVolume((volume, folder) => {
      const pipe = join(folder, 'pipe')
      execFileSync('mkfifo', [pipe])
      const { code, out, err } = shell(
        `cat ${pipe} | wc -c & plinth export ${volume} greeting -o ${pipe} && wait`,
      )
      assert.equal(code, 0, err)
      assert.match(out, new RegExp(`^${PAGE}$`, 'm'))
      assert.equal(lstatSync(pipe).isFIFO(), true)
      const given = shell(`plinth export ${volume} greeting -o >(cat > ${folder}/got; echo) | read`)
      assert.equal(given.code, 0, given.err)
      assert.equal(readFileSync(join(folder, 'got')).length, PAGE)
    }))

  test('a device node needs a yes', { skip: noRoot }, () =>
    withVolume((volume, folder) => {
      const node = join(folder, 'null')
      execFileSync('mknod', [node, 'c', '1', '3'])
      const asked = plinth(['dump', volume, '-o', node])
      assert.equal(asked.code, 2)
      assert.match(asked.err, /null is a device, which is overwritten; --force/)
      assert.equal(plinth(['dump', volume, '-o', node, '--force']).code, 0)
      assert.equal(lstatSync(node).isCharacterDevice(), true)
    }),
  )

  test('/dev/stdout is stdout, a file too: the report goes to stderr', () =>
    withVolume((volume, folder) => {
      const piped = shell(`plinth export ${volume} greeting -o /dev/stdout | wc -c`)
      assert.equal(piped.out.trim(), String(PAGE), piped.err)
      const file = join(folder, 'file')
      const both = shell(
        `{ echo before; plinth export ${volume} greeting -o /dev/stdout --json; } > ${file}`,
      )
      assert.equal(both.code, 0, both.err)
      assert.equal(readFileSync(file).length, 'before\n'.length + PAGE)
      assert.equal(JSON.parse(both.err).name, 'greeting')
    }))

  const noLoop = usualPlace('loop, page, native').skip
  test(
    'a block device is written with a yes, and never while it holds a volume or is mounted',
    { skip: noLoop },
    () =>
      withVolume((volume, folder) =>
        onLoop(8 * MIB, (device) => {
          assert.equal(plinth(['dump', volume, '-o', device]).code, 2)
          const { code, err } = plinth(['dump', volume, '-o', device, '--force'])
          assert.equal(code, 0, err)
          assert.equal(readFileSync(device).toString('latin1', 0, 11), 'plinthdump1')
          assert.equal(lstatSync(device).isBlockDevice(), true)
          Volume.format(device, { force: true, label: 'precious' })
          const held = plinth(['dump', volume, '-o', device, '--force'])
          assert.equal(held.code, 2)
          assert.match(held.err, /holds the plinth volume 'precious'; remove that first/)
          assert.equal(Volume.check(device).length, 0)
          const mount = join(folder, 'mount')
          mkdirSync(mount)
          execFileSync('mkfs.ext4', ['-q', '-F', device])
          execFileSync('mount', [device, mount])
          try {
            const mounted = plinth(['dump', volume, '-o', device, '--force'])
            assert.equal(mounted.code, 2)
            assert.match(mounted.err, /is in use \(mounted at /)
          } finally {
            execFileSync('umount', [mount])
          }
        }),
      ),
  )

  test('a folder is refused', () =>
    withVolume((volume, folder) => {
      const { code, err } = plinth(['dump', volume, '-o', folder, '--force'])
      assert.equal(code, 2)
      assert.match(err, /is a directory/)
    }))
})

// 1 means findings: what cannot be written had that code too, since Node ends with it.
describe('stdout that takes nothing', () => {
  const commands = [
    'ls VOLUME',
    'info VOLUME --json',
    'check VOLUME',
    'dump VOLUME',
    'export VOLUME greeting',
  ]

  for (const command of commands) {
    test(`${command.split(' ')[0]}: full is 3, no reader is 141 and silent`, () =>
      withVolume((volume, folder) => {
        const line = `plinth ${command.replace('VOLUME', volume)}`
        const full = shell(`${line} > /dev/full`)
        assert.equal(full.code, 3)
        assert.match(full.err, /^error: ENOSPC: no space left on device, write \(ENOSPC\)$/m)
        const pipe = join(folder, 'pipe')
        execFileSync('mkfifo', [pipe])
        // A pipe whose only reader has gone before anything is written.
        const gone = shell(`exec 3<>${pipe} 4>${pipe} 3<&-; ${line} >&4`)
        assert.deepEqual([gone.code, gone.err], [141, ''])
      }))
  }

  test('nor does stderr without a reader make an error a finding', () =>
    inFolder((folder) => {
      const pipe = join(folder, 'pipe')
      execFileSync('mkfifo', [pipe])
      assert.equal(shell(`exec 3<>${pipe} 4>${pipe} 3<&-; plinth info /nonexistent 2>&4`).code, 141)
    }))
})

describe('names', () => {
  const NAME = 'bell\u0007\u001b[31m\u009b31m\u202egnp\u2066\u2028'
  const SHOWN = 'bell\\u0007\\u001b[31m\\u009b31m\\u202egnp\\u2066\\u2028'
  const STEERS = /(?!\n)[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u

  test('of a volume, a chunk, a type, a heap, a file reach no terminal as they are', () =>
    inMemory((folder) => {
      const path = join(folder, NAME)
      Volume.format(path, { size: MIB, label: NAME })
      const volume = Volume.open(path)
      volume.allocate({ size: PAGE, name: NAME, type: 'x\u001b[1m\u009b' })
      volume.heap(NAME)
      volume.close()
      const other = join(folder, 'other')
      const said = [
        ['ls', path],
        ['ls', path, '--all'],
        ['info', path],
        ['stats', path],
        ['map', path],
        ['probe', path],
        ['check', path],
        ['repair', path],
        ['rm', path, NAME],
        ['rm', path, `${NAME}?`],
        ['import', path, NAME],
        ['export', path, NAME, '-o', path],
        ['format', path, '--force', `--${NAME}`],
        ['format', path],
        ['restore', path, '--layout', NAME],
        ['dump', path, '-o', join(folder, NAME, 'x')],
        ['info', `${path}?`],
        ['info', folder],
        [NAME],
      ]
      for (const args of said) {
        for (const each of [args, [...args, '--json']]) {
          const { out, err } = plinth(each)
          assert.doesNotMatch(out + err, STEERS, each.join(' '))
        }
      }
      assert.equal(json(['ls', path]).value.chunks[0].name, NAME)
      assert.ok(plinth(['ls', path]).out.includes(SHOWN))
      assert.ok(plinth(['rm', path, NAME]).err.includes(SHOWN))
      const { out } = plinth(['dump', path, '-o', other])
      assert.doesNotMatch(out, STEERS)
    }))

  test('in the hint of what to do next are read by bash as they are', () =>
    inMemory((folder) => {
      const path = join(folder, `it's \u001b[31m \u202e\\`)
      Volume.format(path, { size: MIB })
      const hint = /^next {2}plinth (ls .*)$/m.exec(plinth(['info', path]).out)![1]!
      const { code, err } = shell(`export LC_ALL=C.UTF-8; plinth ${hint}`)
      assert.equal(code, 0, err)
    }))
})

test('a volume that failed tells the cause', { skip: noStrace }, () =>
  withVolume((volume, folder) => {
    const said = (...more: string[]) => {
      const injected = ['-f', '-o', join(folder, 'trace'), '-e', 'inject=fdatasync:error=EIO']
      const command = [process.execPath, script, 'import', volume, 'more', ...more]
      const { status, stdout, stderr } = spawnSync('strace', [...injected, ...command], {
        input: 'x',
      })
      assert.equal(status, 3)
      return { out: stdout.toString(), err: stderr.toString() }
    }
    const [first, second, ...others] = said().err.trimEnd().split('\n')
    assert.match(first!, /\(ERR_VOLUME_FAILED\)$/)
    assert.match(second!, /^cause: EIO: /)
    assert.deepEqual(others, [])
    const { error } = JSON.parse(said('--json').out)
    assert.equal(error.causes[0].code, 'EIO')
  }),
)
