/** What a page knows of the volume that it draws. */
import type { Owner } from './picture.js'
import type { Stretch } from './residency.js'

export interface PageData {
  readonly size: number
  readonly granule: number
  readonly freeBytes: number
  readonly owners: readonly Owner[]
  readonly areas: readonly Omit<Stretch, 'chunk'>[]
  readonly types: readonly string[]
  readonly chunks: {
    readonly offset: readonly number[]
    readonly size: readonly number[]
    readonly id: readonly number[]
    readonly name: readonly string[]
    readonly type: readonly number[]
    readonly owner: readonly number[]
  }
  /** Undefined where the kernel does not tell. */
  readonly memory: PageMemory | undefined
}

/** How much is in memory, in bytes. */
export interface PageMemory {
  readonly bytes: number
  readonly areas: readonly number[]
  readonly chunks: readonly number[]
  readonly cellBytes: number
  /** Percent of each cell, rounded up. */
  readonly cells: readonly number[]
}
