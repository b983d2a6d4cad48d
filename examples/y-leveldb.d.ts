// The package has types and does not let them be found; here is what the example uses.
declare module 'y-leveldb' {
  import type { Doc } from 'yjs'

  interface PersistenceOptions {
    /** Any class of the Level family. */
    readonly Level?: new (
      location: string,
      options: object,
    ) => object
    readonly levelOptions?: object
  }

  export class LeveldbPersistence {
    constructor(location: string, options?: PersistenceOptions)
    getYDoc(name: string): Promise<Doc>
    /** Resolves with the number of the stored update. */
    storeUpdate(name: string, update: Uint8Array): Promise<number>
    getDiff(name: string, stateVector: Uint8Array): Promise<Uint8Array>
    clearDocument(name: string): Promise<void>
    setMeta(name: string, key: string, value: unknown): Promise<void>
    getMeta(name: string, key: string): Promise<unknown>
    getAllDocNames(): Promise<string[]>
    destroy(): Promise<void>
  }
}
