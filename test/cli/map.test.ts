// What `plinth map` draws: in text, as SVG, and as a page that a browser opens, with ten chunks and with fifty thousand.
import assert from 'node:assert/strict'
import {
  chmodSync,
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Browser, chromium, type Page } from 'playwright-core'
import { Volume } from 'plinth'
import { json, plinth } from '../support/cli.js'
import { inMemory, MIB, tmpfsLine } from '../support/devices.js'
import { Random } from '../support/random.js'

const MANY = 50_000
const EVIL = '</script><b onclick="alert(1)">&'

/** Ten chunks and a heap; one name is markup. */
function makeSmall(path: string): void {
  Volume.format(path, { size: 32 * MIB, label: 'ten & "more"' })
  const volume = Volume.open(path)
  for (let i = 0; i < 9; i++) {
    const type = i % 3 === 0 ? 'index' : 'page'
    volume.allocate({ size: (i + 1) * 200_000, name: `table-${i}`, type })
  }
  volume.allocate({ size: 300_000, name: EVIL, type: '<i>' })
  volume.free(volume.chunk('table-3'))
  volume.allocate({ size: 2 * MIB, name: 'wide', type: 'wide' })
  volume.heap('nodes').allocate(100)
  volume.close()
}

/** Fifty thousand chunks of nine types with holes between them. */
function makeLarge(path: string): void {
  const random = new Random(3)
  const { options } = tmpfsLine
  Volume.format(path, { size: 600 * MIB, granule: 4096, label: 'many', ...options })
  const volume = Volume.open(path, options)
  const holes: string[] = []
  for (let i = 0; i < MANY + 5000; i++) {
    const name = `chunk-${i}`
    if (i % 11 === 0) holes.push(name)
    volume.allocate({ size: 4096 * random.between(1, 3), name, type: `type-${random.below(9)}` })
  }
  for (const name of holes) volume.free(volume.chunk(name))
  volume.close()
}

const browserPath = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((path) => existsSync(path))
const noBrowser = browserPath === undefined && 'no browser is installed here'

describe('the map in text', () => {
  test('a letter for each owner, metadata at both ends, a legend with all bytes', () =>
    inMemory((folder) => {
      const path = join(folder, 'device')
      makeSmall(path)
      const { code, out } = plinth(['map', path])
      assert.equal(code, 0)
      const rows = out.split('\n').filter((line) => /^ +[\d.]+ [KM]?i?B {2}[MLa-z·]+$/.test(line))
      assert.equal(new Set(rows.map((row) => row.length)).size, 1, 'rows are as wide as each other')
      const cells = rows.map((row) => row.trim().split(/ +/).at(-1)).join('')
      assert.match(cells, /^M+L+a?[a-z·]+·+M+$/)
      assert.match(out, /^a +page +6 /m)
      assert.match(out, /heap nodes/)
      const { value } = json(['map', path])
      const owned = value.owners.reduce(
        (sum: number, { bytes }: { bytes: number }) => sum + bytes,
        0,
      )
      const { dataBytes, usedBytes, areas } = value.stats
      const kept = areas
        .filter(({ name }: { name: string }) => name !== 'data')
        .reduce((sum: number, { size }: { size: number }) => sum + size, 0)
      assert.equal(owned, usedBytes + kept)
      assert(dataBytes > usedBytes)
    }))
})

/** A volume of 32 MiB with `read`, of which the first 300 000 bytes are in memory, and `hole`. */
function makeSparse(folder: string): string {
  const path = join(folder, 'device')
  const dense = join(folder, 'dense')
  Volume.format(dense, { size: 32 * MIB, label: 'sparse' })
  {
    using volume = Volume.open(dense)
    volume.allocate({ size: 8 * MIB, name: 'read' }).write(0, new Uint8Array(300_000).fill(1))
    volume.allocate({ size: 8 * MIB, name: 'hole' })
  }
  const image = readFileSync(dense)
  const file = openSync(path, 'wx')
  ftruncateSync(file, image.length)
  for (let at = 0; at < image.length; at += 4096) {
    const page = image.subarray(at, at + 4096)
    if (page.some((byte) => byte !== 0)) writeSync(file, page, 0, 4096, at)
  }
  closeSync(file)
  return path
}

