// Draws the strip. A level is the height of its bar and a number, never a colour alone.

import * as layouts from './layout.js'
import { writtenLevel } from './levels_text.js'

const { CELLS, FEET, GUTTER, OVERVIEW, RIGHT, RULER, yOf } = layouts

/**
 * What is drawn: `active` is the cell with the keyboard, `live` the present noise of each frame, `pictures` of a cell.
 * @typedef {{cells: import('./cells.js').Cell[], layout: layouts.Layout, fps: number, active: number, focused: boolean,
 *   live: number[] | null, picture: (frame: number) => CanvasImageSource | null, disabled: boolean}} Scene
 *
 * @typedef {CanvasRenderingContext2D} Context
 * @typedef {import('./cells.js').Cell} Cell
 */

const INK = {
  paper: '#16181d',
  cell: '#272b33',
  text: '#f2f3f5',
  quiet: '#a7adb8',
  bar: '#dd8c28',
  line: '#ffc36b',
  live: '#ffffff',
  focus: '#5cb3ff',
}
const FONT = '11px system-ui, sans-serif'
const SECOND_STEPS = [0.25, 0.5, 1, 2, 5, 10]

/**
 * @param {Context} context in the strip's own pixels
 * @param {Scene} scene
 */
export function draw(context, scene) {
  const { layout, cells } = scene
  context.clearRect(0, 0, layout.width, layouts.HEIGHT)
  context.fillStyle = INK.paper
  context.fillRect(0, 0, layout.width, layouts.HEIGHT)
  context.font = FONT
  context.textBaseline = 'middle'
  context.save()
  context.beginPath()
  context.rect(GUTTER - 1, 0, layout.width - GUTTER, RULER + CELLS + FEET)
  context.clip()
  const [first, last] = [layouts.frameAt(layout, GUTTER), layouts.frameAt(layout, layout.width)]
  for (let frame = first; frame <= last; frame++) drawCell(context, scene, cells[frame])
  drawSeconds(context, scene)
  context.restore()
  drawScale(context)
  if (layout.most > 0) drawOverview(context, scene)
  if (scene.disabled) {
    context.fillStyle = 'rgba(22, 24, 29, 0.6)'
    context.fillRect(0, 0, layout.width, layouts.HEIGHT)
  }
}

/**
 * @param {Context} context
 * @param {Scene} scene
 * @param {Cell} cell
 */
function drawCell(context, scene, cell) {
  const [left, right] = layouts.edges(scene.layout, cell.frame)
  const width = right - left - 1
  context.save()
  context.beginPath()
  context.rect(left, RULER, width, CELLS)
  context.clip()
  context.fillStyle = INK.cell
  context.fillRect(left, RULER, width, CELLS)
  const picture = scene.picture(cell.frame)
  if (picture) drawPicture(context, picture, left, width)
  else if (cell.state === 'empty') hatch(context, left, width)
  if (cell.area !== null && cell.area !== cell.level) drawArea(context, cell.area, left, width)
  drawLevel(context, cell, left, width)
  if (scene.live) drawLive(context, scene.live[cell.frame], left, width)
  context.restore()
  drawFeet(context, cell, left, width)
  if (scene.focused && cell.frame === scene.active) {
    context.strokeStyle = INK.focus
    context.lineWidth = 2
    context.strokeRect(left + 1, RULER + 1, width - 2, CELLS - 2)
  }
}

/**
 * A picture that covers the cell.
 * @param {Context} context
 * @param {CanvasImageSource} picture
 * @param {number} left
 * @param {number} width
 */
function drawPicture(context, picture, left, width) {
  const size = /** @type {{width: number, height: number}} */ (picture)
  const scale = Math.max(width / size.width, CELLS / size.height)
  const [w, h] = [width / scale, CELLS / scale]
  context.drawImage(picture, (size.width - w) / 2, (size.height - h) / 2, w, h, left, RULER, width, CELLS)
}

/**
 * @param {Context} context
 * @param {number} left
 * @param {number} width
 */
function hatch(context, left, width) {
  context.strokeStyle = '#414752'
  context.lineWidth = 1
  context.beginPath()
  for (let x = Math.floor((left - CELLS) / 9) * 9; x < left + width; x += 9) {
    context.moveTo(x, RULER + CELLS)
    context.lineTo(x + CELLS, RULER)
  }
  context.stroke()
}

/**
 * The bar, its number, and a padlock on a frame that is kept.
 * @param {Context} context
 * @param {Cell} cell
 * @param {number} left
 * @param {number} width
 */
function drawLevel(context, cell, left, width) {
  const y = yOf(cell.level)
  if (cell.state !== 'empty' || cell.level < 1) {
    context.globalAlpha = 0.45
    context.fillStyle = INK.bar
    context.fillRect(left, y, width, RULER + CELLS - y)
    context.globalAlpha = 1
    context.fillStyle = INK.line
    context.fillRect(left, Math.min(Math.max(y - 1, RULER), RULER + CELLS - 3), width, 3)
  }
  if (cell.level === 0) drawPadlock(context, left + width / 2, RULER + CELLS - 16)
  const text =
    cell.level === 1
      ? 'new'
      : cell.state === 'empty'
        ? '!'
        : cell.level === 0
          ? 'kept'
          : writtenLevel(Number(cell.level.toFixed(2)))
  if (width < 20) return // frame 0; the bubble says its number
  label(context, text, left + width / 2, Math.min(Math.max(y - 10, RULER + 10), RULER + CELLS - 32))
}

