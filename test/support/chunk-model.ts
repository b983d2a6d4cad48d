/** The allocator, slow and plainly right: one array of cells, searched from the front. */
export interface ModelChunk {
  readonly id: number
  readonly start: number
  readonly granules: number
  name: string | undefined
  readonly type: string | undefined
  /** Published, and not in memory alone. */
  published: boolean
  /** What its first word has to be; undefined while nothing was stored there. */
  word: number | undefined
}

/** Head, log and table have these cells. */
const NOBODY = -1

export class ChunkModel {
  readonly granuleBytes: number
  /** The id of the chunk that has the cell; 0 for none, `NOBODY` where no chunk can be. */
  readonly cells: number[]
  chunks: Map<number, ModelChunk>
  /** Freed by the transaction under way: space that nobody can have before it commits. */
  #freed: ModelChunk[] = []

  /** Granules from the start of the device on, as a picture: `.` free, `#` no chunk's. */
  constructor(granuleBytes: number, granules: string) {
    this.granuleBytes = granuleBytes
    this.cells = Array.from(granules, (cell) => (cell === '.' ? 0 : NOBODY))
    this.chunks = new Map()
  }

  /** A second one, for a transaction that may be aborted. */
  copy(): ChunkModel {
    const copy = new ChunkModel(this.granuleBytes, '')
    copy.cells.push(...this.cells)
    copy.chunks = new Map([...this.chunks].map(([id, chunk]) => [id, { ...chunk }]))
    return copy
  }

  /** The first place where it fits; -1 for none. */
  find(granules: number, align: number): number {
    for (let start = 0; start + granules <= this.cells.length; start++) {
      if ((start * this.granuleBytes) % align !== 0) continue
      if (this.cells.slice(start, start + granules).every((owner) => owner === 0)) return start
    }
    return -1
  }

  hasName(name: string): boolean {
    return [...this.chunks.values()].some((chunk) => chunk.name === name)
  }

  add(chunk: ModelChunk): void {
    for (let i = 0; i < chunk.granules; i++) {
      if (this.cells[chunk.start + i] !== 0) throw new Error(`chunk ${chunk.id} overlaps another`)
      this.cells[chunk.start + i] = chunk.id
    }
    this.chunks.set(chunk.id, chunk)
  }

  /** Gone for everybody, its space only after `makeDurable`. */
  free(id: number): void {
    this.#freed.push(this.chunks.get(id)!)
    this.chunks.delete(id)
  }

  makeDurable(): void {
    for (const { start, granules } of this.#freed) this.cells.fill(0, start, start + granules)
    this.#freed = []
  }

  /** What lived in memory alone is gone. */
  reopen(): void {
    for (const [id, { published }] of this.chunks) if (!published) this.free(id)
    this.makeDurable()
  }

  /** As `volume.chunks()` gives it, without reservations. */
  list() {
    return [...this.chunks.values()]
      .filter(({ published }) => published)
      .sort((a, b) => a.start - b.start)
      .map(({ id, start, granules, name, type }) => ({
        id,
        name,
        type,
        offset: start * this.granuleBytes,
        size: granules * this.granuleBytes,
      }))
  }

  space() {
    const runs = this.cells
      .map((owner) => (owner === 0 ? '.' : '#'))
      .join('')
      .split(/#+/)
      .filter((run) => run !== '')
      .map((run) => run.length)
    const free = runs.reduce((sum, run) => sum + run, 0)
    const used = this.cells.filter((owner) => owner > 0).length
    return {
      usedBytes: used * this.granuleBytes,
      freeBytes: free * this.granuleBytes,
      largestFreeBytes: Math.max(0, ...runs) * this.granuleBytes,
      freeRuns: runs.length,
    }
  }
}
