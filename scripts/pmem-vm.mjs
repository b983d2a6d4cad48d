// Runs a command beside emulated persistent memory: boots a throw-away machine (QEMU, an emulated NVDIMM), in which there are
// a true /dev/dax0.0, /dev/pmem0 or a file system mounted with -o dax, and gives what the command prints and its exit status.
//
//   node scripts/pmem-vm.mjs --devices devdax:4K,ext4dax,pmem -- 'echo $PMEM_DEVICES; ndctl list -R'
//
// --devices      devdax, fsdax, ext4dax, pmem (raw), each with an alignment (4K, 2M) if wanted; default devdax:4K
// --persistence  memory_controller (ADR, the default), cpu_cache (eADR) or none (the firmware does not say)
// --size         MiB of each device with its metadata, 64 unless said
// --cpu          QEMU's processor, max unless said; 'max,-clwb' lacks an instruction
// --accel        tcg unless said; kvm is faster where the host has it
// --image        a file that keeps the persistent memory, for a later machine with the same devices
//
// The command sees the host's /usr and this project, both read-only; what it writes elsewhere goes with the machine. To kill
// the machine is to cut its power: ordinary memory is lost, and with it the page cache and what the file system has not yet
// written. A store in mapped persistent memory is not lost, flushed or not: the emulator has no processor cache.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  realpathSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { guest } from './pmem-guest.mjs'
import { root } from './run.mjs'

const MIB = 2 ** 20
const LABEL_BYTES = 128 * 1024
const BOOTS_MAX = 3
const BOOT_MS_MAX = 180_000
/** What QEMU's firmware says of power loss. */
const PLATFORMS = {
  memory_controller: 'nvdimm=on,nvdimm-persistence=mem-ctrl',
  cpu_cache: 'nvdimm=on,nvdimm-persistence=cpu',
  none: 'nvdimm=on',
}

/**
 * Boots a machine and starts a line for sh in it, in the project's folder, with PMEM_DEVICES in its environment: each device
 * as it was asked for, '=', its path. Resolves when the line has begun:
 *
 *   output   stream of what it prints; ends with the machine
 *   ended    promise of its exit status; undefined when the power was cut
 *   kill()   cuts the power
 */
export async function boot(wanted) {
  for (let tries = 1; ; tries++) {
    const machine = new Machine({
      devices: ['devdax:4K'],
      persistence: 'memory_controller',
      sizeBytes: 64 * MIB,
      cpu: 'max',
      accel: 'tcg',
      ...wanted,
    })
    if (await machine.start()) return machine
    const { complaint, console: words } = machine
    if (complaint !== undefined || tries === BOOTS_MAX) {
      throw new Error(`the machine did not start:\n${complaint ?? words}`)
    }
    // An emulated processor on a busy host fails to boot now and then, before the kernel's first word.
    console.error('the machine did not start; again')
  }
}

/** Of machines that run, so that none stays behind when this program ends first. */
const folders = new Set()
process.once('exit', () => folders.forEach(removeFolder))

function makeFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'plinth-pmem-'))
  folders.add(folder)
  return folder
}

function removeFolder(folder) {
  rmSync(folder, { recursive: true, force: true })
  folders.delete(folder)
}

class Machine {
  /** The end of what the kernel and QEMU have said. */
  console = ''
  output
  ended
  #wanted
  #folder = makeFolder()
  #qemu

  constructor(wanted) {
    this.#wanted = wanted
  }

  /** Whether the command has begun; when it has not, the machine is gone. */
  async start() {
    const ports = ['output', 'status'].map((name) => this.#listen(name))
    this.#qemu = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', '--', 'qemu-system-x86_64', ...this.#arguments()],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    for (const stream of [this.#qemu.stdout, this.#qemu.stderr]) {
      stream.setEncoding('utf8').on('data', (part) => {
        this.console = (this.console + part.replaceAll('\r', '')).slice(-8000)
      })
    }
    const exited = once(this.#qemu, 'close').then(() => {
      for (const { server } of ports) server.close()
      removeFolder(this.#folder)
    })
    const [output, status] = ports.map(({ connected }) => connected)
    const slow = setTimeout(() => this.kill(), BOOT_MS_MAX)
    let said = ''
    const begun = status.then(
      (stream) =>
        new Promise((resolve) => {
          stream.setEncoding('utf8').on('data', (part) => {
            said += part
            if (said.startsWith('started\n')) resolve(true)
          })
        }),
    )
    this.ended = exited.then(() => {
      const code = /^status (\d+)$/m.exec(said)?.[1]
      return code === undefined ? undefined : Number(code)
    })
    const hasBegun = await Promise.race([begun, exited.then(() => false)])
    clearTimeout(slow)
    if (hasBegun) this.output = (await output).setEncoding('utf8')
    return hasBegun
  }

