/** Numbers in the page of `plinth map --html`. A part of its script: see html.ts. */
export function bytesText(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(5, Math.floor(Math.log2(bytes) / 10))
  const value = bytes / 1024 ** power
  const digits = Number.isInteger(value) ? 0 : value < 10 ? 2 : value < 100 ? 1 : 0
  return `${value.toFixed(digits)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][power]}`
}

export function percentText(bytes: number, of: number): string {
  const percent = (100 * bytes) / of
  if (percent > 0 && percent < 0.1) return '<0.1 %'
  return `${percent > 0 && percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`
}

export function countText(count: number): string {
  return String(count).replace(/\B(?=(?:\d{3})+$)/g, '\u202f')
}
