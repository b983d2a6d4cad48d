import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { Volume } from 'plinth'
import { MIB, type Place, places } from '../support/devices.js'

const program = new URL('../support/worker-child.js', import.meta.url)

interface Working {
  readonly worker: Worker
  readonly path: string
  readonly progress: Int32Array
  readonly stop: Int32Array
}

function start(at: Place, path: string): Working {
  const [progress, stop] = [new SharedArrayBuffer(4), new SharedArrayBuffer(4)]
  const worker = new Worker(program, { workerData: { path, options: at.options, progress, stop } })
  return { worker, path, progress: new Int32Array(progress), stop: new Int32Array(stop) }
}

/** Waits until a worker has committed so often; rejects when it fails. */
async function committed({ worker, progress }: Working, count: number): Promise<void> {
  let failure: unknown
  const onError = (error: unknown) => {
    failure = error
  }
  worker.once('error', onError)
  while (Atomics.load(progress, 0) < count) {
    if (failure !== undefined) throw failure
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  worker.off('error', onError)
}

describe('volumes in worker threads', () => {
  // mmap-io does not load in a worker.
  for (const at of places.filter(({ backend, isFile }) => backend === 'native' && isFile)) {
    it(`three at once, one of them terminated: ${at.name}`, { skip: at.skip }, async () => {
      await at.with(MIB, async (first) => {
        const paths = [first, `${first}-2`, `${first}-3`]
        for (const path of paths) {
          Volume.format(path, { size: MIB, ...at.options })
          const volume = Volume.open(path, at.options)
          volume.allocate({ size: 8192, name: 'chunk', zero: true })
          volume.close()
        }
        const working = paths.map((path) => start(at, path))
        try {
          await Promise.all(working.map((each) => committed(each, 60)))
          for (const { path } of working) {
            assert.throws(() => Volume.open(path, at.options), { code: 'ERR_VOLUME_BUSY' })
          }
          const [victim, ...others] = working
          await victim!.worker.terminate()
          const acknowledged = Atomics.load(victim!.progress, 0)

          // Its lock is free, its work is there, and the others go on.
          const volume = Volume.open(victim!.path, at.options)
          try {
            const { view } = volume.chunk('chunk')
            const n = view.getUint32(0, true)
            assert.ok(n === acknowledged || n === acknowledged + 1, `${n} of ${acknowledged}`)
            assert.equal(view.getUint32(4096, true), n)
            volume.transact((tx) => tx.setUint32(volume.chunk('chunk'), 0, 7))
          } finally {
            volume.close()
          }
          for (const each of others) {
            await committed(each, Atomics.load(each.progress, 0) + 20)
            const closed = once(each.worker, 'message')
            Atomics.store(each.stop, 0, 1)
            assert.deepEqual(await closed, ['closed'])
            const last = Atomics.load(each.progress, 0)
            const again = Volume.open(each.path, at.options)
            assert.equal(again.recovery.clean, true)
            assert.equal(again.chunk('chunk').view.getUint32(4096, true), last)
            again.close()
          }
        } finally {
          await Promise.all(working.map(({ worker }) => worker.terminate()))
        }
      })
    })
  }

  it('in the thread of a worker mmap-io is refused, or works', {
    skip: places[1]!.skip,
  }, async () => {
    const at = places[1]!
    await at.with(MIB, async (path) => {
      Volume.format(path, { size: MIB, ...at.options })
      const volume = Volume.open(path, at.options)
      volume.allocate({ size: 8192, name: 'chunk', zero: true })
      volume.close()
      const each = start(at, path)
      const outcome = await Promise.race([
        once(each.worker, 'error').then(([error]) => (error as { code?: string }).code),
        committed(each, 1).then(
          () => 'works',
          (error: { code?: string }) => error.code,
        ),
      ])
      await each.worker.terminate()
      assert.ok(outcome === 'works' || outcome === 'ERR_BACKEND_MISSING', String(outcome))
      Volume.open(path).close()
    })
  })
})
