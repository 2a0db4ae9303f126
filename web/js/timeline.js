// Puts the editor on every Frame Conditioning Mask node, beside the text of its noise levels, which stays the input.

// @ts-expect-error served by ComfyUI
import { app as page } from '../../../scripts/app.js'
import { Editor, TEXT } from './editor.js'
import { RunGraph } from './graph.js'
import { picturesOf, videoFile } from './made_frames.js'
import { addStyle } from './style.js'

/** @typedef {import('./comfy').GraphNode} GraphNode */

const NODE = 'PusaFrameMask'
const WIDGET = 'timeline_editor'
const LOOKS_MS = 150 // between two looks at the graph
const HEIGHT = 236

/** @type {import('./comfy').App} */
const app = page

/** The editors of the page. @type {Map<GraphNode, Editor>} */
export const editors = new Map()

/** @type {Map<string, HTMLImageElement>} */
const pictures = new Map()

/**
 * A file of Load Image, once it is there.
 * @param {string} file may end in the folder it is in, such as "a.png [output]"
 * @param {() => void} ready
 */
function picture(file, ready) {
  let image = pictures.get(file)
  if (!image) {
    image = new Image()
    const [, path, type] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(file) ?? ['', file, undefined]
    const at = path.lastIndexOf('/')
    const where = {
      filename: path.slice(at + 1),
      subfolder: path.slice(0, Math.max(at, 0)),
      type: type ?? 'input',
      preview: 'webp;60',
    }
    image.src = app.api.apiURL(`/view?${new URLSearchParams(where)}`)
    pictures.set(file, image)
  }
  if (image.complete) return image.naturalWidth ? image : null
  image.addEventListener('load', ready, { once: true })
  return null
}

/** Tells undo of a change that no click of the mouse ended. */
function noteChange() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker
  if (tracker?.captureCanvasState) tracker.captureCanvasState()
  else tracker?.checkState?.()
}

/** @param {GraphNode} node */
function addEditor(node) {
  if (!node.addDOMWidget || editors.has(node)) return
  const current = () => node.graph?.getNodeById(node.id) ?? node
  const editor = new Editor({ node: current, picture, changed: noteChange })
  const height = () => HEIGHT
  const widget = node.addDOMWidget(WIDGET, 'pusa_timeline', editor.element, {
    serialize: false,
    getMinHeight: height,
    getMaxHeight: height,
    hideOnZoom: false,
  })
  widget.serialize = false
  placeFirst(node)
  editors.set(node, editor)
  const { onRemoved } = node
  node.onRemoved = function () {
    editors.delete(node)
    onRemoved?.call(this)
  }
}

/**
 * Moves the editor above the text. The page stores widgets by their place and would leave a gap for the first.
 * @param {GraphNode} node
 */
function placeFirst(node) {
  const { widgets, onSerialize } = node
  if (!widgets) return
  widgets.unshift(/** @type {import('./comfy').Widget} */ (widgets.pop()))
  node.onSerialize = function (data) {
    onSerialize?.call(this, data)
    data.widgets_values = (this.widgets ?? []).filter((each) => each.serialize !== false).map((each) => each.value)
  }
}

/**
 * In Nodes 2.0, undo makes new nodes but keeps the elements of the old ones on the page: puts the node's own there.
 * @param {GraphNode} node
 * @param {HTMLElement} element
 */
function reattach(node, element) {
  if (element.isConnected || (app.canvas?.graph && node.graph !== app.canvas.graph)) return
  document.querySelector(`[data-node-id="${node.id}"] .pusa-timeline`)?.replaceWith(element)
}

/**
 * Nodes 2.0 need not show the node's picture below the strip, which shows the same, but for an area of the frames and a
 * text that another node gives.
 * @param {GraphNode} node
 * @param {Editor} editor
 */
function hidePicture(node, editor) {
  const area = node.inputs?.find(({ name }) => name === 'mask')
  node.hideOutputImages = !editor.view.disabled && editor.view.cells.length > 0 && area?.link == null
}

function look() {
  if (document.hidden) return
  for (const [node, editor] of editors) {
    reattach(node, editor.element)
    hidePicture(node, editor)
    if (editor.element.isConnected) editor.refresh()
  }
}

/**
 * The editors of the masks that a node gets its LATENT from.
 * @param {string} id of the node
 * @returns {Editor[]}
 */
function editorsBefore(id) {
  const graph = new RunGraph(app.graph)
  const start = graph.at(id)
  return start ? [...editors].flatMap(([node, editor]) => (graph.isUpstream(start, node) ? [editor] : [])) : []
}

/** @param {any} detail of the "executed" event */
async function showResult({ node, display_node, output }) {
  const id = String(display_node ?? node)
  if (output?.noise_levels) {
    const mask = new RunGraph(app.graph).at(id)?.node
    const editor = mask && editors.get(mask)
    if (editor) editor.lastRun = { frames: output.noise_levels.length, given: output.given ?? [] }
  }
  const file = videoFile(output)
  if (!file) return
  for (const editor of editorsBefore(id)) {
    if (!editor.view.cells.length) continue
    editor.made = await picturesOf(app.api.apiURL(`/view?${file}`), editor.view.cells.length)
    editor.view.request()
  }
}

/** @param {any} detail the present noise levels of the frames that a node samples */
function showNoise({ node, levels }) {
  for (const editor of editorsBefore(String(node))) {
    // a sampler without a mask on its way, or of another length, is none of this strip's
    editor.view.live = levels?.length === editor.view.cells.length ? levels : null
    editor.view.request()
  }
}

function clearNoise() {
  for (const editor of editors.values()) {
    editor.view.live = null
    editor.view.request()
  }
}

app.registerExtension({
  name: 'Pusa.timeline',
  setup() {
    addStyle()
    setInterval(look, LOOKS_MS)
    app.api.addEventListener('executed', (event) => {
      showResult(/** @type {CustomEvent} */ (event).detail).catch((error) => console.warn('Pusa timeline:', error))
    })
    for (const end of ['execution_success', 'execution_error', 'execution_interrupted']) {
      app.api.addEventListener(end, clearNoise)
    }
    app.api.addEventListener('pusa.noise_levels', (event) => showNoise(/** @type {CustomEvent} */ (event).detail))
  },
  /** @param {GraphNode} node */
  nodeCreated(node) {
    if (node.comfyClass === NODE && node.widgets?.some((widget) => widget.name === TEXT)) addEditor(node)
  },
})
