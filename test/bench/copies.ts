/** Large writes: the durable way of a chunk beside the best durable copy in C and one that is not durable. */
import { MIB } from '../../src/base/units.js'
import { loadAddon } from '../../src/native/load.js'
import { median, type Timed, timeRounds } from './measure.js'
import { makeMapping, makeSparseVolume, type Scratch } from './scratch.js'
import type { Bench, Suite } from './suite.js'

/** Larger than the caches: every copy goes to memory. */
const AREA_BYTES = 64 * MIB

interface Case extends Timed {
  readonly note: string
  close(): void
}

/** Each copies to the next MiB of its own area. */
const MAKERS: Record<string, (scratch: Scratch, name: string, source: Uint8Array) => Case> = {
  'copy-nt-1MiB': copyNative,
  'chunk-write-1MiB': chunkWrite,
  'memory-copy-1MiB': copyMemory,
}

export const copies: Suite = {
  names: Object.keys(MAKERS),
  async run(bench: Bench): Promise<void> {
    const source = new Uint8Array(MIB).fill(7)
    const cases: Case[] = []
    try {
      for (const name of this.names) {
        if (bench.wants(name)) cases.push(MAKERS[name]!(bench.scratch, name, source))
      }
      const all = await timeRounds(cases, bench.plan({ rounds: 500, warmup: 50 }))
      for (const { name, note } of cases) {
        const samples = all.get(name)!
        const rate = `${(MIB / median(samples)).toFixed(1)} GB/s`
        bench.report({ name, unit: 'us', samples, sample: 'round', note: `${rate}, ${note}` })
      }
    } finally {
      for (const { close } of cases) close()
    }
  },
}

function rounds(name: string, note: string, copy: (at: number) => void, close: () => void): Case {
  let at = 0
  return {
    name,
    note,
    operations: 8,
    run(operations) {
      for (let i = 0; i < operations; i++) {
        copy(at)
        at = (at + MIB) % AREA_BYTES
      }
    },
    close,
  }
}

function copyNative(scratch: Scratch, name: string, source: Uint8Array): Case {
  const addon = loadAddon()!
  const { slot, memory } = makeMapping(scratch, AREA_BYTES)
  new Uint8Array(memory).fill(0)
  return rounds(
    name,
    'copy, write-back and fence in C',
    (at) => addon.copyPersist(slot, at, source),
    () => addon.unmap(slot),
  )
}

function chunkWrite(scratch: Scratch, name: string, source: Uint8Array): Case {
  const made = makeSparseVolume(scratch, {
    sizeBytes: 2 * AREA_BYTES,
    granuleBytes: 2 * MIB,
    logBytes: MIB,
    storedBytes: AREA_BYTES,
  })
  const volume = made.open()
  const chunk = volume.allocate({ size: AREA_BYTES, zero: true })
  return rounds(
    name,
    'chunk.write',
    (at) => chunk.write(at, source),
    () => {
      volume.close()
      made.remove()
    },
  )
}

function copyMemory(scratch: Scratch, name: string, source: Uint8Array): Case {
  const addon = loadAddon()!
  const { slot, memory } = makeMapping(scratch, AREA_BYTES)
  const bytes = new Uint8Array(memory)
  bytes.fill(0)
  return rounds(
    name,
    'Uint8Array.set to the same kind of mapping; not durable',
    (at) => bytes.set(source, at),
    () => addon.unmap(slot),
  )
}
