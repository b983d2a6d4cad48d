/** The map as one page that needs nothing else: the picture as data, and `page.ts` to draw it. */
import { readFileSync } from 'node:fs'
import { GRANULARITIES, KINDS } from '../probe.js'
import { byPowerOfTwo, type RunCount } from '../stats.js'
import { formatBytes, formatCount, formatPercent, plural } from '../units.js'
import type { PageData, PageMemory } from './page-data.js'
import { DARK, GROUND, LIGHT, textOn } from './palette.js'
import type { Picture } from './picture.js'
import type { Residency } from './residency.js'
import { escapeText } from './svg.js'

export function htmlMap(picture: Picture): string {
  const { info } = picture
  const name = info.label ?? '(no label)'
  const kind = info.kind === 'memory' ? 'memory' : KINDS[info.kind]
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeText(name)} – plinth map</title>
<style>${colours()}${STYLE}</style>
</head>
<body>
<header>
<div><h1>${escapeText(name)}</h1><p class="faint">${escapeText(info.path)} · ${escapeText(kind)}</p></div>
<p class="faint right">${formatBytes(info.size)} in granules of ${formatBytes(info.granule)}<br>${escapeText(GRANULARITIES[info.granularity].split(':')[0]!)} granularity · <span class="mono">${info.uuid}</span></p>
</header>
<section class="tiles">${tiles(picture)}</section>
<section class="card">
<div class="bar"><h2>Device</h2><output id="range" class="faint mono"></output>
<span class="buttons"><button id="out" title="zoom out (−)" aria-label="zoom out">−</button><button id="in" title="zoom in (+)" aria-label="zoom in">+</button><button id="all" title="all of the device (0)">All</button></span></div>
<canvas id="strip" height="26" aria-label="All of the device; the frame is what is shown below"></canvas>
<canvas id="map" tabindex="0" aria-label="The part of the device that is shown"></canvas>
<p id="hint" class="faint">Scroll to zoom, drag to move, click a chunk to fill the view with it. Keys: + − 0 and arrows.</p>
<ul id="legend"></ul>
</section>
<section class="pair">
<div class="card"><h2>Free runs <span class="faint">by length, share of free bytes</span></h2>${histogram(picture.freeRuns, picture.stats.freeBytes, 'Nothing is free.')}</div>
<div class="card"><h2>Chunks <span class="faint">by size, share of used bytes</span></h2>${histogram(byPowerOfTwo(picture.chunks.map(({ size }) => size)), picture.stats.usedBytes, 'Nothing is allocated.')}</div>
</section>
<section class="card">
<div class="bar"><h2>Chunks</h2><output id="count" class="faint"></output><input id="search" type="search" placeholder="Name, type or id" aria-label="Search chunks"></div>
<div id="table"${picture.residency === undefined ? '' : ' class="memory"'} role="table" aria-label="Chunks"><div id="head" role="row"></div><div id="scroll" tabindex="0"><div id="rows" role="rowgroup"></div></div></div>
</section>
<div id="tip" role="tooltip" hidden></div>
<script type="application/json" id="data">${embed(dataOf(picture))}</script>
<script type="module">${script()}</script>
</body>
</html>
`
}

/** The page's script in one file, which a page that needs no other can have: page.ts and what it imports, bundled by the build. */
function script(): string {
  return readFileSync(new URL('./bundle.js', import.meta.url), 'utf8')
}

/** JSON that cannot end its element. */
function embed(data: PageData): string {
  return JSON.stringify(data).replaceAll('<', '\\u003c')
}

function dataOf({ info, stats, owners, chunks, stretches, residency }: Picture): PageData {
  const types = [...new Set(chunks.map(({ type }) => type ?? ''))]
  const typeIndex = new Map(types.map((type, i) => [type, i]))
  const ownerOf = new Int32Array(chunks.length)
  for (const { chunk, owner } of stretches) if (chunk !== -1) ownerOf[chunk] = owner
  return {
    size: info.size,
    granule: info.granule,
    freeBytes: stats.freeBytes,
    owners,
    areas: stretches
      .filter(({ chunk }) => chunk === -1)
      .map(({ name, offset, size, owner }) => ({ name, offset, size, owner })),
    types,
    chunks: {
      offset: chunks.map(({ offset }) => offset),
      size: chunks.map(({ size }) => size),
      id: chunks.map(({ id }) => id),
      name: chunks.map(({ name }) => name ?? ''),
      type: chunks.map(({ type }) => typeIndex.get(type ?? '')!),
      owner: [...ownerOf],
    },
    memory: residency && memoryOf(residency, stretches),
  }
}

function memoryOf(residency: Residency, stretches: Picture['stretches']): PageMemory {
  const { bytes, cellBytes, cells } = residency
  // Stretches and chunks are both in order of their offsets.
  const of = (wanted: (chunk: number) => boolean) =>
    residency.stretches.filter((_, i) => wanted(stretches[i]!.chunk))
  return {
    bytes,
    areas: of((chunk) => chunk === -1),
    chunks: of((chunk) => chunk !== -1),
    cellBytes,
    cells: cells.map((share) => Math.ceil(share * 100)),
  }
}

function histogram(counts: readonly RunCount[], total: number, nothing: string): string {
  if (counts.length === 0) return `<p class="faint">${nothing}</p>`
  const most = Math.max(...counts.map(({ bytes }) => bytes))
  const rows = counts.map(
    ({ fromBytes, runs, bytes }) =>
      `<span class="faint">${formatBytes(fromBytes)} –</span><i style="width:${((100 * bytes) / most).toFixed(2)}%"></i>` +
      `<span class="faint">${formatCount(runs)} × · ${formatPercent(bytes / total)}</span>`,
  )
  return `<div class="histogram">${rows.join('')}</div>`
}

function tiles({ stats, info, residency }: Picture): string {
  const share = stats.usedBytes / stats.dataBytes
  const tile = (name: string, value: string, note: string, extra = '') =>
    `<div class="tile"><span class="faint">${name}</span><b>${value}</b><span class="faint">${note}</span>${extra}</div>`
  return [
    tile(
      'Used',
      formatPercent(share),
      `${formatBytes(stats.usedBytes)} of ${formatBytes(stats.dataBytes)}`,
      `<i class="meter"><i style="width:${(share * 100).toFixed(1)}%"></i></i>`,
    ),
    tile('Chunks', formatCount(stats.chunks), 'allocated'),
    tile('Free', formatBytes(stats.freeBytes), `in ${plural(stats.freeRuns, 'run')}`),
    tile('Largest free run', formatBytes(stats.largestFreeBytes), 'largest new chunk'),
    tile('Fragmentation', formatPercent(stats.fragmentation), '0 %: one free run'),
    tile('Redo log', formatBytes(stats.logBytes), `${formatBytes(stats.logUsedBytes)} in use`),
    residency === undefined
      ? ''
      : tile(
          'In memory',
          formatPercent(residency.bytes / info.size),
          `${formatBytes(residency.bytes)} of ${formatBytes(info.size)}`,
        ),
  ].join('')
}

function colours(): string {
  const variables = (dark: boolean) =>
    [
      ...Object.entries(dark ? GROUND.dark : GROUND.light),
      ...Object.entries(dark ? DARK : LIGHT).flatMap(([name, colour]) => [
        [name, colour],
        [`on-${name}`, textOn(colour)],
      ]),
    ]
      .map(([name, colour]) => `--${name}:${colour}`)
      .join(';')
  return `:root{${variables(false)}}@media(prefers-color-scheme:dark){:root{${variables(true)}}}`
}

const STYLE = `
*{box-sizing:border-box}
body{margin:0 auto;max-width:1320px;padding:32px 28px 48px;background:var(--page);color:var(--text);font:14px/1.5 ui-sans-serif,system-ui,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;font-variant-numeric:tabular-nums}
header{display:flex;justify-content:space-between;align-items:flex-end;gap:24px;margin-bottom:24px;flex-wrap:wrap}
h1{font-size:28px;line-height:1.2;font-weight:680;letter-spacing:-.015em;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:15px;font-weight:650;margin:0}
h2 .faint{font-weight:400;font-size:13px;margin-left:6px}
p{margin:0}
.faint{color:var(--faint)}.right{text-align:right}
.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:12px}
.card,.tile{background:var(--card);border:1px solid var(--line);border-radius:12px}
.card{padding:20px 22px;margin-bottom:18px;min-width:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-bottom:18px}
.tile{padding:14px 16px;display:flex;flex-direction:column;font-size:12.5px;position:relative;overflow:hidden}
.tile b{font-size:21px;font-weight:650;letter-spacing:-.01em;line-height:1.35}
.meter{position:absolute;left:0;right:0;bottom:0;height:4px;background:var(--free)}
.meter i{display:block;height:100%;background:var(--accent)}
.bar{display:flex;align-items:center;gap:14px;margin-bottom:14px;min-height:32px}
.bar .faint{flex:1}
.buttons{display:flex;gap:6px}
button,input{font:inherit;color:inherit;background:var(--page);border:1px solid var(--line);border-radius:8px;height:32px;padding:0 12px}
button{cursor:pointer;min-width:34px}button:hover{border-color:var(--accent)}
input{width:240px}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
canvas{display:block;width:100%;border-radius:6px;touch-action:none}
#strip{height:26px;margin-bottom:14px;cursor:pointer}
#map{cursor:crosshair}
#hint{margin-top:10px;font-size:12.5px}
#legend{list-style:none;margin:16px 0 0;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(235px,1fr));gap:4px 18px}
#legend li{display:flex;gap:9px;align-items:center;min-width:0;padding:3px 6px;border-radius:6px;cursor:default}
#legend li:hover{background:var(--page)}
#legend b{font-weight:550;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
#legend span{white-space:nowrap;font-size:12.5px}
.swatch{flex:none;width:13px;height:13px;border-radius:3.5px;display:inline-block}
.swatch.line{height:2px;border-radius:0}
.hatched{background-image:repeating-linear-gradient(45deg,#fff5 0 2px,transparent 2px 5px)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:18px}
.histogram{display:grid;grid-template-columns:max-content 1fr max-content;gap:5px 12px;margin-top:14px;align-items:center;font-size:13px}
.histogram i{display:block;height:14px;border-radius:3px;background:var(--accent);min-width:2px}
.histogram .faint{text-align:right}
#table{border-top:1px solid var(--line)}
#head,.row{display:grid;grid-template-columns:minmax(160px,3fr) minmax(90px,1.2fr) 110px 170px 130px;gap:16px;align-items:center;padding:0 10px;height:30px}
.memory #head,.memory .row{grid-template-columns:minmax(160px,3fr) minmax(90px,1.2fr) 110px 100px 170px 130px}
#head{overflow:hidden;scrollbar-gutter:stable}
#head button{all:unset;cursor:pointer;font-size:12px;color:var(--faint);font-weight:600}
#head button:focus-visible{outline:2px solid var(--accent)}
#head button:hover{color:var(--text)}
#head :nth-child(n+3),.row>:nth-child(n+3){text-align:right}
#scroll{scrollbar-gutter:stable;height:390px;overflow-y:auto;border-radius:6px;position:relative}
#rows{position:relative}
.row{position:absolute;left:0;right:0;border-radius:6px;cursor:pointer}
.row:hover,.row.here{background:var(--page)}
.row>*{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.row .swatch{margin-right:9px;vertical-align:-1.5px}
#tip{position:fixed;z-index:2;pointer-events:none;background:var(--text);color:var(--card);border-radius:8px;padding:8px 12px;font-size:12.5px;max-width:340px;box-shadow:0 4px 18px #0004;overflow-wrap:anywhere}
#tip[hidden]{display:none}#tip b{display:block;font-size:13.5px}
@media(max-width:900px){.tiles{grid-template-columns:repeat(3,1fr)}.pair{grid-template-columns:1fr}#head,.row,.memory #head,.memory .row{grid-template-columns:2fr 1fr 90px}#head :nth-child(n+4),.row>:nth-child(n+4){display:none}.right{text-align:left}}
@media(max-width:560px){body{padding:18px 14px}.tiles{grid-template-columns:repeat(2,1fr)}input{width:140px}}
`
