// The editor of one Frame Conditioning Mask node: reads the node's text, shows it as a strip, and writes it.

import { allowed, refusal, stripOf } from './cells.js'
import { RunGraph } from './graph.js'
import { editText, writtenLevel } from './levels_text.js'
import { listenToKeys, listenToPointer } from './pointer.js'
import { PRESETS, pasted } from './presets.js'
import { StripView } from './strip_view.js'
import { framesPerSecond, maskInputs } from './video.js'

/**
 * @typedef {import('./comfy').GraphNode} GraphNode
 * @typedef {import('./cells.js').Strip} Strip
 *
 * What an editor needs of the page. `node`: the node as it is now, which undo replaces. `picture`: of a file of Load
 * Image. `changed`: an edit is over that no click ended.
 * @typedef {{node: () => GraphNode, picture: (file: string, ready: () => void) => CanvasImageSource | null, changed: () => void}} Page
 */

export const TEXT = 'noise_levels'
const UNKNOWN =
  'The length of the video is known after the first run: it comes from a node that does not say it before.'
const LINKED = 'noise_levels comes from another node: disconnect it to draw here.'
const HINT = 'Drag: level · Shift: ramp · Alt-click: 0 or 1 · double-click: type'

/** @type {number[] | null} */
let copied = null // a curve, for every editor of the page

export class Editor {
  /** @type {Strip | null} */ strip = null
  /** @type {import('./cells.js').LastRun | null} */ lastRun = null
  /** @type {CanvasImageSource[] | null} */ made = null
  #seen = ''
  #atPress = ''

  /** @param {Page} page */
  constructor(page) {
    this.page = page
    this.element = document.createElement('div')
    this.element.className = 'pusa-timeline'
    this.menu = this.#makeMenu()
    const box = document.createElement('div')
    box.className = 'pusa-timeline-strip'
    this.view = new StripView(box)
    this.view.picture = (frame) => this.#picture(frame)
    this.number = this.#makeNumber()
    box.append(this.number)
    this.note = document.createElement('div')
    this.note.className = 'pusa-timeline-note'
    this.note.setAttribute('role', 'status')
    this.element.append(this.menu, box, this.note)
    this.#listen()
  }

  get text() {
    return String(this.#widget()?.value ?? '')
  }

  get enabled() {
    return this.strip !== null && this.#widget() !== null
  }

  #widget() {
    const node = this.page.node()
    return new RunGraph(node.graph?.rootGraph).widget(node, TEXT)
  }

  /** Looks at the node and at those around it, and shows what has changed. */
  refresh() {
    const node = this.page.node()
    const graph = new RunGraph(node.graph?.rootGraph)
    const { video, text, area } = maskInputs(graph, node)
    const [linked, fps] = [graph.widget(node, TEXT) === null, framesPerSecond(graph, node)]
    const seen = JSON.stringify([text, video, area, linked, fps, this.lastRun])
    if (seen === this.#seen) return
    this.#seen = seen
    this.strip = stripOf(text ?? '', video, this.lastRun, area)
    this.view.cells = this.strip?.cells ?? []
    this.view.active = Math.max(Math.min(this.view.active, this.view.cells.length - 1), 0)
    this.view.fps = fps
    this.view.disabled = linked
    this.element.toggleAttribute('data-disabled', linked)
    this.menu.disabled = !this.enabled
    if (this.view.live?.length !== this.view.cells.length) this.view.live = null
    this.#explain(linked)
    this.view.request()
  }

  /** @param {boolean} linked */
  #explain(linked) {
    const error = linked ? null : (this.strip?.error ?? null)
    this.note.replaceChildren()
    if (error) {
      const entries = this.strip?.lost.length ? this.strip.lost : [error.entry]
      for (const entry of entries) {
        const wrong = document.createElement('span')
        wrong.className = 'pusa-timeline-wrong'
        wrong.textContent = entry.slice(0, 60)
        this.note.append(wrong, ' ')
      }
      this.note.append(error.message)
    } else {
      const empty = this.strip?.cells.find((cell) => refusal(cell, cell.level))
      const reason = empty ? refusal(empty, empty.level) : HINT
      this.note.append(linked ? LINKED : this.strip === null ? UNKNOWN : reason)
    }
    this.#underline(error !== null)
  }

