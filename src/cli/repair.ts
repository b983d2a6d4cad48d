/** `plinth repair`: what would be written; with `--apply` and a yes, it is. */
import { type Finding, printable, type RepairReport, Volume } from '../index.js'
import {
  ALL,
  type AllOption,
  DROP_ADVICE,
  findingsTable,
  moreText,
  placeText,
  someOf,
  worstFirst,
} from './check.js'
import { defineCommand, exitsWith } from './command.js'
import { confirm } from './confirm.js'
import { EXIT } from './errors.js'
import { type JsonOption, next, PLINTH, paint, print, shell, table } from './output.js'
import { plural } from './units.js'
import { contentsOf } from './volume.js'

interface Options extends JsonOption, AllOption {
  readonly apply?: boolean
  readonly dropDamaged?: boolean
  readonly force?: boolean
}

export const repair = defineCommand({
  usage: 'repair <device>',
  summary: 'restore what is damaged from its second copy',
  details:
    'Only says what it would do, unless --apply is given. A crash within leaves the volume no worse. Exits with 1 while something is or remains damaged.',
  examples: ['plinth repair /dev/pmem0', 'plinth repair /dev/pmem0 --apply'],
})
  .option('--apply', 'write the fixes')
  .option(
    '--drop-damaged',
    'give up what nothing can restore: chunks, what was committed behind a damaged record',
  )
  .option('-a, --all', ALL)
  .option('-f, --force', 'do not ask, and take the device back from whoever has it now')
  .action(
    exitsWith(async (path: string, options: Options) => {
      const dropDamaged = options.dropDamaged ?? false
      const force = options.force ?? false
      let report = Volume.repair(path, { dryRun: true, dropDamaged, force })
      if (options.apply && report.fixes.length > 0) {
        const drops = report.fixes.filter((fix) => fix.drops).length
        await confirm(
          `${path} holds ${contentsOf(path) ?? 'a damaged volume'}; ${plural(report.fixes.length, 'fix', 'fixes')} will be written${drops > 0 ? `, of which ${drops} give something up` : ''}`,
          'Repair it?',
          options.force,
        )
        report = Volume.repair(path, { dryRun: false, dropDamaged, force })
      }
      const shown = {
        ...report,
        findings: someOf(worstFirst(report.findings), options),
        fixes: someOf(report.fixes, options),
        remaining: someOf(worstFirst(report.remaining), options),
      }
      print(options, shown, () => reportText(report, path, options))
      const damaged = report.remaining.some(({ severity }) => severity !== 'info')
      const undone = report.dryRun && report.fixes.length > 0
      return damaged || undone ? EXIT.FINDINGS : EXIT.OK
    }),
  )

/** Findings of which `--drop-damaged` can free the rest. */
const GIVEN_UP: readonly Finding['code'][] = [
  'slot-lost',
  'log-damaged',
  'log-entry-impossible',
  'log-gone',
  'chunk-out-of-bounds',
  'chunk-overlap',
  'name-twice',
]

function reportText(
  { dryRun, fixes, remaining }: RepairReport,
  path: string,
  options: Options,
): string {
  const drops = options.dropDamaged ?? false
  const parts: string[] = []
  if (fixes.length === 0) {
    const what = remaining.length === 0 ? 'nothing to repair' : 'nothing that can be repaired'
    parts.push(`${printable(path)}: ${what}`)
  } else {
    const written = dryRun ? 'would be' : fixes.length === 1 ? 'was' : 'were'
    parts.push(`${printable(path)}: ${plural(fixes.length, 'fix', 'fixes')} ${written} written`)
    parts.push(
      table(
        [{ title: dryRun ? 'WOULD FIX' : 'FIXED' }, { title: 'WHERE' }, { title: 'HOW' }],
        someOf(fixes, options).map((fix) => [
          fix.code,
          placeText(fix.place),
          printable(fix.message) + (fix.drops ? paint.red(' (gives something up)') : ''),
        ]),
      ) + moreText(fixes, options),
    )
  }
  if (remaining.length > 0)
    parts.push(`${paint.yellow('remaining')}\n${findingsTable(worstFirst(remaining), options)}`)
  const flag = drops ? ' --drop-damaged' : ''
  const text = parts.join('\n\n')
  if (dryRun && fixes.length > 0)
    return text + next(`${PLINTH} repair ${shell(path)}${flag} --apply`)
  if (!drops && remaining.some(({ code }) => GIVEN_UP.includes(code))) {
    return text + next(`${PLINTH} repair ${shell(path)} --drop-damaged ${DROP_ADVICE}`)
  }
  return text
}
