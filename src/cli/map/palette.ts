/**
 * Colours of owners. The chunk colours are close to those of Okabe and Ito, which stay apart for
 * colour-blind readers; lighter on dark ground. Metadata and log are hatched as well where that can be drawn.
 */
import type { Colour } from './picture.js'

export type Shades = Readonly<Record<Colour, string>>

export const LIGHT: Shades = {
  metadata: '#5b6575',
  log: '#7a5fb0',
  chunk1: '#0b74b5',
  chunk2: '#e39a0b',
  chunk3: '#0f9d76',
  chunk4: '#cb74a5',
  chunk5: '#5db6ea',
  chunk6: '#d45b0c',
  chunk7: '#b9a900',
  other: '#98a1ae',
}

export const DARK: Shades = {
  metadata: '#8d98aa',
  log: '#a791dc',
  chunk1: '#3d9bdb',
  chunk2: '#f0b241',
  chunk3: '#2dbd93',
  chunk4: '#e096c0',
  chunk5: '#93d3f7',
  chunk6: '#ef7f37',
  chunk7: '#e3d64b',
  other: '#6f7a8a',
}

const INK = '#10151c'
const PAPER = '#ffffff'

/** The text that is better read on a colour, given as `#rrggbb`. */
export function textOn(colour: string): string {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) =>
    Number.parseInt(colour.slice(at, at + 2), 16),
  )
  return 0.3 * red + 0.59 * green + 0.11 * blue > 140 ? INK : PAPER
}

/** Ground, text and lines. */
export const GROUND = {
  light: {
    page: '#f6f7f9',
    card: '#ffffff',
    free: '#e9ecf1',
    line: '#dfe3ea',
    text: '#1c2430',
    faint: '#667085',
    accent: '#0b74b5',
  },
  dark: {
    page: '#0f1318',
    card: '#171c23',
    free: '#232a34',
    line: '#2b333f',
    text: '#e8ecf2',
    faint: '#95a0b1',
    accent: '#5db6ea',
  },
} as const

/** What plinth keeps itself is told apart by more than its colour. */
export function isHatched(colour: string): boolean {
  return colour === 'metadata' || colour === 'log'
}
