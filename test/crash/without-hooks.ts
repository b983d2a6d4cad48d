/** How modules are loaded without a check: what one imports is loaded so too, and one file is another. */
import type { LoadHook, ResolveHook } from 'node:module'
import { CHECKS } from './without.js'

const root = new URL('../../', import.meta.url).href
const ASKS = /^\?without=(\w+)$/

export const resolve: ResolveHook = async (specifier, context, next) => {
  const resolved = await next(specifier, context)
  const search = context.parentURL === undefined ? '' : new URL(context.parentURL).search
  const isOurs = resolved.url.startsWith(root) && ASKS.test(search)
  return isOurs ? { ...resolved, url: resolved.url + search } : resolved
}

export const load: LoadHook = async (url, context, next) => {
  const loaded = await next(url, context)
  const { search, href } = new URL(url)
  const check = ASKS.exec(search)?.[1]
  if (check === undefined) return loaded
  const [file, from, to] = CHECKS[check]!
  if (href !== `${root}src/${file}${search}`) return loaded
  const parts = Buffer.from(loaded.source as Uint8Array)
    .toString('utf8')
    .split(from)
  if (parts.length !== 2) {
    throw new Error(`${check}: ${file} has ${parts.length - 1} times '${from}', not once`)
  }
  return { ...loaded, source: parts.join(to) }
}
