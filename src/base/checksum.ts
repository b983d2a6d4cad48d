/**
 * CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), the checksum of everything on media: all
 * errors of up to 32 bits in a row are found, and both processor families compute it by an
 * instruction. This is the portable form, eight bytes a step (slicing by 8); the addon's commit
 * uses the instruction and gives the same numbers.
 */
const TABLES = makeTables()

function makeTables(): Uint32Array {
  const tables = new Uint32Array(8 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let value = byte
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
    tables[byte] = value
  }
  for (let slice = 1; slice < 8; slice++) {
    for (let byte = 0; byte < 256; byte++) {
      const before = tables[(slice - 1) * 256 + byte]!
      tables[slice * 256 + byte] = (before >>> 8) ^ tables[before & 255]!
    }
  }
  return tables
}

/**
 * Checksum of `bytes[from, to)`. `seed` continues an earlier checksum: crc(crc(0, a), b) is
 * crc(0, ab). Returns an unsigned 32-bit number.
 */
export function crc32c(seed: number, bytes: Uint8Array, from = 0, to = bytes.length): number {
  const t = TABLES
  let crc = ~seed
  let at = from
  for (const end = to - 7; at < end; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    crc =
      t[1792 + (crc & 255)]! ^
      t[1536 + ((crc >>> 8) & 255)]! ^
      t[1280 + ((crc >>> 16) & 255)]! ^
      t[1024 + (crc >>> 24)]! ^
      t[768 + bytes[at + 4]!]! ^
      t[512 + bytes[at + 5]!]! ^
      t[256 + bytes[at + 6]!]! ^
      t[bytes[at + 7]!]!
  }
  for (; at < to; at++) crc = t[(crc ^ bytes[at]!) & 255]! ^ (crc >>> 8)
  return ~crc >>> 0
}
