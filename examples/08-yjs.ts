// Shared documents of Yjs on a volume: y-leveldb keeps them in whatever database of the Level family it is
// handed, so it is handed PlinthLevel. Nothing else changes.
//
//   node dist/examples/08-yjs.js
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PlinthLevel } from 'plinth/level'
import { LeveldbPersistence } from 'y-leveldb'
import * as Y from 'yjs'

const folder = mkdtempSync(join(tmpdir(), 'plinth-yjs-'))
// The volume is a file here; a device would do as well.
const path = join(folder, 'documents.plinth')
const levelOptions = { size: 32 * 1024 * 1024 }
const open = () => new LeveldbPersistence(path, { Level: PlinthLevel, levelOptions })

try {
  // Two people write in one document. Each change is an update, stored when its promise resolves.
  let store = open()
  const stored: Promise<number>[] = []
  const ann = documentOf((update) => stored.push(store.storeUpdate('minutes', update)))
  const bob = documentOf((update) => Y.applyUpdate(ann, update))
  ann.getText().insert(0, 'Agenda')
  Y.applyUpdate(bob, Y.encodeStateAsUpdate(ann))
  bob.getText().insert(6, ': storage')
  for (let n = 1; n <= 600; n++) ann.getArray('votes').push([n])
  await Promise.all(stored)
  await store.setMeta('minutes', 'owner', { name: 'Ann' })
  console.log(`${stored.length} updates of '${ann.getText()}' stored`)
  await store.destroy()

  // Whoever opens it later has the document, and merges its many updates into one.
  store = open()
  const minutes = await store.getYDoc('minutes')
  const votes = minutes.getArray<number>('votes').length
  console.log(`opened again: '${minutes.getText()}', ${votes} votes`)
  console.log(`documents: ${await store.getAllDocNames()}`)
  console.log(`owner: ${JSON.stringify(await store.getMeta('minutes', 'owner'))}`)

  // Somebody who was away gets what is missing, and no more.
  const before = Y.encodeStateVector(minutes)
  ann.getText().insert(0, 'Draft of ')
  await Promise.all(stored)
  const difference = await store.getDiff('minutes', before)
  Y.applyUpdate(minutes, difference)
  console.log(`${difference.length} bytes later: '${minutes.getText()}'`)

  await store.clearDocument('minutes')
  console.log(`cleared: ${(await store.getAllDocNames()).length} documents left`)
  await store.destroy()
} finally {
  rmSync(folder, { recursive: true })
}

function documentOf(onUpdate: (update: Uint8Array) => void): Y.Doc {
  const document = new Y.Doc()
  document.on('update', onUpdate)
  return document
}
