// Curves that are set at once.

/**
 * @typedef {import('./cells.js').Cell} Cell
 * @typedef {Map<number, number>} Levels levels by frame
 */

const SEAM = 4 // given frames that a soft seam takes up

/** @param {Cell[]} cells */
const given = (cells) => cells.filter((cell) => cell.state !== 'empty')

/**
 * Runs of neighbouring given cells.
 * @param {Cell[]} cells
 * @returns {Cell[][]}
 */
function runs(cells) {
  /** @type {Cell[][]} */
  const found = []
  for (const cell of given(cells)) {
    const run = found.at(-1)
    if (run && run[run.length - 1].frame === cell.frame - 1) run.push(cell)
    else found.push([cell])
  }
  return found
}

/**
 * @param {Cell[]} cells
 * @param {(cell: Cell) => number} level
 * @returns {Levels}
 */
const levels = (cells, level) => new Map(cells.map((cell) => [cell.frame, level(cell)]))

/** @type {Record<string, {title: string, levels: (cells: Cell[]) => Levels}>} */
export const PRESETS = {
  keep: { title: 'Keep all given frames', levels: (cells) => levels(given(cells), () => 0) },
  loose_start: {
    title: 'Loose start: 0.2',
    levels: (cells) =>
      levels(given(cells), (cell) => (runs(cells)[0].includes(cell) && cells[0].state !== 'empty' ? 0.2 : cell.level)),
  },
  start_end: {
    title: 'Start and end: 0.3 and 0.7',
    levels: (cells) => {
      const all = runs(cells)
      if (all.length === 1 && all[0].length > 1)
        return new Map([
          [all[0][0].frame, 0.3],
          [all[0][all[0].length - 1].frame, 0.7],
        ])
      return levels(given(cells), (cell) =>
        all[0].includes(cell) ? 0.3 : all[all.length - 1].includes(cell) ? 0.7 : cell.level,
      )
    },
  },
  soft_seam: { title: 'Soft seam: 0 to 0.5', levels: softSeam },
  video_to_video: { title: 'Video to video: 0.7', levels: (cells) => levels(given(cells), () => 0.7) },
  mirror: {
    title: 'Mirror',
    levels: (cells) => levels(given(cells), (cell) => cells[cells.length - 1 - cell.frame].level),
  },
}

/**
 * From 0 to 0.5 over the last cells of each given clip, where frames to generate follow.
 * @param {Cell[]} cells
 * @returns {Levels}
 */
function softSeam(cells) {
  /** @type {Levels} */
  const wanted = new Map()
  for (const run of runs(cells)) {
    const soft =
      run[run.length - 1].frame === cells.length - 1 && run.length < cells.length ? 0 : Math.min(SEAM, run.length)
    for (const [index, cell] of run.entries()) {
      const into = index - (run.length - soft)
      wanted.set(cell.frame, soft > 1 && into >= 0 ? (0.5 * into) / (soft - 1) : 0)
    }
  }
  return wanted
}

/**
 * A copied curve on another strip: stretched to its length.
 * @param {Cell[]} cells
 * @param {number[]} curve
 * @returns {Levels}
 */
export function pasted(cells, curve) {
  return levels(given(cells), ({ frame }) => {
    const at = cells.length > 1 ? (frame * (curve.length - 1)) / (cells.length - 1) : 0
    const below = Math.floor(at)
    const above = Math.min(below + 1, curve.length - 1)
    const level = curve[below] + (curve[above] - curve[below]) * (at - below)
    return Math.round(level * 100) / 100
  })
}
