/**
 * One life of a machine between two power cuts: checks what the one before was told to be durable, says
 * what it found, and works on until the power goes. Each number on stdout is an operation that is durable.
 */
import assert from 'node:assert/strict'
import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { Volume } from 'plinth'
import { MIB } from '../support/devices.js'
import { KillModel, prepare, stateOf, work } from '../support/kill-model.js'

const [device, seedText, acknowledgedText, what] = process.argv.slice(2)
const [mode, place] = device!.trim().split('=') as [string, string]
const path = mode === 'ext4dax' ? join(place, 'volume') : place
const seed = Number(seedText)
const acknowledged = Number(acknowledgedText)

if (acknowledged < 0) {
  Volume.format(path, { size: 16 * MIB, granule: 4096, force: true })
  const made = Volume.open(path)
  prepare(made)
  made.close()
}
const model = new KillModel(seed)
while (model.done < acknowledged) model.advance()
const reader = Volume.open(path, { readOnly: true })
const found = stateOf(reader, model)
reader.close()
const volume = Volume.open(path)
const { recordsReplayed, repaired } = volume.recovery
assert.equal(found.difference(volume), undefined)
assert.equal(repaired, 0)
assert.deepEqual(volume.check(), [])
writeSync(
  1,
  `found ${found.done} of ${Math.max(0, acknowledged)} acknowledged, ${recordsReplayed} replayed\n`,
)
if (what === 'check') volume.close()
else {
  writeSync(1, 'ready\n')
  await work(volume, seed, found.done + 1, (n) => writeSync(1, `${n}\n`))
}
