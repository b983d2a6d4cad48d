/** `plinth check`: findings as a table, the worst first, and what to do about them. */
import { type Finding, printable, Volume } from '../index.js'
import { defineCommand, exitsWith } from './command.js'
import { EXIT } from './errors.js'
import { type JsonOption, next, PLINTH, paint, print, shell, table } from './output.js'
import { formatCount, plural } from './units.js'

/** So many of each kind are shown without `--all`. */
const SHOWN = 20

export interface AllOption {
  readonly all?: boolean
}
export const ALL = `show all, not ${SHOWN} of each kind`

export const check = defineCommand({
  usage: 'check <device>',
  summary: 'look at everything that plinth keeps on a device, and write nothing',
  details:
    'Exits with 1 when something is damaged. What a crash leaves is no damage: it is told as info.',
  examples: ['plinth check /dev/pmem0', 'plinth check data --json | jq ".findings[].code"'],
})
  .option('-a, --all', ALL)
  .action(
    exitsWith((path: string, options: JsonOption & AllOption) => {
      const findings = Volume.check(path)
      const damage = findings.filter(({ severity }) => severity !== 'info')
      const shown = worstFirst(findings)
      const value = { healthy: damage.length === 0, counts: countsOf(findings) }
      print(options, { ...value, findings: someOf(shown, options) }, () => {
        const parts = [`${printable(path)}: ${verdict(damage)}`]
        if (findings.length > 0) parts.push(findingsTable(shown, options))
        const advice = adviceOn(damage, path)
        return parts.join('\n\n') + (advice === undefined ? '' : next(advice))
      })
      return damage.length === 0 ? EXIT.OK : EXIT.FINDINGS
    }),
  )

function verdict(damage: readonly Finding[]): string {
  if (damage.length === 0) return paint.green('healthy')
  const fixable = damage.filter((finding) => finding.fixable).length
  const text = `${plural(damage.length, 'finding')}, ${fixable} can be repaired without loss`
  return damage.some(({ severity }) => severity === 'error') ? paint.red(text) : paint.yellow(text)
}

function adviceOn(damage: readonly Finding[], path: string): string | undefined {
  if (damage.length === 0) return undefined
  const has = (code: Finding['code']) => damage.some((finding) => finding.code === code)
  if (has('restore-incomplete')) return `${PLINTH} restore ${shell(path)} --force --input <dump>`
  if (has('not-a-volume')) return `${PLINTH} probe ${shell(path)} tells what is there`
  if (damage.some(({ fixable }) => fixable)) {
    return `${PLINTH} repair ${shell(path)} shows what it would do`
  }
  if (has('device-truncated')) return 'give the device its size again, or restore a dump of it'
  return `${PLINTH} repair ${shell(path)} --drop-damaged ${DROP_ADVICE}`
}

/** What comes of `repair --drop-damaged`. */
export const DROP_ADVICE = 'shows what would have to be given up; take a copy of the device first'

const SEVERITY_PAINT = { info: paint.dim, warning: paint.yellow, error: paint.red } as const
const SEVERITY_ORDER = { error: 0, warning: 1, info: 2 } as const

type Coded = Pick<Finding, 'code' | 'count'>

export function countsOf(items: readonly Coded[]): Partial<Record<Finding['code'], number>> {
  const counts: Partial<Record<Finding['code'], number>> = {}
  for (const { code, count = 1 } of items) counts[code] = (counts[code] ?? 0) + count
  return counts
}

/** The first of each kind, or all. */
export function someOf<T extends Coded>(items: readonly T[], { all }: AllOption): T[] {
  const counts: Partial<Record<Finding['code'], number>> = {}
  return items.filter(({ code }) => {
    counts[code] = (counts[code] ?? 0) + 1
    return all || counts[code] <= SHOWN
  })
}

/** A line for each kind of which some are not shown. */
export function moreText(items: readonly Coded[], { all }: AllOption): string {
  if (all) return ''
  const shown = countsOf(someOf(items, {}))
  return Object.entries(countsOf(items))
    .map(([code, count]) => [code, count - (shown[code as Coded['code']] ?? 0)] as const)
    .filter(([, more]) => more > 0)
    .map(([code, more]) => `\n… and ${formatCount(more)} more of ${code}; --all shows them`)
    .join('')
}

export function worstFirst(findings: readonly Finding[]): Finding[] {
  return [...findings].sort((a, b) => SEVERITY_ORDER[a.severity] - SEVERITY_ORDER[b.severity])
}

export function findingsTable(findings: readonly Finding[], options: AllOption): string {
  return (
    table(
      [{ title: 'SEVERITY' }, { title: 'FINDING' }, { title: 'WHERE' }, { title: 'WHAT' }],
      someOf(findings, options).map(({ severity, code, place, message, fixable }) => [
        SEVERITY_PAINT[severity](severity),
        code,
        placeText(place),
        printable(message) + (fixable ? paint.dim(' (can be repaired)') : ''),
      ]),
    ) + moreText(findings, options)
  )
}

export function placeText({ area, copy, offset }: Finding['place']): string {
  const which = copy === undefined ? '' : copy === 0 ? ', first copy' : ', second copy'
  return `${area}${which}, at ${offset}`
}
