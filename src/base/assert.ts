/** States what only a defect of plinth itself can break. Bytes from a device are checked, never asserted. */
export function assert(claim: boolean, what = 'internal claim broken'): asserts claim {
  if (!claim) throw new Error(`plinth: ${what}; please report this`)
}
