/** A run's figures as text for people and as JSON lines for programs. */
import fs from 'node:fs'
import os from 'node:os'
import { loadAddon } from '../../src/native/load.js'
import type { Verdict } from './goals.js'
import { median, NS_PER, quantile, type Result } from './measure.js'

/** What the figures depend on. To be called before anything has loaded the machine. */
export function describeMachine(): string {
  const cpus = os.cpus()
  return [
    `${cpus.length} x ${cpuModel() ?? cpus[0]?.model ?? 'unknown processor'}`,
    `Node ${process.version}`,
    `flush ${loadAddon()?.flushInstruction ?? 'none'}`,
    `${os.type()} ${os.release()}`,
    `load ${os
      .loadavg()
      .map((load) => load.toFixed(2))
      .join(' ')}`,
  ].join(' | ')
}

/** Names of virtual processors say little; family and model tell which one it is. */
function cpuModel(): string | undefined {
  try {
    const info = fs.readFileSync('/proc/cpuinfo', 'utf8')
    const field = (name: string) => info.match(new RegExp(`^${name}\\s*: (.*)$`, 'm'))?.[1]
    const name = field('model name')
    return name && `${name} (family ${field('cpu family')}, model ${field('model')})`
  } catch {
    return undefined
  }
}

const WIDTHS = { name: 34, figure: 12 }

export function textHeader(): string {
  return textLine('name', 'median', 'p99', 'unit', 'samples', 'note')
}

export function textRow({ name, unit, samples, sample, note }: Result): string {
  const show = (ns: number) => {
    const value = ns / NS_PER[unit]
    return value.toFixed(value < 100 ? 2 : 1)
  }
  const count = `${samples.length} ${sample === 'round' ? 'rd' : 'op'}`
  return textLine(name, show(median(samples)), show(quantile(samples, 0.99)), unit, count, note)
}

function textLine(
  name: string,
  middle: string,
  p99: string,
  unit: string,
  samples: string,
  note: string,
): string {
  return [
    name.padEnd(WIDTHS.name),
    middle.padStart(WIDTHS.figure),
    p99.padStart(WIDTHS.figure),
    ` ${unit.padEnd(5)}`,
    samples.padStart(9),
    ` ${note}`,
  ]
    .join('')
    .trimEnd()
}

export const LEGEND = [
  'rd: a sample is the average of a round, and p99 is that of rounds',
  'op: a sample is a single operation',
].join('\n')

export function textGoals(verdicts: readonly Verdict[]): string {
  const goalWidth = Math.max(...verdicts.map(({ goal }) => goal.length))
  const line = (goal: string, wanted: string, median: string, quiet: string, verdict: string) =>
    [
      goal.padEnd(goalWidth),
      ...[wanted, median, quiet].map((figure) => figure.padStart(WIDTHS.figure)),
      `  ${verdict}`,
    ]
      .join('')
      .trimEnd()
  return [
    line('goal', 'wanted', 'measured', 'best tenth', ''),
    ...verdicts.map(({ goal, wanted, measured, quiet, met }) =>
      line(goal, wanted, measured, quiet, met ? 'met' : 'NOT MET'),
    ),
  ].join('\n')
}

export function jsonLine({ name, unit, samples }: Result): string {
  const round = (ns: number) => Number((ns / NS_PER[unit]).toPrecision(6))
  return JSON.stringify({
    name,
    unit,
    median: round(median(samples)),
    p99: round(quantile(samples, 0.99)),
    samples: samples.length,
  })
}
