// Pointer and keys on the strip, as changes of levels.

import { frameAt, HEIGHT, levelAtY, OVERVIEW, ramp, scrollFromOverview, stroke } from './layout.js'

const STEP = 0.05 // of the wheel and the arrow keys
const STARTS = 3 // pixels that the pointer moves before a press is a drag
const EDGE = 24 // pixels at either end of the strip in which a drag scrolls it

/**
 * What the pointer and keys act on.
 * @typedef {{canvas: HTMLCanvasElement, layout: () => import('./layout.js').Layout, enabled: () => boolean,
 *   level: (frame: number) => number, press: () => void,
 *   change: (wanted: Map<number, number>, sincePress?: boolean) => void, done: () => void,
 *   select: (frame: number) => void, active: () => number, scroll: (to: number) => void,
 *   point: (frame: number | null, level?: number) => void, ask: (frame: number) => void}} Target
 */

/**
 * The place of an event in the strip's own pixels, whatever the zoom of the graph.
 * @param {HTMLCanvasElement} canvas
 * @param {{clientX: number, clientY: number}} event
 * @returns {[number, number]}
 */
function placeOf(canvas, event) {
  const box = canvas.getBoundingClientRect()
  const scale = box.width / canvas.clientWidth || 1
  return [(event.clientX - box.left) / scale, (event.clientY - box.top) / scale]
}

/** @param {Target} target */
export function listenToPointer(target) {
  const { canvas } = target
  /** @type {{from: [number, number], last: [number, number], x: number, y: number, moved: boolean, overview: boolean} | null} */
  let drag = null

  canvas.addEventListener('pointerdown', (event) => {
    event.stopPropagation()
    if (event.button !== 0) return
    canvas.focus({ preventScroll: true })
    canvas.setPointerCapture(event.pointerId)
    const [x, y] = placeOf(canvas, event)
    const frame = frameAt(target.layout(), x)
    const overview = target.layout().most > 0 && y > HEIGHT - OVERVIEW
    if (overview) target.scroll(scrollFromOverview(target.layout(), x))
    else target.select(frame)
    target.press()
    if (!overview && event.altKey && target.enabled()) {
      target.change(new Map([[frame, target.level(frame) === 0 ? 1 : 0]]))
      return
    }
    drag = { from: [frame, target.level(frame)], last: [frame, levelAtY(y)], x, y, moved: false, overview }
  })

  canvas.addEventListener('pointermove', (event) => {
    event.stopPropagation()
    const [x, y] = placeOf(canvas, event)
    const layout = target.layout()
    if (!drag) {
      target.point(frameAt(layout, x))
      return
    }
    if (drag.overview) {
      target.scroll(scrollFromOverview(layout, x))
      return
    }
    if (!drag.moved && Math.hypot(x - drag.x, y - drag.y) < STARTS) return
    if (!target.enabled()) return
    /** @type {[number, number]} */
    const to = [frameAt(layout, x), levelAtY(y)]
    const whole = event.shiftKey ? ramp(drag.from, to) : stroke(drag.moved ? drag.last : [drag.from[0], to[1]], to)
    drag.moved = true
    drag.last = to
    target.select(to[0])
    target.change(whole, event.shiftKey) // a ramp replaces what this drag has done so far
    target.point(...to)
    if (x > layout.width - EDGE) target.scroll(layout.scroll + EDGE / 2)
    else if (x < EDGE) target.scroll(layout.scroll - EDGE / 2)
  })

  const end = (/** @type {PointerEvent} */ event) => {
    event.stopPropagation()
    if (drag?.moved) target.done()
    drag = null
  }
  canvas.addEventListener('pointerup', end)
  canvas.addEventListener('pointercancel', end)
  canvas.addEventListener('pointerleave', () => drag || target.point(null))
  canvas.addEventListener('dblclick', (event) => {
    event.stopPropagation()
    if (target.enabled()) target.ask(frameAt(target.layout(), placeOf(canvas, event)[0]))
  })
  canvas.addEventListener('wheel', (event) => wheel(target, event), { passive: false })
}

/**
 * The wheel moves a level only where the strip has the keyboard: whoever zooms the graph must not change it.
 * @param {Target} target
 * @param {WheelEvent} event
 */
function wheel(target, event) {
  const layout = target.layout()
  const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0)
  if (sideways && layout.most > 0) target.scroll(layout.scroll + sideways)
  else if (document.activeElement === target.canvas && target.enabled()) {
    const frame = frameAt(layout, placeOf(target.canvas, event)[0])
    target.select(frame)
    nudge(target, frame, -Math.sign(event.deltaY) * STEP)
  } else return
  event.preventDefault()
  event.stopPropagation()
}

/**
 * @param {Target} target
 * @param {number} frame
 * @param {number} by
 */
function nudge(target, frame, by) {
  const level = Math.round((target.level(frame) + by) * 100) / 100
  target.change(new Map([[frame, Math.min(Math.max(level, 0), 1)]]))
  target.done()
}

/** @param {Target} target */
export function listenToKeys(target) {
  target.canvas.addEventListener('keydown', (event) => {
    const { count } = target.layout()
    const at = target.active()
    /** @type {Record<string, () => void>} */
    const moves = {
      ArrowLeft: () => target.select(Math.max(at - 1, 0)),
      ArrowRight: () => target.select(Math.min(at + 1, count - 1)),
      Home: () => target.select(0),
      End: () => target.select(count - 1),
    }
    /** @type {Record<string, () => void>} */
    const changes = {
      ArrowUp: () => nudge(target, at, STEP),
      ArrowDown: () => nudge(target, at, -STEP),
      Enter: () => target.ask(at),
    }
    if (event.key === 'Tab') {
      const next = at + (event.shiftKey ? -1 : 1)
      if (next < 0 || next >= count) return // leaves the strip, as Tab does
      moves.Tab = () => target.select(next)
    }
    const act = moves[event.key] ?? (target.enabled() ? changes[event.key] : undefined)
    if (!act || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    event.stopPropagation()
    act()
  })
}
