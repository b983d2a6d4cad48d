/** What is refused around a transaction: work that is no function or does not end with it, and another one within. */
import { describe } from '../base/arguments.js'
import { argumentTypeError, PlinthError } from '../base/errors.js'

export function checkWork(work: unknown): void {
  if (typeof work !== 'function') {
    throw argumentTypeError(`a function is wanted, not ${describe(work)}`)
  }
}

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

export function transactionActive(): PlinthError {
  return new PlinthError(
    'ERR_TX_ACTIVE',
    'a transaction is under way; use its own methods inside the function',
  )
}
