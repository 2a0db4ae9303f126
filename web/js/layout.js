// Where the cells of the strip are, in its own pixels. Frame 0 is a quarter as wide as the others, as it covers a
// quarter of their frames; the gutter left of it, where the scale is, belongs to its target.

export const TARGET = 44 // smallest width that a finger hits
export const GUTTER = 33
export const RIGHT = 8
export const RULER = 16 // seconds, above the cells
export const CELLS = 92 // height of the cells: level 0 at the bottom, 1 at the top
export const FEET = 16 // latent frames, below the cells
export const OVERVIEW = 16 // all cells in the width of the node, where they do not fit
export const HEIGHT = RULER + CELLS + FEET + OVERVIEW

const SNAPS = [0, 0.2, 0.3, 0.5, 0.7, 1]
const SNAP_PIXELS = 3

/**
 * @typedef {{count: number, width: number, cell: number, scroll: number, most: number}} Layout
 *
 * `cell`: width of a cell after the first. `most`: how far the strip scrolls.
 */

/**
 * @param {number} count
 * @param {number} width of the visible part
 * @param {number} scroll
 * @returns {Layout}
 */
export function layoutOf(count, width, scroll) {
  const room = width - GUTTER - RIGHT
  const all = room / (count - 0.75)
  const cell = Math.max(TARGET, all)
  const most = all < TARGET ? (count - 0.75) * TARGET - room : 0
  return { count, width, cell, most, scroll: Math.min(Math.max(scroll, 0), most) }
}

/**
 * The left and right edge of a cell.
 * @param {Layout} layout
 * @param {number} frame
 * @returns {[number, number]}
 */
export function edges({ cell, scroll }, frame) {
  const left = GUTTER - scroll + (frame === 0 ? 0 : (frame - 0.75) * cell)
  return [left, left + (frame === 0 ? cell / 4 : cell)]
}

/**
 * The cell at a place, the nearest one outside of all.
 * @param {Layout} layout
 * @param {number} x
 */
export function frameAt({ cell, scroll, count }, x) {
  const frame = Math.floor((x - GUTTER + scroll) / cell + 0.75)
  return Math.min(Math.max(frame, 0), count - 1)
}

/** The place of a level. @param {number} level */
export const yOf = (level) => RULER + CELLS * (1 - level)

/**
 * The level at a place: a hundredth, or one of the levels that are used most if it is near.
 * @param {number} y
 */
export function levelAtY(y) {
  const level = Math.min(Math.max(1 - (y - RULER) / CELLS, 0), 1)
  const snap = SNAPS.find((each) => Math.abs(yOf(each) - yOf(level)) <= SNAP_PIXELS)
  return snap ?? Math.round(level * 100) / 100
}

/**
 * The scroll position that shows a cell, moving no farther than needed.
 * @param {Layout} layout
 * @param {number} frame
 */
export function scrollTo(layout, frame) {
  const [left, right] = edges(layout, frame)
  if (left < GUTTER) return layout.scroll - (GUTTER - left)
  const over = right - (layout.width - RIGHT)
  return over > 0 ? layout.scroll + over : layout.scroll
}

/**
 * The scroll position whose window is around a place in the overview.
 * @param {Layout} layout
 * @param {number} x
 */
export function scrollFromOverview(layout, x) {
  const room = layout.width - GUTTER - RIGHT
  return ((x - GUTTER) / room) * (layout.most + room) - room / 2
}

/**
 * Levels along a stroke of the pointer from one cell to another, without the first.
 * @param {[number, number]} from frame and level
 * @param {[number, number]} to
 * @returns {Map<number, number>}
 */
export function stroke([from, start], [to, end]) {
  const levels = new Map()
  const step = Math.sign(to - from)
  for (let frame = from + step; step !== 0 && frame !== to + step; frame += step) {
    const level = start + ((end - start) * (frame - from)) / (to - from)
    levels.set(frame, frame === to ? end : Math.round(level * 100) / 100)
  }
  if (step === 0) levels.set(to, end)
  return levels
}

/**
 * An even ramp between two cells, both included.
 * @param {[number, number]} from frame and level
 * @param {[number, number]} to
 * @returns {Map<number, number>}
 */
export function ramp([from, start], [to, end]) {
  const [first, last] = [Math.min(from, to), Math.max(from, to)]
  const levels = new Map()
  for (let frame = first; frame <= last; frame++) {
    levels.set(frame, from === to ? end : start + ((end - start) * (frame - from)) / (to - from))
  }
  return levels
}
