// The language of noise levels, as pusa_core/sampling/schedule.py reads it: the same results, the same messages.

import { latentFrameOf, pixelLength } from './frames.js'
import { general } from './numbers.js'

/**
 * One entry of a text. `first`, `last`: pixel frames with `pixels`, otherwise latent frames; negative: from the end.
 * `start`, `end`: the levels at both, which differ in a ramp.
 * @typedef {{text: string, quoted: string, pixels: boolean, first: number, last: number, start: number, end: number, ramp: boolean}} Entry
 *
 * An entry placed in a video: `start` to `end`, linear over the latent frames `first ... last`.
 * @typedef {{first: number, last: number, start: number, end: number, quoted: string}} Span
 */

/** What is wrong with a text; `entry` is the part of it to blame. */
export class NoiseLevelError extends Error {
  /**
   * @param {string} message
   * @param {string} entry
   */
  constructor(message, entry) {
    super(message)
    this.entry = entry
  }
}

const EXAMPLE = 'write for example "0:0.3, -1:0.7, 3-5:0.2"'
const QUOTED = 60 // characters of an entry that a message repeats
const DIGITS = 9 // of a frame number; no video is longer
const SPACE = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]' // Python's
const ENTRY = new RegExp(`^(p?)(-?[0-9]+)(?:-(-?[0-9]+))?${SPACE}*:${SPACE}*([^]+)$`, 'i')
const LEVEL = /^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/
const LEADING = new RegExp(`^${SPACE}+`)
const SPACES = new RegExp(SPACE)

/** @param {string} text */
function strip(text) {
  let end = text.length // a regex for trailing blanks takes quadratic time
  while (end > 0 && SPACES.test(text[end - 1])) end--
  return text.slice(0, end).replace(LEADING, '')
}

/**
 * @param {string} text
 * @param {number} length
 */
function quote(text, length) {
  const characters = Array.from(text)
  return characters.length <= length ? `"${text}"` : `"${characters.slice(0, length).join('')}..."`
}

/** The parts of a text, as typed. @param {string} text */
export const parts = (text) => [...new Set(text.split(/[,;\n]/).map(strip))].filter((part) => part !== '')

/**
 * The entries of a text, for a video of any length. Throws `NoiseLevelError`.
 * @param {string} text
 */
export const parseEntries = (text) => parts(text).map(parseEntry)

/**
 * @param {string} text
 * @returns {Entry}
 */
export function parseEntry(text) {
  const quoted = quote(text, QUOTED)
  const fail = (/** @type {string} */ why) => new NoiseLevelError(`noise level entry ${quoted}${why}`, text)
  const number = (/** @type {string} */ digits) => {
    if (digits.length > DIGITS) throw fail(`: no video has a frame ${quote(digits, 20)}`)
    return Number.parseInt(digits, 10) + 0 // no negative zero
  }
  const level = (/** @type {string} */ written) => {
    const stripped = strip(written)
    if (!LEVEL.test(stripped)) throw fail(`: ${quote(stripped, 20)} is not a number; ${EXAMPLE}`)
    const value = Number(stripped)
    if (!(value >= 0 && value <= 1)) throw fail(`: ${general(value)} is outside 0 (keep as given) to 1 (generate)`)
    return value
  }
  const match = ENTRY.exec(text)
  if (match === null) throw fail(` is not FRAME:LEVEL or FIRST-LAST:LEVEL; ${EXAMPLE}`)
  const first = number(match[2])
  const last = match[3] === undefined ? first : number(match[3])
  const dots = match[4].indexOf('..')
  const start = level(dots < 0 ? match[4] : match[4].slice(0, dots))
  const end = dots < 0 ? start : level(match[4].slice(dots + 2))
  return { text, quoted, pixels: match[1] !== '', first, last, start, end, ramp: dots >= 0 }
}

/**
 * The level that a span gives to a frame.
 * @param {Span} span
 * @param {number} frame
 */
export const levelAt = (span, frame) =>
  span.start + (span.end - span.start) * ((frame - span.first) / Math.max(span.last - span.first, 1))

/**
 * The latent frames of an entry in a video of `frames`. Throws `NoiseLevelError` where there are none.
 * @param {Entry} entry
 * @param {number} frames
 * @returns {Span}
 */
export function spanOf(entry, frames) {
  const fail = (/** @type {string} */ why) =>
    new NoiseLevelError(`noise level entry ${entry.quoted}: ${why}`, entry.text)
  const total = entry.pixels ? pixelLength(frames) : frames
  const kind = entry.pixels ? 'pixel' : 'latent'
  const [first, last] = [entry.first, entry.last].map((frame) => {
    if (frame < -total || frame >= total) {
      const p = entry.pixels ? 'p' : ''
      const range = `${p}0 to ${p}${total - 1}, or ${p}-1 to ${p}-${total} from the end`
      throw fail(`${kind} frame ${frame} does not exist; there are ${total} (${range})`)
    }
    const at = frame < 0 ? frame + total : frame
    return entry.pixels ? latentFrameOf(at) : at
  })
  if (first > last) throw fail(`the range runs backwards (${first} to ${last}); swap its ends`)
  if (entry.ramp && first === last) throw fail('a ramp needs a range of at least two latent frames')
  return { first, last, start: entry.start, end: entry.end, quoted: entry.quoted }
}

/**
 * The spans of entries in a video of `frames`. Throws `NoiseLevelError` where one does not fit, or two contradict.
 * @param {Entry[]} entries
 * @param {number} frames
 */
function place(entries, frames) {
  const spans = entries.map((entry) => spanOf(entry, frames))
  const order = (/** @type {Span} */ a, /** @type {Span} */ b) =>
    a.first - b.first || a.last - b.last || a.start - b.start || a.end - b.end || (a.quoted < b.quoted ? -1 : 1)
  /** @type {Span | null} */
  let reaching = null // of the spans so far, the one that ends last: it covers all that the next can overlap
  for (const span of [...spans].sort(order)) {
    if (reaching !== null && span.first <= reaching.last) {
      for (const frame of [span.first, Math.min(span.last, reaching.last)]) {
        const [one, other] = [levelAt(reaching, frame), levelAt(span, frame)]
        if (Math.abs(one - other) > 1e-9) {
          const which = `${reaching.quoted} gives latent frame ${frame} ${general(one)}, ${span.quoted} gives it ${general(other)}`
          const culprit = entries.find((entry) => entry.quoted === span.quoted)?.text ?? ''
          throw new NoiseLevelError(`noise levels contradict each other: ${which}; name each frame once`, culprit)
        }
      }
    }
    if (reaching === null || span.last > reaching.last) reaching = span
  }
  return spans
}

/**
 * Throws `NoiseLevelError` for entries that describe no video of up to `longest` latent frames.
 * @param {Entry[]} entries
 * @param {number} longest
 */
export function checkEntries(entries, longest) {
  for (const fromEnd of [false, true]) {
    place(
      entries.filter((entry) => entry.first < 0 === fromEnd && entry.last < 0 === fromEnd),
      longest,
    )
  }
}

/**
 * The frames that a text names, with their levels, in a video of `frames`. Throws `NoiseLevelError`.
 * @param {string} text
 * @param {number} frames
 * @returns {Map<number, number>}
 */
export function namedNoiseLevels(text, frames) {
  const named = new Map()
  for (const span of place(parseEntries(text), frames)) {
    for (let frame = span.first; frame <= span.last; frame++) named.set(frame, levelAt(span, frame))
  }
  return named
}