  /** What the machine's own process 1 gave up for. */
  get complaint() {
    return /^plinth: [\s\S]*/m.exec(this.console)?.[0]
  }

  kill() {
    this.#qemu.kill('SIGKILL')
  }

  /** A port of the machine: a socket that QEMU connects to. */
  #listen(name) {
    const server = createServer()
    server.listen(join(this.#folder, name))
    return { server, connected: once(server, 'connection').then(([stream]) => stream) }
  }

  #arguments() {
    const { devices, persistence, sizeBytes, image, cpu, accel } = this.#wanted
    const { kernel, files } = guest()
    const memory = image ?? join(this.#folder, 'memory')
    const memoryBytes = devices.length * sizeBytes + LABEL_BYTES
    closeSync(openSync(memory, 'a'))
    truncateSync(memory, memoryBytes)
    const shares = this.#shares()
    return [
      ...['-machine', `q35,${PLATFORMS[persistence]}`, '-accel', accel, '-cpu', cpu, '-smp', '2'],
      ...['-display', 'none', '-nodefaults', '-no-user-config', '-no-reboot', '-serial', 'stdio'],
      ...['-m', `size=2G,slots=1,maxmem=${3 + Math.ceil(memoryBytes / 2 ** 30)}G`],
      ...['-kernel', kernel, '-initrd', files, '-append'],
      'console=ttyS0 quiet panic=-1 mitigations=off no_timer_check random.trust_cpu=on rdinit=/machine/init',
      '-object',
      `memory-backend-file,id=memory,share=on,mem-path=${memory},size=${memoryBytes}`,
      ...['-device', `nvdimm,memdev=memory,label-size=${LABEL_BYTES}`],
      ...['-device', 'virtio-serial-pci'],
      ...['output', 'status'].flatMap((name) => [
        ...['-chardev', `socket,id=${name},path=${join(this.#folder, name)}`],
        ...['-device', `virtserialport,chardev=${name},name=plinth.${name}`],
      ]),
      ...[...shares].flatMap(([tag, path]) => [
        ...[
          '-fsdev',
          `local,id=${tag},path=${path},security_model=none,multidevs=remap,readonly=on`,
        ],
        ...['-device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`],
      ]),
    ]
  }

  /** Folders of the host by tag, and in the first of them what the machine is to do. */
  #shares() {
    const { devices, sizeBytes, command } = this.#wanted
    const run = join(this.#folder, 'run')
    mkdirSync(run)
    const shared = ['/usr', realpathSync(root).replace(/\/$/, '')]
    const node = dirname(dirname(realpathSync(process.execPath)))
    if (node !== '/usr' && !node.startsWith('/usr/')) shared.push(node)
    const shares = new Map(shared.map((path, i) => [`share${i}`, path]))
    writeFileSync(
      join(run, 'shares'),
      [...shares].map(([tag, path]) => `${tag} ${path}\n`).join(''),
    )
    writeFileSync(
      join(run, 'settings'),
      `DEVICES='${devices.join(' ')}' NAMESPACE_BYTES=${sizeBytes} FOLDER='${shared[1]}'\n`,
    )
    writeFileSync(join(run, 'command'), `export PATH='${node}/bin':$PATH\n${command}\n`)
    return new Map([['run', run], ...shares])
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      devices: { type: 'string' },
      persistence: { type: 'string' },
      size: { type: 'string' },
      cpu: { type: 'string' },
      accel: { type: 'string' },
      image: { type: 'string' },
    },
  })
  const { devices, size, ...others } = values
  const machine = await boot({
    ...others,
    ...(devices && { devices: devices.split(',') }),
    ...(size && { sizeBytes: Number(size) * MIB }),
    command: positionals.join(' '),
  })
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => machine.kill())
  machine.output.pipe(process.stdout, { end: false })
  process.exitCode = (await machine.ended) ?? 137
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
