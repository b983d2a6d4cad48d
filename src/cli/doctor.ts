/** What this machine and this installation offer, tried out, and what is missing. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { environment, printable, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { EXIT } from './errors.js'
import { facts, type JsonOption, next, PLINTH, paint, print } from './output.js'

export const doctor = defineCommand({
  usage: 'doctor',
  summary: 'tell what this machine and this installation offer, and what is missing',
  details: 'Makes a small volume in the temporary folder, commits, reopens, checks and removes it.',
  examples: ['plinth doctor', 'plinth doctor --json'],
}).action(
  exitsWith((options: JsonOption) => {
    const value = examine()
    print(options, value, () => doctorText(value))
    return value.missing.length === 0 ? EXIT.OK : EXIT.FINDINGS
  }),
)

/** What matters to plinth, by processor. */
const INSTRUCTIONS = {
  x64: ['clflush', 'clflushopt', 'clwb', 'sse4_2'],
  arm64: ['dcpop', 'crc32'],
} as const

function examine() {
  const { backend, addon, mmapIo } = environment()
  const flags = cpuFlags()
  const known: readonly string[] = INSTRUCTIONS[process.arch as keyof typeof INSTRUCTIONS] ?? []
  const value = {
    node: { version: process.version, napi: process.versions.napi, supported: isSupported() },
    system: { platform: process.platform, arch: process.arch, release: release() },
    cpu: {
      model: cpus()[0]?.model ?? 'unknown',
      has: known.filter((name) => flags.has(name)),
      lacks: known.filter((name) => !flags.has(name)),
    },
    backend,
    addon,
    mmapIo,
    devices: daxDevices(),
    trial: tryOut(),
  }
  return { ...value, missing: missingOf(value) }
}

function isSupported(): boolean {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major > 20 || (major === 20 && minor >= 19)
}

function cpuFlags(): Set<string> {
  try {
    const text = readFileSync('/proc/cpuinfo', 'utf8')
    return new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(text)?.[1]?.split(' '))
  } catch {
    return new Set()
  }
}

/** Nodes of persistent memory. */
function daxDevices(): string[] {
  try {
    return readdirSync('/dev')
      .filter((name) => /^(?:pmem|dax)\d/.test(name))
      .map((name) => `/dev/${name}`)
  } catch {
    return []
  }
}

interface Trial {
  readonly works: boolean
  readonly where: string
  readonly error?: string
}

function tryOut(): Trial {
  const where = tmpdir()
  let folder: string | undefined
  try {
    folder = mkdtempSync(join(where, 'plinth-doctor-'))
    const path = join(folder, 'volume')
    Volume.format(path, { size: 1024 * 1024 })
    const volume = Volume.open(path)
    const chunk = volume.allocate({ size: 4096, name: 'trial', zero: true })
    volume.transact((tx) => tx.setUint32(chunk, 0, 1))
    volume.close()
    using again = Volume.open(path)
    const kept = again.chunk('trial').view.getUint32(0, true) === 1
    const findings = again.check()
    if (!kept || findings.length > 0) return { works: false, where, error: 'a commit was not kept' }
    return { works: true, where }
  } catch (error) {
    return { works: false, where, error: (error as Error).message }
  } finally {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  }
}

interface Missing {
  readonly what: string
  readonly meaning: string
  readonly remedy: string
}

function missingOf(value: {
  readonly node: { readonly version: string; readonly supported: boolean }
  readonly addon: ReturnType<typeof environment>['addon']
  readonly backend: ReturnType<typeof environment>['backend']
  readonly trial: Trial
}): Missing[] {
  const missing: Missing[] = []
  if (!value.node.supported) {
    missing.push({
      what: `Node ${value.node.version}`,
      meaning: 'plinth is tested on 20.19 and newer',
      remedy: 'install Node 20.19, 22 or 24',
    })
  }
  if (!value.addon.loads) {
    missing.push({
      what: 'the native addon',
      meaning:
        value.backend === undefined
          ? 'nothing can map a device'
          : 'persistent memory, workers and volumes of 2 GiB and more cannot be used',
      remedy:
        'npm rebuild plinth, with python3, make and g++ installed (npm may have to be allowed to: npm approve-scripts plinth)',
    })
  }
  if (!value.trial.works) {
    missing.push({
      what: `a volume in ${value.trial.where}`,
      meaning: value.trial.error ?? '',
      remedy: 'try another folder with TMPDIR; if that fails too, report it',
    })
  }
  return missing
}

/** Why mmap-io does not load, from what `require` says: npm keeps the package when its addon fails to compile. */
function withoutMmapIo(error: string): string {
  if (/^Cannot find (?:module|package) 'mmap-io'/.test(error)) return 'not installed'
  if (/^(?:Cannot find module|Could not locate the bindings)/.test(error)) {
    return 'installed, not compiled'
  }
  return `installed, does not load (${printable(error)})`
}

function doctorText(value: ReturnType<typeof examine>): string {
  const { node, system, cpu, backend, addon, mmapIo, devices, trial, missing } = value
  const good = paint.green('ok')
  const bad = paint.red('missing')
  const instructions = [...cpu.has, ...cpu.lacks.map((name) => paint.dim(`no ${name}`))].join(', ')
  const text = facts([
    ['node', `${node.supported ? good : bad}  ${node.version}, Node-API ${node.napi}`],
    ['system', `${system.platform} ${system.release}, ${system.arch}`],
    ['processor', `${cpu.model}${instructions === '' ? '' : `\n${instructions}`}`],
    [
      'addon',
      addon.loads
        ? `${good}  writes lines back by ${addon.flushInstruction}, CRC-32C by ${addon.hardwareChecksum ? 'instruction' : 'table'}`
        : `${bad}  ${printable(addon.error.split('\n', 1)[0]!)}`,
    ],
    [
      'mmap-io',
      mmapIo.loads
        ? `${good}  the other backend`
        : paint.dim(
            `${withoutMmapIo(mmapIo.error)}; only wanted where the native addon does not work`,
          ),
    ],
    ['backend', backend ?? paint.red('none')],
    ['pmem nodes', devices.length === 0 ? paint.dim('none in /dev') : devices.join(', ')],
    [
      'trial',
      trial.works
        ? `${good}  commit, reopen and check in ${printable(trial.where)}`
        : `${paint.red('failed')}  ${printable(trial.error ?? '')}`,
    ],
  ])
  const problems = missing.map(
    ({ what, meaning, remedy }) => `\n\n${paint.red(what)}: ${printable(meaning)}${next(remedy)}`,
  )
  return `${text}${problems.join('') || next(`${PLINTH} probe <device>`)}`
}
