// Transactions: several chunks, names, new chunks and freed ones, all or nothing.
//
//   node dist/examples/03-transactions.js
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Volume } from 'plinth'

const folder = mkdtempSync(join(tmpdir(), 'plinth-transactions-'))
try {
  const path = join(folder, 'accounts.plinth')
  // Each barrier ends a page of the log: a log of 1 MiB takes 256 of them before it starts anew.
  Volume.format(path, { size: 16 * 1024 * 1024, logSize: 1024 * 1024 })
  using volume = Volume.open(path)

  const accounts = volume.allocate({ name: 'accounts', size: 4096, zero: true })
  const journal = volume.allocate({ name: 'journal', size: 4096, zero: true })
  volume.transact((tx) => {
    tx.setUint32(accounts, 0, 100)
    tx.setUint32(accounts, 4, 100)
  })
  const show = () =>
    `${accounts.view.getUint32(0, true)} and ${accounts.view.getUint32(4, true)}, ` +
    `${journal.view.getUint32(0, true)} in the journal`

  // Two chunks change together. Reads in a transaction see its own writes; the chunk's views show
  // them once it has committed.
  const transfer = (amount: number): number =>
    volume.transact((tx) => {
      tx.setUint32(accounts, 0, tx.getUint32(accounts, 0) - amount)
      tx.setUint32(accounts, 4, tx.getUint32(accounts, 4) + amount)
      tx.setUint32(journal, 0, tx.getUint32(journal, 0) + 1)
      return tx.getUint32(accounts, 4)
    })
  console.log(`transfer of 30 leaves ${transfer(30)}: ${show()}`)

  // Throwing aborts: nothing was written anywhere, not even for a moment.
  try {
    volume.transact((tx) => {
      tx.setUint32(accounts, 0, 0)
      volume.allocate({ name: 'never', size: 4096 })
      throw new Error('not enough money')
    })
  } catch (error) {
    const isThere = volume.findChunk('never') !== undefined
    console.log(`${(error as Error).message}: ${show()}; its new chunk exists: ${isThere}`)
  }

  // A new version of a chunk takes the place of the old one: the allocation, the contents, both
  // names and the free are one commit. Whoever opens the volume after a crash finds one journal.
  const next = volume.transact((tx) => {
    const chunk = volume.allocate({ name: 'journal-next', size: 8192 })
    tx.write(chunk, 0, tx.read(journal, 0, 4))
    volume.free(journal)
    volume.rename(chunk, 'journal')
    return chunk
  })
  const names = volume.chunks().map(({ name, size }) => `${name} (${size})`)
  console.log(`replaced: ${names.join(', ')}; ${next.view.getUint32(0, true)} in the journal`)

  // A wait for the device costs what the device costs, so those who can wait together should.
  // `transact` waits in the call. `transactAsync` leaves the event loop free, and all that are
  // under way at the same time share a barrier.
  const barriers = () => volume.stats().counters.barriers
  let before = barriers()
  for (let i = 0; i < 100; i++) volume.transact((tx) => tx.setUint32(accounts, 8, i))
  console.log(`barriers of 100 x transact: ${barriers() - before}`)

  before = barriers()
  const commits = Array.from({ length: 100 }, (_, i) =>
    volume.transactAsync((tx) => tx.setUint32(accounts, 8, 100 + i)),
  )
  // Visible at once, so that the next transaction builds on it; durable when the promise resolves.
  console.log(`visible at once: ${accounts.view.getUint32(8, true)}`)
  await Promise.all(commits)
  console.log(`barriers of 100 x transactAsync: ${barriers() - before}`)
} finally {
  rmSync(folder, { recursive: true })
}
