/** Where the bytes of a volume are. */
import assert from 'node:assert/strict'
import type { Volume } from 'plinth'

/** All of its bytes are somebody's, counted in two ways, and what memory says is what the device says. */
export function account(volume: Volume): void {
  const { areas, dataBytes, usedBytes, freeBytes } = volume.stats()
  const used = volume.chunks().reduce((sum, { size }) => sum + size, 0)
  const data = areas.filter(({ name }) => name === 'data').reduce((sum, { size }) => sum + size, 0)
  assert.equal(used, usedBytes)
  assert.equal(data, dataBytes)
  assert.equal(usedBytes + freeBytes, dataBytes)
  assert.deepEqual(volume.check(), [])
}
