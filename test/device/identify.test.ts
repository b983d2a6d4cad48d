/** What is made of the kernel's tree, by stand-ins for it: devices that no test machine has. */
import assert from 'node:assert/strict'
import { closeSync, openSync, statSync } from 'node:fs'
import { describe, it } from 'node:test'
import { chooseGranularity, type Proof, proveGranularity } from '../../src/device/granularity.js'
import { identify } from '../../src/device/identify.js'
import { knownBad } from '../../src/device/known-bad.js'
import { namespaceOf } from '../../src/device/persistence.js'
import { formatDeviceNumber } from '../../src/device/sysfs.js'
import { inFolder, MIB, onLoop, usualPlace } from '../support/devices.js'
import { inTree, writeLink, writeTree } from '../support/sysfs.js'

/** A character device that is everywhere: the tree says that it is device-dax. */
const NODE = '/dev/null'
const number = formatDeviceNumber(statSync(NODE).rdev)
const NVDIMM = 'devices/ACPI0012:00/ndbus0/region0'
const REGION_AT = 0x100000000
const DAX_AT = 0x100200000

/** A tree with /dev/null as a DAX node, with these attributes of its own and of its region. */
function daxTree(
  root: string,
  region: string,
  {
    own = {},
    its = {},
  }: { own?: Record<string, string | number>; its?: Record<string, string | number> },
): void {
  const node = `${region}/dax0.0/dax0.0`
  writeTree(root, {
    'bus/dax/name': 'dax',
    [`${node}/size`]: 64 * MIB,
    [`${region}/size`]: 256 * MIB,
  })
  for (const [name, value] of Object.entries(own)) writeTree(root, { [`${node}/${name}`]: value })
  for (const [name, value] of Object.entries(its)) writeTree(root, { [`${region}/${name}`]: value })
  writeLink(root, `${node}/subsystem`, 'bus/dax')
  writeLink(root, `dev/char/${number}`, node)
}

const withDax = (region: string, attributes: Parameters<typeof daxTree>[2], body: () => void) =>
  inFolder((root) => {
    daxTree(root, region, attributes)
    inTree(root, body)
  })

describe('device-dax by its attributes', () => {
  const cases: [
    what: string,
    region: string,
    domain: string | undefined,
    expected: Proof['granularity'],
    proven: boolean,
    opens: boolean,
  ][] = [
    ['eADR', NVDIMM, 'cpu_cache', 'byte', true, true],
    ['ADR', NVDIMM, 'memory_controller', 'cache-line', true, true],
    ['firmware that says nothing', NVDIMM, undefined, 'cache-line', false, true],
    ['a domain that nobody knows', NVDIMM, 'soon', 'cache-line', false, true],
    ['virtio-pmem', 'devices/pci0/virtio3/ndbus0/region0', undefined, 'cache-line', false, false],
    [
      'memory set aside by the firmware',
      'devices/platform/hmem.0',
      undefined,
      'cache-line',
      false,
      false,
    ],
    [
      'volatile CXL memory',
      'devices/ACPI0017:00/root0/decoder0.0/region0',
      undefined,
      'cache-line',
      false,
      false,
    ],
    [
      'persistent CXL memory',
      'devices/ACPI0017:00/root0/nvdimm-bridge0/ndbus1/region1',
      'memory_controller',
      'cache-line',
      true,
      true,
    ],
  ]
  for (const [what, region, domain, expected, proven, opens] of cases) {
    it(what, () => {
      const its = domain === undefined ? {} : { persistence_domain: domain }
      withDax(region, { its, own: { align: 4096 } }, () => {
        const { kind, sizeBytes, alignBytes, persistence, evidence } = identify(NODE)
        assert.deepEqual([kind, sizeBytes, alignBytes], ['dax', 64 * MIB, 4096])
        const { granularity, isProven } = proveGranularity(kind, persistence)
        assert.deepEqual([granularity, isProven], [expected, proven])
        assert.equal(evidence.filter(({ of }) => of === 'granularity').length, 1)
        const choose = (wanted: object) => () =>
          chooseGranularity(kind, persistence, { readOnly: false, ...wanted })
        const refused = { code: 'ERR_GRANULARITY' }
        if (opens) assert.equal(choose({})(), expected)
        else assert.throws(choose({}), refused)
        assert.equal(choose({ readOnly: true })(), expected)
        assert.equal(choose({ unsafeGranularity: 'byte' })(), 'byte')
        for (const wanted of [{ granularity: 'page' }, { unsafeGranularity: 'page' }]) {
          assert.throws(choose(wanted), refused)
        }
        if (expected !== 'byte') assert.throws(choose({ granularity: 'byte' }), refused)
      })
    })
  }

  it('an alignment that the kernel does not say is taken for 2 MiB', () => {
    withDax(NVDIMM, {}, () => assert.equal(identify(NODE).alignBytes, 2 * MIB))
  })

  it('a size that cannot be read is an error', () => {
    withDax(NVDIMM, { own: { size: 'soon' } }, () => {
      assert.throws(() => identify(NODE), { code: 'ERR_DEVICE_IO' })
    })
  })

  it('its namespace is the one that the device beside it names', () => {
    withDax(NVDIMM, { its: { 'dax0.0/namespace': 'namespace0.3' } }, () => {
      assert.equal(namespaceOf(identify(NODE).node!), 'namespace0.3')
    })
  })
})

