/** Each sector that a barrier made durable, stale, lost or unreadable afterwards. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { makeAges } from './lab.js'
import { History, SECTOR_FAULTS, trySectors } from './sector-faults.js'

const WORK = [
  ['allocate', 'tx-write', 'publish'],
  ['allocate', 'tx-write', 'checkpoint', 'rename', 'tx-several'],
  ['allocate', 'publish', 'free', 'tx-several', 'tx-write', 'tx-write', 'tx-write'],
]

for (const fault of SECTOR_FAULTS) {
  describe(fault, () => {
    for (const age of makeAges().filter(
      ({ name }) => name === 'fresh' || name === 'log-block-at-end',
    )) {
      for (const work of WORK) {
        for (const operations of [work, [...work, 'close']]) {
          it(`${age.name}: ${operations.join(' ')}`, (t) => {
            const outcomes = trySectors(new History(age, operations), fault)
            assert.ok(outcomes.size > 0)
            t.diagnostic([...outcomes].map(([name, count]) => `${name} ${count}`).join(', '))
          })
        }
      }
    }
  })
}
