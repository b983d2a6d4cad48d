// Tests on emulated persistent memory: the suites in machines of pmem-vm.mjs, and power cuts.
//
//   npm run test:pmem             suites on device-dax (ADR and eADR), ext4 -o dax and raw pmem; processors; power cuts
//   npm run test:pmem -- suites processors cuts      only these parts
//   npm run test:pmem -- short    one boot on device-dax, one power cut, and what is there afterwards
//
// PMEM_CUTS says how many power cuts there are on device-dax (20 unless said), TEST_SEED repeats a run.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { guest } from './pmem-guest.mjs'
import { boot } from './pmem-vm.mjs'
import { run } from './run.mjs'

/** Exit code of a host that has no QEMU or no kernel for it. */
const CANNOT_TEST = 75
const CUTS = Number(process.env.PMEM_CUTS ?? 20)
const SEED = Number(process.env.TEST_SEED ?? Date.now() % 2 ** 31)
/** How long a machine works before its power is cut, at most. */
const WORK_MS_MAX = 1500
const FOUR = ['devdax:4K', 'devdax:2M', 'ext4dax', 'pmem']
const SUITES = [
  'pmem/probe',
  'pmem/processor',
  'pmem/recovery',
  'device/media-contract',
  'device/volume-contract',
  'device/residency',
  'device/syscalls',
  'crash/kill.',
]

const results = []

/** Does something, and keeps how long it took and what it says of itself. */
async function part(name, body) {
  const began = Date.now()
  console.log(`\n=== ${name}`)
  const said = await body()
  results.push(`${name}: ${said}, ${Math.round((Date.now() - began) / 1000)} s`)
}

/** Runs tests in one machine; returns how many. */
async function suite(machine, files, settings = {}) {
  const { persistence = 'memory_controller' } = machine
  const wanted = { PMEM_PERSISTENCE: persistence, PLINTH_KILL_ROUNDS: '40', ...settings }
  const { output, ended } = await boot({
    ...machine,
    command: [
      ...Object.entries(wanted).map(([name, value]) => `export ${name}=${value}`),
      `files=$(find ${files.map((file) => `dist/test/${file}`).join('* ')}* -name '*.test.js')`,
      // One after the other: they share the devices.
      'node --test --test-concurrency=1 --test-timeout=900000 ' +
        '--test-reporter=./scripts/test-reporter.mjs --test-reporter-destination=stdout $files',
    ].join('\n'),
  })
  let text = ''
  for await (const part of output) {
    process.stdout.write(part)
    text += part
  }
  if ((await ended) !== 0) throw new Error('a test failed')
  const count = (what) => Number(new RegExp(`^# ${what} (\\d+)`, 'm').exec(text)?.[1] ?? 0)
  if (count('pass') === 0) throw new Error('no test ran')
  return `${count('pass')} passed, ${count('skipped')} skipped`
}

/** A small generator of the numbers that decide when the power goes. */
function random(seed) {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/**
 * Boots a machine again and again on one memory, and cuts its power while it works. The machine says of each operation
 * when it is durable; the next one checks that all of these are there, and that the state is one between two operations.
 */
async function cutPower(device, cuts) {
  const folder = mkdtempSync(join(tmpdir(), 'plinth-pmem-'))
  const below = random(SEED)
  let acknowledged = -1
  try {
    for (let round = 0; round <= cuts; round++) {
      const isLast = round === cuts
      const machine = await boot({
        devices: [device],
        image: join(folder, 'memory'),
        command: `node dist/test/pmem/power-child.js "$PMEM_DEVICES" ${SEED} ${acknowledged} ${isLast ? 'check' : 'work'}`,
      })
      let text = ''
      let due = isLast
      for await (const part of machine.output) {
        text += part
        if (due || !/^ready$/m.test(text)) continue
        due = true
        setTimeout(() => machine.kill(), below(WORK_MS_MAX))
      }
      const status = await machine.ended
      // The last line may be cut.
      const lines = text.split('\n').slice(0, -1)
      const said = lines.filter((line) => /^\d+$/.test(line)).map(Number)
      if (status !== (isLast ? 0 : undefined))
        throw new Error(`round ${round}, TEST_SEED=${SEED}:\n${text}`)
      // What was found is durable as well.
      const found = Number(/^found (\d+)/m.exec(text)[1])
      acknowledged = Math.max(found, ...said)
      console.log(
        `${round}: ${lines.find((line) => line.startsWith('found'))}; then ${said.length} operations`,
      )
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  return `${cuts} power cuts, ${acknowledged} operations acknowledged, none lost (TEST_SEED=${SEED})`
}

const PARTS = {
  async suites() {
    await part('suites, ADR', () => suite({ devices: FOUR }, SUITES))
    const eadr = { devices: ['devdax:4K', 'ext4dax'], persistence: 'cpu_cache' }
    await part('suites, eADR', () => suite(eadr, SUITES))
    // Alone: what is bad stays bad while the machine runs.
    const some = { devices: ['devdax:4K', 'ext4dax', 'pmem'] }
    await part('bad blocks', () => suite(some, ['pmem/bad-blocks']))
    const unsaid = { devices: ['devdax:4K', 'ext4dax'], persistence: 'none' }
    await part('firmware that says nothing', () => suite(unsaid, ['pmem/probe']))
  },
  async processors() {
    for (const cpu of ['max,-clwb', 'max,-clwb,-clflushopt']) {
      await part(`processor ${cpu}`, () => suite({ cpu }, ['pmem/processor']))
    }
  },
  async cuts() {
    await part('power cuts, device-dax', () => cutPower('devdax:4K', CUTS))
    await part('power cuts, ext4 -o dax', () => cutPower('ext4dax', Math.ceil(CUTS / 5)))
    await part('power cuts, raw pmem', () => cutPower('pmem', Math.ceil(CUTS / 5)))
  },
  async short() {
    await part('a power cut, device-dax', () => cutPower('devdax:4K', 1))
  },
}

run('scripts/build.mjs')
try {
  guest()
} catch (error) {
  // Nothing was tested, and nothing failed.
  console.error(`the machine cannot be made here: ${error.message}`)
  process.exit(CANNOT_TEST)
}
const given = process.argv.slice(2)
for (const name of given.length > 0 ? given : ['suites', 'processors', 'cuts']) await PARTS[name]()
console.log(`\n${results.join('\n')}`)
