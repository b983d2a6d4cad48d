/** A simulated device whose barrier takes a turn of the event loop: who does not wait for it is found out. */
import { setImmediate } from 'node:timers/promises'
import { SimulatedMedia } from 'plinth/testing'

export class SlowMedia extends SimulatedMedia {
  override async fenceAsync(): Promise<void> {
    await setImmediate()
    this.fence()
  }
}
