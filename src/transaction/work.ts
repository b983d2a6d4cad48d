/** The function of a transaction, as a caller gives it, and what it must not return. */
import { describe } from '../base/arguments.js'
import { argumentTypeError, PlinthError } from '../base/errors.js'

/** @throws TypeError ERR_INVALID_ARG_TYPE */
export function checkWork(work: unknown): void {
  if (typeof work !== 'function') {
    throw argumentTypeError(`a function is wanted, not ${describe(work)}`)
  }
}

/** @throws PlinthError ERR_TX_PROMISE */
export function refusePromise(result: unknown): void {
  if (
    result !== null &&
    typeof result === 'object' &&
    typeof (result as { then?: unknown }).then === 'function'
  ) {
    // Its rejection is nobody's: the transaction is refused, and that is what the caller is told.
    Promise.resolve(result).catch(() => {})
    throw new PlinthError(
      'ERR_TX_PROMISE',
      'the transaction function returned a promise; do the waiting outside: nothing was changed',
    )
  }
}
