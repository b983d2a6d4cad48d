/** `plinth repair`: what would be written; with `--apply` and a yes, it is. */
import { printable, type RepairReport, Volume } from '../index.js'
import { DROP_ADVICE, findingsTable, placeText } from './check.js'
import { defineCommand, exitsWith } from './command.js'
import { confirm } from './confirm.js'
import { EXIT } from './errors.js'
import { type JsonOption, next, PLINTH, paint, print, shell, table } from './output.js'
import { plural } from './units.js'
import { contentsOf } from './volume.js'

interface Options extends JsonOption {
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
  .option('--drop-damaged', 'give up chunks whose slots are damaged in both copies')
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
      print(options, report, () => reportText(report, path, dropDamaged))
      const damaged = report.remaining.some(({ severity }) => severity !== 'info')
      const undone = report.dryRun && report.fixes.length > 0
      return damaged || undone ? EXIT.FINDINGS : EXIT.OK
    }),
  )

function reportText(
  { dryRun, fixes, remaining }: RepairReport,
  path: string,
  drops: boolean,
): string {
  const parts: string[] = []
  if (fixes.length === 0) {
    const what = remaining.length === 0 ? 'nothing to repair' : 'nothing that repair can mend'
    parts.push(`${printable(path)}: ${what}`)
  } else {
    const written = dryRun ? 'would be' : fixes.length === 1 ? 'was' : 'were'
    parts.push(`${printable(path)}: ${plural(fixes.length, 'fix', 'fixes')} ${written} written`)
    parts.push(
      table(
        [{ title: dryRun ? 'WOULD FIX' : 'FIXED' }, { title: 'WHERE' }, { title: 'HOW' }],
        fixes.map((fix) => [
          fix.code,
          placeText(fix.place),
          printable(fix.message) + (fix.drops ? paint.red(' (gives something up)') : ''),
        ]),
      ),
    )
  }
  if (remaining.length > 0) parts.push(`${paint.yellow('remaining')}\n${findingsTable(remaining)}`)
  const flag = drops ? ' --drop-damaged' : ''
  const text = parts.join('\n\n')
  if (dryRun && fixes.length > 0)
    return text + next(`${PLINTH} repair ${shell(path)}${flag} --apply`)
  if (!drops && remaining.some(({ code }) => code === 'slot-lost')) {
    return text + next(`${PLINTH} repair ${shell(path)} --drop-damaged ${DROP_ADVICE}`)
  }
  return text
}
