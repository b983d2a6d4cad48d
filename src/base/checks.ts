/**
 * The checks on which the safety of media hangs, each under a name, so that the mutation score can
 * switch off one at a time and see whether the lab notices. All are on; nothing but the lab turns
 * one off. None is on the way of a commit.
 */
export const checks = {
  recordChecksum: true,
  recordPosition: true,
  recordEpoch: true,
  recordDamage: true,
  anchorChecksum: true,
  anchorNewer: true,
  slotChecksum: true,
  slotNewer: true,
  superblockChecksum: true,
  revocation: true,
  pendingBeforeRawStore: true,
  settleBeforeRawStore: true,
  settleBeforeHome: true,
  tableOverlap: true,
}

export type CheckName = keyof typeof checks
