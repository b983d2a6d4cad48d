/** What an engine must do for the benchmark. One adapter each says in which of its own words. */

/** `shm`: memory that stands in for persistent memory; `disk`: a plain file on a disk. */
export type DeviceName = 'shm' | 'disk'

export interface Entry {
  readonly key: Buffer
  readonly value: Buffer
}

/** Nothing to wait for, where an engine works synchronously. */
export type Done = Promise<unknown> | undefined

/**
 * "Durable" is the same for all: the engine has had the operating system flush what it wrote and has
 * its word for it; power may fail, and nothing acknowledged is lost.
 */
export interface Engine {
  /** What was chosen of its settings. */
  readonly settings: string
  /** Makes what is not there yet. */
  open(): Done
  close(): Done
  /** One transaction, durable when done. */
  put(key: Buffer, value: Buffer): Done
  /** All of them in one transaction, durable when done. */
  batch(entries: readonly Entry[]): Done
  /** Synchronous. The bytes need to be valid until the next call only. */
  get(key: Buffer): Uint8Array | undefined
  /** One asynchronous put an entry, all under way at once; done when all are durable. */
  flood(entries: readonly Entry[]): Promise<unknown>
  /** The checksum (`addToChecksum`) of the first `count` entries at or after a key, in order. */
  scan(from: Buffer, count: number): number | Promise<number>
  /** Bytes of the device that hold entries or whatever belongs to them, after `close` and `open`. */
  bytesOnDevice(): number
}

/** `folder` is empty and the engine's own. */
export type MakeEngine = (folder: string, device: DeviceName) => Engine
