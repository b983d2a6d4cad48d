/**
 * Runs tests written for `tape` as tests of node:test: the part of its assertions that public suites of
 * databases use. As there, a failed assertion does not throw; the first one fails the test at its end.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'

type Body = (t: Tape) => unknown

export function tape(name: string, body: Body): void {
  test(name, () => new Tape().run(body))
}

class Tape {
  #failure: unknown
  #planned: number | undefined
  #asserted = 0
  #isEnded = false
  #finish = () => {}

  /** A test ends with its promise and its plan; without a promise with its plan or `end`. */
  async run(body: Body): Promise<void> {
    const finished = new Promise<void>((resolve) => {
      this.#finish = resolve
    })
    const result = body(this)
    if (result instanceof Promise) {
      await result
      if (this.#planned === undefined) this.end()
    }
    await finished
    // What is asserted behind the end counts too.
    await new Promise((resolve) => setImmediate(resolve))
    if (this.#failure !== undefined) throw this.#failure
    if (this.#planned !== undefined) assert.equal(this.#asserted, this.#planned, 'assertions')
  }

  plan(count: number): void {
    this.#planned = count
    this.#look()
  }

  end(error?: unknown): void {
    this.#check(() => assert.equal(this.#isEnded, false, 'ended twice'))
    if (error !== undefined) this.#check(() => assert.ifError(error))
    this.#isEnded = true
    this.#look()
  }

  is(actual: unknown, expected: unknown, message?: string): void {
    this.#assert(() => assert.equal(actual, expected, message))
  }

  isNot(actual: unknown, expected: unknown, message?: string): void {
    this.#assert(() => assert.notEqual(actual, expected, message))
  }

  same(actual: unknown, expected: unknown, message?: string): void {
    this.#assert(() => assert.deepEqual(actual, expected, message))
  }

  ok(value: unknown, message?: string): void {
    this.#assert(() => assert.ok(value, message))
  }

  pass(): void {
    this.#assert(() => {})
  }

  fail(reason?: string | Error): void {
    this.#assert(() => assert.fail(reason))
  }

  throws(body: () => unknown, expected: (error: Error) => boolean): void {
    this.#assert(() => assert.throws(body, expected))
  }

  doesNotThrow(body: () => unknown): void {
    this.#assert(() => assert.doesNotThrow(body))
  }

  #assert(claim: () => void): void {
    this.#asserted++
    this.#check(claim)
    this.#look()
  }

  #check(claim: () => void): void {
    try {
      claim()
    } catch (error) {
      this.#failure ??= error
    }
  }

  #look(): void {
    if (this.#isEnded || (this.#planned !== undefined && this.#asserted >= this.#planned)) {
      this.#finish()
    }
  }
}
