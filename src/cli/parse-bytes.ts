/** Numbers of bytes as people write them. */
import { InvalidArgumentError } from 'commander'

const POWERS = { '': 0, K: 1, M: 2, G: 3, T: 4, P: 5 } as const

/** `64M`, `64MiB`, `1.5g` and `4096` are bytes; the units are powers of 1024. */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(text.trim())
  const power = match && POWERS[match[2]!.toUpperCase() as keyof typeof POWERS]
  const bytes = match && Number(match[1]) * 1024 ** power!
  if (bytes === null || !Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError('Give bytes, such as 4096, 64M or 1.5G.')
  }
  return bytes
}
