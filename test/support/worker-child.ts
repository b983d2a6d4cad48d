/** Commits on a volume of its own, in a worker, until it is told to stop or terminated. */
import { parentPort, workerData } from 'node:worker_threads'
import { Volume } from 'plinth'

const { path, options } = workerData
const stop = new Int32Array(workerData.stop)
const progress = new Int32Array(workerData.progress)

const volume = Volume.open(path, options)
const chunk = volume.chunk('chunk')
for (let n = 1; Atomics.load(stop, 0) === 0; n++) {
  volume.transact((tx) => {
    tx.setUint32(chunk, 0, n)
    tx.setUint32(chunk, 4096, n)
  })
  // From here on it is durable, and may be told.
  Atomics.store(progress, 0, n)
  if (n % 50 === 0) {
    const extra = volume.allocate({ size: 4096 })
    extra.bytes.fill(1)
    volume.free(extra)
  }
}
volume.close()
parentPort!.postMessage('closed')
