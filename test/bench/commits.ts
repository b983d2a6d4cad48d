/** What a durable operation costs where the processor's caches are flushed, beside what it is made of. */
import diagnostics from 'node:diagnostics_channel'
import { insideOf } from '../../src/allocator/chunk.js'
import type { ChunkStore } from '../../src/allocator/chunk-store.js'
import { LINE_BYTES, MIB } from '../../src/base/units.js'
import { RECORD_HEADER_BYTES } from '../../src/layout/record.js'
import { MAILBOX, Staging } from '../../src/media/staging.js'
import { loadAddon } from '../../src/native/load.js'
import type { Transaction } from '../../src/transaction/transaction.js'
import type { Volume } from '../../src/volume/volume.js'
import { type Timed, timeRounds } from './measure.js'
import {
  makeMapping,
  makeSparseVolume,
  operationsPerLap,
  type Scratch,
  scattered,
} from './scratch.js'
import type { Bench, Suite } from './suite.js'

/** Small, so that a round is a lap and yet short; with 16 MiB an operation costs the same. */
const LOG_BYTES = MIB
/** What commits in order go round in: it stays in the cache, and no line comes twice in a lap. */
const HOT_BYTES = 2 * MIB
/** What the others are scattered over: it does not. */
const COLD_BYTES = 64 * MIB

interface Case extends Timed {
  note?(): string
  close?(): void
}

const MAKERS: Record<string, (scratch: Scratch, name: string) => Case> = {
  'syscall-noop': noopSystemCall,
  'native-call': nativeCall,
  'append-64B': append,
  'persist-line': persistLine,
  'transact-empty': transactEmpty,
  'commit-call-64B': commitCall,
  'commit-64B': (scratch, name) => commit(scratch, name, inOrder, HOT_BYTES),
  'commit-64B-closure': commitClosure,
  'commit-64B-random': (scratch, name) => commit(scratch, name, anywhere, COLD_BYTES),
  'commit-16x64B': commitMany,
  'commit-64B-bare': commitBare,
  'commit-64B-unheard': (scratch, name) => commit(scratch, name, inOrder, HOT_BYTES),
  'commit-64B-heard': commitHeard,
}

/**
 * Compared with each other, so in turn with each other alone: what else runs would take their caches.
 * Nobody subscribes before the last: code that has seen a subscriber is other code.
 */
const COMPARED = [
  ['append-64B', 'commit-64B'],
  ['commit-64B-bare', 'commit-64B-unheard'],
]
const LAST = ['commit-64B-heard']

export const commits: Suite = {
  names: Object.keys(MAKERS),
  async run(bench: Bench): Promise<void> {
    const others = this.names.filter((name) => ![...COMPARED.flat(), ...LAST].includes(name))
    for (const group of [...COMPARED, others, LAST]) {
      await timeCases(
        bench,
        group.filter((name) => bench.wants(name)),
      )
    }
  },
}

async function timeCases(bench: Bench, names: readonly string[]): Promise<void> {
  const cases: Case[] = []
  try {
    for (const name of names) cases.push(MAKERS[name]!(bench.scratch, name))
    const samples = await timeRounds(cases, bench.plan({ rounds: 500, warmup: 50 }))
    for (const { name, note } of cases) {
      bench.report({
        name,
        unit: 'ns',
        samples: samples.get(name)!,
        sample: 'round',
        note: note?.() ?? '',
      })
    }
  } finally {
    for (const { close } of cases) close?.()
  }
}

function noopSystemCall(_scratch: Scratch, name: string): Case {
  const { getuid } = process
  return {
    name,
    operations: 4096,
    run(operations) {
      for (let i = 0; i < operations; i++) getuid!()
    },
    note: () => 'getuid of Node',
  }
}

function nativeCall(_scratch: Scratch, name: string): Case {
  const addon = loadAddon()!
  return {
    name,
    operations: 32768,
    run(operations) {
      for (let i = 0; i < operations; i++) addon.fence()
    },
    note: () => 'Node-API, no arguments: a fence with nothing to wait for',
  }
}

