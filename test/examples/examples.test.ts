// Each example runs, says what it is to say, and leaves nothing behind.
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { runExample } from '../support/run-example.js'

/** A line each: its text, or a pattern for all of it. */
const expected: Record<string, (string | RegExp)[]> = {
  '01-quickstart': [
    /a volume on a \w+: page granularity, granules of 8192 bytes/,
    /users: chunk \d+, 65536 bytes/,
    'committed 1 user',
    'opened again: 1 user, Ada',
  ],
  '02-raw-chunk': [
    'two entries appended: 32 bytes',
    'a hundred more: 1632 bytes, 2 fences',
    'a thousand by write: 17632 bytes',
    'beyond the end: ERR_OUT_OF_RANGE',
    'closed: the view that was kept has 0 bytes',
    'opened again: 1102 entries, the last is 999',
  ],
  '03-transactions': [
    'transfer of 30 leaves 130: 70 and 130, 1 in the journal',
    'not enough money: 70 and 130, 1 in the journal; its new chunk exists: false',
    'replaced: accounts (8192), journal (8192); 1 in the journal',
    'barriers of 100 x transact: 100',
    'visible at once: 199',
    'barriers of 100 x transactAsync: 1',
  ],
  '04-crash-and-reopen': [
    /the writer was killed; it had been told of [1-9]\d* commits/,
    'closed in order: no',
    /recovery replayed \d+ records, \d+ bytes, in \d+\.\d ms/,
    'all 16 places hold the same number: yes',
    'every acknowledged commit is there: yes',
  ],
  '05-job-queue': [
    'three jobs: 3 ready, 0 leased, 0 done, 0 dead',
    'Oslo failed, it is ready: 1 ready, 1 leased, 1 done, 0 dead',
    'a second later: 2 ready, 0 leased, 1 done, 0 dead',
    'worker 3 after all: ERR_LEASE_LOST',
    'opened again: 2 ready, 0 leased, 1 done, 0 dead',
    'Pune failed again, it is dead: 0 ready, 0 leased, 2 done, 1 dead',
    '  job 1  Lima  1 attempts  done: sunny',
    '  job 2  Oslo  2 attempts  done: snow',
    '  job 3  Pune  2 attempts  dead',
    'five more: 1 barrier, 5 ready, 0 leased, 2 done, 1 dead',
    /one too many: ERR_QUEUE_FULL: all 8 slots are in use: .*/,
  ],
  '06-crash-test': [
    /the job queue: \d+ crash states at \d+ points, all right/,
    /the wrong engine: wrong after a crash at cache-line:\d+ with \d+ acknowledged: number \d is 0/,
    /repeat it with crashTest\(\{ …, seed: 1, only: 'cache-line:\d+' \}\)/,
  ],
  '07-key-value-server': [
    'entries: [["a","1"],["b","2"]]',
    /killed after [1-9]\d* answers to 8 writers/,
    'started again: 0 lost, 0 torn',
  ],
  '08-yjs': [
    "602 updates of 'Agenda: storage' stored",
    "opened again: 'Agenda: storage', 600 votes",
    'documents: minutes',
    'owner: {"name":"Ann"}',
    /[1-9]\d bytes later: 'Draft of Agenda: storage'/,
    'cleared: 0 documents left',
  ],
}

describe('examples', () => {
  test('none is forgotten here', () => {
    const folder = fileURLToPath(new URL('../../../examples', import.meta.url))
    const numbered = readdirSync(folder).filter((name) => /^\d\d-.*\.ts$/.test(name))
    const known = Object.keys(expected).map((name) => `${name}.ts`)
    assert.deepEqual(
      numbered.filter((name) => !known.includes(name)),
      [],
    )
  })

  for (const [name, lines] of Object.entries(expected)) {
    test(name, () => {
      const run = runExample(name)
      assert.equal(run.errors, '')
      assert.equal(run.code, 0)
      assert.equal(run.lines.length, lines.length, run.lines.join('\n'))
      for (const [i, line] of lines.entries()) {
        if (typeof line === 'string') assert.equal(run.lines[i], line)
        else assert.match(run.lines[i]!, new RegExp(`^(?:${line.source})$`))
      }
      assert.deepEqual(run.left, [])
    })
  }
})

describe('demo', () => {
  const folder = mkdtempSync(join(tmpdir(), 'plinth-demo-test-'))
  after(() => rmSync(folder, { recursive: true }))

  function demandSuccess(run: ReturnType<typeof runExample>, kills: number): void {
    const text = run.lines.join('\n')
    assert.equal(run.errors, '')
    assert.equal(run.code, 0, text)
    const rounds = run.lines.filter((line) => /^ {2}(?:SIGKILL|itself) /.test(line))
    // On a busy machine the child may be through before the last kills reach it.
    assert(rounds.length > kills / 2 && rounds.length <= kills + 1, text)
    const counts = rounds.map((line) => line.trim().split(/\s+/).slice(1, 6).map(Number))
    for (const [queued, done, queuedFound, doneFound, lost] of counts) {
      assert(queued! <= queuedFound! && done! <= doneFound! && lost === 0, text)
    }
    assert.match(rounds.at(-1)!, /^ {2}itself /)
    assert.deepEqual(counts.at(-1)!.slice(2), [150, 150, 0], text)
    assert.match(text, /\n {2}volume {3}m+L+A+B+ \.\.\. [\d.]+ MiB free \.\.\. m\n/)
    assert.match(text, /until durable: median [1-9]\d* us, p99 [1-9]\d* us/)
    assert.match(text, /\nevery one of \d+ acknowledged jobs is there: 0 lost\n/)
    assert.match(text, /\nall of (\d+) acknowledged results are there, \1 compared with/)
    assert.deepEqual(run.left, [])
  }

  test('in a temporary file', () => {
    demandSuccess(runExample('demo', '--files', '150', '--rounds', '5'), 5)
  })

  test('in a file that it makes, keeps, and takes again', () => {
    const path = join(folder, 'kept')
    const args = ['--files', '150', '--rounds', '1', path]
    demandSuccess(runExample('demo', ...args), 1)
    assert.equal(statSync(path).size, 64 * 1024 * 1024)
    demandSuccess(runExample('demo', ...args), 1)
  })

  test('what holds something else is left alone', () => {
    const path = join(folder, 'precious')
    const contents = Buffer.alloc(2 * 1024 * 1024, 'precious ')
    writeFileSync(path, contents)
    const run = runExample('demo', '--files', '150', path)
    assert.match(
      run.errors,
      /^demo: .* holds .*; the demo overwrites nothing but an earlier demo\n$/,
    )
    assert.equal(run.code, 1)
    assert.deepEqual(run.lines, [])
    assert(readFileSync(path).equals(contents))
  })

  test('wrong arguments are told', () => {
    for (const args of [['--files', 'many'], ['--rounds', '0'], ['a', 'b'], ['--fast']]) {
      const run = runExample('demo', ...args)
      assert.match(run.errors, /^demo: /)
      assert.equal(run.code, 1)
    }
  })
})
