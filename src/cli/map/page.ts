/** What runs in the page of `plinth map --html`, in a browser. The build makes one file of it and what it imports. */
import { element, window } from './page-dom.js'
import { fillLegend } from './page-legend.js'
import { followKeys, followPointer } from './page-pointer.js'
import { fillRows, list } from './page-table.js'
import { draw, readColours, redraw } from './page-view.js'

readColours()
draw()
fillLegend()
list()
followPointer()
followKeys()
element('scroll').addEventListener('scroll', fillRows)
element('search').addEventListener('input', list)
window.addEventListener('resize', redraw)
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  readColours()
  redraw()
})
