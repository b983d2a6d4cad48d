/**
 * Makes the stored images of the present format version: `node dist/test/support/make-images.js`.
 * To be run once for each format version. When a version has been released its images stay for ever;
 * before that, a change of the format means to remove them and to run this again.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { Volume } from 'plinth'
import { FORMAT_VERSION } from '../../src/layout/superblock.js'
import { MIB, readDevice, tmpfsPage } from './devices.js'
import { change, fill, fillGrown, GROWN, imageFolder, LABEL } from './images.js'

function store(name: string, bytes: Uint8Array): void {
  const file = new URL(`format-${FORMAT_VERSION}-${name}.gz`, imageFolder)
  if (existsSync(file)) throw new Error(`${file.pathname} exists`)
  writeFileSync(file, gzipSync(bytes, { level: 9 }))
}

mkdirSync(imageFolder, { recursive: true })
tmpfsPage.with(MIB, (path) => {
  Volume.format(path, { size: MIB, label: LABEL })
  let volume = Volume.open(path)
  fill(volume)
  volume.close()
  store('closed', readDevice(path))
  volume = Volume.open(path)
  change(volume)
  // Page granularity: in-place locations have not reached the device, the log has all.
  store('crashed', readDevice(path))
  volume.close()
})
tmpfsPage.with(GROWN.before, (path) => {
  Volume.format(path, { size: GROWN.before, granule: 4096 })
  const volume = Volume.open(path)
  fillGrown(volume)
  volume.close()
  store('grown', readDevice(path))
})
