/** Changes as callers give them, and as the map takes them. */
import { checkKey, checkValue, typeError } from './range.js'

/** One change of a batch. */
export type MapOperation =
  | { readonly type: 'put'; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: 'delete'; readonly key: Uint8Array }

/** A change of a batch. Key and value are the caller's, and so many bytes of them count. */
export interface Change {
  readonly key: Uint8Array
  readonly keyBytes: number
  /** Undefined to delete. */
  readonly value: Uint8Array | undefined
  readonly valueBytes: number
}

/**
 * The operations as they are now. First each is read, once: what is not plain data runs its code here, and changes what it
 * likes, the map included. Then they are checked. From there on nobody's code runs.
 */
export function takeOperations(operations: readonly MapOperation[]): Change[] {
  if (!Array.isArray(operations)) {
    throw typeError('ERR_INVALID_ARG_TYPE', 'a batch must be an array of operations')
  }
  const { length } = operations
  const read: Taken[] = []
  for (let i = 0; i < length; i++) {
    const operation = operations[i]
    const type = operation?.type
    const key = operation?.key
    const value = type === 'put' ? operation.value : undefined
    read.push({ type, key, keyBytes: 0, value, valueBytes: 0 })
  }
  for (const taken of read) {
    taken.keyBytes = checkKey(taken.key)
    if (taken.type === 'put') taken.valueBytes = checkValue(taken.value)
    else if (taken.type !== 'delete') {
      throw typeError('ERR_INVALID_ARG_VALUE', "an operation's type must be 'put' or 'delete'")
    }
  }
  return read
}

export function deletionOf(key: Uint8Array): Change {
  return { key, keyBytes: key.length, value: undefined, valueBytes: 0 }
}

interface Taken extends Change {
  readonly type: unknown
  keyBytes: number
  valueBytes: number
}
