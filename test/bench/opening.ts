/** Opening a volume: one that was closed, and one that a crash left with 16 MiB in the log. */
import fs from 'node:fs'
import { GIB, LINE_BYTES, MIB, PAGE_BYTES, TIB } from '../../src/base/units.js'
import type { Recovery, Volume } from '../../src/index.js'
import { CHECKPOINT_AT } from '../../src/layout/geometry.js'
import { type Plan, timeOnce } from './measure.js'
import { makeSparseVolume, type SparseVolume, scattered } from './scratch.js'
import type { Bench, Suite } from './suite.js'

/** Closed properly, by size. */
const CLEAN = { 'open-clean': GIB, 'open-clean-1TiB': TIB }
/** After a crash that left commits of 64 bytes in the log, each to the next line or to any. */
const CRASHED: Record<string, () => Uint32Array> = {
  'recover-16MiB': inOrder,
  'recover-16MiB-random': anywhere,
}
const CHUNKS = 256
const LOGGED_BYTES = 16 * MIB
const CHUNK_BYTES = 64 * MIB
/** Fewer than the dirty lines at which a checkpoint comes although the log has room. */
const PLACES = 60_000

export const opening: Suite = {
  names: [...Object.keys(CLEAN), ...Object.keys(CRASHED)],
  async run(bench: Bench): Promise<void> {
    for (const [name, sizeBytes] of Object.entries(CLEAN)) {
      if (bench.wants(name)) timeClean(bench, name, sizeBytes)
    }
    for (const [name, places] of Object.entries(CRASHED)) {
      if (bench.wants(name)) timeRecovery(bench, name, places())
    }
  },
}

function timeClean(bench: Bench, name: string, sizeBytes: number): void {
  const made = makeSparseVolume(bench.scratch, {
    sizeBytes,
    granuleBytes: 2 * MIB,
    logBytes: 16 * MIB,
    storedBytes: 0,
  })
  try {
    const filled = made.open()
    for (let i = 0; i < CHUNKS; i++) filled.allocate({ size: 2 * MIB, name: `chunk-${i}` })
    filled.close()
    const samples = timeOpens(made, bench.plan({ rounds: 60, warmup: 6 }), ({ clean }) => {
      if (!clean) throw new Error('the volume was not closed properly')
    })
    const note = `Volume.open, ${CHUNKS} named chunks`
    bench.report({ name, unit: 'ms', samples, sample: 'operation', note })
  } finally {
    made.remove()
  }
}

function timeRecovery(bench: Bench, name: string, places: Uint32Array): void {
  const made = makeSparseVolume(bench.scratch, {
    sizeBytes: 256 * MIB,
    granuleBytes: 2 * MIB,
    logBytes: LOGGED_BYTES,
    storedBytes: CHUNK_BYTES,
  })
  try {
    const crashed = crash(made, places)
    const samples = timeOpens(
      made,
      bench.plan({ rounds: 40, warmup: 5 }),
      ({ recordsReplayed }) => {
        if (recordsReplayed !== crashed.records) {
          throw new Error(`${recordsReplayed} of ${crashed.records} records were replayed`)
        }
      },
      crashed.restore,
    )
    const note = `Volume.open, ${crashed.records} commits of 64 bytes to ${PLACES} lines`
    bench.report({ name, unit: 'ms', samples, sample: 'operation', note })
  } finally {
    made.remove()
  }
}

/** Times opening alone; what comes before it and closing are not timed. */
function timeOpens(
  made: SparseVolume,
  { rounds, warmup }: Plan,
  check: (recovery: Recovery) => void,
  before: () => void = () => {},
): Float64Array {
  const samples = new Float64Array(rounds)
  for (let round = -warmup; round < rounds; round++) {
    before()
    let volume: Volume | undefined
    const elapsed = timeOnce(() => {
      volume = made.open()
    })
    const { recovery } = volume!
    volume!.close()
    check(recovery)
    if (round >= 0) samples[round] = elapsed
  }
  return samples
}

function inOrder(): Uint32Array {
  return Uint32Array.from({ length: PLACES }, (_, line) => line)
}

function anywhere(): Uint32Array {
  return scattered(PLACES, CHUNK_BYTES / LINE_BYTES)
}

/**
 * Fills the log and keeps the checkpoint headers of that moment. Recovery leaves the records where they are
 * and only says in the checkpoint headers that they no longer count: with the old checkpoint headers put back the device
 * is as the crash left it.
 */
function crash(made: SparseVolume, places: Uint32Array): { records: number; restore(): void } {
  const volume = made.open()
  const chunk = volume.allocate({ size: CHUNK_BYTES })
  chunk.bytes.fill(0)
  volume.checkpoint()
  const bytes = new Uint8Array(LINE_BYTES).fill(7)
  const { checkpoints } = volume.stats()
  let records = 0
  // Full: another record and its skip would need a checkpoint.
  for (; volume.stats().logUsedBytes < LOGGED_BYTES - 4 * LINE_BYTES; records++) {
    const at = places[records % PLACES]! * LINE_BYTES
    volume.transact((tx) => tx.write(chunk, at, bytes))
  }
  if (volume.stats().checkpoints !== checkpoints) throw new Error('the log was emptied on the way')
  const checkpointHeaders = [CHECKPOINT_AT, made.geometry.checkpointCopyAt].map((at) => {
    const page = new Uint8Array(PAGE_BYTES)
    access(made.path, (fd) => fs.readSync(fd, page, 0, PAGE_BYTES, at))
    return { at, page }
  })
  volume.close()
  return {
    records,
    restore() {
      access(made.path, (fd) => {
        for (const { at, page } of checkpointHeaders) fs.writeSync(fd, page, 0, PAGE_BYTES, at)
      })
    },
  }
}

function access(path: string, body: (fd: number) => void): void {
  const fd = fs.openSync(path, 'r+')
  try {
    body(fd)
  } finally {
    fs.closeSync(fd)
  }
}
