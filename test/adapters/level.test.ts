// The public suite of abstract-level, all of it, on a file of page granularity and on memory of cache lines.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import type { AbstractDatabaseOptions } from 'abstract-level'
import type { Granularity } from 'plinth'
import { PlinthLevel } from 'plinth/level'
import { tmpfsLine } from '../support/devices.js'
import { tape } from '../support/tape.js'

type OpenOptions = Parameters<PlinthLevel['_open']>[0]
type Factory = (options?: AbstractDatabaseOptions<string, string>) => PlinthLevel
const suite: (options: { test: typeof tape; factory: Factory }) => void = createRequire(
  import.meta.url,
)('abstract-level/test')

const SIZE = 2 ** 20
const memory = existsSync('/dev/shm') ? '/dev/shm' : undefined

/** Each database is in a file of its own, which does not exist before. */
function run(folder: string, settings: { granularity: Granularity }): void {
  const files = mkdtempSync(join(folder, 'plinth-level-'))
  after(() => rmSync(files, { recursive: true }))
  let count = 0
  /** The suite looks at the options that hooks see: those of the test are not among them. */
  class Level extends PlinthLevel {
    override _open(options: OpenOptions): Promise<void> {
      return super._open({ ...settings, size: SIZE, ...options })
    }
  }
  suite({
    test: tape,
    factory: (options) => new Level(join(files, `${count++}`), options),
  })
}

describe('the public suite on a file', () => run(memory ?? tmpdir(), { granularity: 'page' }))

describe('the public suite on memory', { skip: tmpfsLine.skip }, () =>
  run(memory!, { granularity: 'cache-line' }),
)

test('the suite leaves nothing out: every feature is declared', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'plinth-level-'))
  try {
    await using db = new PlinthLevel(join(folder, 'db'), { size: SIZE })
    const { encodings, events, additionalMethods, streams, ...features } = db.supports
    assert.deepEqual(features, {
      deferredOpen: true,
      seek: true,
      has: true,
      getSync: true,
      permanence: true,
      snapshots: true,
      implicitSnapshots: true,
      explicitSnapshots: true,
      createIfMissing: true,
      errorIfExists: true,
      signals: { iterators: true },
    })
    assert(encodings.utf8 && encodings.buffer && encodings.view && encodings.json)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
