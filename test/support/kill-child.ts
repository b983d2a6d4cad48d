/** Works on a volume until it is killed, and says on stdout after each operation how far it came. */
import { writeSync } from 'node:fs'
import { Volume } from 'plinth'
import { work } from './kill-model.js'

const [path, options, seed, first] = process.argv.slice(2)
const volume = Volume.open(path!, JSON.parse(options!))
writeSync(1, 'ready\n')
await work(volume, Number(seed), Number(first), (n) => writeSync(1, `${n}\n`))
