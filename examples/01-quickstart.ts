// A volume in a file: format it, change it, close it, find everything again.
//
//   node dist/examples/01-quickstart.js
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Volume } from 'plinth'

const folder = mkdtempSync(join(tmpdir(), 'plinth-quickstart-'))
try {
  // A file will do to try it; a block device or /dev/dax0.0 in earnest. Whatever holds something
  // is refused, unless it is told `force: true`.
  const path = join(folder, 'first.plinth')
  Volume.format(path, { size: 16 * 1024 * 1024, label: 'quickstart' })

  // `using` closes the volume when the block ends, however it ends. Until then it is ours alone:
  // a second open, here or in another process, gets ERR_VOLUME_BUSY.
  {
    using volume = Volume.open(path)
    const { kind, granularity, granule } = volume.info
    console.log(`a volume on a ${kind}: ${granularity} granularity, granules of ${granule} bytes`)

    // A chunk is pinned: its offset and size are the same for as long as it exists, and every byte
    // of it is backed now. Durable when the call returns.
    const users = volume.allocate({ name: 'users', size: 64 * 1024, zero: true })
    console.log(`users: chunk ${users.id}, ${users.size} bytes`)

    // All of it or nothing, whatever happens; durable when it returns, for one wait on the device.
    const total = volume.transact((tx) => {
      tx.write(users, 8, new TextEncoder().encode('Ada'))
      tx.setUint64(users, 0, 1)
      return tx.getUint64(users, 0) // a transaction sees what it wrote
    })
    console.log(`committed ${total} user`)
  }

  using volume = Volume.open(path)
  const users = volume.chunk('users')
  // Plain loads from the mapping: nothing is copied to read.
  const count = users.view.getBigUint64(0, true)
  const name = new TextDecoder().decode(users.bytes.subarray(8, 11))
  console.log(`opened again: ${count} user, ${name}`)
} finally {
  rmSync(folder, { recursive: true })
}
