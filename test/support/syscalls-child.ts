/** Commits on a volume between two marks that a trace of system calls shows. */
import { writeSync } from 'node:fs'
import { Volume } from 'plinth'

const [path, commits, options] = process.argv.slice(2)
const volume = Volume.open(path!, JSON.parse(options!))
const chunk = volume.allocate({ size: 65_536, zero: true })
const bytes = new Uint8Array(64).fill(7)
let at = 0
const work = (tx: Parameters<Parameters<Volume['transact']>[0]>[0]): void => {
  tx.write(chunk, at, bytes)
}

function commit(count: number): void {
  for (let i = 0; i < count; i++) {
    at = (i & 1023) * 64
    volume.transact(work)
  }
}

// Compiled, and nothing under way, before it counts.
commit(200_000)
const before = volume.stats()
writeSync(2, 'mark: begin\n')
commit(Number(commits))
writeSync(2, 'mark: end\n')
const after = volume.stats()
volume.close()
console.log(
  JSON.stringify({
    fences: after.counters.fences - before.counters.fences,
    checkpoints: after.checkpoints - before.checkpoints,
  }),
)
