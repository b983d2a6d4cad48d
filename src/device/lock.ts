/**
 * One owner for each device. The claim lives on descriptors of its own that are never mapped: a
 * mapping would keep it after close, until the memory goes.
 *
 *   block device   O_EXCL: one for all its nodes, in every container; mount and mkfs respect it too.
 *                  A writer holds it; a reader asks for it and gives it back, so it notices a writer
 *   everywhere     flock, exclusive for a writer, shared for readers: also within one process
 *
 * flock belongs to one node of a device. So it is taken on the node that the kernel itself has made
 * as well (/dev/loop0), and of a loop device on the file that it shows. Not noticed is a writer that
 * comes while a reader is there by a node of its own in another /dev.
 *
 * Others ask for a moment: udev has a shared flock while it looks at a device that was written
 * (systemd.io/BLOCK_DEVICE_LOCKING), a probe claims it and lets go. So what is refused is asked for again.
 *
 * Without the addon there is no flock in Node; a file beside the device names the owner then.
 */
import fs from 'node:fs'
import { PlinthError } from '../base/errors.js'
import type { NativeAddon } from '../native/addon.js'
import type { Identity } from './identify.js'
import { busy, isSame, openAgain, pathOf } from './open.js'
import { readText } from './sysfs.js'

export interface Lock {
  release(): void
}

interface Wanted {
  readonly path: string
  /** The device, open. */
  readonly fd: number
  readonly identity: Identity
  readonly readOnly: boolean
  readonly addon: NativeAddon | undefined
}

/** So long whoever only asks may keep a device. */
const ASKING_MS = 100
/** So long udev may take to look at a block device. */
const PROBING_MS = 2000
const PAUSE_MS = 5

/**
 * Waits up to a tenth of a second for a device that somebody has, and up to two seconds for a block device
 * that nobody has claimed and somebody has locked.
 * @throws PlinthError ERR_VOLUME_BUSY, ERR_DEVICE_IO
 */
export function lockDevice(wanted: Wanted): Lock {
  const { path, fd, identity, readOnly, addon } = wanted
  const { O_RDONLY, O_RDWR } = fs.constants
  const held: number[] = []
  const release = () => {
    for (const each of held.splice(0)) fs.closeSync(each)
  }
  try {
    if (identity.kind === 'block') {
      const claim = claimBlock(wanted)
      if (readOnly) fs.closeSync(claim)
      else held.push(claim)
    }
    const own = held[0] ?? openAgain(fd, path, readOnly ? O_RDONLY : O_RDWR)
    if (held.length === 0) held.push(own)
    if (addon === undefined) {
      const beside = lockBeside(pathOf(fd, path), path, readOnly)
      return {
        release() {
          beside.release()
          release()
        },
      }
    }
    held.push(...sharedPlaces(fd, identity))
    const waitMs = identity.kind === 'block' ? PROBING_MS : ASKING_MS
    for (const each of held) {
      if (!again(waitMs, () => addon.lock(each, !readOnly) || undefined)) throw busy(path)
    }
    // Whoever has claimed it since the first look was not kept out by the lock, on another node.
    if (identity.kind === 'block' && readOnly) fs.closeSync(claimBlock(wanted))
    return { release }
  } catch (error) {
    release()
    throw error
  }
}

function claimBlock({ path, fd, readOnly }: Wanted): number {
  const { O_RDONLY, O_RDWR, O_EXCL } = fs.constants
  let refused: unknown
  const claim = again(ASKING_MS, () => {
    try {
      return openAgain(fd, path, O_EXCL | (readOnly ? O_RDONLY : O_RDWR))
    } catch (error) {
      if ((error as PlinthError).code !== 'ERR_VOLUME_BUSY') throw error
      refused = error
      return undefined
    }
  })
  if (claim === undefined) throw refused
  return claim
}

/** Where else the same bytes are locked, open: the kernel's own node, and what a loop device shows. */
function sharedPlaces(fd: number, { node }: Identity): number[] {
  const { O_RDONLY, O_NONBLOCK } = fs.constants
  const own = fs.fstatSync(fd)
  if (node === undefined || own.rdev === 0) return []
  const name = /^DEVNAME=(.+)$/m.exec(readText(`${node}/uevent`) ?? '')?.[1]
  const shown = readText(`${node}/loop/backing_file`)
  const places = [
    {
      path: name === undefined ? undefined : `/dev/${name}`,
      is: (stat: fs.Stats) => stat.rdev === own.rdev,
    },
    { path: shown, is: (stat: fs.Stats) => stat.isFile() },
  ]
  const open: number[] = []
  for (const { path, is } of places) {
    if (path === undefined) continue
    try {
      const each = fs.openSync(path, O_RDONLY | O_NONBLOCK)
      const stat = fs.fstatSync(each)
      if (is(stat) && !isSame(stat, own)) open.push(each)
      else fs.closeSync(each)
    } catch {
      // Not there, or not for this user.
    }
  }
  return open
}

/** Asks until there is an answer, for so long, and once at least. */
function again<T>(ms: number, ask: () => T | undefined): T | undefined {
  const end = performance.now() + ms
  for (;;) {
    const answer = ask()
    if (answer !== undefined || performance.now() >= end) return answer
    Atomics.wait(NOBODY_WAKES, 0, 0, PAUSE_MS)
  }
}
const NOBODY_WAKES = new Int32Array(new SharedArrayBuffer(4))

function lockBeside(deviceAt: string, path: string, readOnly: boolean): Lock {
  const lockPath = `${fs.realpathSync(deviceAt)}.plinth-lock`
  for (let attempt = 0; ; attempt++) {
    try {
      fs.writeFileSync(lockPath, String(process.pid), { flag: 'wx', mode: 0o600 })
      return { release: () => fs.rmSync(lockPath, { force: true }) }
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      if (code !== 'EEXIST') {
        // Nowhere to write beside a reader's volume: a reader goes without.
        if (readOnly) return { release() {} }
        throw new PlinthError('ERR_DEVICE_IO', `${lockPath} cannot be written`, { cause })
      }
      if (attempt > 0 || isAlive(Number(fs.readFileSync(lockPath, 'utf8')))) throw busy(path)
      fs.rmSync(lockPath, { force: true })
    }
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
