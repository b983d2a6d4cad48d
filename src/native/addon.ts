/**
 * What the C addon offers: mapping at 64-bit positions, cache write-back, fences, and the one fused
 * call of a commit. Nothing here knows what a volume is. Every call checks its arguments and throws;
 * none of them crashes the process on a wrong one.
 *
 * A mapping is named by its slot, a small integer that is valid in the thread that made it.
 */
export interface NativeAddon {
  /** The instruction that writes a line back, chosen at load from CPUID (HWCAP on arm64). */
  readonly flushInstruction: 'clwb' | 'clflushopt' | 'clflush' | 'dc cvap' | 'dc cvac' | 'none'
  /** Whether CRC-32C is computed by an instruction. */
  readonly hardwareChecksum: boolean
  /** Bytes of a page of this kernel: 4096, or 16384 or 65536 on arm64. */
  readonly pageBytes: number

  /** Takes a lock on the open file description (flock, never waiting). False: somebody holds it. */
  lock(fd: number, exclusive: boolean): boolean
  /** Really allocates a stretch of a regular file (fallocate): no later ENOSPC. It may fail halfway. */
  allocate(fd: number, offset: number, length: number): void
  /** Gives the blocks of a stretch of a regular file back: it reads as zeros (FALLOC_FL_PUNCH_HOLE). */
  punch(fd: number, offset: number, length: number): void
  /**
   * The extents of a regular file (FIEMAP), in order: quadruples of offset in the file, offset on the
   * device below its filesystem, length, and flags, which are those of `EXTENT` and others. Throws
   * where the filesystem does not say.
   */
  extents(fd: number): Float64Array
  /** The flags of a file that chattr(1) shows (FS_IOC_GETFLAGS). Throws where it has none. */
  fileFlags(fd: number): number
  setFileFlags(fd: number, flags: number): void
  /**
   * Which pages of a file or block device are in the page cache (mincore): 1 or 0 for each page from
   * `offset` on, a byte of `out` a page, at most RESIDENCY_BYTES_MAX of the device at once. The last
   * page may be a part of one. Throws EOPNOTSUPP for a file with DAX. A caller that neither owns the
   * file nor may write it is told 1 for all of them (mincore(2)).
   */
  residentPages(fd: number, offset: number, out: Uint8Array): void
  /**
   * Has the page cache forget the whole pages of a range (posix_fadvise with POSIX_FADV_DONTNEED), to the
   * end with a length of 0. Pages that are dirty, or mapped by somebody, stay.
   */
  dropCached(fd: number, offset: number, length: number): void

  /**
   * Maps `length` bytes (at most 4 GiB) from position `offset` (up to 2^53) and returns the slot.
   * Slots are small and reused after `unmap`.
   */
  map(fd: number, offset: number, length: number, flags: number): number
  /** Mappings there are now, of all threads of the process. */
  mappingCount(): number
  /** An ArrayBuffer on the whole mapping. One at a time: a second one needs `detach` first. */
  buffer(slot: number): ArrayBuffer
  /** Detaches the ArrayBuffer, so that views on it are empty; the mapping stays. */
  detach(slot: number): void
  /** Detaches, then unmaps. The slot is free again. */
  unmap(slot: number): void

  /** Writes back the lines that hold the range. No fence. */
  flush(slot: number, offset: number, length: number): void
  /** Orders all earlier write-backs before anything later (sfence, dsb). */
  fence(): void
  /**
   * Writes back `count` units: pairs of (slot, unit index) in `list`, each `1 << unitShift` bytes,
   * then fences. The way of a checkpoint.
   */
  persistUnits(list: Uint32Array, count: number, unitShift: number): void
  /**
   * Copies `source` into the mapping and makes it durable: non-temporal stores where they pay,
   * always followed by a write-back of the lines (a non-temporal store to a cached line stays in
   * the cache on some processors), then a fence.
   */
  copyPersist(slot: number, offset: number, source: Uint8Array): void
  /** The same with zeros. */
  zeroPersist(slot: number, offset: number, length: number): void

