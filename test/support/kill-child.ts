/** Works on a volume until it is killed, and says on stdout after each operation how far it came. */
import { writeSync } from 'node:fs'
import { Volume } from 'plinth'
import { operation, perform } from './kill-model.js'

const [path, options, seed, first] = process.argv.slice(2)
const volume = Volume.open(path!, JSON.parse(options!))
const acknowledge = (n: number) => writeSync(1, `${n}\n`)

writeSync(1, 'ready\n')
for (let n = Number(first); ; ) {
  if (operation(Number(seed), n).waits) {
    perform(volume, Number(seed), n)
    acknowledge(n++)
    // What waits off this thread comes by.
    if (n % 16 === 0) await new Promise((resolve) => setImmediate(resolve))
    continue
  }
  const wave: Promise<unknown>[] = []
  for (; !operation(Number(seed), n).waits; n++) {
    const own = n
    wave.push(perform(volume, Number(seed), n)!.then(() => acknowledge(own)))
  }
  await Promise.all(wave)
}
