/**
 * Takes all steps, in their order, whichever fail, and throws the first error: `failure` where there was one
 * already. Each step is told of it.
 */
export function release(failure: unknown, steps: readonly ((first: unknown) => void)[]): void {
  let first = failure
  for (const step of steps) {
    try {
      step(first)
    } catch (error) {
      first ??= error
    }
  }
  if (first !== undefined) throw first
}