/** The floor: a line stored in a ring of the log's size, written back, fenced. */
export function append(scratch: Scratch, name: string): Case {
  const addon = loadAddon()!
  const { slot, memory } = makeMapping(scratch, LOG_BYTES)
  const words = new Float64Array(memory)
  const lineShift = Math.log2(LINE_BYTES)
  const line = Uint32Array.of(slot, 0)
  let at = 0
  return {
    name,
    operations: 4096,
    run(operations) {
      for (let i = 0; i < operations; i++) {
        const from = at / 8
        for (let word = 0; word < LINE_BYTES / 8; word++) words[from + word] = i
        line[1] = at / LINE_BYTES
        addon.persistUnits(line, 1, lineShift)
        at = (at + LINE_BYTES) % LOG_BYTES
      }
    },
    close: () => addon.unmap(slot),
    note: () => 'the floor: one line stored, written back, fenced',
  }
}

/** What of a commit is not the commit: the way in and out. */
function transactEmpty(scratch: Scratch, name: string): Case {
  const { volume, close } = open(scratch, HOT_BYTES)
  return {
    name,
    operations: 16384,
    run(operations) {
      for (let i = 0; i < operations; i++) volume.transact(() => i)
    },
    close,
    note: () => 'volume.transact of nothing: no record, no fence',
  }
}

/** The native part of commit-64B: a record that is ready, checksummed, appended, fenced, applied. */
export function commitCall(scratch: Scratch, name: string): Case {
  const addon = loadAddon()!
  const log = makeMapping(scratch, LOG_BYTES)
  const target = makeMapping(scratch, HOT_BYTES)
  const staging = new Staging()
  const { u8, mailbox, targets } = staging
  const payloadAt = RECORD_HEADER_BYTES + 8
  staging.bytes = payloadAt + LINE_BYTES
  staging.target(target.slot, 0, payloadAt, LINE_BYTES)
  mailbox[MAILBOX.LOG_SLOT] = log.slot
  mailbox[MAILBOX.RECORD_BYTES] = staging.bytes
  mailbox[MAILBOX.TARGET_COUNT] = staging.targetCount
  const call = addon.bindCommit(u8.buffer as ArrayBuffer, mailbox, targets)
  let done = 0
  return {
    name,
    operations: 4096,
    run(operations) {
      for (let i = 0; i < operations; i++, done++) {
        mailbox[MAILBOX.LOG_OFFSET] = (done * 2 * LINE_BYTES) % LOG_BYTES
        targets[1] = (done * LINE_BYTES) % HOT_BYTES
        call()
      }
    },
    close() {
      addon.unmap(log.slot)
      addon.unmap(target.slot)
    },
    note: () => 'the native call of commit-64B alone, its record ready',
  }
}

function persistLine(scratch: Scratch, name: string): Case {
  const { chunk, close } = open(scratch, HOT_BYTES)
  const { view } = chunk
  let at = 0
  return {
    name,
    operations: 4096,
    run(operations) {
      for (let i = 0; i < operations; i++) {
        view.setUint32(at, i, true)
        chunk.persist(at, LINE_BYTES)
        at = (at + LINE_BYTES) % LOG_BYTES
      }
    },
    close,
    note: () => 'one word stored, chunk.persist',
  }
}

type Places = (index: number) => number

const inOrder: Places = (index) => (index * LINE_BYTES) % HOT_BYTES

const lines = scattered(2 ** 18, COLD_BYTES / LINE_BYTES)
const anywhere: Places = (index) => lines[index % lines.length]! * LINE_BYTES

