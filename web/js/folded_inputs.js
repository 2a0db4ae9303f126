// Folds the advanced inputs of this pack's nodes in the classic renderer too: "Show Advanced" in a node's menu unfolds
// them. Nodes 2.0 does so by itself, with a button on the node.
// @ts-expect-error served by ComfyUI
import { app } from '../../../scripts/app.js'

app.registerExtension({
  name: 'Pusa.FoldedInputs',
  /** @param {any} node */
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith('Pusa')) return
    const folded = (node.widgets ?? []).filter((/** @type {any} */ widget) => widget.options?.advanced)
    if (!folded.length) return
    for (const widget of folded) widget.advanced = true
    node.setSize([node.size[0], node.computeSize()[1]])
  },
})