  /**
   * Private mappings: the pages of a range that this process has its own copy of (bit 61 of
   * /proc/self/pagemap is 0 and the page is present or swapped). Writes page indices, counted from the start of the mapping, to
   * `out` until it is full and returns how many it wrote. `fromPage` continues a search. Undefined
   * where the kernel does not tell: the file was not there, or not for this process, when the first
   * private mapping was made.
   */
  privatePages(
    slot: number,
    fromPage: number,
    pageCount: number,
    out: Uint32Array,
  ): number | undefined
  /** Gives pages back (MADV_DONTNEED). Page-aligned, else an error. */
  discard(slot: number, offset: number, length: number): void

  /** Zeroed memory whose address is a multiple of `alignment`, for O_DIRECT. Freed with the buffer. */
  alignedBuffer(bytes: number, alignment: number): ArrayBuffer

  /**
   * Binds the memory of a commit and returns the fused call. Layouts are in
   * src/media/staging.ts; `mailbox` and `targets` are Uint32Array, `staging` the record's bytes.
   * The three buffers stay alive as long as the returned function.
   *
   * The call: (1) computes CRC-32C with start value mailbox[3] over staging[4, bytes) and stores it
   * at staging[0]; (2) copies staging[0, bytes) to the log mapping; (3) unless mailbox[5] bit 0 is
   * set, writes back those lines; (4) fences; (5) copies each target's bytes from staging to its
   * mapping. All ranges are checked before (1); a wrong one throws and nothing has happened.
   *
   * With mailbox[5] bit 1 it is (1) alone, with bit 2 (5) alone, with both the two: for media that have
   * their own way to the log.
   */
  bindCommit(staging: ArrayBuffer, mailbox: Uint32Array, targets: Uint32Array): () => void

  /**
   * A writer of one descriptor that works off the event loop (a thread of the libuv pool).
   * One write is under way at a time.
   */
  createWriter(fd: number): number
  /**
   * Starts writing bytes[offset, offset + length) to `position` with pwrite, all of it, then,
   * when `sync` is true, fdatasync. `done` is called on the event loop with 0 or the errno, exactly once.
   * Throws when a write is under way. The bytes stay pinned until done.
   */
  startWrite(
    writer: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    position: number,
    sync: boolean,
    done: (errno: number) => void,
  ): void
  /**
   * Blocks until the write under way has ended and returns 0 or its errno; 0 at once when there is none.
   * `done` is still called later, on the event loop.
   */
  waitWrite(writer: number): number
  /** Frees the writer, after waiting for its write. */
  closeWriter(writer: number): void
}

/** What one call of `residentPages` may ask about: the vector stays small, and so does the pause. */
export const RESIDENCY_BYTES_MAX = 2 ** 30

/** Flags of `map`. Shared and writable is 0. */
export const MAP = {
  /** MAP_PRIVATE | MAP_NORESERVE: stores stay in this process. */
  PRIVATE: 1,
  /** MAP_SHARED_VALIDATE | MAP_SYNC: succeeds only on real DAX. */
  SYNC: 2,
  /** PROT_READ alone: a store through the buffer is a fault, so only for `flush`-free probing. */
  READ_ONLY: 4,
} as const

/** Flags of an extent, from the kernel's include/uapi/linux/fiemap.h. */
export const EXTENT = {
  /** UNKNOWN, DELALLOC, ENCODED, DATA_ENCRYPTED or NOT_ALIGNED: its place is not known, or not where a load would go. */
  PLACELESS: 0x2 | 0x4 | 0x8 | 0x80 | 0x100,
  /** SHARED: another file has the same blocks. */
  SHARED: 0x2000,
} as const

/** Words of an extent in what `extents` returns. */
export const EXTENT_WORDS = 4