  /** Marks the text box itself: the widget's own element, or the one that Nodes 2.0 shows for it. @param {boolean} wrong */
  #underline(wrong) {
    const widget = this.#widget()
    const own = widget?.element ?? widget?.inputEl
    const boxes = [own, ...(this.element.closest('[data-node-id]')?.querySelectorAll('textarea') ?? [])]
    for (const box of boxes) box?.classList.toggle('pusa-timeline-wrong', wrong)
  }

  /**
   * Sets levels, as far as they may be set. `sincePress`: on what the text was when the pointer went down.
   * @param {Map<number, number>} wanted
   * @param {boolean} [sincePress]
   */
  change(wanted, sincePress = false) {
    const widget = this.#widget()
    if (!this.strip || !widget || !this.enabled) return
    const { cells } = this.strip
    const text = sincePress ? this.#atPress : this.text
    const next = editText(text, cells.length, allowed(cells, wanted), (frame) => cells[frame].fromEnd)
    if (next !== this.text) {
      widget.value = next
      widget.callback?.(next)
    }
    this.refresh()
    for (const [frame, level] of wanted) this.#refuse(frame, level)
  }

  /** @param {number} frame @param {number} level */
  #refuse(frame, level) {
    const reason = this.strip ? refusal(this.strip.cells[frame], level) : ''
    if (reason) {
      this.note.textContent = reason
      this.#seen = '' // the next look says again what the text says
    }
  }

  #listen() {
    const { view } = this
    /** @type {import('./pointer.js').Target} */
    const target = {
      canvas: view.canvas,
      layout: () => view.layout,
      enabled: () => this.enabled,
      level: (frame) => view.cells[frame]?.level ?? 1,
      press: () => {
        this.#atPress = this.text
      },
      change: (wanted, sincePress) => this.change(wanted, sincePress),
      done: () => this.page.changed(),
      select: (frame) => view.select(frame),
      active: () => view.active,
      scroll: (to) => view.scroll(to),
      point: (frame, level) =>
        view.point(frame, frame === null || level === undefined ? '' : refusal(view.cells[frame], level)),
      ask: (frame) => this.#ask(frame),
    }
    listenToPointer(target)
    listenToKeys(target)
    for (const kind of ['pointerdown', 'keydown']) {
      this.menu.addEventListener(kind, (event) => event.stopPropagation())
    }
  }

  #makeMenu() {
    const menu = document.createElement('select')
    menu.title = 'Sets the levels of all given frames'
    menu.setAttribute('aria-label', 'Presets')
    const option = (/** @type {string} */ value, /** @type {string} */ title) => menu.add(new Option(title, value))
    option('', 'Presets …')
    for (const [name, preset] of Object.entries(PRESETS)) option(name, preset.title)
    option('copy', 'Copy curve')
    option('paste', 'Paste curve')
    menu.addEventListener('change', () => {
      this.preset(menu.value)
      menu.value = ''
    })
    return menu
  }

  /** @param {string} name */
  preset(name) {
    const cells = this.strip?.cells ?? []
    if (name === 'copy') copied = cells.map((cell) => cell.level)
    else if (name !== '' && (name !== 'paste' || copied !== null)) {
      this.change(name === 'paste' ? pasted(cells, copied ?? []) : PRESETS[name].levels(cells))
      this.page.changed()
    }
  }

  #makeNumber() {
    const input = document.createElement('input')
    input.setAttribute('aria-label', 'Noise level')
    input.inputMode = 'decimal'
    const close = (/** @type {boolean} */ keep) => {
      if (input.style.display !== 'block') return
      input.style.display = 'none'
      const level = Number(input.value.replace(',', '.'))
      if (!keep || input.value.trim() === '' || !(level >= 0 && level <= 1)) return
      this.change(new Map([[this.view.active, level]]))
      this.page.changed()
    }
    input.addEventListener('keydown', (event) => {
      event.stopPropagation()
      if (event.key !== 'Enter' && event.key !== 'Escape') return
      close(event.key === 'Enter')
      this.view.canvas.focus({ preventScroll: true })
    })
    input.addEventListener('pointerdown', (event) => event.stopPropagation())
    input.addEventListener('blur', () => close(true))
    return input
  }

  /** Lets the user type the level of a cell. @param {number} frame */
  #ask(frame) {
    this.view.select(frame)
    this.number.value = writtenLevel(this.view.cells[frame].level)
    this.number.style.left = this.view.bubble.style.left
    this.number.style.display = 'block'
    this.number.focus({ preventScroll: true })
    this.number.select()
  }

  /** @param {number} frame */
  #picture(frame) {
    const cells = this.strip?.cells ?? []
    const file = cells[frame]?.image ?? null
    const own = file === null ? null : this.page.picture(file, () => this.view.request())
    return own ?? (this.made?.length === cells.length ? this.made[frame] : null)
  }
}