const READ_BYTES = Math.ceil(300_000 / 4096) * 4096
const noTmpfs = !existsSync('/dev/shm') && 'there is no tmpfs at /dev/shm'

describe('the map of what is in memory', { skip: noTmpfs }, () => {
  test('in text and as data: all of it, of each owner, and where', () =>
    inMemory((folder) => {
      const path = makeSparse(folder)
      const { value } = json(['map', path])
      const of = (wanted: string) =>
        value.stretches.find(({ name }: { name: string }) => name === wanted).residentBytes
      assert.equal(of('read'), READ_BYTES)
      assert.equal(of('hole'), 0)
      assert(value.residentBytes > READ_BYTES && value.residentBytes < 8 * MIB)
      const { out } = plinth(['map', path])
      assert.match(out, /^in memory +[\d.]+ [KM]iB of 32 MiB \([\d.]+ %\)$/m)
      assert.match(out, /OF DEVICE {2}IN MEMORY$/m)
      assert.match(out, /^a +read .* 3\.6 %$/m)
      assert.match(out, /^b +hole .* 0 %$/m)
      // What opening reads, the beginning of `read`, nothing of the rest.
      assert.match(out, /^ +in memory {2}[▁-█]+·{40,}[▁-█]$/m)
    }))

  test('in files', () =>
    inMemory((folder) => {
      const path = makeSparse(folder)
      const [svg, html] = [join(folder, 'map.svg'), join(folder, 'map.html')]
      assert.equal(plinth(['map', path, '--svg', svg, '--html', html]).code, 0)
      const drawn = readFileSync(svg, 'utf8')
      assert.match(drawn, /<title>read\n8 MiB at \d+\n296 KiB in memory<\/title>/)
      assert.match(drawn, /<title>hole\n8 MiB at \d+\n0 B in memory<\/title>/)
      assert.match(drawn, /<path class="memory" opacity="1" d="M/)
      assert.match(drawn, />in memory <tspan[^>]*>[\d.]+ [KM]iB of 32 MiB/)
      const page = readFileSync(html, 'utf8')
      assert.equal(page.split('</script').length, 3, 'the data ends, the script ends, and no more')
      assert.doesNotMatch(page, /\bimport\b|\bexport\b/)
      const [, data = ''] = /id="data">(.*?)<\/script>/.exec(page)!
      const { memory } = JSON.parse(data)
      assert.deepEqual(memory.chunks, [READ_BYTES, 0])
      assert.equal(memory.cells.length, (32 * MIB) / memory.cellBytes)
      const all = memory.cells.reduce((sum: number, percent: number) => sum + percent, 0)
      assert.equal((all / 100) * memory.cellBytes, memory.bytes)
    }))

  const notRoot = process.getuid?.() !== 0 && 'becoming somebody else needs root'
  test('nothing of it where the kernel does not tell', { skip: notRoot }, () =>
    inMemory((folder) => {
      const path = makeSparse(folder)
      chmodSync(folder, 0o777)
      chmodSync(path, 0o644)
      const setting = { uid: 65534 }
      const { value } = json(['map', path], setting)
      assert.equal(value.residentBytes, null)
      assert(value.stretches.every((stretch: object) => !('residentBytes' in stretch)))
      assert.doesNotMatch(plinth(['map', path], setting).out, /in memory/i)
      const [svg, html] = [join(folder, 'map.svg'), join(folder, 'map.html')]
      assert.equal(plinth(['map', path, '--svg', svg, '--html', html], setting).code, 0)
      assert.doesNotMatch(readFileSync(svg, 'utf8'), /in memory/)
      assert.doesNotMatch(readFileSync(html, 'utf8'), /"memory":|<span class="faint">In memory/)
    }),
  )
})

describe('the map as files', () => {
  test('an SVG that is well-formed and small, and is not replaced without a yes', () =>
    inMemory((folder) => {
      const path = join(folder, 'device')
      const file = join(folder, 'map.svg')
      makeSmall(path)
      assert.equal(plinth(['map', path, '--svg', file]).code, 0)
      const svg = readFileSync(file, 'utf8')
      assert.match(svg, /^<svg xmlns=/)
      assert.match(svg, /ten &#38; &#34;more&#34;/)
      assert.doesNotMatch(svg, /<\/script>|<b /)
      for (const name of ['table-1', 'wide', 'log'])
        assert.match(svg, new RegExp(`<title>${name}\n`))
      const refused = plinth(['map', path, '--svg', file])
      assert.equal(refused.code, 2)
      assert.match(refused.err, /map\.svg exists and has .*; --force/)
      assert.equal(plinth(['map', path, '--svg', file, '--force']).code, 0)
    }))
})

describe('the map in a browser', { skip: noBrowser }, () => {
  let browser: Browser
  before(async () => {
    // As root a browser has no sandbox; the page is our own.
    browser = await chromium.launch({ executablePath: browserPath!, args: ['--no-sandbox'] })
  })
  after(() => browser.close())

  /** Opens a file and gives the page; whatever it complains about or asks the network for fails. */
  async function inBrowser(
    file: string,
    colorScheme: 'light' | 'dark',
    body: (page: Page) => Promise<void>,
  ): Promise<void> {
    const page = await browser.newPage({ viewport: { width: 1360, height: 900 }, colorScheme })
    const complaints: string[] = []
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('console', (message) => complaints.push(message.text()))
    page.on('request', (request) => {
      if (request.url() !== `file://${file}`) complaints.push(request.url())
    })
    try {
      await page.goto(`file://${file}`)
      await body(page)
      assert.deepEqual(complaints, [])
    } finally {
      await page.close()
    }
  }

  /** How many different colours there are in a part of the page, seldom ones left out. */
  async function coloursOf(page: Page, selector: string): Promise<number> {
    const shot = await page.locator(selector).screenshot()
    return page.evaluate(
      `(async () => {
        const image = new Image()
        image.src = 'data:image/png;base64,${shot.toString('base64')}'
        await image.decode()
        const canvas = new OffscreenCanvas(image.width, image.height)
        const context = canvas.getContext('2d')
        context.drawImage(image, 0, 0)
        const { data } = context.getImageData(0, 0, image.width, image.height)
        const counts = new Map()
        for (let i = 0; i < data.length; i += 4) {
          const colour = (data[i] << 16) | (data[i + 1] << 8) | data[i + 2]
          counts.set(colour, (counts.get(colour) ?? 0) + 1)
        }
        return [...counts.values()].filter((count) => count > 200).length
      })()`,
    )
  }

  /** Points at every few pixels of the map until the tip says what is wanted. */
  async function findTip(page: Page, wanted: RegExp): Promise<string> {
    const box = (await page.locator('#map').boundingBox())!
    for (let y = box.y + 10; y < box.y + box.height; y += 26) {
      for (let x = box.x + 100; x < box.x + box.width; x += 60) {
        await page.mouse.move(x, y)
        const tip = await page.locator('#tip').innerText()
        if (wanted.test(tip)) return tip
      }
    }
    throw new Error(`no place of the map says ${wanted}`)
  }

  const schemes = ['light', 'dark'] as const

  test('ten chunks: drawn, told under the pointer, zoomed, listed', async () =>
    inMemory(async (folder) => {
      const path = join(folder, 'device')
      const file = join(folder, 'map.html')
      makeSmall(path)
      assert.equal(plinth(['map', path, '--html', file]).code, 0)
      const shots: Buffer[] = []
      for (const scheme of schemes) {
        await inBrowser(file, scheme, async (page) => {
          shots.push(await page.screenshot({ fullPage: true }))
          // Metadata, log, four kinds of chunks, the ground and what is free.
          assert((await coloursOf(page, '#map')) >= 8)
          const chunk = Volume.open(path, { readOnly: true })
          const { offset, size, id } = chunk.chunk('table-8')
          chunk.close()
          const tip = await findTip(page, /^table-8/)
          assert.match(tip, new RegExp(`type page · id ${id}`))
          assert.match(tip.replace(/\u202f/g, ''), new RegExp(` at ${offset}`))
          assert.match(tip, new RegExp(`${(size / MIB).toFixed(2)} MiB`))
          assert.match(await page.innerText('#range'), /^all of 32 MiB/)
          await page.mouse.wheel(0, -600)
          await page.waitForFunction(
            "!document.getElementById('range').textContent.startsWith('all')",
          )
          await page.keyboard.press('Tab')
          await page.click('#all')
          await page.waitForFunction(
            "document.getElementById('range').textContent.startsWith('all')",
          )
          assert.equal(await page.locator('.row').count(), 11)
          await page.fill('#search', 'wide')
          assert.equal(await page.locator('.row').count(), 1)
          await page.click('.row')
          await page.waitForFunction(
            "!document.getElementById('range').textContent.startsWith('all')",
          )
          // A name is text, whatever it holds.
          await page.fill('#search', '</script>')
          assert.equal(await page.locator('.row > :first-child').innerText(), EVIL)
          assert.equal(await page.locator('b[onclick]').count(), 0)
        })
      }
      assert.notDeepEqual(shots[0], shots[1])
    }))

  test('what is in memory: told under the pointer, listed and drawn', { skip: noTmpfs }, async () =>
    inMemory(async (folder) => {
      const path = makeSparse(folder)
      const file = join(folder, 'map.html')
      assert.equal(plinth(['map', path, '--html', file]).code, 0)
      await inBrowser(file, 'light', async (page) => {
        assert.match(await findTip(page, /^read/), /^in memory: 296 KiB \(3\.6 %\)$/m)
        assert.match(await findTip(page, /^hole/), /^in memory: 0 B \(0 %\)$/m)
        assert.match(await page.innerText('#legend'), /in memory\s*[\d.]+ [KM]iB · [\d.]+ %/)
        const listed = () => page.locator('.row > :nth-child(4)').allInnerTexts()
        await page.click('#head button:has-text("In memory")')
        assert.deepEqual(await listed(), ['3.6 %', '0 %'])
        await page.click('#head button:has-text("In memory")')
        assert.deepEqual(await listed(), ['0 %', '3.6 %'])
        // Rows of 2 MiB, 29 pixels from one to the next: a line below the first, none below a hole.
        const dark = (await page.evaluate(`(() => {
          const map = document.getElementById('map')
          const width = map.width - 92
          const { data } = map.getContext('2d').getImageData(92, 0, width, 200)
          const count = (y) => {
            let dark = 0
            for (let i = y * width * 4; i < (y + 1) * width * 4; i += 4)
              if (data[i + 3] > 200 && data[i] < 60) dark++
            return dark
          }
          return [count(24), count(24 + 29 * 3), width]
        })()`)) as [number, number, number]
        const [beginning, hole, width] = dark
        assert(beginning >= Math.floor((READ_BYTES / (2 * MIB)) * width), `${dark}`)
        assert.equal(hole, 0)
      })
    }),
  )

  test('fifty thousand chunks: all of them drawn, a few dozen rows in the table', async () =>
    inMemory(async (folder) => {
      const path = join(folder, 'device')
      const file = join(folder, 'map.html')
      const svg = join(folder, 'map.svg')
      makeLarge(path)
      assert.equal(plinth(['map', path, '--html', file, '--svg', svg]).code, 0)
      await inBrowser(svg, 'light', async (page) => {
        assert((await coloursOf(page, 'svg')) >= 8)
      })
      assert(readFileSync(svg).length < MIB, 'an SVG of so many chunks is drawn together')
      for (const scheme of schemes) {
        await inBrowser(file, scheme, async (page) => {
          assert((await coloursOf(page, '#map')) >= 8)
          assert.match(await page.innerText('#count'), /^50\u202f000$/)
          assert((await page.locator('.row').count()) < 40)
          assert.match(await findTip(page, /more within two pixels/), /^(?:chunk-\d+|free)/)
          const box = (await page.locator('#map').boundingBox())!
          await page.mouse.move(box.x + 600, box.y + 150)
          while (!/^[\d.]+ KiB from/.test(await page.innerText('#range'))) {
            await page.mouse.wheel(0, -300)
          }
          const tip = await findTip(page, /^chunk-\d+/)
          assert.doesNotMatch(tip, /more within/)
          await page.evaluate("document.getElementById('scroll').scrollTop = 1e9")
          await page.waitForFunction(
            "document.querySelector('.row:last-child')?.textContent.includes('chunk-54')",
          )
          await page.fill('#search', 'type-8')
          assert.match(await page.innerText('#count'), /^[\d\u202f]+ of 50\u202f000$/)
          assert((await page.screenshot()).length > 20_000)
        })
      }
    }))
})
