/**
 * Memory for images, used again and again: the lab needs some for every state, and a new megabyte
 * costs its page faults and a part of a garbage collection each time.
 */
const free: Uint8Array[] = []

/** A copy of an image. */
export function takeCopy(of: Uint8Array): Uint8Array {
  const at = free.findIndex((image) => image.length === of.length)
  const image = at === -1 ? new Uint8Array(of.length) : free.splice(at, 1)[0]!
  image.set(of)
  return image
}

/** Gives memory back; nobody may hold a view on it any more. */
export function giveBack(image: Uint8Array): void {
  if (image.length > 0) free.push(image)
}
