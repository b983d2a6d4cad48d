/** The fused call of the addon, bound to a staging memory. */
import type { Staging } from '../media/staging.js'
import type { NativeAddon } from '../native/addon.js'

/** Once more whenever `staging.bound` is false: its memory is another then. */
export function bindStaging(addon: NativeAddon, staging: Staging): () => void {
  const { u8, mailbox, targets } = staging
  const call = addon.bindCommit(u8.buffer as ArrayBuffer, mailbox, targets)
  staging.bound = true
  return call
}
