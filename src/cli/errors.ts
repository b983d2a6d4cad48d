import { plain } from './output.js'

/**
 * Exit codes, and what ends a command early.
 *
 *   0   done; nothing found
 *   1   done; there are findings, or fixes that were not made
 *   2   wrong use: arguments, or a yes that was not given
 *   3   the device, the volume, a file or a stream
 */
export const EXIT = { OK: 0, FINDINGS: 1, USAGE: 2, DEVICE: 3 } as const

/** What the user has to hear, without a stack. */
export class CommandError extends Error {
  readonly code: string
  readonly exitCode: number

  constructor(exitCode: number, code: string, message: string, options?: ErrorOptions) {
    super(message, options)
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
export function nothingAt(path: string, cause?: unknown): CommandError {
  return new CommandError(EXIT.DEVICE, 'ERR_DEVICE_MISSING', `nothing is at ${plain(path)}`, {
    cause,
  })
}

/** The error in the words of plinth, where Node's own are those of a system call. */
export function told(error: unknown): unknown {
  const { code, path } = (error ?? {}) as NodeJS.ErrnoException
  return code === 'ENOENT' && path !== undefined ? nothingAt(path, error) : error
}

const MISTAKES = /^ERR_(?:INVALID_ARG_|OUT_OF_RANGE|UNKNOWN_OPTION)/

/** The exit code that an error stands for; undefined for a bug. */
export function exitCodeOf(error: unknown): number | undefined {
  if (error instanceof CommandError) return error.exitCode
  const code: unknown = (error as { code?: unknown } | undefined)?.code
  if (typeof code !== 'string') return undefined
  return MISTAKES.test(code) ? EXIT.USAGE : EXIT.DEVICE
}
