// Folds the advanced inputs of this pack's nodes in the classic renderer too: "Show Advanced" in a node's menu unfolds
// them. Nodes 2.0 does so by itself, with a button on the node.
import { app } from "../../../scripts/app.js";

app.registerExtension({
  name: "Pusa.FoldedInputs",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("Pusa")) return;
    const folded = (node.widgets ?? []).filter((widget) => widget.options?.advanced);
    if (!folded.length) return;
    for (const widget of folded) widget.advanced = true;
    node.setSize([node.size[0], node.computeSize()[1]]);
  },
});
