// The cells of the strip: one for each latent frame, with its noise level and what may be done with it.

import { pixelFramesOf } from './frames.js'
import { readLevels } from './levels_text.js'

/**
 * `state`: whether the frame holds a picture. `named`: a text names it. `fromEnd`: it is counted from the end.
 * `image`: the file of the picture. `area`: the level of a part of the frame, if a MASK gives it one.
 * @typedef {{frame: number, pixels: [number, number], level: number, area: number | null, state: 'given' | 'empty' | 'unknown', named: boolean, fromEnd: boolean, image: string | null}} Cell
 *
 * @typedef {import('./video.js').Video} Video
 * @typedef {{cells: Cell[], lost: string[], error: import('./noise_levels.js').NoiseLevelError | null}} Strip
 */

/** What the last run said of the video that came in: its length, and the frames that hold a picture.
 * @typedef {{frames: number, given: number[]}} LastRun */

/**
 * The strip of a text, for a video of which `video` is known before a run and `last` after it.
 * @param {string} text
 * @param {Video} video
 * @param {LastRun | null} last
 * @param {number | null} [area] the level of what is white in the MASK
 * @returns {Strip | null} null where nobody knows the length
 */
export function stripOf(text, video, last, area = null) {
  const frames = video.frames ?? last?.frames ?? null
  if (frames === null || !(frames >= 1)) return null
  const cells = Array.from({ length: frames }, (_, frame) => bareCell(frame, video.given !== null))
  for (const given of video.given ?? []) {
    for (let frame = given.first; frame <= given.last; frame++) {
      Object.assign(cells[frame], { state: 'given', level: given.level, fromEnd: given.fromEnd })
      cells[frame].image = given.image
    }
  }
  if (video.given === null && last !== null && last.frames === frames) {
    for (const cell of cells) cell.state = last.given.includes(cell.frame) ? 'given' : 'empty'
  }
  for (const before of video.before) setLevels(cells, before.text, before.area)
  const { lost, error } = setLevels(cells, text, area)
  return { cells, lost, error }
}

/**
 * @param {number} frame
 * @param {boolean} known
 * @returns {Cell}
 */
function bareCell(frame, known) {
  const state = known ? 'empty' : 'unknown'
  return { frame, pixels: pixelFramesOf(frame), level: 1, area: null, state, named: false, fromEnd: false, image: null }
}

/**
 * A text sets whole frames, and then a MASK a part of every frame.
 * @param {Cell[]} cells
 * @param {string} text
 * @param {number | null} area
 */
function setLevels(cells, text, area) {
  const reading = readLevels(text, cells.length)
  for (const [frame, { level, fromEnd }] of reading.named) {
    Object.assign(cells[frame], { level, area: null, named: true, fromEnd })
  }
  if (area !== null) for (const cell of cells) cell.area = area
  return reading
}

/**
 * Why a cell cannot be set to a level, or "" where it can: nothing can be kept where no picture is.
 * @param {Cell} cell
 * @param {number} level
 */
export function refusal(cell, level) {
  if (cell.state !== 'empty' || level >= 1) return ''
  return `No picture is given at latent frame ${cell.frame}. Put VAE Encode Keyframes at that frame to lower its noise.`
}

/**
 * The changes that may be made: cells without a picture stay at 1, and need not be named.
 * @param {Cell[]} cells
 * @param {Map<number, number>} wanted levels by frame
 * @returns {Map<number, number | null>}
 */
export function allowed(cells, wanted) {
  /** @type {Map<number, number | null>} */
  const changes = new Map()
  for (const [frame, level] of wanted) {
    if (refusal(cells[frame], level)) continue
    changes.set(frame, cells[frame].state === 'empty' ? null : level)
  }
  return changes
}