/**
 * The level of a part of the frame: a dashed bar in the middle of the cell.
 * @param {Context} context
 * @param {number} level
 * @param {number} left
 * @param {number} width
 */
function drawArea(context, level, left, width) {
  const top = Math.min(yOf(level), RULER + CELLS - 3)
  const box = /** @type {const} */ ([left + width / 4, top, width / 2, RULER + CELLS - top])
  context.globalAlpha = 0.45
  context.fillStyle = INK.bar
  context.fillRect(...box)
  context.globalAlpha = 1
  context.strokeStyle = INK.line
  context.lineWidth = 1.5
  context.setLineDash([4, 3])
  context.strokeRect(...box)
  context.setLineDash([])
  if (width >= 20) label(context, 'area', left + width / 2, Math.min(top + 10, RULER + CELLS - 44))
}

/**
 * Text that is legible on any picture.
 * @param {Context} context
 * @param {string} text
 * @param {number} x
 * @param {number} y
 */
function label(context, text, x, y) {
  context.textAlign = 'center'
  context.lineWidth = 3
  context.strokeStyle = INK.paper
  context.strokeText(text, x, y)
  context.fillStyle = INK.text
  context.fillText(text, x, y)
}

/**
 * @param {Context} context
 * @param {number} x centre
 * @param {number} y top
 */
function drawPadlock(context, x, y) {
  for (const [style, line] of /** @type {[string, number][]} */ ([
    [INK.paper, 4],
    [INK.text, 1.5],
  ])) {
    context.strokeStyle = style
    context.lineWidth = line
    context.beginPath()
    context.arc(x, y + 5, 2.5, Math.PI, 0)
    context.stroke()
    context.strokeRect(x - 4, y + 5, 8, 6)
  }
  context.fillStyle = INK.text
  context.fillRect(x - 4, y + 5, 8, 6)
}

/**
 * The noise that a frame has now.
 * @param {Context} context
 * @param {number | undefined} level
 * @param {number} left
 * @param {number} width
 */
function drawLive(context, level, left, width) {
  if (level === undefined) return
  const y = Math.min(Math.max(yOf(level), RULER + 2), RULER + CELLS - 2)
  context.fillStyle = INK.paper
  context.fillRect(left, y - 2, width, 4)
  context.fillStyle = INK.live
  context.fillRect(left, y - 1, width, 2)
}

/**
 * @param {Context} context
 * @param {Cell} cell
 * @param {number} left
 * @param {number} width
 */
function drawFeet(context, cell, left, width) {
  context.textAlign = 'center'
  context.fillStyle = cell.named ? INK.text : INK.quiet
  context.fillText(`${cell.frame}`, left + width / 2, RULER + CELLS + FEET / 2)
}

/**
 * The ruler: a tick and its time, and the pixel frame it is.
 * @param {Context} context
 * @param {Scene} scene
 */
function drawSeconds(context, { layout, fps }) {
  const pixelWidth = layout.cell / 4
  const step = SECOND_STEPS.find((each) => each * fps * pixelWidth >= 64) ?? 20
  context.fillStyle = INK.quiet
  context.textAlign = 'left'
  for (let second = 0; second * fps < (layout.count - 0.75) * 4; second += step) {
    const x = GUTTER - layout.scroll + second * fps * pixelWidth
    context.fillRect(x, RULER - 5, 1, 5)
    const text = `${second} s · ${Math.round(second * fps)}`
    if (x + 3 + context.measureText(text).width <= layout.width) context.fillText(text, x + 3, RULER / 2)
  }
}

/** @param {Context} context */
function drawScale(context) {
  context.fillStyle = INK.quiet
  context.textAlign = 'right'
  for (const level of [0, 0.5, 1]) {
    const y = yOf(level)
    context.fillText(`${level}`, GUTTER - 6, y + (level === 1 ? 5 : level === 0 ? -5 : 0))
    context.fillRect(GUTTER - 4, level === 0 ? y - 1 : y, 3, 1)
  }
}

/**
 * All cells, and the part of them that is shown.
 * @param {Context} context
 * @param {Scene} scene
 */
function drawOverview(context, { cells, layout }) {
  const room = layout.width - GUTTER - RIGHT
  const [top, height] = [RULER + CELLS + FEET + 2, OVERVIEW - 4]
  const scale = room / (layout.most + room)
  context.fillStyle = INK.cell
  context.fillRect(GUTTER, top, room, height)
  context.fillStyle = INK.bar
  for (const cell of cells) {
    if (cell.state === 'empty' && cell.level === 1) continue
    const [left, right] = layouts.edges(layout, cell.frame)
    const x = GUTTER + (left + layout.scroll - GUTTER) * scale
    const tall = Math.max(height * cell.level, 2)
    context.fillRect(x, top + height - tall, Math.max((right - left) * scale, 1), tall)
  }
  context.strokeStyle = INK.text
  context.lineWidth = 1.5
  context.strokeRect(GUTTER + layout.scroll * scale, top, room * scale, height)
}
