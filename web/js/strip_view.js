// The strip on its canvas: size, scroll, pictures, the bubble. It knows cells, and nothing of nodes.

import { draw } from './drawing.js'
import { edges, HEIGHT, layoutOf, scrollTo } from './layout.js'
import { general } from './numbers.js'

/** @typedef {import('./cells.js').Cell} Cell */

/** What a cell is, in a line. @param {Cell} cell @param {number} level @param {number} fps */
export function describe(cell, level, fps) {
  const [first, last] = cell.pixels
  const seconds = (/** @type {number} */ frame) => general(Number((frame / fps).toFixed(2)))
  const pixels = first === last ? `frame ${first}` : `frames ${first}–${last}`
  const state = level === 0 ? ', kept exactly' : level === 1 ? ', generated' : ''
  const area = cell.area === null ? '' : `, the mask's area ${general(Number(cell.area.toFixed(4)))}`
  return `level ${general(Number(level.toFixed(4)))}${state}${area} · latent frame ${cell.frame} · ${pixels} · ${seconds(first)}–${seconds(last + 1)} s`
}

export class StripView {
  /** @type {Cell[]} */ cells = []
  /** @type {number[] | null} */ live = null
  /** @type {(frame: number) => CanvasImageSource | null} */ picture = () => null
  active = 0
  fps = 16
  disabled = false
  #scroll = 0
  #requested = false

  /** @param {HTMLElement} box */
  constructor(box) {
    this.canvas = document.createElement('canvas')
    this.canvas.tabIndex = 0
    this.canvas.style.height = `${HEIGHT}px`
    this.canvas.dataset.captureWheel = 'true' // Nodes 2.0: the wheel is the strip's while it has the keyboard
    this.canvas.setAttribute('role', 'slider')
    this.canvas.setAttribute('aria-label', 'Noise levels of the latent frames')
    this.canvas.setAttribute('aria-valuemin', '0')
    this.canvas.setAttribute('aria-valuemax', '1')
    this.bubble = document.createElement('div')
    this.bubble.className = 'pusa-timeline-bubble'
    box.append(this.canvas, this.bubble)
    for (const kind of ['focus', 'blur']) this.canvas.addEventListener(kind, () => this.request())
    new ResizeObserver(() => this.request()).observe(this.canvas)
  }

  get layout() {
    return layoutOf(this.cells.length, this.canvas.clientWidth || 400, this.#scroll)
  }

  /** @param {number} to */
  scroll(to) {
    this.#scroll = layoutOf(this.cells.length, this.canvas.clientWidth, to).scroll
    this.request()
  }

  /** Makes a cell that of the keyboard, and shows it. @param {number} frame */
  select(frame) {
    this.active = frame
    this.scroll(scrollTo(this.layout, frame))
    this.point(frame)
  }

  /** Shows what a cell is, or nothing. @param {number | null} frame @param {string} [reason] */
  point(frame, reason = '') {
    const cell = frame === null ? undefined : this.cells[frame]
    this.bubble.style.display = cell ? 'block' : 'none'
    if (!cell) return
    this.bubble.textContent = reason || describe(cell, cell.level, this.fps)
    const [left, right] = edges(this.layout, cell.frame)
    const most = this.canvas.clientWidth - this.bubble.offsetWidth
    this.bubble.style.left = `${Math.max(Math.min((left + right - this.bubble.offsetWidth) / 2, most), 0)}px`
  }

  /** Draws before the next frame of the page. */
  request() {
    if (this.#requested) return
    this.#requested = true
    requestAnimationFrame(() => {
      this.#requested = false
      this.draw()
    })
  }

  draw() {
    const { canvas } = this
    const width = canvas.clientWidth
    if (!this.cells.length || !width) return
    const zoom = canvas.getBoundingClientRect().width / width
    const scale = Math.min(Math.max(zoom, 1), 2) * (window.devicePixelRatio || 1) // sharp where the graph is zoomed in
    const size = [Math.round(width * scale), Math.round(HEIGHT * scale)]
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size
    const context = canvas.getContext('2d')
    if (!context) return
    context.setTransform(scale, 0, 0, scale, 0, 0)
    const { cells, layout, fps, active, live, picture, disabled } = this
    draw(context, { cells, layout, fps, active, live, picture, disabled, focused: document.activeElement === canvas })
    this.#tell()
  }

  #tell() {
    const cell = this.cells[this.active]
    if (!cell) return
    this.canvas.setAttribute('aria-valuenow', String(cell.level))
    this.canvas.setAttribute('aria-valuetext', describe(cell, cell.level, this.fps))
  }
}
