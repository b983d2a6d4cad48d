/**
 * Whether a volume may be used: the one place that says so.
 *
 *   open ──a barrier fails──▶ failed ──close──▶ closed
 *     └──────────close──────────────────────────▲
 */
import { PlinthError } from '../base/errors.js'
import type { Media } from './media.js'

export class Lifecycle {
  readonly media: Media
  readonly readOnly: boolean
  /** Whether a subscriber is being told of this volume: what it calls is refused. */
  isTelling = false
  #isClosed = false

  constructor(media: Media, readOnly: boolean) {
    this.media = media
    this.readOnly = readOnly
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Whether stores can still be made durable. */
  get mayWrite(): boolean {
    return !this.readOnly && this.media.failure === undefined
  }

  close(): void {
    this.#isClosed = true
  }

  /** @throws PlinthError ERR_VOLUME_CLOSED, ERR_VOLUME_FAILED, ERR_REENTRANT */
  checkOpen(): void {
    if (this.#isClosed || this.media.failure !== undefined || this.isTelling) this.#refuse()
  }

  /** @throws PlinthError ERR_REENTRANT in a subscriber that is being told of this volume */
  refuseSubscriber(): void {
    if (!this.isTelling) return
    throw new PlinthError(
      'ERR_REENTRANT',
      'a subscriber of plinth:operation has called the volume that it is being told of; call it later, from queueMicrotask for one',
    )
  }

  /** @throws PlinthError as `checkOpen`, ERR_READ_ONLY */
  checkWritable(): void {
    this.checkOpen()
    if (this.readOnly) {
      throw new PlinthError('ERR_READ_ONLY', 'the volume was opened with readOnly')
    }
  }

  #refuse(): never {
    if (this.#isClosed) throw new PlinthError('ERR_VOLUME_CLOSED', 'the volume is closed')
    if (this.media.failure !== undefined) throw this.media.failure
    return this.refuseSubscriber() as never
  }
}
