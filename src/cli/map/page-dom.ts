/** What the page of `plinth map --html` uses of a browser. The compiler's own declarations would hold for all of plinth. */
export interface PageEvent {
  readonly clientX: number
  readonly clientY: number
  readonly offsetX: number
  readonly offsetY: number
  readonly deltaY: number
  readonly buttons: number
  readonly pointerId: number
  readonly key: string
  preventDefault(): void
}

interface Listens {
  addEventListener(name: string, listener: (event: PageEvent) => void): void
}

export interface PageElement extends Listens {
  textContent: string
  className: string
  title: string
  hidden: boolean
  scrollTop: number
  readonly value: string
  readonly clientWidth: number
  readonly clientHeight: number
  readonly offsetWidth: number
  readonly offsetHeight: number
  readonly style: Record<'left' | 'top' | 'width' | 'height' | 'backgroundColor', string>
  append(...children: PageElement[]): void
  replaceChildren(...children: PageElement[]): void
  setPointerCapture(pointerId: number): void
}

export interface PageCanvas extends PageElement {
  width: number
  height: number
  getContext(kind: '2d'): Canvas2D
}

export interface Canvas2D {
  fillStyle: string
  strokeStyle: string
  lineWidth: number
  globalAlpha: number
  font: string
  textAlign: 'left' | 'right'
  textBaseline: 'middle'
  setTransform(a: number, b: number, c: number, d: number, e: number, f: number): void
  fillRect(x: number, y: number, width: number, height: number): void
  strokeRect(x: number, y: number, width: number, height: number): void
  fillText(text: string, x: number, y: number): void
  save(): void
  restore(): void
  beginPath(): void
  rect(x: number, y: number, width: number, height: number): void
  clip(): void
  moveTo(x: number, y: number): void
  lineTo(x: number, y: number): void
  stroke(): void
}

export interface PageDocument {
  readonly documentElement: PageElement
  getElementById(id: string): PageElement | null
  createElement(tag: string): PageElement
}

export interface PageWindow extends Listens {
  readonly devicePixelRatio: number
  readonly innerWidth: number
  readonly innerHeight: number
  requestAnimationFrame(draw: () => void): void
  getComputedStyle(element: PageElement): { getPropertyValue(name: string): string }
  matchMedia(query: string): Listens
}

/** A place on a canvas. */
export interface Box {
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
}

export const { document, window } = globalThis as unknown as {
  document: PageDocument
  window: PageWindow
}

/** The element of the page with an id. */
export function element(id: string): PageElement {
  return document.getElementById(id)!
}

export function make(tag: string, text: string, classes = ''): PageElement {
  const made = document.createElement(tag)
  made.textContent = text
  made.className = classes
  return made
}
