// Makes the tarball that is published: everything built, the addon prebuilt for every supported machine. Arguments go to
// `npm pack`. This is no prepack script, as .npmrc switches those off.
import { npm, run } from './run.mjs'

run('scripts/build.mjs')
run('scripts/build-prebuilds.mjs')
process.exitCode = npm(['pack', ...process.argv.slice(2)])
