/** A test of the tests: one mutation of each class, which the lab must notice. All of them: `npm run test:mutations`. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allMutations, findSites, tryMutation } from './mutations.js'
import { CHECKS, importWithout } from './without.js'

const SECONDS_MAX = 60

/** Of each class the most telling one. */
const KNOWN_BAD = [
  ['a missing fence of a commit', 'skip fence of #commit for Log.commit'],
  ['a late fence of a persist', 'delay fence of #fence for Log.persist'],
  ['a missing write-back of a raw store', 'skip flush of #flush for Log.persist'],
  [
    'a late write-back of an in-place location',
    'delay flush of DirtyUnits.persist for #checkpoint',
  ],
  ['a record appended after its fence', 'delay append of #commit for Log.commit'],
  [
    'a missing fence of the checkpoint headers',
    'skip fence of #persist for CheckpointHeaders.write',
  ],
  ['no checksum of records', 'without recordChecksum'],
  ['no log salt', 'without recordSalt'],
  ['no revocation', 'without revocation'],
  ['no look at what is dirty', 'without dirtyBeforeRawStore'],
  ['in-place locations before their records', 'without durableBeforeInPlace'],
] as const

const mutations = allMutations(findSites(120))

for (const [what, name] of KNOWN_BAD) {
  test(`the lab notices ${what}`, async () => {
    const mutation = mutations.find((each) => each.name === name)
    assert.ok(
      mutation,
      `no such place any more: ${name}; there are ${mutations.map((each) => each.name).join(', ')}`,
    )
    assert.notEqual(await tryMutation(mutation, SECONDS_MAX), undefined)
  })
}

test('without a mutation nothing is noticed', async () => {
  const harmless = { name: 'nothing', judge: () => 'go' as const }
  assert.equal(await tryMutation(harmless, 1), undefined)
})

test('every check is where the table says', async () => {
  for (const [check, [file]] of Object.entries(CHECKS)) {
    await importWithout(check, new URL(`../../src/${file}`, import.meta.url))
  }
})
