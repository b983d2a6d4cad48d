/**
 * What a device holds, told by its first and last bytes, so that format never overwrites something
 * without being told to. Facts about foreign formats: the on-disk layout documents of each (ext4:
 * Documentation/filesystems/ext4 of the kernel; XFS: xfs_sb.sb_magicnum; btrfs: on-disk format of
 * its wiki; GPT: UEFI specification 5.3; PMDK: pool_hdr of libpmem's documentation).
 */
/** Bytes looked at at each end. */
export const SIGNATURE_BYTES = 128 * 1024

interface Signature {
  readonly what: string
  readonly at: number
  readonly bytes: readonly number[] | string
}

const SIGNATURES: readonly Signature[] = [
  { what: 'an ext2, ext3 or ext4 filesystem', at: 1080, bytes: [0x53, 0xef] },
  { what: 'an XFS filesystem', at: 0, bytes: 'XFSB' },
  { what: 'a btrfs filesystem', at: 65600, bytes: '_BHRfS_M' },
  { what: 'an F2FS filesystem', at: 1024, bytes: [0x10, 0x20, 0xf5, 0xf2] },
  { what: 'a swap area', at: 4086, bytes: 'SWAPSPACE2' },
  { what: 'a LUKS container', at: 0, bytes: [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] },
  { what: 'an LVM physical volume', at: 512, bytes: 'LABELONE' },
  { what: 'a PMDK object pool', at: 0, bytes: 'PMEMOBJ' },
  { what: 'a PMDK block pool', at: 0, bytes: 'PMEMBLK' },
  { what: 'a PMDK log pool', at: 0, bytes: 'PMEMLOG' },
  { what: 'a PMDK pool set part', at: 0, bytes: 'PMEMPOOL' },
  { what: 'an NVDIMM namespace label (pfn or dax)', at: 4096, bytes: 'NVDIMM_' },
  { what: 'a GPT partition table', at: 512, bytes: 'EFI PART' },
  { what: 'a GPT partition table', at: 4096, bytes: 'EFI PART' },
  { what: 'a SQLite database', at: 0, bytes: 'SQLite format 3' },
]

/**
 * What is on a device, in words; undefined when both ends are zero. `first` are bytes from its
 * beginning, `last` those at its end, `own` is what a plinth volume begins with.
 */
export function identifyContents(
  first: Uint8Array,
  last: Uint8Array,
  own: Uint8Array,
): string | undefined {
  if (own.every((byte, i) => first[i] === byte)) return 'a plinth volume'
  for (const { what, at, bytes } of SIGNATURES) {
    const wanted = typeof bytes === 'string' ? [...bytes].map((c) => c.charCodeAt(0)) : bytes
    if (wanted.every((byte, i) => first[at + i] === byte)) return what
  }
  if (first[510] === 0x55 && first[511] === 0xaa) return 'a partition table or boot sector'
  // The backup of a GPT is in the last sector.
  const end = last.length
  for (const sector of [512, 4096]) {
    if (
      Buffer.from(last.subarray(end - sector, end - sector + 8)).toString('latin1') === 'EFI PART'
    ) {
      return 'the backup of a GPT partition table'
    }
  }
  if (own.every((byte, i) => last[end - 4096 + i] === byte)) return 'the end of a plinth volume'
  if (first.some((byte) => byte !== 0) || last.some((byte) => byte !== 0)) {
    return 'data of an unknown kind'
  }
  return undefined
}
