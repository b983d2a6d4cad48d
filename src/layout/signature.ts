/**
 * What others leave on a device to be known by, so that nothing of theirs is overwritten without being
 * told to. Places and bytes are those of libblkid (util-linux, libblkid/src/superblocks and
 * partitions), of the PMDK pools (pool_hdr of libpmem's documentation), of the kernel's NVDIMM
 * labels (drivers/nvdimm/pfn.h) and of SQLite's file format.
 */
import { alignDown, KIB, type Offset } from '../base/units.js'

/** Bytes looked at at each end: labels of ZFS reach as far. */
export const SIGNATURE_BYTES = 512 * KIB

/** What signatures are looked for on: a device, or an image in a test. */
interface Bytes {
  readonly sizeBytes: number
  read(offset: Offset, length: number): Uint8Array
}

/** A signature that is there. */
export interface Signature {
  /** Whose it is, in words. */
  readonly what: string
  readonly offset: Offset
  readonly length: number
}

type Place = Offset | { readonly beforeEnd: number; readonly aligned: number }
type Row = readonly [what: string, bytes: string, ...places: Place[]]

/** So many bytes before the device's size, rounded down to a multiple. */
const end = (beforeEnd: number, aligned = 512): Place => ({ beforeEnd, aligned })
const range = (count: number, place: (i: number) => Place) =>
  Array.from({ length: count }, (_, i) => place(i))

const SWAP_PLACES = [4, 8, 16, 32, 64].map((pageKib) => pageKib * KIB - 10)
const UBERBLOCKS = range(256, (i) => (i >> 7) * 256 * KIB + 128 * KIB + (i & 127) * KIB)
const UBERBLOCKS_AT_END = range(256, (i) =>
  end((i >> 7 === 0 ? 512 : 256) * KIB - 128 * KIB - (i & 127) * KIB, 256 * KIB),
)

// biome-ignore format: the columns are the table
const ROWS: readonly Row[] = [
  ['a GPT partition table', 'EFI PART', 512, 4096],
  ['an ext2, ext3 or ext4 filesystem', '\x53\xef', 1080],
  ['an XFS filesystem', 'XFSB', 0],
  ['a btrfs filesystem', '_BHRfS_M', 65600],
  ['an F2FS filesystem', '\x10\x20\xf5\xf2', 1024],
  ['a FAT filesystem', 'FAT12   ', 54],
  ['a FAT filesystem', 'FAT16   ', 54],
  ['a FAT filesystem', 'FAT     ', 54],
  ['a FAT filesystem', 'FAT32   ', 82],
  ['an NTFS filesystem', 'NTFS    ', 3],
  ['an exFAT filesystem', 'EXFAT   ', 3],
  ['an ISO 9660 filesystem', 'CD001', 32769],
  ['a UDF filesystem', 'BEA01', 32769],
  ['a squashfs filesystem', 'hsqs', 0],
  ['an EROFS filesystem', '\xe2\xe1\xf5\xe0', 1024],
  ['a reiserfs filesystem', 'ReIsEr', 65588],
  ['a JFS filesystem', 'JFS1', 32768],
  ['a swap area', 'SWAPSPACE2', ...SWAP_PLACES],
  ['a swap area', 'SWAP-SPACE', ...SWAP_PLACES],
  ['a LUKS container', 'LUKS\xba\xbe', 0],
  ['a LUKS container', 'SKUL\xba\xbe', ...range(9, (i) => 16 * KIB * 2 ** i)],
  ['an LVM physical volume', 'LABELONE', 0, 512, 1024, 1536],
  ['a member of a Linux RAID', '\xfc\x4e\x2b\xa9', 0, 4096, end(8 * KIB, 4096), end(64 * KIB, 64 * KIB)],
  ['a member of a DDF RAID', '\xde\x11\xde\x11', end(512)],
  ['a member of an Intel RAID', 'Intel Raid ISM Cfg Sig. ', end(1024)],
  ['a bcache device', '\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81', 4120],
  ['a bcachefs filesystem', '\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef', 4120],
  ['a member of a ZFS pool', '\x0c\xb1\xba\0\0\0\0\0', ...UBERBLOCKS, ...UBERBLOCKS_AT_END],
  ['a member of a ZFS pool', '\0\0\0\0\0\xba\xb1\x0c', ...UBERBLOCKS, ...UBERBLOCKS_AT_END],
  ['a DRBD device', '\x83\x74\x02\x6b', end(4096 - 60)],
  ['a DRBD device', '\x83\x74\x02\x6c', end(4096 - 60)],
  ['a DRBD device', '\x83\x74\x02\x6d', end(4096 - 60)],
  ['a Stratis device', '!Stra0tis\x86\xff\x02^Arh', 516, 4612],
  ['a device-mapper snapshot', 'SnAp', 0],
  ['a verity hash device', 'verity\0\0', 0],
  ['a PMDK object pool', 'PMEMOBJ', 0],
  ['a PMDK block pool', 'PMEMBLK', 0],
  ['a PMDK log pool', 'PMEMLOG', 0],
  ['a PMDK pool set part', 'PMEMPOOL', 0],
  ['an NVDIMM namespace label (pfn or dax)', 'NVDIMM_', 4096],
  ['a SQLite database', 'SQLite format 3', 0],
  ['a partition table or boot sector', '\x55\xaa', 510],
  ['the backup of a GPT partition table', 'EFI PART', end(512), end(4096, 4096)],
]

