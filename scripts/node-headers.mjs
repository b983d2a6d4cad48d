// Finds the C headers of the running Node on this machine, so that node-gyp need not download them.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/**
 * The environment for node-gyp: with `npm_config_nodedir` when headers of this very Node (by its modules version) are
 * there, without it when node-gyp must find them itself. A setting in the environment beats node-gyp's own option, so one
 * that belongs to another Node has to go.
 */
export function nodeGypEnvironment() {
  const { npm_config_nodedir: asked, ...env } = process.env
  const prefix = dirname(dirname(process.execPath))
  const nodedir = [asked, prefix, join(prefix, 'include/nodejs')].find((dir) => dir && fits(dir))
  return nodedir ? { ...env, npm_config_nodedir: nodedir } : env
}

function fits(dir) {
  const header = ['include/node', 'src', '.']
    .map((sub) => join(dir, sub, 'node_version.h'))
    .find(existsSync)
  if (!header) return false
  const [, modules] = /#define NODE_MODULE_VERSION (\d+)/.exec(readFileSync(header, 'utf8')) ?? []
  return modules === process.versions.modules
}
