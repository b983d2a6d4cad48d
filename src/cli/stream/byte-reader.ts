/** Exact numbers of bytes from a stream. */
import type { Readable } from 'node:stream'

export class ByteReader {
  readonly #parts: AsyncIterator<Buffer>
  #have: Buffer[] = []
  #bytes = 0
  /** Bytes taken so far. */
  position = 0

  constructor(input: Readable) {
    this.#parts = input[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  }

  /** The next `length` bytes; undefined when the stream ends before. */
  async take(length: number): Promise<Buffer | undefined> {
    while (this.#bytes < length) {
      const { value, done } = await this.#parts.next()
      if (done) {
        this.position += this.#bytes
        return undefined
      }
      this.#have.push(value)
      this.#bytes += value.length
    }
    const all = this.#have.length === 1 ? this.#have[0]! : Buffer.concat(this.#have)
    this.#have = all.length > length ? [all.subarray(length)] : []
    this.#bytes = all.length - length
    this.position += length
    return all.subarray(0, length)
  }
}