function commit(scratch: Scratch, name: string, place: Places, chunkBytes: number): Case {
  const { volume, chunk, close } = open(scratch, chunkBytes)
  const bytes = new Uint8Array(64).fill(7)
  const lap = operationsPerLap(volume, () => {
    volume.transact((tx) => tx.write(chunk, 0, bytes))
  })
  let done = 0
  let at = 0
  // Made once, as an engine does on its hot path: a function for each commit is garbage, and its
  // collection is another question (commit-64B-closure).
  const once = (tx: Transaction) => tx.write(chunk, at, bytes)
  return {
    name,
    operations: lap,
    run(operations) {
      for (let i = 0; i < operations; i++) {
        at = place(done++)
        volume.transact(once)
      }
    },
    close,
    note: () => checkpointNote(volume, done),
  }
}

/** commit-64B without `volume.transact`: no look whether somebody listens, and none of its checks. */
function commitBare(scratch: Scratch, name: string): Case {
  const { volume, chunk, close } = open(scratch, HOT_BYTES)
  const bytes = new Uint8Array(64).fill(7)
  const { context } = insideOf(chunk).store as ChunkStore
  const tx = volume.transact((tx) => ({ tx })).tx
  let done = 0
  const once = () => {
    context.begin('transact')
    tx.write(chunk, inOrder(done++), bytes)
    context.commit()
    context.finish()
  }
  return {
    ...laps(volume, name, once),
    close,
    note: () => 'its transaction alone, without volume.transact',
  }
}

/** Laps of the log, one call after the other. */
function laps(volume: Volume, name: string, once: () => void): Timed {
  return {
    name,
    operations: operationsPerLap(volume, once),
    run(operations) {
      for (let i = 0; i < operations; i++) once()
    },
  }
}

/** commit-64B while somebody listens. */
function commitHeard(scratch: Scratch, name: string): Case {
  const { close, ...kept } = commit(scratch, name, inOrder, HOT_BYTES)
  let messages = 0
  const hear = () => {
    messages++
  }
  diagnostics.subscribe('plinth:operation', hear)
  return {
    ...kept,
    close() {
      diagnostics.unsubscribe('plinth:operation', hear)
      close?.()
    },
    note: () => `a subscriber has counted its ${messages} messages`,
  }
}

/** commit-64B with a new function each time, as programs are mostly written. */
function commitClosure(scratch: Scratch, name: string): Case {
  const { volume, chunk, close } = open(scratch, HOT_BYTES)
  const bytes = new Uint8Array(64).fill(7)
  let done = 0
  const once = () => {
    const at = inOrder(done++)
    volume.transact((tx) => tx.write(chunk, at, bytes))
  }
  return { ...laps(volume, name, once), close, note: () => checkpointNote(volume, done) }
}

function commitMany(scratch: Scratch, name: string): Case {
  const { volume, chunk, close } = open(scratch, HOT_BYTES)
  const bytes = new Uint8Array(64).fill(7)
  let done = 0
  const once = () => {
    const first = done++ * 16
    volume.transact((tx) => {
      for (let i = 0; i < 16; i++) tx.write(chunk, inOrder(first + i), bytes)
    })
  }
  return {
    name,
    operations: operationsPerLap(volume, once),
    run(operations) {
      for (let i = 0; i < operations; i++) once()
    },
    close,
    note: () => checkpointNote(volume, done),
  }
}

function open(scratch: Scratch, chunkBytes: number) {
  const made = makeSparseVolume(scratch, {
    sizeBytes: 2 * COLD_BYTES,
    granuleBytes: 2 * MIB,
    logBytes: LOG_BYTES,
    storedBytes: chunkBytes,
  })
  const volume = made.open()
  const chunk = volume.allocate({ size: chunkBytes })
  // Every page exists before the first round: what a page fault costs is another question.
  chunk.bytes.fill(0)
  const close = () => {
    volume.close()
    made.remove()
  }
  return { volume, chunk, close }
}

function checkpointNote(volume: Volume, commits: number): string {
  const { checkpoints } = volume.stats()
  if (checkpoints < 2) throw new Error('the log never came round')
  return `a checkpoint every ${Math.round(commits / checkpoints)} included`
}
