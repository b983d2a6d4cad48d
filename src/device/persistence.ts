/**
 * What a platform does with stores at a power loss, as the kernel tells it: `persistence_domain` of the
 * region of persistent memory that a device is part of (Documentation/ABI/testing/sysfs-bus-nd).
 *
 *   cpu_cache           it saves processor caches too (eADR): a fence is enough
 *   memory_controller   what has left the caches is safe (ADR): write-back and fence
 *   unsaid              an NVDIMM whose firmware says nothing: taken for memory_controller
 *   none                memory that is no NVDIMM's: nothing says that it survives at all
 *
 * /dev/daxX.Y exists for the last kind as well: memory set aside by the firmware, volatile CXL memory,
 * and virtio-pmem, whose stores end in the page cache of a host that device-dax has no way to flush.
 */
import { dirname } from 'node:path'
import { type Evidence, readText, realPath } from './sysfs.js'

export type Persistence = 'cpu_cache' | 'memory_controller' | 'unsaid' | 'none'

/** The folder of the region that a device's entry belongs to; undefined for none. */
export function regionOf(node: string): string | undefined {
  for (let path = realPath(node) ?? '/'; path !== dirname(path); path = dirname(path)) {
    if (/\/ndbus\d+\/region\d+$/.test(path)) return path
  }
  return undefined
}

export function persistenceOf(node: string): { persistence: Persistence; evidence: Evidence } {
  const of = 'granularity'
  const region = regionOf(node)
  if (region === undefined) {
    const says = 'it is in no region of persistent memory'
    return { persistence: 'none', evidence: { of, source: realPath(node) ?? node, says } }
  }
  if (/\/virtio\d+\/ndbus\d+\/region\d+$/.test(region)) {
    const says = 'virtio-pmem: stores end in the page cache of the host'
    return { persistence: 'none', evidence: { of, source: region, says } }
  }
  const source = `${region}/persistence_domain`
  const domain = readText(source)
  if (domain === 'cpu_cache' || domain === 'memory_controller') {
    return { persistence: domain, evidence: { of, source, says: domain } }
  }
  const says =
    domain === undefined
      ? 'not there: the firmware does not say'
      : `'${domain}', which is not known`
  return { persistence: 'unsaid', evidence: { of, source, says } }
}

/** The namespace that a device is, by the name that ndctl knows; undefined for none. */
export function namespaceOf(node: string): string | undefined {
  for (let path = realPath(node) ?? '/'; path !== dirname(path); path = dirname(path)) {
    const own = /\/(namespace\d+\.\d+)$/.exec(path)?.[1]
    if (own !== undefined) return own
    // Beside a namespace with metadata of its own (fsdax, devdax) stands a device that names it.
    const below = readText(`${path}/namespace`)
    if (below !== undefined && below !== '') return below
    if (/\/region\d+$/.test(path)) break
  }
  return undefined
}
