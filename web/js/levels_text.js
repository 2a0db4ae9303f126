// Edits a text of noise levels: what it says of each frame, and the shortest text that says something else.

import { levelAt, NoiseLevelError, namedNoiseLevels, parseEntry, parts, spanOf } from './noise_levels.js'
import { general } from './numbers.js'

/**
 * The level of a frame, and whether the text counts the frame from the end.
 * @typedef {{level: number, fromEnd: boolean}} Named
 *
 * What a text says of a video. `lost`: entries, as typed, that name no frame of it or cannot be read. `error`: what the
 * server would say.
 * @typedef {{named: Map<number, Named>, lost: string[], error: NoiseLevelError | null}} Reading
 *
 * @typedef {import('./noise_levels.js').Entry} Entry
 * @typedef {import('./noise_levels.js').Span} Span
 */

const DECIMALS = 4 // of a written level
const SAME = 10 ** -DECIMALS // levels closer than this are one

/**
 * @param {string} text
 * @param {number} frames
 * @returns {{part: string, entry?: Entry, span?: Span}[]}
 */
function readParts(text, frames) {
  return parts(text).map((part) => {
    try {
      const entry = parseEntry(part)
      return { part, entry, span: spanOf(entry, frames) }
    } catch (error) {
      if (error instanceof NoiseLevelError) return { part }
      throw error
    }
  })
}

/**
 * The frames that entries name; where two name one, the later entry counts.
 * @param {{entry?: Entry, span?: Span}[]} read
 * @returns {Map<number, Named>}
 */
function framesOf(read) {
  /** @type {Map<number, Named>} */
  const named = new Map()
  for (const { entry, span } of read) {
    if (!entry || !span) continue
    for (let frame = span.first; frame <= span.last; frame++) {
      const fromEnd = entry.last < 0 || (named.get(frame)?.fromEnd ?? false)
      named.set(frame, { level: levelAt(span, frame), fromEnd })
    }
  }
  return named
}

/**
 * @param {string} text
 * @param {number} frames latent frames of the video
 * @returns {Reading}
 */
export function readLevels(text, frames) {
  const read = readParts(text, frames)
  const lost = read.filter(({ span }) => !span).map(({ part }) => part)
  return { named: framesOf(read), lost, error: errorOf(text, frames) }
}

/**
 * @param {string} text
 * @param {number} frames
 */
function errorOf(text, frames) {
  try {
    namedNoiseLevels(text, frames)
    return null
  } catch (error) {
    if (error instanceof NoiseLevelError) return error
    throw error
  }
}

/**
 * The text after frames have changed. Entries that name no frame of this video stay as they are typed, and so do those
 * in pixel frames, or from the start to the end, that no change touches.
 * @param {string} text
 * @param {number} frames
 * @param {Map<number, number | null>} changes levels by frame; null: named no longer
 * @param {(frame: number) => boolean} [countsFromEnd] for frames that the text did not name
 * @returns {string}
 */
export function editText(text, frames, changes, countsFromEnd = () => false) {
  const touched = (/** @type {Span} */ span) =>
    [...changes.keys()].some((frame) => span.first <= frame && frame <= span.last)
  const stays = (/** @type {{entry?: Entry, span?: Span}} */ { entry, span }) =>
    !entry || !span || ((entry.pixels || entry.first < 0 !== entry.last < 0) && !touched(span))
  const read = readParts(text, frames)
  const kept = read.filter(stays).map(({ part }) => part)
  const named = framesOf(read.filter((each) => !stays(each)))
  for (const [frame, level] of changes) {
    const fromEnd = named.get(frame)?.fromEnd ?? countsFromEnd(frame)
    if (level === null) named.delete(frame)
    else named.set(frame, { level, fromEnd })
  }
  const fromStart = [...named].filter(([, { fromEnd }]) => !fromEnd)
  const fromEnd = [...named].filter(([, { fromEnd }]) => fromEnd)
  const levels = (/** @type {[number, Named][]} */ some) =>
    some.map(([frame, { level }]) => /** @type {[number, number]} */ ([frame, level])).sort((a, b) => a[0] - b[0])
  return [...written(levels(fromStart), 0), ...kept, ...written(levels(fromEnd), frames)].join(', ')
}

/** A level as it is written: at most four decimals. @param {number} level */
export const writtenLevel = (level) => general(Number(level.toFixed(DECIMALS)))

/**
 * Entries for levels of ascending frames, each run of equal levels or even steps in one.
 * @param {[number, number][]} levels
 * @param {number} offset subtracted from each frame: the length of the video to count from its end
 * @returns {string[]}
 */
function written(levels, offset) {
  const entries = []
  for (let at = 0; at < levels.length; ) {
    const flat = runLength(levels, at, () => 0)
    const ramp = rampLength(levels, at)
    const toRamp = flat > 1 && rampLength(levels, at + flat - 1) > 2 // "0-3:0, 4-8:0..0.5", not "0-4:0, 5-8:0.125..0.5"
    const length = ramp > Math.max(flat, 2) ? ramp : toRamp ? flat - 1 : flat
    const [first, start] = levels[at]
    const [last, end] = levels[at + length - 1]
    const span = first === last ? `${first - offset}` : `${first - offset}-${last - offset}`
    const level =
      length === ramp && length > flat ? `${writtenLevel(start)}..${writtenLevel(end)}` : writtenLevel(start)
    entries.push(`${span}:${level}`)
    at += length
  }
  return entries
}

/**
 * How many levels from `at` on differ from the first one by `step(n)`, frame by frame.
 * @param {[number, number][]} levels
 * @param {number} at
 * @param {(n: number) => number} step
 */
function runLength(levels, at, step) {
  const [frame, level] = levels[at]
  let n = 1
  while (
    at + n < levels.length &&
    levels[at + n][0] === frame + n &&
    Math.abs(levels[at + n][1] - level - step(n)) < SAME
  )
    n++
  return n
}

/**
 * The longest even ramp from `at` on that its two written ends describe.
 * @param {[number, number][]} levels
 * @param {number} at
 */
function rampLength(levels, at) {
  if (at + 2 >= levels.length) return 1
  const one = levels[at + 1][1] - levels[at][1]
  let length = runLength(levels, at, (n) => n * one)
  const start = Number(writtenLevel(levels[at][1]))
  for (; length > 2; length--) {
    const slope = (Number(writtenLevel(levels[at + length - 1][1])) - start) / (length - 1)
    if (levels.slice(at, at + length).every(([, level], n) => Math.abs(start + n * slope - level) < SAME)) break
  }
  return length
}
