// The long form of the fuzzers that know the structure of what they forge: a million images, 100 000 dump streams. About an hour.
//
//   npm run test:fuzz                            both
//   npm run test:fuzz -- property/images         one
//   TEST_SEED=1 npm run test:fuzz                with a seed that a failure printed
import { start } from './run.mjs'

const FILES = ['property/images', 'property/dump-stream']

const given = process.argv.slice(2)
process.exitCode = start(
  process.execPath,
  [
    'scripts/test.mjs',
    // Against what hangs.
    '--test-timeout=21600000',
    ...(given.length > 0 ? given : FILES),
  ],
  { stdio: 'inherit', env: { ...process.env, PLINTH_LONG: '1' } },
)