describe('bad blocks of device-dax', () => {
  const found = () => {
    const fd = openSync(NODE, 'r')
    try {
      return knownBad(NODE, identify(NODE), fd, undefined).badBlocks.stretches
    } finally {
      closeSync(fd)
    }
  }
  const addresses = { own: { resource: `0x${DAX_AT.toString(16)}` } }
  const list = (badblocks: string) => ({
    ...addresses,
    its: { resource: `0x${REGION_AT.toString(16)}`, badblocks },
  })
  const ahead = (DAX_AT - REGION_AT) / 512

  it('are those of its region, placed by the addresses of both', () => {
    // Before it, over its start, within it, over its end, behind it.
    const lines = [
      '0 8',
      `${ahead - 8} 16`,
      `${ahead + 1000} 1`,
      `${ahead + (64 * MIB) / 512 - 8} 100`,
      `${ahead + (128 * MIB) / 512} 8`,
    ]
    withDax(NVDIMM, list(lines.join('\n')), () => {
      assert.deepEqual(found(), [
        { offset: 0, length: 4096 },
        { offset: 512_000 - (512_000 % 4096), length: 4096 },
        { offset: 64 * MIB - 4096, length: 4096 },
      ])
    })
  })

  it('none listed: none', () => {
    withDax(NVDIMM, list(''), () => assert.deepEqual(found(), []))
    withDax(NVDIMM, {}, () => assert.deepEqual(found(), []))
  })

  it('some that cannot be placed, or a list that may be cut off, are refused', () => {
    const refused = { code: 'ERR_BAD_BLOCKS' }
    withDax(NVDIMM, { its: { badblocks: '0 8' } }, () => {
      assert.throws(() => found(), refused)
    })
    const long = Array.from({ length: 600 }, (_, i) => `${i * 16} 1`).join('\n')
    withDax(NVDIMM, list(long), () => assert.throws(() => found(), refused))
  })
})

describe('bad blocks of a partition', { skip: usualPlace('loop, page, native').skip }, () => {
  it('are those of its disk, less where it starts', () => {
    onLoop(MIB, (path) =>
      inFolder((root) => {
        const node = `dev/block/${formatDeviceNumber(statSync(path).rdev)}`
        const disk = 'devices/disk0'
        writeTree(root, {
          [`${disk}/badblocks`]: '8 8\n2048 8\n2064 8',
          [`${disk}/disk0p1/start`]: 2048,
          [`${disk}/disk0p1/size`]: MIB / 512,
        })
        writeLink(root, node, `${disk}/disk0p1`)
        const fd = openSync(path, 'r')
        try {
          const { badBlocks } = inTree(root, () => knownBad(path, identify(path), fd, undefined))
          assert.deepEqual(badBlocks.stretches, [
            { offset: 0, length: 4096 },
            { offset: 8192, length: 4096 },
          ])
        } finally {
          closeSync(fd)
        }
      }),
    )
  })
})
