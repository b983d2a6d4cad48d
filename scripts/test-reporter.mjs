// A short report for logs: one line a file, each failure in full, why tests were skipped, then node's closing counts.
import { relative } from 'node:path'
import { inspect } from 'node:util'

export default async function* report(events) {
  const files = new Map()
  const failures = []
  const skipped = new Map()
  const of = (file) => {
    const name = file ? relative(process.cwd(), file) : '(no file)'
    if (!files.has(name)) files.set(name, { passed: 0, failed: 0, skipped: 0 })
    return files.get(name)
  }
  for await (const { type, data } of events) {
    if (type === 'test:pass' || type === 'test:fail') {
      const suite = data.details?.type === 'suite'
      if (data.skip !== undefined) {
        const why =
          typeof data.skip === 'string' && data.skip !== '' ? data.skip : 'no reason given'
        skipped.set(why, (skipped.get(why) ?? 0) + 1)
        of(data.file).skipped++
      } else if (type === 'test:pass') {
        if (!suite) of(data.file).passed++
      } else {
        if (!suite) of(data.file).failed++
        // What contains a failed test fails with it: nothing new.
        if (data.details?.error?.failureType !== 'subtestsFailed') failures.push(data)
      }
    } else if (type === 'test:stderr' || type === 'test:stdout') {
      yield data.message
    } else if (type === 'test:diagnostic') {
      // Node's counts come last, so all files are known by then.
      if (/^tests \d+$/.test(data.message) && data.nesting === 0) yield summary()
      yield `# ${data.message}\n`
    }
  }

  function summary() {
    let text = ''
    for (const [name, { passed, failed, skipped }] of [...files].sort(([a], [b]) =>
      a < b ? -1 : 1,
    )) {
      text += `${failed ? 'FAIL' : 'ok  '} ${name}: ${passed} passed`
      text += `${failed ? `, ${failed} failed` : ''}${skipped ? `, ${skipped} skipped` : ''}\n`
    }
    for (const [why, times] of skipped) text += `skipped ${times}: ${why}\n`
    for (const { name, file, line, details } of failures) {
      const error = details?.error?.cause ?? details?.error
      text += `\nFAILED ${name}\n  at ${file ? relative(process.cwd(), file) : ''}:${line ?? ''}\n`
      text += `${inspect(error, { depth: 5 }).replace(/^/gm, '  ')}\n`
    }
    return `${text}\n`
  }
}
