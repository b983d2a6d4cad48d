// Builds the addon of the optional package mmap-io for the running Node, in its own folder. It never fails: a machine that
// cannot build it goes without, and the tests of that backend are skipped.
//
// mmap-io's own install script fails since Node 20, as it asks for C++11 and the headers of Node 20 want C++17, those of
// Node 24 C++20. Flags from the environment come after its own, so the later standard wins.
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { compileAddon } from './compile-addon.mjs'

const require = createRequire(import.meta.url)

const reason = build()
if (reason) console.error(`mmap-io: not built (${reason}); tests of that backend are skipped`)

/** Returns why it could not be built. */
function build() {
  let folder
  try {
    folder = dirname(require.resolve('mmap-io/package.json'))
  } catch {
    return 'the package is not installed'
  }
  return compileAddon(folder, {
    flags: '-std=gnu++20',
    proof: "require('./')",
    timeout: 180_000,
  })
}
