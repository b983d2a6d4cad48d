import { printable } from '../index.js'

/**
 * Exit codes, and what ends a command early.
 *
 *   0   done; nothing found
 *   1   done; there are findings, or fixes that were not made
 *   2   wrong use: arguments, or a yes that was not given
 *   3   the device, the volume, a file or a stream
 *   141 whoever read has gone: what a shell says of a process that SIGPIPE ended (128 + 13)
 */
export const EXIT = { OK: 0, FINDINGS: 1, USAGE: 2, DEVICE: 3, READER_GONE: 141 } as const

/** What the user has to hear, without a stack. */
export class CommandError extends Error {
  readonly code: string
  readonly exitCode: number

  constructor(exitCode: number, code: string, message: string, options?: ErrorOptions) {
    super(printable(message), options)
    this.name = 'CommandError'
    this.exitCode = exitCode
    this.code = code
  }
}

export function usage(message: string): CommandError {
  return new CommandError(EXIT.USAGE, 'ERR_USAGE', message)
}

/** A stream that is no dump, is damaged or ends early. */
export function badStream(message: string): CommandError {
  return new CommandError(EXIT.DEVICE, 'ERR_STREAM', message)
}

/** A path that does not exist, as the library says it of a device. */
export function nothingAt(path: string): CommandError {
  return new CommandError(EXIT.DEVICE, 'ERR_DEVICE_MISSING', `nothing is at ${path}`)
}

/** The error in the words of plinth, where Node's own are those of a system call. */
export function told(error: unknown): unknown {
  const { code, path } = (error ?? {}) as NodeJS.ErrnoException
  return code === 'ENOENT' && path !== undefined ? nothingAt(path) : error
}

/** What led to an error, the nearest first, without what its message says already. */
export function causesOf(error: Error): { message: string; code?: string }[] {
  const causes: { message: string; code?: string }[] = []
  let said = error.message
  let { cause } = error
  while (cause instanceof Error && causes.length < CAUSES_MAX) {
    const { message, code } = cause as NodeJS.ErrnoException
    if (!said.includes(message)) {
      causes.push({ message: printable(message), ...(code !== undefined && { code }) })
    }
    said += message
    cause = cause.cause
  }
  return causes
}

const CAUSES_MAX = 8
const MISTAKES = /^ERR_(?:INVALID_ARG_|OUT_OF_RANGE|UNKNOWN_OPTION)/

/** The exit code that an error stands for; undefined for a bug. */
export function exitCodeOf(error: unknown): number | undefined {
  if (error instanceof CommandError) return error.exitCode
  const code: unknown = (error as { code?: unknown } | undefined)?.code
  if (typeof code !== 'string') return undefined
  if (code === 'EPIPE') return EXIT.READER_GONE
  return MISTAKES.test(code) ? EXIT.USAGE : EXIT.DEVICE
}
