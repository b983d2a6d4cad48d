/**
 * What a small engine keeps on the lab's volume: users by their number, numbers by their users' names, and beside
 * these two maps a balance, which is in memory alone and goes into an object with each transaction.
 */
import type { Participant, Transaction, Volume } from 'plinth'
import { OrderedMap } from 'plinth/map'
import { auditMap, bytesOf, differenceOf, MapModel } from '../support/map-model.js'

export const USERS = 'users'
export const NAMES = 'names'

/** Immutable: each operation makes a new one. */
export interface EngineModel {
  /** Number and value of each user, in order of creation. */
  readonly users: readonly (readonly [number: number, value: number])[]
}

/** Keys come in no order: they go between those that are there. */
export const userKey = (number: number) => bytesOf(`user ${(number * 617) % 1000}`)
export const nameKey = (value: number) => bytesOf(`name ${value}`)
/** Some of them are beyond what travels in the record of a transaction on memory. */
export const userBytes = (value: number) => Buffer.alloc(value % 4 === 0 ? 700 : 20, value)
export const numberBytes = (number: number) => Buffer.of(number & 255, number >> 8)

export const balanceOf = ({ users }: EngineModel) =>
  users.reduce((sum, [, value]) => sum + value, 0)

/** The balance, which takes part in transactions. */
export class Balance implements Participant {
  value: number
  #before = 0
  /** Stages the value, once it is known. */
  #store: () => void = () => {}

  constructor(value: number) {
    this.value = value
  }

  begin(tx: Transaction): void {
    tx.join(this)
    this.#before = this.value
    this.#store = () => {}
  }

  storeBy(store: () => void): void {
    this.#store = store
  }

  prepare(): void {
    this.#store()
  }

  committed(): void {}

  rolledBack(): void {
    this.value = this.#before
  }

  mark(): unknown {
    return { value: this.value, store: this.#store }
  }

  rollbackTo(mark: unknown): void {
    const { value, store } = mark as { value: number; store: () => void }
    this.value = value
    this.#store = store
  }
}

export interface Engine {
  readonly users: OrderedMap
  readonly names: OrderedMap
  readonly balance: Balance
}

const engines = new WeakMap<Volume, Engine>()

/** The engine of a volume; its memory is made once, and follows the volume's transactions from there. */
export function openEngine(volume: Volume, model: EngineModel): Engine {
  const known = engines.get(volume)
  if (known !== undefined) return known
  const users = OrderedMap.open(volume, USERS)
  const names = OrderedMap.open(volume, NAMES)
  const engine = { users, names, balance: new Balance(balanceOf(model)) }
  engines.set(volume, engine)
  return engine
}

/** Bytes of the device that the maps have. */
export function engineBytes(volume: Volume): number {
  return [USERS, NAMES].reduce((sum, name) => sum + volume.heap(name).stats().deviceBytes, 0)
}

interface Wanted {
  readonly users: MapModel
  readonly names: MapModel
}

/** A model is compared with thousands of states. */
const wantedOf = new WeakMap<EngineModel, Wanted>()

function wantedBy(model: EngineModel): Wanted {
  const known = wantedOf.get(model)
  if (known !== undefined) return known
  const wanted = { users: new MapModel(), names: new MapModel() }
  for (const [number, value] of model.users) {
    wanted.users.put(userKey(number).toString(), userBytes(value))
    wanted.names.put(nameKey(value).toString(), numberBytes(number))
  }
  wantedOf.set(model, wanted)
  return wanted
}

/** Whether the maps and the memory are in the state of the model. Returns what is different, undefined for nothing. */
export function compareEngine(volume: Volume, model: EngineModel): string | undefined {
  const { users, names, balance } = openEngine(volume, model)
  const inMaps = wantedBy(model)
  for (const [map, wanted, name] of [
    [users, inMaps.users, USERS],
    [names, inMaps.names, NAMES],
  ] as const) {
    const different = differenceOf(map, wanted)
    if (different !== undefined) return `${name}: ${different}`
    const { entries } = auditMap(volume, name)
    if (entries !== wanted.size) return `${name}: ${entries} entries on the device`
  }
  // Single keys are found another way than ranges.
  for (const [number, value] of model.users) {
    if (users.get(userKey(number))?.[0] !== (value & 255)) return `user ${number} is lost`
    if (!names.has(nameKey(value))) return `name ${value} is lost`
  }
  const wanted = balanceOf(model)
  return balance.value === wanted ? undefined : `the balance is ${balance.value}, wanted ${wanted}`
}
