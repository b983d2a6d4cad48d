import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { NativeAddon } from './addon.js'

/*
 * The addon is found by node-gyp-build: build/Release when somebody compiled it, else the prebuild
 * for this system. Compiled, this file lies in dist/src/native, three levels below the package.
 */
type Loaded = { addon: NativeAddon } | { error: Error }

/** A module is evaluated once a thread, and so is this. */
let loaded: Loaded | undefined

function load(): Loaded {
  try {
    const require = createRequire(import.meta.url)
    const find = require('node-gyp-build') as (directory: string) => NativeAddon
    return { addon: find(fileURLToPath(new URL('../../../', import.meta.url))) }
  } catch (error) {
    return { error: error instanceof Error ? error : new Error(String(error)) }
  }
}

/** The addon, or undefined where it does not load; `addonError` then says why. Never throws. */
export function loadAddon(): NativeAddon | undefined {
  loaded ??= load()
  return 'addon' in loaded ? loaded.addon : undefined
}

/** Why `loadAddon` gives undefined; undefined when it gives the addon. */
export function addonError(): Error | undefined {
  loaded ??= load()
  return 'error' in loaded ? loaded.error : undefined
}
