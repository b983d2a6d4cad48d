/** What the queue's user can meet, beside plinth's own errors. */
export type QueueErrorCode =
  | 'ERR_JOB_NOT_FOUND'
  | 'ERR_JOB_STATE'
  | 'ERR_LEASE_LOST'
  | 'ERR_PAYLOAD_TOO_LARGE'
  | 'ERR_QUEUE_CORRUPT'
  | 'ERR_QUEUE_FULL'
  | 'ERR_QUEUE_NOT_FOUND'
  | 'ERR_RESULT_TOO_LARGE'

export class QueueError extends Error {
  readonly code: QueueErrorCode

  constructor(code: QueueErrorCode, message: string) {
    super(message)
    this.name = 'QueueError'
    this.code = code
  }
}
