/** Numbers as people read them. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `41.2 MiB`; exact where no digit is lost. */
export function formatBytes(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1)
  const value = bytes / 1024 ** power
  return `${trim(value)} ${UNITS[power]}`
}

/** Three digits: `1.23`, `41.2`, `512`. */
function trim(value: number): string {
  if (Number.isInteger(value)) return String(value)
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)
}

/** In groups of three digits. */
export function formatCount(value: number, between = ' '): string {
  return String(value).replace(/\B(?=(?:\d{3})+$)/g, between)
}

export function formatPercent(share: number): string {
  const percent = share * 100
  if (percent > 0 && percent < 0.1) return '<0.1 %'
  return `${percent < 10 && percent > 0 ? percent.toFixed(1) : Math.round(percent)} %`
}

/** `17.3 ns`, `161 us`, `2.10 ms`, `1.25 s`. */
export function formatTime(nanoseconds: number): string {
  const units = ['ns', 'us', 'ms', 's'] as const
  let value = nanoseconds
  let unit = 0
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[unit]}`
}

/** `1 chunk`, `2 chunks`. */
export function plural(count: number, noun: string, many = `${noun}s`): string {
  return `${formatCount(count)} ${count === 1 ? noun : many}`
}

/** As people read it, to the second. */
export function formatDate(date: Date): string {
  return date
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z/, ' UTC')
}
