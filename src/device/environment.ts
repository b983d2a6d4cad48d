/** What this machine and this installation offer, asked without any device. */
import { createRequire } from 'node:module'
import { addonError, loadAddon } from '../native/load.js'
import type { Backend } from './mapper.js'

/** What `environment` tells. */
export interface Environment {
  /** What maps devices when nothing else is asked for; undefined: nothing can. */
  readonly backend: Backend | undefined
  readonly addon:
    | {
        readonly loads: true
        /** The instruction that writes a cache line back. */
        readonly flushInstruction: string
        /** Whether CRC-32C is computed by an instruction. */
        readonly hardwareChecksum: boolean
      }
    | { readonly loads: false; readonly error: string }
  readonly mmapIo: { readonly loads: true } | { readonly loads: false; readonly error: string }
}

/** Looks at this process: whether the addon and mmap-io load, and what the addon found in the processor. */
export function environment(): Environment {
  const addon = loadAddon()
  const mmapIo = loadMmapIo()
  return {
    backend: addon !== undefined ? 'native' : mmapIo.loads ? 'mmap-io' : undefined,
    addon:
      addon === undefined
        ? { loads: false, error: addonError()!.message }
        : {
            loads: true,
            flushInstruction: addon.flushInstruction,
            hardwareChecksum: addon.hardwareChecksum,
          },
    mmapIo,
  }
}

function loadMmapIo(): Environment['mmapIo'] {
  try {
    createRequire(import.meta.url)('mmap-io')
    return { loads: true }
  } catch (error) {
    return { loads: false, error: (error as Error).message.split('\n', 1)[0]! }
  }
}
