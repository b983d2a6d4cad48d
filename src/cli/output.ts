/** What commands print: aligned columns, facts, one sentence at the end. Colours on a terminal alone. */
import { Ansis } from 'ansis'
import stringWidth from 'string-width'
import { printable } from '../index.js'

/** Colours of stdout; none when it is no terminal or NO_COLOR is set. */
export const paint = new Ansis(coloursOf(process.stdout))
export const paintError = new Ansis(coloursOf(process.stderr))

/** Undefined lets the library look at the terminal. */
function coloursOf(stream: NodeJS.WriteStream): 0 | undefined {
  return stream.isTTY && !process.env.NO_COLOR ? undefined : 0
}

/** Whether colours reach the reader: without them a drawing uses letters. */
export const hasColours = paint.level > 0

/** Columns of the terminal, or what a file is read with. */
export function columnsOf(stream: NodeJS.WriteStream): number {
  return Math.min(Math.max(stream.columns || 100, 60), 160)
}

export interface JsonOption {
  readonly json?: boolean | undefined
}

/** The result: data with `--json`, text otherwise. */
export function print({ json }: JsonOption, value: unknown, text: () => string): void {
  process.stdout.write(json ? toJson(value) : `${text()}\n`)
}

/** As `--json` prints it: what would steer a terminal is escaped, which changes no meaning. */
export function toJson(value: unknown): string {
  const lines = JSON.stringify(value, undefined, 2).split('\n')
  return `${lines.map(printable).join('\n')}\n`
}

export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - stringWidth(text)))
}

export function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - stringWidth(text))) + text
}

/** Names and values, the values in one column. */
export function facts(
  rows: readonly (readonly [name: string, value: string] | undefined)[],
): string {
  const given = rows.filter((row) => row !== undefined)
  const width = Math.max(...given.map(([name]) => name.length))
  return given
    .map(([name, value]) => {
      const [first = '', ...rest] = value.split('\n')
      const lines = [`${paint.dim(padEnd(name, width))}  ${first}`]
      for (const line of rest) lines.push(`${' '.repeat(width)}  ${line}`)
      return lines.join('\n')
    })
    .join('\n')
}

export interface Column {
  readonly title: string
  readonly align?: 'left' | 'right'
}

/** Rows under titles, in columns that are as wide as their widest cell. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map(({ title }) => stringWidth(title))
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i]!, stringWidth(cell))
    })
  }
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (columns[i]!.align === 'right' ? padStart : padEnd)(cell, widths[i]!))
      .join('  ')
      .trimEnd()
  const head = paint.bold(line(columns.map(({ title }) => title)))
  return [head, ...rows.map(line)].join('\n')
}

/** `████████░░░░`. */
export function bar(share: number, width: number): string {
  const filled = share <= 0 ? 0 : Math.max(1, Math.min(width, Math.round(share * width)))
  return '█'.repeat(filled) + paint.dim('░'.repeat(width - filled))
}

/** How the command is called: whom npx ran it for has no `plinth` in the path (npm sets this for npx). */
export const PLINTH = process.env.npm_command === 'exec' ? 'npx plinth' : 'plinth'

/** What to do next. */
export function next(text: string): string {
  return `\n\n${paint.dim('next')}  ${text}`
}

/** A path or name as a shell takes it; bash alone knows how to write what is not printable. */
export function shell(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text
  const shown = printable(text)
  if (shown === text) return `'${text.replaceAll("'", `'\\''`)}'`
  return `$'${printable(text.replaceAll(/['\\]/g, '\\$&'))}'`
}
