/**
 * better-sqlite3 (SQLite). With a write-ahead log and `synchronous = FULL` each commit waits for one fsync of the log; every
 * 1000 pages of log the pages are written in place and flushed.
 *
 * One table without a row number beside the key, prepared statements, a cache that holds all pages, reads by mmap.
 * `locking_mode = EXCLUSIVE` saves the locks between processes, as plinth has the device for itself too. It has no
 * asynchronous calls, so a flood gathers the puts of one turn in one transaction, as its users do.
 */
import { join } from 'node:path'
import type { Engine, Entry } from './engine.js'
import { addToChecksum } from './entries.js'
import { allocatedBytes, requireInstalled } from './installed.js'
import { TurnGroup } from './turn-group.js'

interface Statement {
  run(...values: unknown[]): unknown
  get(...values: unknown[]): unknown
  all(...values: unknown[]): unknown[]
  /** The first column instead of a row. */
  pluck(): Statement
  /** Rows as arrays. */
  raw(): Statement
}

interface Database {
  pragma(text: string): unknown
  exec(text: string): unknown
  prepare(text: string): Statement
  close(): void
}

type Module = new (path: string) => Database

const PRAGMAS = [
  'locking_mode = EXCLUSIVE',
  'journal_mode = WAL',
  'synchronous = FULL',
  'cache_size = -65536',
  'mmap_size = 1073741824',
]

export function makeBetterSqlite3(folder: string): Engine {
  return new Sqlite(folder)
}

class Sqlite implements Engine {
  readonly settings = `${PRAGMAS.join(', ')}, WITHOUT ROWID, prepared statements`
  readonly #Database = requireInstalled<Module>('better-sqlite3')
  readonly #folder: string
  readonly #group = new TurnGroup((entries) => this.batch(entries))
  #database!: Database
  #put!: Statement
  #get!: Statement
  #scan!: Statement
  #begin!: Statement
  #commit!: Statement

  constructor(folder: string) {
    this.#folder = folder
  }

  open(): undefined {
    const database = new this.#Database(join(this.#folder, 'entries.db'))
    for (const pragma of PRAGMAS) database.pragma(pragma)
    database.exec(
      'CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID',
    )
    this.#put = database.prepare('INSERT OR REPLACE INTO entries VALUES (?, ?)')
    this.#get = database.prepare('SELECT value FROM entries WHERE key = ?').pluck()
    this.#scan = database
      .prepare('SELECT key, value FROM entries WHERE key >= ? ORDER BY key LIMIT ?')
      .raw()
    this.#begin = database.prepare('BEGIN IMMEDIATE')
    this.#commit = database.prepare('COMMIT')
    this.#database = database
  }

  close(): undefined {
    this.#database.close()
  }

  put(key: Buffer, value: Buffer): undefined {
    this.#put.run(key, value)
  }

  batch(entries: readonly Entry[]): undefined {
    this.#begin.run()
    for (const { key, value } of entries) this.#put.run(key, value)
    this.#commit.run()
  }

  get(key: Buffer): Uint8Array | undefined {
    return this.#get.get(key) as Uint8Array | undefined
  }

  flood(entries: readonly Entry[]): Promise<unknown> {
    return this.#group.putAll(entries)
  }

  scan(from: Buffer, count: number): number {
    let sum = 0
    for (const [key, value] of this.#scan.all(from, count) as [Buffer, Buffer][]) {
      sum = addToChecksum(sum, key, value)
    }
    return sum
  }

  bytesOnDevice(): number {
    return allocatedBytes(this.#folder)
  }
}
