import { makeBetterSqlite3 } from './better-sqlite3.js'
import { makeClassicLevel } from './classic-level.js'
import type { MakeEngine } from './engine.js'
import { makeLmdb } from './lmdb.js'
import { makePlinth } from './plinth.js'

export const OWN = 'plinth'

export const ENGINES: Readonly<Record<string, MakeEngine>> = {
  [OWN]: makePlinth,
  lmdb: makeLmdb,
  'classic-level': makeClassicLevel,
  'better-sqlite3': makeBetterSqlite3,
}