interface Pattern {
  readonly what: string
  readonly bytes: Uint8Array
  readonly place: Place
}
const PATTERNS: readonly Pattern[] = ROWS.flatMap(([what, text, ...places]) =>
  places.map((place) => ({ what, bytes: Buffer.from(text, 'latin1'), place })),
)

/**
 * Every signature that is on a device, in the order of the table; with `parts` those that begin in one
 * of these stretches.
 */
export function* findSignatures(
  device: Bytes,
  parts: readonly Stretch[] = [{ from: 0, to: device.sizeBytes }],
): Generator<Signature> {
  const { sizeBytes } = device
  const firstEnd = Math.min(SIGNATURE_BYTES, sizeBytes)
  const lastAt = Math.max(firstEnd, alignDown(sizeBytes, 256 * KIB) - SIGNATURE_BYTES)
  // One read for each end of each part; the few places in between are read one by one.
  const read = (from: Offset, to: Offset) =>
    from < to ? [{ from, to, bytes: device.read(from, to - from) }] : []
  const windows = parts.flatMap(({ from, to }) => [
    ...read(from, Math.min(to, firstEnd)),
    ...read(Math.max(from, lastAt), to),
  ])
  for (let i = 0; i < PATTERNS.length; i++) {
    const { what, bytes, place } = PATTERNS[i]!
    const { length } = bytes
    const offset =
      typeof place === 'number' ? place : alignDown(sizeBytes, place.aligned) - place.beforeEnd
    if (offset < 0 || offset + length > sizeBytes || !isIn(parts, offset, 1)) continue
    const window = windowOf(windows, offset, length)
    const is = window?.bytes ?? device.read(offset, length)
    if (beginsWith(is, offset - (window?.from ?? offset), bytes)) yield { what, offset, length }
  }
}

// Without closures: a check of a small volume asks this a thousand times, and takes no millisecond else.

interface Stretch {
  readonly from: Offset
  readonly to: Offset
}

function isIn(parts: readonly Stretch[], offset: Offset, length: number): boolean {
  return windowOf(parts, offset, length) !== undefined
}

function windowOf<S extends Stretch>(
  windows: readonly S[],
  offset: Offset,
  length: number,
): S | undefined {
  for (let i = 0; i < windows.length; i++) {
    const window = windows[i]!
    if (offset >= window.from && offset + length <= window.to) return window
  }
  return undefined
}

function beginsWith(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  for (let i = 0; i < wanted.length; i++) if (bytes[at + i] !== wanted[i]) return false
  return true
}
